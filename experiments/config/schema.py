"""The typed configuration of a trial: every key, its type and its default.

Keys in `loss` and `model` other than those named here belong to the loss or model of that name
and are checked by its constructor.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

MISSING: Any = "???"  # OmegaConf's mark for a value that a config file must give


@dataclass
class DataConfig:
    """The images, how they are brought to one shape, and how they are split."""

    name: str = MISSING
    size: int = 64  # side of the square images, pixels
    channels: int = 3
    val_fraction: float = 0.15
    test_fraction: float = 0.15
    split_seed: int = 0
    flip: bool = False  # random horizontal flip of training images
    crop: float = 1.0  # least side of random crops, as a share of the image's
    jitter: float = 0.0  # strength of random brightness, contrast and saturation changes
    cache_dir: str = ".cache/vaesweep"
    # data=cats
    count: int = 2000
    generator_seed: int = 0
    # data=images
    root: str | None = None
    fit: str = "crop"
    max_bad_fraction: float = 0.05  # of files that cannot be read


@dataclass
class KLConfig:
    """How the KL term enters the loss, besides `beta`."""

    warmup_epochs: float = 0.0
    free_bits: float = 0.0  # nats per latent unit


@dataclass
class OptimizerConfig:
    """AdamW and the learning-rate schedule."""

    weight_decay: float = 0.01
    schedule: str = "plateau"
    plateau_factor: float = 0.5
    plateau_patience: int = 10  # epochs
    warmup_steps: int | None = None  # None: 50, or a tenth of the training where that is less
    gradient_clip: float | None = 5.0  # longest gradient, in multiples of the usual one
    ema_decay: float | None = None


@dataclass
class TrainerConfig:
    """How training runs, apart from what is learned."""

    device: str = "auto"  # of several GPUs the first: cuda:2 with devices=2 is 2 and 3
    # Processes on each machine and machines on which one trial runs; its batches are shared among
    # them, and its result does not depend on how many there are, but for rounding and for what a
    # network itself draws at random (nn.Dropout).
    devices: int = 1
    nodes: int = 1  # more than this one: torchrun or srun starts the processes
    strategy: str = "auto"  # or ddp: each process has the whole network and a part of each batch
    precision: str = "auto"
    memory_format: str = "auto"
    # On a GPU, record the training step and replay it with one launch; never in 16-mixed, with
    # loss=custom or loss.backend=library.
    cuda_graph: bool = True
    threads: int | None = None
    early_stopping_patience: int | None = 25  # epochs
    validate_every: int | None = None  # epochs; None: about every 50 steps
    profiler: str | None = None
    progress: bool = True


@dataclass
class EvaluationConfig:
    """What the final evaluation adds to the metrics of the validation split."""

    test: bool | None = None  # None: in a single run, not in a sweep
    samples: int = 512  # drawn from the prior for the sample metrics
    feature_extractor: str | None = None  # ONNX, or TorchScript that VAESWEEP_TRUST names


@dataclass
class LoggerConfig:
    """Where metrics and pictures go, besides the record."""

    name: str = MISSING
    project: str = "vaesweep"
    entity: str | None = None
    group: str | None = None
    tags: list[str] = field(default_factory=list)
    log_images_every: int = 10  # epochs
    log_model: bool = False


@dataclass
class SweepConfig:
    """A sweep of many trials (`-m`), besides what is under `hydra.sweeper`."""

    file: str | None = None  # a W&B sweep file that says what is searched, and how
    # Keys whose values are compared, each searched as long as the others; null: the loss, where
    # several are searched; []: nothing, one search over all.
    compare: Any = None
    # Past sweeps (directories, or addresses of studies): the search begins where they ended.
    warm_start: Any = field(default_factory=list)
    # Best configurations that are trained again with fresh seeds, which all of them share: of each
    # level that is compared the best one, if this is not 0; else as many as this says.
    confirm: int = 0
    confirm_seeds: int = 5  # that each of them gets, unless it is surely worse before
    confirm_most: int | None = None  # where a decision is then still open; null: half as many again
    # Differences that do not matter, by metric: {psnr: 0.2}; PSNR 0.1 dB, SSIM and MS-SSIM 0.005,
    # others 1% of the best.
    margins: Any = None
    stop_after_no_improvement: int | None = None  # finished trials in a row without a better one
    max_failure_rate: float = 0.5  # of the command's trials, once five have ended
    max_retries: int = 2  # of a trial whose worker died
    retry_failed: bool = False  # train the failed trials of an earlier command again
    trials_per_gpu: int = 1  # side by side only under NVIDIA's Multi-Process Service
    gpus_per_trial: int = 1  # trains each trial on a group of GPUs, as trainer.devices does


@dataclass
class Config:
    """One trial."""

    name: str = "vae"
    seed: int = 0
    objective: Any = "psnr"  # a metric's name, or several for a Pareto search
    lr: float = 1e-3
    latent_dim: int = 32
    beta: float = 1.0
    batch_size: int = 64
    max_epochs: int = 100
    report: str = "html"  # at the end of a sweep; or none
    data: DataConfig = MISSING
    model: Any = MISSING
    loss: Any = MISSING
    kl: KLConfig = field(default_factory=KLConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    trainer: TrainerConfig = field(default_factory=TrainerConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    logger: LoggerConfig = MISSING
    sweep: SweepConfig = field(default_factory=SweepConfig)
