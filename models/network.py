"""What every network of a VAE has in common: the posterior, the decoder and their shapes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from torch import Tensor, nn

from models.ranks.group import Ranks, Share

# exp(log_variance / 2) stays within [e-10, e5]: wide enough for any useful posterior, and an
# untrained or diverging encoder cannot overflow the KL term.
_LOG_VARIANCE_RANGE = (-20.0, 10.0)
_MOST_LATENT = 2**16


class Network(nn.Module, ABC):
    """Encoder to a diagonal Gaussian posterior, decoder to images in [0, 1].

    A class may add options to the constructor, by keyword and each with a default.

    Attributes:
        sides: of the square images that the class takes, smallest first; empty for any images.
        image_shape: (C, H, W) of the images that it takes and makes.
        latent_dim: number of latent units.
    """

    sides: ClassVar[tuple[int, ...]] = ()

    def __init__(self, image_shape: tuple[int, int, int], latent_dim: int) -> None:
        super().__init__()
        if not 1 <= latent_dim <= _MOST_LATENT:
            raise ValueError(f"`latent_dim` must be 1 to {_MOST_LATENT:,}, but got {latent_dim}")
        if image_shape[0] not in (1, 3):
            raise ValueError(f"images must have 1 or 3 channels, but got {image_shape[0]}")
        _, height, width = image_shape
        if self.sides and (height != width or height not in self.sides):
            raise ValueError(
                f"this model takes square images of side {', '.join(map(str, self.sides))} "
                f"(`data.size`), but got {height}x{width}"
            )
        self.image_shape = image_shape
        self.latent_dim = latent_dim

    @abstractmethod
    def posterior_parameters(self, x: Tensor) -> Tensor:
        """Map images (B, C, H, W) to (B, 2 * latent_dim): the mean, then the log-variance."""

    @abstractmethod
    def decode_logits(self, z: Tensor) -> Tensor:
        """Map latents (B, latent_dim) to the logits (B, C, H, W) of the images."""

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log-variance of q(z|x), both float32 (B, latent_dim), for x in [0, 1].

        Raises:
            ValueError: x is not (B, C, H, W) of the network's `image_shape`, or the posterior's
                parameters are not as many.
        """
        if x.ndim != 4 or tuple(x.shape[1:]) != self.image_shape:
            expected = ", ".join(str(n) for n in self.image_shape)
            raise ValueError(f"images must be (B, {expected}), but got {tuple(x.shape)}")
        parameters = self.posterior_parameters(x)
        if parameters.ndim != 2 or parameters.shape[1] != 2 * self.latent_dim:
            raise ValueError(
                f"posterior parameters must be (B, {2 * self.latent_dim}), the means and the "
                f"log-variances, but got {tuple(parameters.shape)}"
            )
        mean, log_variance = parameters.float().chunk(2, dim=1)
        return mean, log_variance.clamp(*_LOG_VARIANCE_RANGE)

    def decode(self, z: Tensor) -> Tensor:
        """Images (B, C, H, W) in [0, 1], float32, for latents (B, latent_dim).

        Raises:
            ValueError: z is not (B, latent_dim), or the logits are not of images.
        """
        if z.ndim != 2 or z.shape[1] != self.latent_dim:
            raise ValueError(f"latents must be (B, {self.latent_dim}), but got {tuple(z.shape)}")
        logits = self.decode_logits(z)
        if logits.ndim != 4 or tuple(logits.shape[1:]) != self.image_shape:
            expected = ", ".join(str(n) for n in self.image_shape)
            raise ValueError(f"logits must be (B, {expected}), but got {tuple(logits.shape)}")
        return torch.sigmoid(logits.float())

    def forward(self, x: Tensor) -> Tensor:
        """Reconstruct x (B, C, H, W) through the mean of its posterior, without noise."""
        return self.decode(self.encode(x)[0])


def sample_posterior(
    mean: Tensor,
    log_variance: Tensor,
    generator: torch.Generator | None = None,
    share: Share | None = None,
) -> Tensor:
    """Draw z ~ N(mean, exp(log_variance)) by reparameterisation (Kingma and Welling, 2014).

    With the numbers of a generator of the CPU, if there is one, whatever the device. Of a part of a
    batch the noise is that which these images have in the whole batch.
    """
    share = share or Ranks().share(len(mean))
    if generator is None:
        like = {"device": mean.device, "dtype": mean.dtype}
        noise = share.drawn(torch.randn, *mean.shape[1:], **like)
    else:
        noise = share.drawn(torch.randn, *mean.shape[1:], generator=generator).to(mean)
    return mean + noise * torch.exp(0.5 * log_variance)


def positive_int(name: str, value: object, *, most: int) -> int:
    """The value, if it is an integer from 1 to `most`.

    Raises:
        ValueError: it is not.
    """
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= most:
        raise ValueError(
            f"`model.{name}` must be an integer above 0, at most {most:,}, but got {value!r}"
        )
    return value
