"""Ways to train the same network on the same images, for `training.py`.

Every way trains `epochs` epochs of the config's training split with the same loss, optimizer,
batch size and learning rate, and is scored on the same validation images in the same manner.
"""

from __future__ import annotations

import contextlib
import io
import logging
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, TensorDataset


@dataclass(frozen=True)
class Trained:
    """What one training took and reached.

    Attributes:
        seconds: from the first to the last epoch, with what the way does between them.
        psnr: of the validation images, dB.
        evaluation: the seconds that validations took, where the way tells.
    """

    seconds: float
    psnr: float
    evaluation: float = 0.0


@dataclass
class Parts:
    """A fresh network, and what trains it."""

    config: dict[str, Any]
    data: Any
    network: Any
    loss: nn.Module

    @classmethod
    def of(cls, config: dict[str, Any]) -> Parts:
        """As `run_trial` would build them."""
        import losses
        import models
        from experiments import building as parts
        from losses.elbo import ELBO

        torch.manual_seed(config["seed"])
        data = parts.batched(config, parts.load(config), "cpu")
        network = models.create(
            "conv", image_shape=data.images.image_shape, latent_dim=config["latent_dim"]
        )
        return cls(config, data, network, ELBO(losses.create("mse")))

    def step_loss(self, x: Tensor) -> Tensor:
        """The loss of a float batch (B, C, H, W)."""
        from models.network import sample_posterior

        mean, log_variance = self.network.encode(x)
        x_hat = self.network.decode(sample_posterior(mean, log_variance))
        return self.loss(x_hat, x, mean, log_variance)["loss"]

    def optimizer(self) -> torch.optim.Optimizer:
        """The trial's."""
        from models.optimizers import adamw

        return adamw(self.network.parameters(), lr=self.config["lr"], weight_decay=0.01)

    def floats(self, split: str) -> Tensor:
        """The images of a split, (N, C, H, W) in [0, 1]."""
        chosen = getattr(self.data.splits, split)
        return torch.from_numpy(self.data.images.images[chosen]).float() / 255

    def psnr(self) -> float:
        """Of the validation images, in float32."""
        from experiments.scoring.evaluation import evaluate

        return evaluate(self.network.eval(), self.data.val, "cpu").metrics["psnr"]


def run_py(config: dict[str, Any]) -> Trained:
    """A whole trial: Lightning, W&B offline, validations, metrics, pictures, checkpoints."""
    import pytorch_lightning as pl

    from experiments.record import read_result
    from experiments.trial import run_trial

    class Validations(pl.Callback):
        """Times the validations with all that callbacks do in them."""

        seconds = 0.0

        def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
            loop = trainer.fit_loop.epoch_loop.val_loop
            plain: Callable[[], Any] = loop.run

            def timed() -> Any:
                started = time.perf_counter()
                try:
                    return plain()
                finally:
                    self.seconds += time.perf_counter() - started

            loop.run = timed  # type: ignore[method-assign]

    validations = Validations()
    with tempfile.TemporaryDirectory() as directory:
        run_trial(config, directory, in_sweep=True, callbacks=[validations])
        found = read_result(directory)
    return Trained(
        found["timings"]["fit_seconds"], found["metrics"]["val"]["psnr"], validations.seconds
    )


def bare_loop(config: dict[str, Any], *, precision: str, loader: bool) -> Trained:
    """Forward, backward, clip, step; nothing else.

    Args:
        config: of the trial.
        precision: "32-true", or bfloat16 with channels_last.
        loader: batches from a default `DataLoader` over a `TensorDataset`, not from memory.
    """
    mixed = precision != "32-true"
    layout = torch.channels_last if mixed else torch.contiguous_format
    parts = Parts.of(config)
    parts.network.to(memory_format=layout)
    optimizer = parts.optimizer()
    batches: Iterable[Any] = parts.data.train
    if loader:
        floats = TensorDataset(parts.floats("train"))
        batches = DataLoader(floats, config["batch_size"], shuffle=True, drop_last=True)
    started = time.perf_counter()
    for _ in range(config["max_epochs"]):
        for batch in batches:
            x = batch[0] if loader else batch.to(torch.float32, memory_format=layout).div_(255)
            with torch.autocast("cpu", torch.bfloat16, enabled=mixed):
                loss = parts.step_loss(x)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(parts.network.parameters(), 10.0)
            optimizer.step()
    return Trained(time.perf_counter() - started, parts.psnr())


def pythae(config: dict[str, Any]) -> Trained:
    """pythae's own `BaseTrainer`, as its README starts it, over images in memory.

    Raises:
        ImportError: pythae is not installed.
    """
    from pythae.data.datasets import BaseDataset
    from pythae.models import VAE, VAEConfig
    from pythae.models.base.base_utils import ModelOutput
    from pythae.models.nn import BaseDecoder, BaseEncoder
    from pythae.trainers import BaseTrainer, BaseTrainerConfig

    parts = Parts.of(config)

    class Encoder(BaseEncoder):
        def __init__(self) -> None:
            super().__init__()
            self.network = parts.network

        def forward(self, x: Tensor) -> Any:
            mean, log_variance = self.network.encode(x)
            return ModelOutput(embedding=mean, log_covariance=log_variance)

    class Decoder(BaseDecoder):
        def __init__(self) -> None:
            super().__init__()
            self.network = parts.network

        def forward(self, z: Tensor) -> Any:
            return ModelOutput(reconstruction=self.network.decode(z))

    class SameLoss(VAE):
        def loss_function(self, recon_x: Any, x: Any, mu: Any, log_var: Any, z: Any) -> Any:
            terms = parts.loss(recon_x, x, mu, log_var)
            return terms["loss"], terms["reconstruction"], terms["kl"]

    images = parts.data.images.image_shape
    model = SameLoss(
        VAEConfig(input_dim=images, latent_dim=config["latent_dim"]), Encoder(), Decoder()
    )
    logging.getLogger("pythae").setLevel(logging.ERROR)
    for name in [n for n in logging.root.manager.loggerDict if n.startswith("pythae.")]:
        logging.getLogger(name).setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory() as directory, contextlib.redirect_stderr(io.StringIO()):
        trainer = BaseTrainer(
            model,
            BaseDataset(parts.floats("train"), torch.zeros(len(parts.data.splits.train))),
            BaseDataset(parts.floats("val"), torch.zeros(len(parts.data.splits.val))),
            BaseTrainerConfig(
                output_dir=directory,
                num_epochs=config["max_epochs"],
                per_device_train_batch_size=config["batch_size"],
                per_device_eval_batch_size=config["batch_size"],
                learning_rate=config["lr"],
                optimizer_cls="AdamW",
                optimizer_params={"weight_decay": 0.01},
                seed=config["seed"],
            ),
        )
        started = time.perf_counter()
        trainer.train()
        seconds = time.perf_counter() - started
    parts.network = trainer._best_model.encoder.network
    return Trained(seconds, parts.psnr())


class _Photos(Dataset[Tensor]):
    """Opens, crops and scales a photo each time it is asked for, as torchvision's folders do."""

    def __init__(self, paths: list[Path], size: int) -> None:
        self._paths, self._size = paths, size

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, index: int) -> Tensor:
        import numpy as np
        from PIL import Image, ImageOps

        with Image.open(self._paths[index]) as photo:
            image = ImageOps.fit(photo.convert("RGB"), (self._size, self._size))
        return torch.from_numpy(np.array(image)).permute(2, 0, 1).float() / 255


def pytorch_vae(config: dict[str, Any], *, from_files: bool) -> Trained:
    """The recipe of PyTorch-VAE, restated with current Lightning and this network.

    https://github.com/AntixK/PyTorch-VAE: float32, a `DataLoader` with four processes, every
    term of every step logged, a validation, a grid of reconstructions and one of samples each
    epoch, the two best checkpoints and the last; its `Adam` is AdamW here, as in the others.

    Args:
        config: of the trial.
        from_files: open the photos in every epoch, as the recipe does; else tensors in memory.
    """
    import pytorch_lightning as pl
    from pytorch_lightning.callbacks import LearningRateMonitor, ModelCheckpoint
    from pytorch_lightning.loggers import CSVLogger

    parts = Parts.of(config)
    held_out = parts.floats("val")
    train: Dataset[Any] = TensorDataset(parts.floats("train"))
    if from_files:
        root, names = Path(config["data"]["root"]), parts.data.images.names
        files = [root / names[index] for index in parts.data.splits.train]
        train = _Photos(files, config["data"]["size"])

    class Experiment(pl.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.network = parts.network

        def _loss(self, batch: Any) -> Tensor:
            return parts.step_loss(batch if isinstance(batch, Tensor) else batch[0])

        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            loss = self._loss(batch)
            self.log_dict({"loss": loss.detach()}, sync_dist=True)
            return loss

        def validation_step(self, batch: Any, batch_idx: int) -> None:
            self.log_dict({"val_loss": self._loss(batch)}, sync_dist=True)

        def on_validation_end(self) -> None:
            with torch.no_grad():
                _save_grid(self.network(held_out[:144]), Path(directory, "reconstructions.png"))
                latents = torch.randn(144, config["latent_dim"])
                _save_grid(self.network.decode(latents), Path(directory, "samples.png"))

        def configure_optimizers(self) -> Any:
            optimizer = parts.optimizer()
            return [optimizer], [torch.optim.lr_scheduler.ExponentialLR(optimizer, gamma=1.0)]

    options: dict[str, Any] = {"num_workers": 4, "persistent_workers": False}
    with tempfile.TemporaryDirectory() as directory, contextlib.redirect_stderr(io.StringIO()):
        trainer = pl.Trainer(
            accelerator="cpu",
            max_epochs=config["max_epochs"],
            logger=CSVLogger(directory),
            callbacks=[
                LearningRateMonitor(),
                ModelCheckpoint(directory, save_top_k=2, monitor="val_loss", save_last=True),
            ],
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        started = time.perf_counter()
        trainer.fit(
            Experiment(),
            DataLoader(train, config["batch_size"], shuffle=True, drop_last=True, **options),
            DataLoader(TensorDataset(held_out), config["batch_size"], **options),
        )
        seconds = time.perf_counter() - started
    return Trained(seconds, parts.psnr())


def _save_grid(images: Tensor, path: Path) -> None:
    from PIL import Image

    from experiments.scoring.pictures import grid

    pixels = (images.clamp(0, 1) * 255).round().to(torch.uint8).numpy()
    Image.fromarray(grid(pixels, columns=12)).save(path)
