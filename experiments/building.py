"""From a trial's plain config to the parts it is made of, each mistake found before training."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any

import losses
import models
from experiments.config import SOURCES, objectives
from experiments.data import ImageSet, Splits, split
from experiments.errors import UserError, is_disk_full
from experiments.machine.loading import loading
from experiments.machine.signals import exits_told
from experiments.metrics import METRICS, added

if TYPE_CHECKING:
    from experiments.data.batches import Batches
    from experiments.machine.device import Hardware
    from losses.elbo import ELBO
    from models.network import Network
    from models.ranks.group import Ranks
    from models.vae import VAE

_STEPS_BETWEEN_VALIDATIONS = 50
_EVALUATION_BATCH = 256


@dataclass(frozen=True)
class Schedule:
    """When things happen, in epochs, steps and validations.

    Attributes:
        steps_per_epoch: optimizer steps.
        validate_every: epochs between validations.
        log_every: steps between rows of training metrics.
    """

    steps_per_epoch: int
    validate_every: int
    log_every: int

    def validations(self, epochs: int) -> int:
        """As many validations as cover the epochs."""
        return max(1, math.ceil(epochs / self.validate_every))


@dataclass(frozen=True)
class Data:
    """The images of a trial and its batches."""

    images: ImageSet
    splits: Splits
    train: Batches
    val: Batches
    test: Batches


def load(config: Mapping[str, Any]) -> ImageSet:
    """The images that `config["data"]` names.

    Raises:
        UserError: they cannot be had, or the settings are out of range.
    """
    data = config["data"]
    name, shape = data["name"], (data["channels"], data["size"], data["size"])
    source = SOURCES[name]
    with _from_outside(name in SOURCES.added(), f"the data source `{name}` ({source.load})"):
        images = resolve_name(source.load)(
            size=data["size"],
            channels=data["channels"],
            cache_dir=Path(data["cache_dir"]),
            progress=config["trainer"]["progress"],
            **{key: data[key] for key in source.keys},
        )
        if not isinstance(images, ImageSet):
            raise TypeError(f"it must give an ImageSet, but gave {type(images).__name__}")
        if images.image_shape != shape:
            raise ValueError(f"its images must be {shape}, but are {images.image_shape}")
    return images


def splits_of(config: Mapping[str, Any], images: ImageSet) -> Splits:
    """Which images are for training, validation and test.

    Raises:
        UserError: there are too few, or those to train on are all the same.
    """
    from experiments.data.telling import refuse_one_picture

    refuse_one_picture(images)
    data = config["data"]
    return split(
        images.digests,
        val_fraction=data["val_fraction"],
        test_fraction=data["test_fraction"],
        seed=data["split_seed"],
    )


def batched(config: Mapping[str, Any], images: ImageSet, device: str) -> Data:
    """Split the images and batch them.

    Raises:
        UserError: there are too few images.
    """
    from experiments.data.batches import Batches

    splits = splits_of(config, images)
    train = Batches(
        images.images,
        splits.train,
        batch_size=config["batch_size"],
        shuffle=True,
        seed=config["seed"],
        drop_last=True,
        device=device,
    )
    val, test = (
        Batches(
            images.images,
            chosen,
            batch_size=_EVALUATION_BATCH,
            shuffle=False,
            seed=0,
            drop_last=False,
            device=device,
        )
        for chosen in (splits.val, splits.test)
    )
    return Data(images, splits, train, val, test)


def schedule(config: Mapping[str, Any], steps_per_epoch: int) -> Schedule:
    """Validate about every 50 steps, but not more than once an epoch, unless told otherwise."""
    every = config["trainer"]["validate_every"]
    if every is None:
        every = math.ceil(_STEPS_BETWEEN_VALIDATIONS / steps_per_epoch)
    every = min(every, config["max_epochs"])
    steps = every * steps_per_epoch
    log_every = steps if steps <= 2 * _STEPS_BETWEEN_VALIDATIONS else _STEPS_BETWEEN_VALIDATIONS
    return Schedule(steps_per_epoch, every, log_every)


def build_loss(config: Mapping[str, Any], image_shape: tuple[int, int, int]) -> ELBO:
    """The loss, tried once on random images.

    Raises:
        UserError: an option is wrong, or the distance breaks its contract.
    """
    from losses.distance import preflight
    from losses.elbo import ELBO

    options = dict(config["loss"])
    name, scaling = options.pop("name"), {}
    for key in losses.SCALING:
        if key in options:
            scaling[key] = options.pop(key)
    with _for_people():
        distance = losses.create(name, **options)
        preflight(distance, image_shape)
        free_bits = config["kl"]["free_bits"]
        return ELBO(distance, beta=config["beta"], free_bits=free_bits, **scaling)


def build_network(config: Mapping[str, Any], image_shape: tuple[int, int, int]) -> Network:
    """The encoder and decoder, with weights drawn at random.

    Raises:
        UserError: it cannot take the images, or an option is wrong.
    """
    options = dict(config["model"])
    create = partial(
        models.create,
        options.pop("name"),
        image_shape=image_shape,
        latent_dim=config["latent_dim"],
        **options,
    )
    name = config["model"]["name"]
    is_added = name in models.NETWORKS.added()
    with _from_outside(is_added, f"the network `{name}`"):
        with _for_people():
            _refuse_too_large(create)
            network = create()
        if is_added:
            _try(network)
        return network


def _try(network: Network) -> None:
    """Reconstruct two images, so that a network that cannot is told before training."""
    import torch

    with torch.random.fork_rng(devices=[]), torch.no_grad():
        network.eval()(torch.rand(2, *network.image_shape))
        network.train()


_COPIES = 4  # of each parameter: itself, its gradient and Adam's two moments


def _refuse_too_large(create: Callable[[], Network]) -> None:
    """Before memory is taken: a few digits in a config can ask for any amount of it."""
    import psutil
    import torch

    with torch.device("meta"):  # shapes without numbers
        needed = _COPIES * sum(p.nbytes for p in create().parameters())
    there = psutil.virtual_memory().total
    if needed > there:
        raise UserError(
            "a network, its gradients and its optimizer must fit into this machine's "
            f"{there / 2**30:.0f} GiB, but got {needed / 2**30:,.0f} GiB; lower `model.width` or "
            "`latent_dim`"
        )


def build_vae(
    config: Mapping[str, Any],
    loss: ELBO,
    image_shape: tuple[int, int, int],
    hardware: Hardware,
    when: Schedule,
    ranks: Ranks | None = None,
) -> VAE:
    """The LightningModule; draws the network's weights.

    Args:
        config: of the trial.
        loss: of the config.
        image_shape: (C, H, W).
        hardware: of this process.
        when: things happen.
        ranks: the processes that train it; None for a single one.

    Raises:
        UserError: the network cannot take the images, or an option is wrong.
    """
    network = build_network(config, image_shape)
    # Lightning loads only now, so that mistakes in the model are told at once.
    with loading():
        from models import optimizers
        from models.vae import ALONE, VAE

    optimizer = config["optimizer"]
    total_steps = config["max_epochs"] * when.steps_per_epoch
    warmup_steps = optimizer["warmup_steps"]
    make_schedules = partial(
        optimizers.schedules,
        schedule=optimizer["schedule"],
        total_steps=total_steps,
        warmup_steps=min(50, total_steps // 10) if warmup_steps is None else warmup_steps,
        plateau={
            "monitor": f"val/{objectives(config)[0]}",
            "mode": mode(objectives(config)[0]),
            "factor": optimizer["plateau_factor"],
            "patience": when.validations(optimizer["plateau_patience"]),
            "frequency": when.validate_every,
        },
    )
    return VAE(
        network,
        loss,
        make_optimizer=partial(
            optimizers.adamw, lr=config["lr"], weight_decay=optimizer["weight_decay"]
        ),
        make_schedules=make_schedules,
        gradient_clip=optimizer["gradient_clip"],
        kl_warmup_steps=round(config["kl"]["warmup_epochs"] * when.steps_per_epoch),
        augment=_augment(config),
        channels_last=hardware.channels_last,
        log_every=when.log_every,
        record_step=ranks is None and _recordable(config, hardware),
        description={
            "model": dict(config["model"]),
            "image_shape": list(image_shape),
            "latent_dim": config["latent_dim"],
        },
        ranks=ranks or ALONE,
    )


def build(
    config: Mapping[str, Any],
    images: ImageSet,
    hardware: Hardware,
    ranks: Ranks | None = None,
) -> tuple[Data, Schedule, ELBO, VAE]:
    """Build what a process trains; the seed of the config decides the network's weights.

    Raises:
        UserError: there are too few images, or an option is wrong.
    """
    from experiments.machine.device import seed_everything

    data = batched(config, images, hardware.device)
    when = schedule(config, len(data.train))
    loss = build_loss(config, images.image_shape)
    seed_everything(config["seed"])
    return data, when, loss, build_vae(config, loss, images.image_shape, hardware, when, ranks)


def mode(metric: str) -> str:
    """Lightning's word for the direction of a metric."""
    return "max" if METRICS[metric].direction == "maximize" else "min"


def check_metrics(config: Mapping[str, Any], image_shape: tuple[int, int, int]) -> None:
    """Try the metrics from outside.

    Raises:
        UserError: one breaks its contract.
    """
    if added():
        from experiments.metrics.trying import try_metrics

        with _for_people():
            try_metrics(image_shape, config["latent_dim"], objectives(config))


def check_extractor(config: Mapping[str, Any], images: ImageSet) -> None:
    """Try the feature extractor, if there is one, on two images.

    Raises:
        UserError: it cannot be used.
    """
    path = config["evaluation"]["feature_extractor"]
    if path is not None:
        import torch

        from experiments.metrics.features import try_extractor

        with _for_people():
            try_extractor(path, torch.tensor(images.images[:2]))


def _recordable(config: Mapping[str, Any], hardware: Hardware) -> bool:
    """Whether a CUDA graph would do all that the training step does."""
    return (
        config["trainer"].get("cuda_graph", True)  # older records lack it
        and hardware.accelerator == "gpu"
        and hardware.precision != "16-mixed"  # skips steps, as the gradient has it
        # Both may do work in Python or on the CPU, which a graph would leave out.
        and config["loss"]["name"] != "custom"
        and config["loss"].get("backend") != "library"
    )


def _augment(config: Mapping[str, Any]) -> Any:
    data = config["data"]
    flip, crop, jitter = data["flip"], data.get("crop", 1.0), data["jitter"]  # older ones lack crop
    if not flip and crop == 1 and not jitter:
        return None
    from experiments.data.augment import Augment

    return Augment(flip=flip, crop=crop, jitter=jitter)


@contextmanager
def _from_outside(is_added: bool, what: str) -> Iterator[None]:
    """Code of somebody else's may fail with anything, of which a person hears what and where."""
    try:
        with exits_told():
            yield
    except Exception as error:
        if not is_added or isinstance(error, UserError) or is_disk_full(error):
            raise
        raise UserError(
            f"{what} must do its part, but gives {type(error).__name__}: {error}"
        ) from error


@contextmanager
def _for_people() -> Iterator[None]:
    """`losses` and `models` state the user's mistakes as ValueErrors."""
    try:
        yield
    except ValueError as error:
        raise UserError(str(error)) from error
