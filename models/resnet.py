"""A residual network: slower than `conv`, sharper reconstructions."""

from __future__ import annotations

from torch import Tensor, nn

from models.network import Network, positive_int

_BASE = 4  # side of the smallest feature map
_MAX_MULTIPLE = 8  # widest stage, in multiples of `width`


class ResNetNetwork(Network):
    """Residual VAE for square images of side 32, 64, 128 or 256.

    Pre-activation residual blocks (He et al. 2016, "Identity mappings in deep residual
    networks"), `blocks` at every resolution; strided convolutions go down and nearest-neighbour
    up-sampling with a convolution comes back up.

    Args:
        image_shape: (C, H, W).
        latent_dim: number of latent units.
        width: channels at the largest resolution.
        blocks: residual blocks at every resolution.

    Raises:
        ValueError: the images are not square with such a side, or an option is out of range.
    """

    sides = (32, 64, 128, 256)

    def __init__(
        self,
        *,
        image_shape: tuple[int, int, int],
        latent_dim: int,
        width: int = 32,
        blocks: int = 1,
    ) -> None:
        super().__init__(image_shape, latent_dim)
        positive_int("width", width, most=4096)
        positive_int("blocks", blocks, most=64)
        stages = (image_shape[1] // _BASE).bit_length() - 1
        channels = [width * min(2**i, _MAX_MULTIPLE) for i in range(stages)]

        self._deepest = (channels[-1], _BASE, _BASE)
        features = channels[-1] * _BASE**2
        self.encoder = _encoder(image_shape[0], channels, blocks)
        self.to_posterior = nn.Linear(features, 2 * latent_dim)
        self.from_latent = nn.Linear(latent_dim, features)
        self.decoder = _decoder(image_shape[0], channels, blocks)

    def posterior_parameters(self, x: Tensor) -> Tensor:
        features: Tensor = self.to_posterior(self.encoder(x).flatten(1))
        return features

    def decode_logits(self, z: Tensor) -> Tensor:
        logits: Tensor = self.decoder(self.from_latent(z).unflatten(1, self._deepest))
        return logits


class ResidualBlock(nn.Module):
    """x + two pre-activated 3x3 convolutions of x; (B, C, H, W) to the same shape."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.residual = nn.Sequential(*_pre_activated(channels), *_pre_activated(channels))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x + self.residual(x)
        return out


def _pre_activated(channels: int) -> list[nn.Module]:
    convolution = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
    return [nn.BatchNorm2d(channels), nn.SiLU(), convolution]


def _encoder(image_channels: int, channels: list[int], blocks: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    incoming = image_channels
    for outgoing in channels:
        layers.append(nn.Conv2d(incoming, outgoing, 4, 2, 1))
        layers += [ResidualBlock(outgoing) for _ in range(blocks)]
        incoming = outgoing
    return nn.Sequential(*layers, nn.BatchNorm2d(incoming), nn.SiLU())


def _decoder(image_channels: int, channels: list[int], blocks: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    outgoing_channels = [*channels[-2::-1], channels[0]]
    for incoming, outgoing in zip(reversed(channels), outgoing_channels, strict=True):
        layers += [ResidualBlock(incoming) for _ in range(blocks)]
        layers += [nn.Upsample(scale_factor=2), nn.Conv2d(incoming, outgoing, 3, padding=1)]
    last = nn.Conv2d(channels[0], image_channels, 3, padding=1)
    return nn.Sequential(*layers, nn.BatchNorm2d(channels[0]), nn.SiLU(), last)
