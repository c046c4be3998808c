"""Batches: each image once an epoch, in an order that seed and epoch alone decide."""

from __future__ import annotations

import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from experiments.data import Batches, load_cats, to_float
from experiments.errors import UserError

# Image i is filled with i.
_IMAGES = np.broadcast_to(np.arange(50, dtype=np.uint8)[:, None, None, None], (50, 3, 4, 4)).copy()


def _batches(indices: Any = range(10, 45), **settings: Any) -> Batches:
    arguments: dict[str, Any] = {"batch_size": 8, "shuffle": True, "seed": 0, "drop_last": False}
    return Batches(_IMAGES, indices, **(arguments | settings))


def _order(batches: Batches) -> list[int]:
    return [int(i) for batch in batches for i in batch[:, 0, 0, 0]]


def test_an_epoch_holds_each_chosen_image_once() -> None:
    batches = _batches()
    given = list(batches)
    assert [len(batch) for batch in given] == [8, 8, 8, 8, 3]
    assert len(batches) == 5
    assert batches.image_count == 35
    assert all(b.dtype == torch.uint8 and b.shape[1:] == (3, 4, 4) for b in given)
    values = torch.cat(given)
    assert torch.equal(values, values[:, :1, :1, :1].expand_as(values))
    assert sorted(_order(batches)) == list(range(10, 45))


def test_the_last_smaller_batch_can_be_left_out() -> None:
    batches = _batches(drop_last=True)
    assert [len(batch) for batch in batches] == [8] * 4
    assert len(batches) == 4
    # Another part is left out each time.
    left = [set(range(10, 45)) - set(_order(batches)) for _ in range(5)]
    assert len({frozenset(images) for images in left}) == 5


def test_without_shuffling_the_order_is_that_of_the_indices() -> None:
    batches = _batches([5, 3, 49, 3], batch_size=3, shuffle=False)
    assert _order(batches) == _order(batches) == [5, 3, 49, 3]


def test_each_pass_has_another_order_until_an_epoch_is_set() -> None:
    batches = _batches()
    first, second, third = _order(batches), _order(batches), _order(batches)
    assert first != second != third
    batches.sampler.set_epoch(1)
    assert _order(batches) == second
    assert _order(batches) == third


def test_the_order_is_a_function_of_seed_and_epoch_alone() -> None:
    def order(seed: int, epoch: int) -> list[int]:
        batches = _batches(seed=seed)
        torch.manual_seed(epoch)  # global random numbers make no difference
        batches.sampler.set_epoch(epoch)
        return _order(batches)

    assert order(1, 7) == order(1, 7)
    assert len({tuple(order(seed, epoch)) for seed in range(5) for epoch in range(5)}) == 25


def test_shuffling_leaves_the_global_random_numbers_alone() -> None:
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    _order(_batches())
    assert torch.equal(torch.rand(1), expected)


def test_every_place_is_as_likely_for_every_image() -> None:
    batches = _batches(range(10), batch_size=10)
    counts = np.zeros((10, 10))
    for _ in range(2000):
        for place, image in enumerate(_order(batches)):
            counts[place, image] += 1
    assert ((counts - 200) ** 2 / 200).sum() < 140  # chi-square of 81 degrees, p above 1e-4


@pytest.mark.parametrize("limit", [0, 2**30])
def test_images_come_from_the_map_read_ahead_or_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: int
) -> None:
    monkeypatch.setattr("experiments.data.batches._PREFETCHED_BYTES", limit)
    cats = load_cats(count=30, size=8, cache_dir=tmp_path, progress=False)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # torch warns of arrays that are read-only
        batches = Batches(
            cats.images, np.arange(5, 25), batch_size=6, shuffle=True, seed=3, drop_last=False
        )
        given = torch.cat(list(batches))
    batches.sampler.set_epoch(0)
    order = batches.sampler.next_order().numpy()
    assert np.array_equal(given.numpy(), cats.images[5:25][order])
    given.fill_(0)  # a batch is the taker's own
    batches.sampler.set_epoch(0)
    assert np.array_equal(torch.cat(list(batches)).numpy(), cats.images[5:25][order])


def test_tensors_are_taken_as_well_as_arrays() -> None:
    same = Batches(
        torch.from_numpy(_IMAGES),
        torch.arange(10, 45),
        batch_size=8,
        shuffle=True,
        seed=0,
        drop_last=False,
        device="cpu",
    )
    assert _order(same) == _order(_batches())


def test_fewer_images_than_a_batch_are_refused_when_training() -> None:
    message = r"`batch_size` must be at most .*, 35, but got 36; lower it or add images"
    with pytest.raises(UserError, match=message):
        _batches(batch_size=36, drop_last=True)
    assert len(_batches(batch_size=35, drop_last=True)) == 1
    assert len(_batches(batch_size=36)) == 1


def test_no_images_and_no_batch_size_are_refused() -> None:
    with pytest.raises(UserError, match=r"`batch_size` must be 1 or more, but got 0"):
        _batches(batch_size=0)
    with pytest.raises(UserError, match="number of images to train on, 0"):
        _batches([])


def test_images_of_another_shape_or_type_are_refused() -> None:
    wrong: list[Any] = [_IMAGES[0], _IMAGES.astype(np.float32), torch.zeros(3, 3, 4, 4)]
    for images in wrong:
        with pytest.raises(ValueError, match=r"images must be \(N, C, H, W\), uint8, but got"):
            Batches(images, [0], batch_size=1, shuffle=False, seed=0, drop_last=False)


def test_floats_lie_in_0_to_1_exactly() -> None:
    every = torch.arange(256, dtype=torch.uint8).reshape(1, 1, 16, 16)
    converted = to_float(every)
    assert converted.dtype == torch.float32
    expected = (np.arange(256) / 255).astype(np.float32).reshape(1, 1, 16, 16)
    assert np.array_equal(converted.numpy(), expected)
    with pytest.raises(TypeError, match=r"must be uint8, but got torch\.float32"):
        to_float(converted)


def test_importing_the_package_loads_nothing_heavy() -> None:
    code = (
        "import sys, experiments.data; "
        "print([m for m in ('torch', 'PIL', 'kornia', 'rich', 'lightning') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


@pytest.mark.slow
def test_lightning_sees_the_same_order_when_it_resumes(tmp_path: Path) -> None:
    import pytorch_lightning as pl

    class Watcher(pl.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.zeros(1))
            self.seen: list[list[int]] = []

        def on_train_epoch_start(self) -> None:
            self.seen.append([])

        def training_step(self, batch: Tensor, _: int) -> Tensor:
            self.seen[-1] += batch[:, 0, 0, 0].tolist()
            return self.weight * to_float(batch).mean()

        def validation_step(self, batch: Tensor, _: int) -> None:
            assert batch.dtype == torch.uint8

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.SGD(self.parameters(), lr=0.1)

    def fit(epochs: int, checkpoint: Path | None = None) -> tuple[Watcher, pl.Trainer]:
        model = Watcher()
        trainer = pl.Trainer(
            max_epochs=epochs,
            accelerator="cpu",
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            default_root_dir=tmp_path,
        )
        val = _batches(shuffle=False)
        trainer.fit(model, _batches(drop_last=True), val, ckpt_path=checkpoint)
        return model, trainer

    whole, _ = fit(4)
    first, trainer = fit(2)
    trainer.save_checkpoint(tmp_path / "half.ckpt")
    second, _ = fit(4, tmp_path / "half.ckpt")
    assert first.seen + second.seen == whole.seen
    assert len({tuple(epoch) for epoch in whole.seen}) == 4
