"""A person's photo in the shape that a model takes."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from experiments.data.decoding.decode import BadImageError, decode, quiet
from experiments.data.sources.source import MAX_FILE_BYTES
from experiments.errors import UserError
from experiments.record.foreign import read_bytes
from serving.model.checkpoints import Model


def prepared(data: bytes, model: Model) -> Tensor:
    """The image (C, H, W), uint8, of an encoded photo, brought to shape as in training.

    Raises:
        BadImageError: it is no image that can be used.
    """
    channels, size, _ = model.network.image_shape
    fit = model.trained.fit if model.trained is not None else "crop"
    return torch.from_numpy(decode(data, size=size, channels=channels, fit=fit).copy())


def read_photo(path: Path, model: Model) -> Tensor:
    """The image (C, H, W), uint8, in a file.

    Raises:
        UserError: there is no such file, or it is no image that can be used.
    """
    try:
        with quiet():
            return prepared(read_bytes(path, MAX_FILE_BYTES), model)
    except OSError as error:
        raise UserError(f"a photo must be a readable file, but {path}: {error.strerror}") from error
    except (BadImageError, ValueError) as error:  # ValueErrors of files that are too large
        raise UserError(f"a photo must be an image, but {path} is not: {error}") from error
