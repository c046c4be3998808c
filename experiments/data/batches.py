"""Batches straight from the images: one gather a batch, no work per image.

On a CPU they are read through the memory map, so that the kernel's page cache holds them once for
all workers, and a data set may be larger than the memory.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from experiments.data.parallel import in_order
from experiments.data.splits import check_batch_size
from experiments.errors import UserError

_ON_DEVICE_BYTES = 4 * 2**30
"""A split of up to this size is copied to a GPU, where a batch costs a few microseconds."""
_PREFETCHED_BYTES = 2**30
"""Of a larger split, which may not be in the page cache, batches are read ahead by a thread."""


class EpochOrder:
    """The order of n items in each epoch, a function of the seed and the epoch alone.

    Lightning calls `set_epoch` before every epoch, so a resumed training sees the order that an
    uninterrupted one would have. Without it each call of `next_order` is the next epoch.
    """

    def __init__(self, n: int, *, shuffle: bool, seed: int) -> None:
        self._n, self._shuffle, self._seed = n, shuffle, seed
        self._epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch that comes next."""
        self._epoch = epoch

    def next_order(self) -> Tensor:
        """A permutation of range(n), int64; ascending without `shuffle`."""
        epoch, self._epoch = self._epoch, self._epoch + 1
        if not self._shuffle:
            return torch.arange(self._n)
        # NumPy's mixing of the two keeps neighbouring seeds and epochs unrelated.
        (state,) = np.random.SeedSequence([self._seed, epoch]).generate_state(1, np.uint64)
        generator = torch.Generator().manual_seed(int(state >> np.uint64(1)))
        return torch.randperm(self._n, generator=generator)


class Batches:
    """Iterates over uint8 batches (B, C, H, W) of some of the images.

    Stands where Lightning expects a DataLoader. `sampler` decides the order (see `EpochOrder`).

    Args:
        images: (N, C, H, W), uint8.
        indices: which of them, (n,).
        batch_size: images in a batch.
        shuffle: another order in every epoch.
        seed: of the order, 0 or more.
        drop_last: leave out a last batch that is smaller.
        device: where the batches are; None for the CPU.

    Raises:
        UserError: `batch_size` is below 1, there are no images or, with `drop_last`, fewer
            than one batch.
    """

    batch_sampler = None
    """Lightning looks for it where there is a `sampler`."""

    def __init__(
        self,
        images: NDArray[np.uint8] | Tensor,
        indices: ArrayLike | Tensor,
        *,
        batch_size: int,
        shuffle: bool,
        seed: int,
        drop_last: bool,
        device: torch.device | str | None = None,
    ) -> None:
        if isinstance(indices, Tensor):
            chosen = indices.to("cpu", torch.int64)
        else:
            chosen = torch.from_numpy(np.array(indices, dtype=np.int64))
        if batch_size < 1:
            raise UserError(f"`batch_size` must be 1 or more, but got {batch_size}")
        if drop_last or not len(chosen):
            check_batch_size(batch_size, len(chosen))
        if images.ndim != 4 or images.dtype not in (np.dtype(np.uint8), torch.uint8):
            raise ValueError(
                f"images must be (N, C, H, W), uint8, but got {tuple(images.shape)}, {images.dtype}"
            )
        self._device = torch.device(device or "cpu")
        self._batch_size, self._drop_last = batch_size, drop_last
        self._images: NDArray[np.uint8] | Tensor = images
        self._indices: Tensor | None = chosen
        size = len(chosen) * int(np.prod(images.shape[1:]))
        is_far = self._device.type != "cpu"
        if is_far and size <= _ON_DEVICE_BYTES:
            self._images, self._indices = _gather(images, chosen).to(self._device), None
        self._is_prefetched = self._indices is not None and (is_far or size > _PREFETCHED_BYTES)
        self._count = len(chosen)
        self.sampler = EpochOrder(len(chosen), shuffle=shuffle, seed=seed)
        self._rows: Callable[[int], slice] | None = None

    def __len__(self) -> int:
        whole, rest = divmod(self._count, self._batch_size)
        return whole + (rest > 0 and not self._drop_last)

    def shared(self, rows: Callable[[int], slice]) -> Batches:
        """The same batches, of each of which this process sees the rows of its part only.

        Args:
            rows: takes the number of images in a batch.
        """
        part = copy.copy(self)
        part._rows = rows
        return part

    def size_of(self, number: int) -> int:
        """Images in the batch of that number, from 0, all processes' together."""
        return min(self._batch_size, self._count - number * self._batch_size)

    @property
    def image_count(self) -> int:
        """Images in the split, also those that `drop_last` leaves out of an epoch."""
        return self._count

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(C, H, W)."""
        channels, height, width = self._images.shape[1:]
        return channels, height, width

    def __iter__(self) -> Iterator[Tensor]:
        order = self.sampler.next_order()
        order = order.to(self._device) if self._indices is None else self._indices[order]
        chosen = torch.split(order, self._batch_size)[: len(self)]
        if self._rows is not None:
            chosen = tuple(batch[self._rows(len(batch))] for batch in chosen)
        if not self._is_prefetched:
            yield from map(partial(_gather, self._images), chosen)
            return
        for batch in in_order(self._read, chosen, workers=1):
            yield batch.to(self._device, non_blocking=True)

    def _read(self, indices: Tensor) -> Tensor:
        batch = _gather(self._images, indices)
        return batch.pin_memory() if self._device.type == "cuda" else batch


def to_float(batch: Tensor) -> Tensor:
    """uint8 images to float32 in [0, 1], the same shape and device."""
    if batch.dtype != torch.uint8:
        raise TypeError(f"a batch must be uint8, but got {batch.dtype}")
    return batch.to(torch.float32).div_(255)


def _gather(images: NDArray[np.uint8] | Tensor, indices: Tensor) -> Tensor:
    if isinstance(images, Tensor):
        return images.index_select(0, indices.to(images.device))
    return torch.from_numpy(np.take(images, indices.numpy(), axis=0))  # a copy
