"""The default network: strided convolutions down to 4x4, transposed convolutions back up."""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor, nn

from models.network import Network, positive_int, power_of_two_side

_BASE = 4  # side of the smallest feature map
_MAX_MULTIPLE = 8  # widest layer, in multiples of `width`


class ConvNetwork(Network):
    """Small convolutional VAE for square images of side 32, 64, 128 or 256.

    Each encoder layer halves the side and doubles the channels (up to `8 * width`); the decoder
    mirrors it. Kernel 4 with stride 2 covers each pixel equally often, so there is no
    checkerboard; batch normalisation and SiLU in between.

    Args:
        image_shape: (C, H, W).
        latent_dim: number of latent units.
        width: channels of the first layer.

    Raises:
        ValueError: the images are not square with such a side, or have 2 channels, say.
    """

    def __init__(
        self, *, image_shape: tuple[int, int, int], latent_dim: int, width: int = 32
    ) -> None:
        super().__init__(image_shape, latent_dim)
        positive_int("width", width, most=4096)
        side = power_of_two_side(image_shape, smallest=32, largest=256)
        layers = (side // _BASE).bit_length() - 1
        channels = [width * min(2**i, _MAX_MULTIPLE) for i in range(layers)]

        self._deepest = (channels[-1], _BASE, _BASE)
        features = channels[-1] * _BASE**2
        self.encoder = _encoder(image_shape[0], channels)
        self.to_posterior = nn.Linear(features, 2 * latent_dim)
        self.from_latent = nn.Linear(latent_dim, features)
        self.decoder = _decoder(image_shape[0], channels)

    def posterior_parameters(self, x: Tensor) -> Tensor:
        features: Tensor = self.to_posterior(self.encoder(x).flatten(1))
        return features

    def decode_logits(self, z: Tensor) -> Tensor:
        logits: Tensor = self.decoder(self.from_latent(z).unflatten(1, self._deepest))
        return logits


def _encoder(image_channels: int, channels: list[int]) -> nn.Sequential:
    layers: list[nn.Module] = [nn.Conv2d(image_channels, channels[0], 4, 2, 1), nn.SiLU()]
    for incoming, outgoing in pairwise(channels):
        layers += [nn.Conv2d(incoming, outgoing, 4, 2, 1, bias=False), *_normalised(outgoing)]
    return nn.Sequential(*layers)


def _decoder(image_channels: int, channels: list[int]) -> nn.Sequential:
    layers: list[nn.Module] = [*_normalised(channels[-1])]
    for incoming, outgoing in zip(channels[:0:-1], channels[-2::-1], strict=True):
        layers += [
            nn.ConvTranspose2d(incoming, outgoing, 4, 2, 1, bias=False),
            *_normalised(outgoing),
        ]
    layers.append(nn.ConvTranspose2d(channels[0], image_channels, 4, 2, 1))
    return nn.Sequential(*layers)


def _normalised(channels: int) -> tuple[nn.Module, nn.Module]:
    return nn.BatchNorm2d(channels), nn.SiLU()
