"""The same command gives the same pictures, and they show what the model makes of latents."""

from __future__ import annotations

import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.testing import assert_close

import models
from experiments.errors import UserError
from experiments.scoring.evaluation import to_uint8
from serving.generate import (
    Options,
    _check,
    _parser,
    _terms,
    calculated,
    interpolation,
    many,
    sheet,
    traversal,
)
from serving.model import codec, latents
from serving.model.checkpoints import load
from tests import networks
from tests.conftest import ROOT

pytestmark = pytest.mark.trains
QUIET = Options(progress=False)


@pytest.mark.parametrize("name", sorted(models.NETWORKS))
def test_an_image_is_the_same_bit_for_bit_whatever_it_is_decoded_with(name: str) -> None:
    torch.manual_seed(0)
    network = networks.little(name, width=8).eval()
    z = latents.draw(37, 5, seed=1)
    together = codec.decode(network, z)
    order = torch.randperm(37)
    assert torch.equal(codec.decode(network, z[order]), together[order])
    assert torch.equal(codec.decode(network, z[:1]), together[:1])
    assert_close(together, network.decode(z).detach())
    x = to_uint8(together)
    mean, _ = codec.encode(network, x)
    assert torch.equal(codec.encode(network, x[5:6])[0], mean[5:6])
    assert_close(mean, network.encode(x.float() / 255)[0].detach())


def test_draws_are_of_the_prior_and_do_not_depend_on_their_number() -> None:
    drawn = latents.draw(20_000, 4, seed=7, temperature=0.5)
    assert_close(drawn.mean(), torch.tensor(0.0), atol=0.01, rtol=0)
    assert_close(drawn.std(), torch.tensor(0.5), atol=0.01, rtol=0)
    assert torch.equal(latents.draw(3, 4, seed=7, temperature=0.5), drawn[:3])
    assert not torch.equal(latents.draw(3, 4, seed=8, temperature=0.5), drawn[:3])


def test_a_path_begins_and_ends_at_its_points_and_keeps_to_their_shell() -> None:
    a, b = latents.draw(2, 32, seed=0)
    path = latents.interpolate(a, b, 9)
    assert torch.equal(path[0], a)
    assert torch.equal(path[-1], b)
    lengths = path.norm(dim=1)
    assert_close(lengths, torch.linspace(float(a.norm()), float(b.norm()), 9))
    angles = [torch.arccos(torch.cosine_similarity(p, q, dim=0)) for p, q in pairwise(path)]
    assert_close(torch.stack(angles), torch.full((8,), float(angles[0])), atol=2e-3, rtol=0)


@pytest.mark.parametrize("b", [[0.0, 0.0], [-2.0, 0.0], [1.0, 0.0]])
def test_a_path_without_a_plane_to_turn_in_is_straight(b: list[float]) -> None:
    path = latents.interpolate(torch.tensor([1.0, 0.0]), torch.tensor(b), 3)
    assert_close(path[1], torch.tensor([(1 + b[0]) / 2, 0.0]))


def test_a_traversal_moves_one_unit_at_a_time() -> None:
    point = torch.tensor([0.5, -1.0, 2.0])
    points = latents.traverse(point, [2, 0], 5)
    assert points.shape == (10, 3)
    assert_close(points[:5, 2], torch.linspace(-3, 3, 5))
    assert torch.equal(points[:5, :2], point[:2].expand(5, 2))
    with pytest.raises(ValueError, match="a latent unit must be 0 to 2, but got 3"):
        latents.traverse(point, [3], 5)


def test_arithmetic_adds_and_subtracts() -> None:
    a, b, c = torch.eye(3)
    value = latents.combine([(1.0, a), (-1.0, b), (1.0, c)])
    assert value.tolist() == [1, -1, 1]
    assert latents.average(torch.stack([a, b])).tolist() == [0.5, 0.5, 0]
    assert _terms(["a.png", "-", "b.png", "+", "c.png"]) == [
        (1.0, "a.png"), (-1.0, "b.png"), (1.0, "c.png"),
    ]  # fmt: skip
    for wrong in (["a", "b"], ["a", "-"], ["a", "*", "b"]):
        with pytest.raises(UserError, match="each a word of its own"):
            _terms(wrong)


def test_the_numbered_images_are_those_of_the_grid(trained: Path, tmp_path: Path) -> None:
    model = load(trained)
    many(model, 18, tmp_path, QUIET)
    files = sorted(tmp_path.iterdir())
    assert [f.name for f in files[:2]] == ["00000.png", "00001.png"]
    assert len(files) == 18
    picture = sheet(model, QUIET)
    factor = -(-500 // (8 * 34 + 2))
    cell = picture[2 * factor : 34 * factor : factor, 2 * factor : 34 * factor : factor]
    assert np.array_equal(cell, np.asarray(Image.open(files[0])))
    assert len({f.read_bytes() for f in files}) == 18


def test_the_informative_units_are_those_with_most_kl(trained: Path) -> None:
    model = load(trained)
    assert model.trained is not None
    assert model.trained.statistics is not None
    kl = model.trained.statistics.kl
    units = model.informative_units(3)
    assert sorted(kl[units], reverse=True) == list(kl[units])
    assert kl[units].min() >= max(np.delete(kl, units))


def test_modes_show_what_they_say(trained: Path, tmp_path: Path) -> None:
    model = load(trained)
    frames = interpolation(model, ["seed:1", "seed:2"], Options(steps=4, progress=False))
    assert len(frames) == 4
    (tmp_path / "end.png").write_bytes(b"")
    alone = calculated(model, ["seed:2"], QUIET)
    assert alone.shape[2] == 3
    drawn = latents.draw(1, 4, seed=2)
    expected = to_uint8(codec.decode(model.network, drawn))[0].permute(1, 2, 0).numpy()
    factor = frames[-1].shape[0] // 32
    assert np.array_equal(frames[-1][::factor, ::factor], expected)
    rows = traversal(model, "seed:1", [0, 1], Options(steps=5, progress=False))
    assert rows.shape[1] > rows.shape[0]
    with pytest.raises(UserError, match=r"a photo must be an image, but .*end.png is not: empty"):
        calculated(model, [str(tmp_path / "end.png")], QUIET)
    with pytest.raises(UserError, match="a photo must be a readable file"):
        calculated(model, ["nowhere.png"], QUIET)


@pytest.mark.slow
def test_the_command_writes_the_same_bytes_again(trained: Path, tmp_path: Path) -> None:
    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "serving.generate", "--checkpoint", str(trained)]
        return subprocess.run([*command, *arguments], cwd=ROOT, capture_output=True, text=True)

    photo = trained / "samples.png"
    written = []
    for name in ("a.gif", "b.gif"):
        done = run(
            "--interpolate", str(photo), "seed:3", "--steps", "3", "--out", f"{tmp_path}/{name}"
        )
        assert done.returncode == 0, done.stderr
        written.append((tmp_path / name).read_bytes())
    assert written[0] == written[1]
    with Image.open(tmp_path / "a.gif") as image:
        assert getattr(image, "n_frames", 1) == 4  # there and back

    (tmp_path / "folder.png").mkdir()
    for arguments, told in (
        (("--out", f"{tmp_path}/folder.png"), "`--out` must be a place that can be written"),
        (("--count", "2", "--out", f"{tmp_path}/a.gif"), "`--out` must be a directory with"),
    ):
        refused = run(*arguments)
        assert refused.returncode == 2
        assert refused.stderr.splitlines()[-1].startswith(f"error: {told}")

    refused = run("--grid", "0")
    assert (refused.returncode, refused.stderr) == (
        2,
        "error: `--grid` must be 1 to 64, but got 0\n",
    )


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ("--steps 5", "`--steps` must stand beside --interpolate or --traverse"),
        ("--steps 5 --count 2", "`--steps` must stand beside .*, but got --count"),
        ("--units 1 --average a.png", "`--units` must stand beside --traverse, .* got --average"),
        ("--grid 4 --count 2", "`--grid` must stand alone or beside --reconstruct, .* got --count"),
        ("--grid 4 --traverse a.png", "`--grid` must stand alone or beside --reconstruct"),
        ("--seed 4 --traverse seed:1", "`--seed` must stand alone or beside --count"),
        ("--temperature 1 --average a.png b.png", "`--temperature` must stand alone or beside"),
        ("--temperature 1 --reconstruct a.png", "`--temperature` must stand alone or beside"),
    ],
)
def test_an_option_without_its_mode_is_refused(arguments: str, told: str) -> None:
    given = _parser().parse_args(["--checkpoint", "x", "--out", "x.png", *arguments.split()])
    with pytest.raises(UserError, match=told):
        _check(given)


@pytest.mark.parametrize(
    "arguments",
    [
        "--grid 4 --seed 3 --temperature 0.5",
        "--count 2 --seed 3 --temperature 0.5 --no-progress",
        "--grid 4 --reconstruct a.png",
        "--temperature 0.5 --average a.png seed:7",
        "--temperature 0.5 --traverse seed:7 --units 1 --steps 3",
        "--interpolate a.png b.png --steps 3",
    ],
)
def test_an_option_beside_its_mode_is_taken(arguments: str) -> None:
    _check(_parser().parse_args(["--checkpoint", "x", "--out", "x.png", *arguments.split()]))
