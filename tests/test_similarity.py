"""The fused similarity: its gradient, its chunks, and what cannot be asked of it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from losses.structural import similarity
from losses.structural.similarity import mean_similarity
from losses.structural.window import filter_columns, filter_rows, gaussian_filter, gaussian_matrix

DEFINITIONS: dict[str, dict[str, Any]] = {
    "valid": {"window": 5, "sigmas": [1.0], "border": "valid"},
    "reflect": {"window": 5, "sigmas": [1.5], "border": "reflect"},
    "zero": {"window": 5, "sigmas": [1.0], "border": "zero"},
    "contrast only": {"window": 5, "sigmas": [1.0], "border": "valid", "luminance": False},
    "three filters": {"window": 7, "sigmas": [0.5, 1.0, 2.0], "border": "zero"},
    "contrast of two": {"window": 7, "sigmas": [0.5, 2.0], "border": "zero", "luminance": False},
}


@pytest.fixture(params=sorted(DEFINITIONS))
def definition(request: pytest.FixtureRequest) -> dict[str, Any]:
    return DEFINITIONS[request.param]


def images(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def test_the_gradient_is_that_of_the_value_in_both_images(definition: dict[str, Any]) -> None:
    x_hat, x = (images(2, 2, 7, 9, seed=seed).requires_grad_() for seed in (0, 1))
    assert torch.autograd.gradcheck(
        lambda a, b: mean_similarity(a, b, **definition), (x_hat, x), fast_mode=True
    )


def test_a_gradient_of_the_gradient_is_refused() -> None:
    x_hat = images(1, 1, 8, 8).requires_grad_()
    value = mean_similarity(x_hat, images(1, 1, 8, 8, seed=1), **DEFINITIONS["valid"])
    with pytest.raises(RuntimeError, match=r"differentiated once.*create_graph.*backend=library"):
        torch.autograd.grad(value.sum(), x_hat, create_graph=True)


def test_each_image_has_its_own_upstream_gradient() -> None:
    x_hat, x = images(3, 1, 8, 8).requires_grad_(), images(3, 1, 8, 8, seed=1)
    value = mean_similarity(x_hat, x, window=5, sigmas=[1.0], border="valid")
    (gradient,) = torch.autograd.grad((value * torch.tensor([1.0, 0.0, -2.0])).sum(), x_hat)
    ones = mean_similarity(x_hat, x, window=5, sigmas=[1.0], border="valid").sum()
    (each,) = torch.autograd.grad(ones, x_hat)
    torch.testing.assert_close(gradient, each * torch.tensor([1, 0, -2]).view(-1, 1, 1, 1))


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_chunks_and_memory_layout_change_nothing(
    definition: dict[str, Any], layout: torch.memory_format, monkeypatch: pytest.MonkeyPatch
) -> None:
    x_hat, x = images(5, 3, 40, 33), images(5, 3, 40, 33, seed=1)
    expected = mean_similarity(x_hat, x, **definition)
    monkeypatch.setattr(similarity, "_CHUNK", 2 * x[0].numel() // torch.get_num_threads())
    x_hat, x = (image.contiguous(memory_format=layout) for image in (x_hat, x))
    torch.testing.assert_close(mean_similarity(x_hat, x, **definition), expected)
    x_hat.requires_grad_()
    torch.testing.assert_close(mean_similarity(x_hat, x, **definition), expected)


@pytest.mark.parametrize("border", ["valid", "reflect", "zero"])
@pytest.mark.parametrize(("side", "window", "sigma"), [(75, 11, 1.5), (96, 65, 0.3), (33, 33, 8.0)])
def test_blocks_of_a_band_make_the_whole_matrix(
    border: str, side: int, window: int, sigma: float
) -> None:
    matrix = gaussian_matrix(side, window, sigma, border)
    bands = gaussian_filter(side, window, sigma, border, torch.float64, torch.device("cpu"))
    for dense, band in ((matrix, bands.matrix), (matrix.mT, bands.adjoint)):
        eye = torch.eye(side if dense is matrix else len(matrix), dtype=torch.float64)[None]
        columns = filter_columns(eye, band, torch.empty(1, *dense.mT.shape, dtype=torch.float64))
        torch.testing.assert_close(columns[0], dense.mT, atol=1e-10, rtol=0)
        rows = [
            filter_rows(eye, block, eye.new_empty(1, block.stop - block.start, eye.shape[-1]))
            for block in band.blocks
        ]
        torch.testing.assert_close(torch.cat(rows, 1)[0], dense, atol=1e-10, rtol=0)
