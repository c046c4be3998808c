"""The default network: strided convolutions down to 4x4, upsampling convolutions back up."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

from torch import Tensor, nn
from torch.nn import functional as F

from models.network import Network, positive_int

_BASE = 4  # side of the smallest feature map
_MAX_MULTIPLE = 8  # widest layer, in multiples of `width`


class ConvNetwork(Network):
    """Small convolutional VAE for square images of side 32, 64, 128 or 256.

    Each encoder layer halves the side and doubles the channels (up to `8 * width`); the decoder
    mirrors it, with `UpsamplingConv`; batch normalisation and SiLU in between.

    Args:
        image_shape: (C, H, W).
        latent_dim: number of latent units.
        width: channels of the first layer.
        upsampling: `nearest`, or `transposed` for the transposed convolutions of older checkpoints,
            which leave a mesh in samples.

    Raises:
        ValueError: the images are not square with such a side, or have 2 channels, say; or an
            option is out of range.
    """

    sides = (32, 64, 128, 256)

    def __init__(
        self,
        *,
        image_shape: tuple[int, int, int],
        latent_dim: int,
        width: int = 32,
        upsampling: str = "nearest",
    ) -> None:
        super().__init__(image_shape, latent_dim)
        positive_int("width", width, most=4096)
        if upsampling not in _UPSAMPLING:
            raise ValueError(
                f"`model.upsampling` must be one of {', '.join(_UPSAMPLING)}, "
                f"but got {upsampling!r}"
            )
        layers = (image_shape[1] // _BASE).bit_length() - 1
        channels = [width * min(2**i, _MAX_MULTIPLE) for i in range(layers)]

        self._deepest = (channels[-1], _BASE, _BASE)
        features = channels[-1] * _BASE**2
        self.encoder = _encoder(image_shape[0], channels)
        self.to_posterior = nn.Linear(features, 2 * latent_dim)
        self.from_latent = nn.Linear(latent_dim, features)
        self.decoder = _decoder(image_shape[0], channels, _UPSAMPLING[upsampling])

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


class UpsamplingConv(nn.Module):
    """Nearest-neighbour upsampling by 2, then a 3x3 convolution, as one transposed convolution.

    To repeat each pixel 2x2 times and take a kernel of 3x3 is a transposed convolution of stride 2
    whose kernel of 4x4 has the sums of up to four taps of the nine. So it costs what a transposed
    convolution does, but what is smooth stays so: each of the four output pixels that an input
    pixel becomes has the same sum of taps, where those of a free 4x4 kernel differ, and repeat
    themselves as a mesh (Odena, Dumoulin and Olah 2016, "Deconvolution and checkerboard
    artifacts").

    Args:
        incoming: channels of the input (B, incoming, H, W).
        outgoing: channels of the output (B, outgoing, 2 H, 2 W).
        bias: whether there is one.
    """

    def __init__(self, incoming: int, outgoing: int, *, bias: bool = True) -> None:
        super().__init__()
        convolution = nn.Conv2d(incoming, outgoing, 3, bias=bias)  # with its initial weights
        self.weight, self.bias = convolution.weight, convolution.bias

    def forward(self, x: Tensor) -> Tensor:
        # Flipped: a transposed convolution reads its kernel from the other end.
        taps = self.weight.transpose(0, 1).flip(2, 3)
        taps = F.pad(taps, (0, 1)) + F.pad(taps, (1, 0))
        taps = F.pad(taps, (0, 0, 0, 1)) + F.pad(taps, (0, 0, 1, 0))
        return F.conv_transpose2d(x, taps, self.bias, stride=2, padding=1)


def _transposed(incoming: int, outgoing: int, *, bias: bool = True) -> nn.Module:
    return nn.ConvTranspose2d(incoming, outgoing, 4, 2, 1, bias=bias)


_UPSAMPLING: dict[str, Callable[..., nn.Module]] = {
    "nearest": UpsamplingConv,
    "transposed": _transposed,
}


def _decoder(
    image_channels: int, channels: list[int], upsampling: Callable[..., nn.Module]
) -> nn.Sequential:
    layers: list[nn.Module] = [*_normalised(channels[-1])]
    for incoming, outgoing in zip(channels[:0:-1], channels[-2::-1], strict=True):
        layers += [upsampling(incoming, outgoing, bias=False), *_normalised(outgoing)]
    layers.append(upsampling(channels[0], image_channels))
    return nn.Sequential(*layers)


def _normalised(channels: int) -> tuple[nn.Module, nn.Module]:
    return nn.BatchNorm2d(channels), nn.SiLU()
