"""FID and KID, in the features of a network that the user gives as an ONNX or TorchScript file."""

from __future__ import annotations

import shlex
import warnings
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from experiments.metrics import values_of
from losses.trust import how_to_trust, is_trusted_path

_BATCH = 64
_KID_SUBSETS = 50
_KID_SUBSET_SIZE = 1000  # Binkowski et al. 2018 and torchmetrics; fewer where there are fewer


def feature_distances(real: Tensor, generated: Tensor, extractor: str | Path) -> dict[str, float]:
    """The metrics of features of two sets of images, (N, C, H, W) and (M, C, H, W).

    The extractor maps uint8 images (B, 3, H, W), 0 to 255, to features (B, F), and resizes and
    normalises them itself, as the Inception networks published for FID do. Grey images are
    repeated to three channels. An ONNX file (.onnx) may take the numbers as floats, and is run
    by onnxruntime. TorchScript can read and write files and so needs the user's word
    (`losses.trust`); where its `forward` has an argument `return_features` (NVIDIA's
    `inception-2015-12-05.pt`), it gets True, and it runs on the device of `real`.

    Args:
        real: uint8 images, 2 or more.
        generated: uint8 images of the same shape, 2 or more.
        extractor: the file.

    Raises:
        ValueError: the file is missing, is neither or does not map so, or is TorchScript that the
            user does not trust; or the images are not two such sets.
    """
    _check(real, generated)
    network = _load(Path(extractor), real.device)
    features = [
        _features(network, images.to(real.device), Path(extractor)) for images in (real, generated)
    ]
    return values_of("features", *features)


def try_extractor(extractor: str | Path, images: Tensor) -> None:
    """Load a feature extractor and run it on some uint8 images (B, C, H, W), before training.

    Raises:
        ValueError: the file is missing, may not be run, or does not map images to features.
    """
    _features(_load(Path(extractor), images.device), images, Path(extractor))


def fid(real: Tensor, generated: Tensor) -> float:
    """Frechet distance of two sets of features, by torchmetrics.

    Heusel et al. 2017, "GANs trained by a two time-scale update rule converge to a local Nash
    equilibrium". It is biased upwards with few images, so compare it only between sets of the same
    sizes; with fewer images than features prefer KID.
    """
    from torchmetrics.image.fid import FrechetInceptionDistance

    metric = FrechetInceptionDistance(feature=_ready_made(real)).to(real.device)
    metric.update(real, real=True)
    metric.update(generated, real=False)
    return float(metric.compute())


def kid(real: Tensor, generated: Tensor) -> float:
    """Unbiased squared MMD of two sets of features under a cubic kernel, by torchmetrics.

    Binkowski et al. 2018, "Demystifying MMD GANs", averaged over 50 seeded subsets of 1000 images
    or, of smaller sets, of half the smaller set; it can come out below 0.
    """
    from torchmetrics.image.kid import KernelInceptionDistance

    size = min(_KID_SUBSET_SIZE, max(2, min(len(real), len(generated)) // 2))
    with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
        warnings.filterwarnings("ignore", "Metric `Kernel Inception Distance` will save all")
        torch.manual_seed(0)  # of the subsets
        metric = KernelInceptionDistance(
            feature=_ready_made(real), subsets=_KID_SUBSETS, subset_size=size
        )
        metric.update(real, real=True)
        metric.update(generated, real=False)
        return float(metric.compute()[0])


def _ready_made(features: Tensor) -> nn.Module:
    """Stands for the network, which has run already: once for both metrics."""
    identity = nn.Identity()
    identity.num_features = features.shape[1]  # type: ignore[assignment]
    return identity


Network = Callable[[Tensor], Tensor]


def _load(path: Path, device: torch.device) -> Network:
    """The network, which maps a batch of uint8 images (B, 3, H, W) to features.

    What it raises when it fails is a RuntimeError.
    """
    if not path.is_file():
        raise ValueError(
            "`evaluation.feature_extractor` must be an ONNX or TorchScript file, but "
            f"{path} is not a file"
        )
    if path.suffix.lower() == ".onnx":
        from experiments.metrics.onnx_extractor import OnnxExtractor

        return OnnxExtractor(path, device)
    return _torch_script(path, device)


def _torch_script(path: Path, device: torch.device) -> Network:
    if not is_trusted_path(path):
        quoted = shlex.quote(str(path))
        raise ValueError(
            "`evaluation.feature_extractor` must be an ONNX file (.onnx), or a TorchScript file "
            f"that you trust, since TorchScript can read and write files, but got {path}; if you "
            f"trust it, {how_to_trust(quoted)}"
        )
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", ".*torch.jit.load.* is deprecated")
            network = torch.jit.load(str(path), map_location=device).eval()
    except (RuntimeError, OSError) as error:
        raise ValueError(
            "`evaluation.feature_extractor` must be a TorchScript file, "
            f"but {path} cannot be read as one: {_first_line(error)}"
        ) from error
    arguments = [argument.name for argument in network.forward.schema.arguments]
    options = {"return_features": True} if "return_features" in arguments else {}
    return lambda images: network(images, **options)


@torch.no_grad()
def _features(network: Network, images: Tensor, path: Path) -> Tensor:
    """Features (N, F), float32."""
    batches = []
    for batch in torch.split(images, _BATCH):
        try:
            features = network(batch.expand(-1, 3, -1, -1))
        except RuntimeError as error:
            raise ValueError(_contract(path, f"failed: {_first_line(error)}")) from error
        if not isinstance(features, Tensor) or features.ndim != 2 or len(features) != len(batch):
            got = tuple(features.shape) if isinstance(features, Tensor) else type(features).__name__
            raise ValueError(_contract(path, f"gave {got} for a batch of {len(batch)}"))
        batches.append(features.float())
    joined = torch.cat(batches)
    if not joined.isfinite().all():
        raise ValueError(_contract(path, "gave values that are NaN or infinite"))
    return joined


def _check(real: Tensor, generated: Tensor) -> None:
    for images in (real, generated):
        if images.ndim != 4 or images.shape[1] not in (1, 3) or images.dtype != torch.uint8:
            raise ValueError(
                "FID and KID want uint8 images (N, 1 or 3, H, W), "
                f"but got {images.dtype} {tuple(images.shape)}"
            )
        if len(images) < 2:
            raise ValueError(f"FID and KID need 2 images or more, but got {len(images)}")
    if real.shape[1:] != generated.shape[1:]:
        raise ValueError(
            "FID and KID want two sets of images of one shape, "
            f"but got {tuple(real.shape)} and {tuple(generated.shape)}"
        )


def _contract(path: Path, what_happened: str) -> str:
    return (
        "`evaluation.feature_extractor` must map uint8 images (B, 3, H, W) to features (B, F), "
        f"but {path} {what_happened}"
    )


def _first_line(error: Exception) -> str:
    """The cause: TorchScript's messages begin or end with it, around a listing of the source."""
    lines = [line for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines and "TorchScript interpreter" in lines[0] else "".join(lines[:1])
