"""Random changes of training images, on the batch and on the device."""

from __future__ import annotations

from torch import Tensor, nn

from experiments.errors import UserError


class Augment(nn.Module):
    """Horizontal flip and mild colour jitter by `kornia.augmentation`; neither by default.

    Takes float images (B, C, H, W) in [0, 1] with 1 or 3 channels and returns such images. Each
    image is changed on its own; the random numbers are those of `torch.manual_seed`.

    Args:
        flip: whether to mirror half of the images.
        jitter: largest relative change of brightness and contrast and, for colour images, of
            saturation, in [0, 1]; 0.1 is mild.

    Raises:
        UserError: `jitter` is out of range.
    """

    def __init__(self, *, flip: bool = False, jitter: float = 0.0) -> None:
        super().__init__()
        if not 0 <= jitter <= 1:
            raise UserError(f"`data.jitter` must be in [0, 1], but got {jitter}")
        self._any = nn.Sequential()
        self._colour = nn.Sequential()
        if flip or jitter > 0:
            from kornia import augmentation
        if flip:
            self._any.append(augmentation.RandomHorizontalFlip(p=0.5))
        if jitter > 0:
            span = (1 - jitter, 1 + jitter)
            self._any.append(augmentation.RandomBrightness(span, p=1.0))
            self._any.append(augmentation.RandomContrast(span, p=1.0))
            self._colour.append(augmentation.RandomSaturation(span, p=1.0))

    def forward(self, x: Tensor) -> Tensor:
        for layer in self._any:
            x = layer(x)
        if x.shape[1] == 3:
            for layer in self._colour:
                x = layer(x)
        # Kornia's conversions can leave the range by a rounding error.
        return x.clamp(0, 1) if len(self._any) else x
