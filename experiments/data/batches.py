"""Batches straight from memory: one gather a batch, no work per image."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from experiments.errors import UserError


class Batches:
    """Iterates over uint8 batches (B, C, H, W) of some of the images.

    The order is a function of the seed and the epoch alone, so a resumed training sees the
    batches that an uninterrupted one would have. Lightning calls `sampler.set_epoch` before
    every epoch; without it each iteration is the next epoch.

    Args:
        images: (N, C, H, W), uint8; the chosen ones are copied to memory once.
        indices: which of them.
        batch_size: images in a batch.
        shuffle: new order every epoch, and no smaller last batch.
        seed: of the order.
        device: where the images are kept.

    Raises:
        UserError: when shuffling, there are fewer images than one batch.
    """

    def __init__(
        self,
        images: NDArray[np.uint8],
        indices: NDArray[np.int64],
        *,
        batch_size: int,
        shuffle: bool,
        seed: int = 0,
        device: torch.device | str = "cpu",
    ) -> None:
        if shuffle and len(indices) < batch_size:
            raise UserError(
                f"`batch_size` must not exceed the {len(indices)} images of the training split, "
                f"but got {batch_size}; lower it or add images"
            )
        self._images = torch.from_numpy(np.ascontiguousarray(images[indices])).to(device)
        self._batch_size = batch_size
        self._shuffle = shuffle
        self._seed = seed
        self._epoch = 0
        self.batch_sampler = None  # Lightning asks for both where there is one
        if shuffle:
            self.sampler = self

    def __len__(self) -> int:
        whole, rest = divmod(len(self._images), self._batch_size)
        return whole + (rest > 0 and not self._shuffle)

    @property
    def image_count(self) -> int:
        """Images in the split."""
        return len(self._images)

    def set_epoch(self, epoch: int) -> None:
        """Choose the order of the next iteration."""
        self._epoch = epoch

    def __iter__(self) -> Iterator[Tensor]:
        if not self._shuffle:
            yield from self._images.split(self._batch_size)
            return
        (state,) = np.random.SeedSequence([self._seed, self._epoch]).generate_state(1, np.uint64)
        generator = torch.Generator().manual_seed(int(state) % 2**63)
        self._epoch += 1
        order = torch.randperm(len(self._images), generator=generator).to(self._images.device)
        for batch in order[: len(self) * self._batch_size].split(self._batch_size):
            yield self._images[batch]
