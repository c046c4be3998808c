"""Encoding and decoding in batches of one size, so that an image's bytes never depend on others.

A processor's matrix products differ in the last bits with the size of the batch, and a pixel in
some millions is rounded the other way. In a full batch of fixed size, filled up with zeros, every
image takes the same path whatever it shares the batch with.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from models.network import Network

CHUNK = 16
"""Images in a batch: on a CPU as fast an image as any larger batch."""


@torch.inference_mode()
def decode(network: Network, latents: Tensor) -> Tensor:
    """Images (N, C, H, W) in [0, 1], float32, of latents (N, L) with N >= 1."""
    return torch.cat(list(_in_chunks(network.decode, latents)))


@torch.inference_mode()
def encode(network: Network, images: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and log-variance, (N, L), of the posteriors of uint8 images (N, C, H, W), N >= 1."""

    def parameters(chunk: Tensor) -> Tensor:
        return torch.cat(network.encode(chunk), dim=1)

    found = torch.cat(list(_in_chunks(parameters, images.float() / 255)))
    mean, log_variance = found.chunk(2, dim=1)
    return mean, log_variance


def _in_chunks(work: Callable[[Tensor], Tensor], rows: Tensor) -> Iterator[Tensor]:
    for chunk in rows.split(CHUNK):
        missing = CHUNK - len(chunk)
        full = torch.cat([chunk, chunk.new_zeros(missing, *chunk.shape[1:])]) if missing else chunk
        yield work(full)[: len(chunk)]
