"""The contract of a network, held by every registered one."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import yaml

import models
from models.network import sample_posterior
from tests import networks

CONFIGS = Path(__file__).parents[1] / "conf" / "model"
CASES = [(name, shape) for name in models.NETWORKS for shape in networks.shapes(name)]


@pytest.mark.parametrize(("name", "shape"), CASES)
def test_encodes_to_a_posterior_and_decodes_to_images(name: str, shape: networks.Shape) -> None:
    networks.check_posterior_and_images(name, shape)


@pytest.mark.parametrize("name", sorted(models.NETWORKS))
def test_every_weight_gets_a_gradient(name: str) -> None:
    networks.check_gradients(name)


@pytest.mark.parametrize("name", sorted(models.NETWORKS))
def test_every_option_has_a_default(name: str) -> None:
    networks.check_options(name)


def test_classic_has_the_course_projects_layers() -> None:
    network = models.create("classic", image_shape=(3, 128, 128), latent_dim=32)
    convolutions = [
        (layer.in_channels, layer.out_channels, layer.kernel_size[0], layer.stride[0])
        for layer in network.modules()
        if isinstance(layer, torch.nn.Conv2d | torch.nn.ConvTranspose2d)
    ]
    assert convolutions[:4] == [(3, 32, 4, 2), (32, 64, 4, 2), (64, 128, 4, 2), (128, 256, 4, 8)]
    decoder = convolutions[4:]
    assert [kernel for _, _, kernel, _ in decoder] == [5, 5, 6, 6, 2]
    assert {stride for *_, stride in decoder} == {2}
    assert decoder[0][0] == 1024


@pytest.mark.parametrize(
    ("name", "shape", "message"),
    [
        ("conv", (3, 50, 50), "side 32, 64, 128, 256.*but got 50x50"),
        ("conv", (3, 64, 32), "but got 64x32"),
        ("resnet", (3, 16, 16), "but got 16x16"),
        ("classic", (3, 64, 64), "square images of side 128 .*but got 64x64"),
        ("conv", (2, 64, 64), "1 or 3 channels, but got 2"),
    ],
)
def test_images_that_it_cannot_take_are_refused(
    name: str, shape: tuple[int, int, int], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        models.create(name, image_shape=shape, latent_dim=4)


def test_unknown_names_and_options_are_refused_with_the_choices() -> None:
    with pytest.raises(ValueError, match="one of classic, conv, resnet, but got 'vgg'"):
        models.create("vgg", image_shape=(3, 32, 32), latent_dim=4)
    with pytest.raises(ValueError, match="knows the options width, upsampling, but got"):
        models.create("conv", image_shape=(3, 32, 32), latent_dim=4, depth=2)
    with pytest.raises(ValueError, match="integer above 0, at most 4,096, but got 0"):
        models.create("conv", image_shape=(3, 32, 32), latent_dim=4, width=0)


def test_wrong_shapes_are_refused_at_the_seam() -> None:
    network = models.create("conv", image_shape=(3, 32, 32), latent_dim=4, width=4)
    with pytest.raises(ValueError, match=r"\(B, 3, 32, 32\), but got \(2, 1, 32, 32\)"):
        network.encode(torch.rand(2, 1, 32, 32))
    with pytest.raises(ValueError, match=r"\(B, 4\), but got \(2, 3, 32, 32\)"):
        network.decode(torch.rand(2, 3, 32, 32))


def test_posterior_samples_have_its_mean_and_variance() -> None:
    torch.manual_seed(0)
    mean, log_variance = torch.tensor([[1.0, -2.0]]), torch.tensor([[0.0, -1.0]])
    z = sample_posterior(mean.expand(200_000, 2), log_variance.expand(200_000, 2))
    torch.testing.assert_close(z.mean(0), mean[0], atol=0.02, rtol=0)
    torch.testing.assert_close(z.var(0).log(), log_variance[0], atol=0.02, rtol=0)


def test_config_files_and_registry_agree() -> None:
    for path in CONFIGS.glob("*.yaml"):
        options = yaml.safe_load(path.read_text())
        assert options.pop("name") == path.stem
        assert options == models.options(path.stem)


def test_what_records_lack_is_completed_as_it_was_and_what_configs_lack_as_it_is() -> None:
    assert models.complete({"name": "conv"})["upsampling"] == "nearest"
    assert models.complete({"name": "conv"}, recorded=True)["upsampling"] == "transposed"
    assert models.complete({"name": "resnet"}) == {"name": "resnet"}
