"""Random changes of training images, on the batch and on the device."""

from __future__ import annotations

from torch import Tensor, nn


class Augment(nn.Module):
    """Horizontal flip and mild colour jitter, drawn for each image on its own.

    Called with float images (B, C, H, W) in [0, 1]; returns such images.

    Args:
        flip: whether to mirror half of the images.
        jitter: largest relative change of brightness and contrast and, for colour images, of
            saturation, in [0, 1].
    """

    def __init__(self, *, flip: bool, jitter: float) -> None:
        super().__init__()
        import kornia.augmentation as augmentation

        layers: list[nn.Module] = []
        if flip:
            layers.append(augmentation.RandomHorizontalFlip(p=0.5))
        if jitter > 0:
            layers.append(augmentation.RandomBrightness((1 - jitter, 1 + jitter), p=1.0))
            layers.append(augmentation.RandomContrast((1 - jitter, 1 + jitter), p=1.0))
            self._saturation = augmentation.RandomSaturation((1 - jitter, 1 + jitter), p=1.0)
        self._layers = nn.Sequential(*layers)
        self._jitter = jitter

    def forward(self, x: Tensor) -> Tensor:
        augmented: Tensor = self._layers(x)
        if self._jitter > 0 and x.shape[1] == 3:
            augmented = self._saturation(augmented)
        return augmented.clamp(0, 1)
