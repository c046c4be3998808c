"""The contract of a distance, held by every registered one."""

from __future__ import annotations

import inspect
import subprocess
import sys
import types
from pathlib import Path

import pytest
import torch
import yaml
from torch.utils._python_dispatch import TorchDispatchMode

import losses
from losses.distance import Distance, preflight
from losses.structural.window import gaussian_filter
from tests.words import trusting

CONFIGS = Path(__file__).parents[1] / "conf" / "loss"
SHAPES = [(3, 64, 64), (1, 32, 32), (3, 48, 80)]


@pytest.fixture(autouse=True)
def _my_losses(monkeypatch: pytest.MonkeyPatch) -> None:
    module = types.ModuleType("my_losses")
    module.squared = lambda x_hat, x: (x_hat - x).square().flatten(1).mean(1)  # type: ignore[attr-defined]
    module.squared.__module__ = "my_losses"
    monkeypatch.setitem(sys.modules, "my_losses", module)
    trusting(monkeypatch, "my_losses")


def make(name: str) -> Distance:
    options = {"target": "my_losses.squared"} if name == "custom" else {}
    return losses.create(name, **options)


@pytest.fixture(params=sorted(losses.DISTANCES))
def distance(request: pytest.FixtureRequest) -> Distance:
    return make(request.param)


def images(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("shape", SHAPES)
def test_gives_one_value_an_image(distance: Distance, shape: tuple[int, int, int]) -> None:
    d = distance(images(4, *shape), images(4, *shape, seed=1))
    assert d.shape == (4,)
    assert d.dtype == torch.float32
    assert (d > 0).all()


def test_is_zero_for_identical_images(distance: Distance) -> None:
    for x in (images(3, 3, 64, 64), torch.zeros(3, 3, 64, 64), torch.ones(3, 3, 64, 64)):
        torch.testing.assert_close(distance(x, x), torch.zeros(3), atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    ("x_hat", "x"),
    [
        (torch.zeros(2, 3, 32, 32), torch.zeros(2, 3, 32, 32)),
        (torch.ones(2, 3, 32, 32), torch.ones(2, 3, 32, 32)),
        (torch.zeros(2, 3, 32, 32), torch.ones(2, 3, 32, 32)),
        (torch.full((2, 3, 32, 32), 0.5), images(2, 3, 32, 32)),
        (images(2, 3, 32, 32), images(2, 3, 32, 32)),
        (1 - images(2, 3, 32, 32), images(2, 3, 32, 32)),
    ],
    ids=["black", "white", "black on white", "grey on noise", "identical", "inverted"],
)
def test_gradient_is_finite(distance: Distance, x_hat: torch.Tensor, x: torch.Tensor) -> None:
    x_hat = x_hat.clone().requires_grad_()
    distance(x_hat, x).sum().backward()
    assert x_hat.grad is not None
    assert torch.isfinite(x_hat.grad).all()


def test_each_image_is_independent_of_its_batch(distance: Distance) -> None:
    x_hat, x = images(5, 3, 64, 64), images(5, 3, 64, 64, seed=1)
    x[3:] *= 0.01  # a dark neighbour must not change the data range
    together = distance(x_hat, x)
    alone = torch.cat([distance(x_hat[i : i + 1], x[i : i + 1]) for i in range(5)])
    torch.testing.assert_close(together, alone, rtol=1e-5, atol=1e-7)


def test_grows_with_noise(distance: Distance) -> None:
    x = images(2, 3, 8, 8).repeat_interleave(8, 2).repeat_interleave(8, 3) * 0.5 + 0.25
    noise = images(2, 3, 64, 64, seed=1) - 0.5
    values = torch.stack([distance(x + s * noise, x) for s in (0.0, 0.1, 0.2, 0.4)])
    assert (values.diff(dim=0) > 0).all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_images_are_measured_in_float32(
    distance: Distance, dtype: torch.dtype
) -> None:
    x_hat, x = images(2, 3, 32, 32).to(dtype), images(2, 3, 32, 32, seed=1).to(dtype)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        d = distance(x_hat, x)
    assert d.dtype == torch.float32
    torch.testing.assert_close(d, distance(x_hat.float(), x.float()))


@pytest.mark.parametrize(
    ("x_hat", "x"), [((2, 3, 32, 32), (2, 1, 32, 32)), ((3, 32, 32), (3, 32, 32))]
)
def test_a_wrong_shape_is_refused_with_the_right_one(
    distance: Distance, x_hat: tuple[int, ...], x: tuple[int, ...]
) -> None:
    with pytest.raises(ValueError, match=r"\(B, C, H, W\).*but got x_hat"):
        distance(torch.zeros(x_hat), torch.zeros(x))


def test_an_image_smaller_than_the_window_is_refused_with_the_size_that_would_do(
    distance: Distance,
) -> None:
    side = distance.smallest_side
    assert distance(images(1, 3, side, side), images(1, 3, side, side, seed=1)).shape == (1,)
    if side > 1:
        with pytest.raises(ValueError, match=f"needs images of {side} pixels or more"):
            distance.check((3, side - 1, 64))


def test_passes_the_preflight(distance: Distance) -> None:
    preflight(distance, (3, 64, 64))


def test_config_files_and_registry_agree() -> None:
    assert {path.stem for path in CONFIGS.glob("*.yaml")} == set(losses.DISTANCES)


@pytest.mark.parametrize("name", sorted(losses.DISTANCES))
def test_config_file_holds_the_constructors_defaults(name: str) -> None:
    config = yaml.safe_load((CONFIGS / f"{name}.yaml").read_text())
    assert (config.pop("name"), config.pop("scale")) == (name, "optimal_sigma")
    assert config.pop("degree") == losses.AUTO
    parameters = inspect.signature(type(make(name))).parameters
    assert list(config) == list(parameters)
    for key, value in config.items():
        default = parameters[key].default
        if key == "options":
            assert (default, value) == (None, {})
        elif isinstance(default, tuple):
            assert list(default) == value
        else:
            assert default == (float(value) if isinstance(default, float) else value)


def test_an_unknown_name_is_refused_with_the_choices() -> None:
    with pytest.raises(ValueError, match=r"must be one of .*kornia_ssim.*but got 'sim'"):
        losses.create("sim")


def test_an_unknown_option_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"knows the options window_size.*`loss.windw`"):
        losses.create("ssim", windw=7)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("ssim", {"window_size": 10}, "odd integer"),
        ("ssim", {"sigma": 0}, "above 0"),
        ("ssim", {"sigma": 1e-200}, "from 0.1"),
        ("ssim", {"backend": "jax"}, "one of fast, library"),
        ("kornia_ms_ssim", {"alpha": 2}, r"in \[0, 1\]"),
        ("charbonnier", {"epsilon": -1}, "above 0"),
        ("mix", {"terms": ["l1"], "weights": [1, 2]}, "one length"),
        ("mix", {"terms": ["l1", "sim"], "weights": [1, 2]}, "must be one of"),
        ("mix", {"terms": ["l1"], "weights": [-1]}, "above 0"),
        ("mix", {"terms": ["mix"], "weights": [1]}, "named distances"),
    ],
)
def test_an_option_out_of_range_is_refused(
    name: str, options: dict[str, object], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        losses.create(name, **options)


def test_mix_is_the_weighted_sum_of_its_terms() -> None:
    x_hat, x = images(2, 3, 32, 32), images(2, 3, 32, 32, seed=1)
    mixed = losses.create("mix", terms=["mse", "ssim"], weights=[2, 0.5])(x_hat, x)
    torch.testing.assert_close(mixed, 2 * make("mse")(x_hat, x) + 0.5 * make("ssim")(x_hat, x))


def test_a_custom_target_without_trust_is_not_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    trusting(monkeypatch, "somebody_else", "my_losses_2")
    monkeypatch.delitem(sys.modules, "my_losses")
    with pytest.raises(
        ValueError,
        match=r"VAESWEEP_TRUST=somebody_else,my_losses_2,my_losses before",
    ):
        losses.create("custom", target="my_losses.squared")


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("", "must be a dotted path"),
        ("my_losses.absent", "cannot be imported: AttributeError"),
        ("my_losses.deep.absent", "cannot be imported: ModuleNotFoundError"),
    ],
)
def test_a_custom_target_that_is_not_there_is_refused(target: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        losses.create("custom", target=target)


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda x_hat, x: (x_hat - x).square().mean(), r"shape \(3,\).*but got \(\)"),
        (lambda x_hat, x: (x_hat - x).square(), r"but got \(3, 3, 32, 32\)"),
        (lambda x_hat, x: 0.5, "but got float"),
        (lambda x_hat, x: (x_hat - x).detach().square().flatten(1).mean(1), "no gradient"),
        (lambda x_hat, x: x.flatten(1).mean(1).requires_grad_(), "no gradient"),
        (lambda x_hat, x: (x_hat - x).log().flatten(1).mean(1), "must be finite"),
        (lambda x_hat, x: (x_hat - x).missing(), "failed: AttributeError"),
        (lambda x_hat, x: -(x_hat - x).square().flatten(1).mean(1), "not a similarity"),
        (lambda x_hat, x: 1 - (x_hat - x).square().flatten(1).mean(1), "0 for identical"),
    ],
)
def test_preflight_refuses_a_custom_loss_that_breaks_the_contract(
    function: object, message: str
) -> None:
    function.__module__ = "my_losses"
    sys.modules["my_losses"].broken = function  # type: ignore[attr-defined]
    with pytest.raises(ValueError, match=message):
        preflight(losses.create("custom", target="my_losses.broken"), (3, 32, 32))


def test_a_custom_class_is_built_with_its_options() -> None:
    class Scaled(torch.nn.Module):
        def __init__(self, factor: float) -> None:
            super().__init__()
            self.factor = factor

        def forward(self, x_hat: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
            return self.factor * (x_hat - x).square().flatten(1).mean(1)

    Scaled.__module__ = "my_losses"
    sys.modules["my_losses"].Scaled = Scaled  # type: ignore[attr-defined]
    custom = losses.create("custom", target="my_losses.Scaled", options={"factor": 3.0})
    x_hat, x = images(2, 3, 32, 32), images(2, 3, 32, 32, seed=1)
    torch.testing.assert_close(custom(x_hat, x), 3 * make("mse")(x_hat, x))


def test_a_callable_that_a_trusted_module_only_imports_is_refused() -> None:
    sys.modules["my_losses"].Popen = subprocess.Popen  # type: ignore[attr-defined]
    with pytest.raises(ValueError, match="VAESWEEP_TRUST=my_losses,subprocess"):
        losses.create("custom", target="my_losses.Popen", options={"args": ["false"]})


def test_a_custom_module_is_not_trained() -> None:
    class Learned(torch.nn.Linear):
        pass

    Learned.__module__ = "my_losses"
    sys.modules["my_losses"].Learned = Learned  # type: ignore[attr-defined]
    options = {"in_features": 2, "out_features": 2}
    custom = losses.create("custom", target="my_losses.Learned", options=options).train()
    assert not any(parameter.requires_grad for parameter in custom.parameters())
    assert not any(module.training for module in custom.children())


def test_trains_after_a_validation_in_inference_mode(distance: Distance) -> None:
    gaussian_filter.cache_clear()
    x_hat, x = images(2, 3, 40, 40), images(2, 3, 40, 40, seed=1)
    with torch.inference_mode():
        distance(x_hat, x)
    distance(x_hat.requires_grad_(), x).sum().backward()
    assert x_hat.grad is not None


def test_is_never_negative_near_identity(distance: Distance) -> None:
    for seed in range(20):
        x = images(4, 3, 32, 32, seed=seed)
        assert (distance(x + 1e-5 * images(4, 3, 32, 32, seed=seed + 1), x) >= 0).all()


def test_8_bit_images_are_refused(distance: Distance) -> None:
    x = torch.zeros(1, 3, 32, 32, dtype=torch.uint8)
    with pytest.raises(ValueError, match=r"floats in \[0, 1\].*uint8"):
        distance(x, x)


@pytest.mark.parametrize("name", ["ssim", "kornia_ssim", "ms_ssim", "kornia_ms_ssim"])
def test_products_keep_float32_forward_and_backward(name: str) -> None:
    seen = []
    products = (torch.ops.aten.mm, torch.ops.aten.bmm, torch.ops.aten.baddbmm_)

    class Record(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
            if function.overloadpacket in products:
                seen.append(torch.backends.cuda.matmul.fp32_precision)
            return function(*args, **(kwargs or {}))

    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")
    try:
        with Record():
            make(name)(images(2, 3, 32, 32).requires_grad_(), images(2, 3, 32, 32)).sum().backward()
        assert torch.get_float32_matmul_precision() == "high"
    finally:
        torch.set_float32_matmul_precision(before)
    assert len(seen) >= 4
    assert set(seen) == {"ieee"}
