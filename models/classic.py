"""The architecture of the course project that this platform grew out of, at 128x128."""

from __future__ import annotations

from torch import Tensor, nn

from models.network import Network

_FEATURES = 1024  # 256 channels of 2x2


class ClassicNetwork(Network):
    """Convolutional VAE for 128x128 images, after Ha and Schmidhuber 2018, "World models".

    Encoder: channels 32, 64, 128 with kernel 4 and stride 2, then 256 with kernel 4 and
    stride 8. Decoder: a linear layer to 1024 channels of 1x1, then transposed convolutions with
    kernels 5, 5, 6, 6, 2 and stride 2, ending in a sigmoid.

    Args:
        image_shape: (C, 128, 128).
        latent_dim: number of latent units.

    Raises:
        ValueError: the images are not 128x128.
    """

    sides = (128,)

    def __init__(self, *, image_shape: tuple[int, int, int], latent_dim: int) -> None:
        super().__init__(image_shape, latent_dim)
        channels = image_shape[0]
        self.encoder = nn.Sequential(
            nn.Conv2d(channels, 32, 4, stride=2),
            nn.ReLU(),
            nn.Conv2d(32, 64, 4, stride=2),
            nn.ReLU(),
            nn.Conv2d(64, 128, 4, stride=2),
            nn.ReLU(),
            nn.Conv2d(128, 256, 4, stride=8),
            nn.ReLU(),
        )
        self.to_posterior = nn.Linear(_FEATURES, 2 * latent_dim)
        self.from_latent = nn.Linear(latent_dim, _FEATURES)
        self.decoder = nn.Sequential(
            nn.ConvTranspose2d(_FEATURES, 128, 5, stride=2),
            nn.ReLU(),
            nn.ConvTranspose2d(128, 64, 5, stride=2),
            nn.ReLU(),
            nn.ConvTranspose2d(64, 32, 6, stride=2),
            nn.ReLU(),
            nn.ConvTranspose2d(32, 16, 6, stride=2),
            nn.ReLU(),
            nn.ConvTranspose2d(16, channels, 2, stride=2),
        )

    def posterior_parameters(self, x: Tensor) -> Tensor:
        features: Tensor = self.to_posterior(self.encoder(x).flatten(1))
        return features

    def decode_logits(self, z: Tensor) -> Tensor:
        logits: Tensor = self.decoder(self.from_latent(z)[:, :, None, None])
        return logits
