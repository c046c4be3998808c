"""What models make: reconstructions, samples, walks through latent space, and what is new in them.

Images that are not those of a network are a ValueError.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import plotly.graph_objects as go

from analysis.figures.style import blank
from analysis.figures.tiles import Row, heat, tiles

if TYPE_CHECKING:
    from torch import Tensor

    from models.network import Network

_SSIM_WINDOW = 11
_LARGEST_ERROR = 0.4
"""Mean absolute error of a pixel's channels that the error maps show as white."""


def reconstructions(images: Tensor, networks: Mapping[str, Network]) -> go.Figure:
    """The same images as each network reconstructs them, without posterior noise.

    Under each image its PSNR (dB) and, where it is large enough for the window, SSIM; below each
    row a map of the error, the mean absolute difference of the channels, from black (0) to white
    (0.4 and more). Read from it what the numbers do not say: which loss keeps edges, which
    colours, which only the layout.
    """
    from experiments.data import to_float
    from experiments.metrics.reconstruction import reconstruction_metrics
    from experiments.scoring.evaluation import reconstruct

    if not networks:
        return blank("There is no trained model to reconstruct images.")
    formats = {"psnr": "{:.1f} dB", "ssim": "{:.2f}"}
    names = list(formats) if min(images.shape[-2:]) >= _SSIM_WINDOW else ["psnr"]
    original = to_float(images)
    rows = [Row("images", images.numpy())]
    for name, network in networks.items():
        shown = reconstruct(network, images, _device(network))
        made = to_float(shown)
        found = reconstruction_metrics(made, original, names=names)
        scores = [map(formats[metric].format, found[metric].tolist()) for metric in names]
        rows.append(Row(name, shown.numpy(), [", ".join(one) for one in zip(*scores, strict=True)]))
        error = (made - original).abs().mean(dim=1).numpy()
        rows.append(Row("error", heat(error, _LARGEST_ERROR)))
    return tiles(rows)


def samples(networks: Mapping[str, Network], *, count: int = 8, seed: int = 0) -> go.Figure:
    """Images that each network decodes from the same draws of the prior.

    Read from it whether the prior covers what the decoder knows: good reconstructions with broken
    samples mean that the posteriors are far from the prior (raise `beta`), the same image
    everywhere that the latents are not used (lower it). Networks with as many latent units share
    their draws, `count` of them.
    """
    from experiments.scoring.evaluation import draw_samples

    if not networks:
        return blank("There is no trained model to draw samples from.")
    return tiles(
        [
            Row(name, draw_samples(network, count, seed=seed, device=_device(network)).numpy())
            for name, network in networks.items()
        ]
    )


def traversals(
    network: Network,
    images: Tensor,
    *,
    start: Tensor | None = None,
    units: int = 10,
    reach: float = 2.5,
    steps: int = 7,
) -> go.Figure:
    """One latent unit a row, moved from `-reach` to `reach` while the others stay.

    Units are in the order of their KL over `images`, which stands beside each, in nats per image:
    how much the unit says. Read from it what the unit means; one of KL 0 changes nothing.

    Args:
        network: whose units are shown.
        images: two or more that say how much each unit is used.
        start: one image (C, H, W) to walk from; None for the mean of the prior.
        units: how many, at most.
        reach: in standard deviations of the prior.
        steps: images a row.
    """
    import torch

    from analysis.trained.latents import decode, posteriors, traverse, unit_kl

    kl = unit_kl(network, images)
    values = torch.linspace(-1, 1, steps) * reach
    columns = [f"{value:+.2g}" if abs(value) > 1e-4 else "0" for value in values.tolist()]
    origin = torch.zeros(network.latent_dim)
    if start is not None:
        origin = posteriors(network, start[None])[0][0]
    rows = []
    for unit in np.argsort(-kl, kind="stable")[:units]:
        shown = decode(network, traverse(origin, int(unit), values)).numpy()
        rows.append(Row(f"unit {unit}, {kl[unit]:.1f} nats", shown))
    return tiles(rows, columns=columns)


def interpolation(
    networks: Mapping[str, Network], first: Tensor, second: Tensor, *, steps: int = 8
) -> go.Figure:
    """From one image to another: decoded latents on the straight line between their posteriors.

    Read from it whether what lies between two images is an image too, or a blend of both.

    Args:
        networks: by name.
        first: (C, H, W).
        second: (C, H, W).
        steps: images a row, ends included; 2 or more.
    """
    import torch

    from analysis.trained.latents import decode, interpolate, posteriors

    if not networks:
        return blank("There is no trained model to interpolate with.")
    rows = []
    for name, network in networks.items():
        ends, _ = posteriors(network, torch.stack([first, second]))
        rows.append(Row(name, decode(network, interpolate(ends[0], ends[1], steps)).numpy()))
    columns = ["first", *[f"{i / (steps - 1):.0%}" for i in range(1, steps - 1)], "second"]
    return tiles(rows, columns=columns)


def nearest_training_images(
    network: Network, train: Tensor, *, held_out: Tensor | None = None, count: int = 8
) -> go.Figure:
    """Samples from the prior, and below each the training image that is nearest to it.

    Under each pair their root mean squared error, of pixels in [0, 1]. A model that memorises
    draws its training images again: then the errors are far below the one at which held-out images
    lie from the training images (their median is told below, if they are given).

    Args:
        network: to draw from.
        train: the images that it was trained on.
        held_out: others of the same kind.
        count: samples.
    """
    from analysis.trained.latents import nearest
    from experiments.scoring.evaluation import draw_samples

    drawn = draw_samples(network, count, seed=0, device=_device(network))
    places, distances = nearest(drawn, train)
    note = "Below each pair: root mean squared error."
    if held_out is not None and len(held_out):
        usual = nearest(held_out, train)[1].median().item()
        note = f"Below each pair: root mean squared error; of held-out images {usual:.3f} (median)."
    captions = [f"{value:.3f}" for value in distances.tolist()]
    rows = [
        Row("samples", drawn.numpy()),
        Row("nearest in training", train[places].numpy(), captions),
    ]
    return tiles(rows, note=note)


def _device(network: Network) -> str:
    return str(next(network.parameters()).device)
