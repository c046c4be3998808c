"""The LightningModule: one training step of a VAE under an injected loss."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, NamedTuple

import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from models import CHECKPOINT_SCHEMA
from models.clipping import AdaptiveClipping
from models.cuda_graph import WARM_UP_STEPS, RecordedStep
from models.finite import FiniteWatch
from models.network import Network, sample_posterior
from models.ranks.batch_norm import share_batch_norms
from models.ranks.group import Ranks, Share

log = logging.getLogger(__name__)

ALONE = Ranks()
"""A single process."""

_SAMPLED = 64
"""Images of a batch that are decoded from samples as well in validation: a bound on the likelihood
during the training is not worth a second pass of the decoder through all of them."""


class DivergedError(Exception):
    """The training loss is NaN or infinite.

    Attributes:
        step: the optimizer step, counted from 0, whose loss was the first.
    """

    def __init__(self, step: int) -> None:
        super().__init__(
            f"the loss became NaN or infinite at step {step}; a lower `lr`, a longer "
            "`optimizer.warmup_steps` or `trainer.precision=32-true` often helps"
        )
        self.step = step


class Reconstruction(NamedTuple):
    """What `VAE.validation_step` hands to the callbacks that score it."""

    x: Tensor
    """(B, C, H, W) in [0, 1]."""
    x_hat: Tensor
    """(B, C, H, W) in [0, 1], decoded from the posterior's mean."""
    mean: Tensor
    """(B, L) of the posterior."""
    log_variance: Tensor
    """(B, L) of the posterior."""
    sampled: Tensor
    """(K, C, H, W) in [0, 1], decoded from samples of the posterior, of the first K <= B images."""
    terms: dict[str, Tensor]
    """The loss and its parts, each a scalar."""
    share: Share
    """The part of the batch that these images are; the terms are the batch's."""
    sampled_share: Share
    """The part that `sampled` are of the batch's first images."""


class VAE(pl.LightningModule):
    """Train a `Network` under a loss that is called as `loss(x_hat, x, mean, log_variance)`.

    Batches are uint8 images (B, C, H, W) and are scaled to [0, 1] on the device. The mean of
    each part of the loss, the learning rate, the gradient norm and the share of steps whose
    gradient was clipped are logged as `train/...` every `log_every` steps.

    Args:
        network: encoder and decoder.
        loss: maps `(x_hat, x, mean, log_variance, kl_weight=...)` to a dict of scalars with
            the key "loss"; all are logged.
        make_optimizer: maps the network's parameters to an optimizer.
        make_schedules: maps the optimizer to Lightning's scheduler configurations.
        gradient_clip: largest norm of the gradient, as a multiple of the usual one (see
            `models.clipping`); None does not clip.
        kl_warmup_steps: steps over which the KL's weight rises linearly from 0 to 1.
        augment: applied to float batches in training only.
        channels_last: memory format of batches and weights.
        log_every: steps between two rows of training metrics.
        record_step: replay the step as a CUDA graph after the first few. A step that cannot be
            recorded goes on as before, and the log says why. Needs a CUDA device, `augment` and
            `loss` that leave all work to it, no loss scaling and a single process.
        description: plain values saved in every checkpoint, enough to rebuild the network.
        ranks: the processes that train the network together, which see each a part of every batch
            (see `models.ranks.group`). The loss is then given its `share`.
    """

    def __init__(
        self,
        network: Network,
        loss: nn.Module,
        *,
        make_optimizer: Callable[[Any], torch.optim.Optimizer],
        make_schedules: Callable[[torch.optim.Optimizer], list[dict[str, Any]]],
        gradient_clip: float | None = None,
        kl_warmup_steps: int = 0,
        augment: nn.Module | None = None,
        channels_last: bool = False,
        log_every: int = 50,
        record_step: bool = False,
        description: dict[str, Any] | None = None,
        ranks: Ranks = ALONE,
    ) -> None:
        super().__init__()
        self._memory_format = torch.channels_last if channels_last else torch.contiguous_format
        self.network = network.to(memory_format=self._memory_format)  # type: ignore[call-overload]
        self.loss = loss.requires_grad_(False)
        self._ranks = ranks
        if ranks.several:
            share_batch_norms(self.network, ranks.world)
        self._make_optimizer = make_optimizer
        self._make_schedules = make_schedules
        self._clipping = AdaptiveClipping(gradient_clip)
        self._kl_warmup_steps = kl_warmup_steps
        self._augment = augment
        self._log_every = log_every
        self._description = description or {}
        self._sums: dict[str, Tensor] = {}
        self._steps_summed = 0
        self._record_step = record_step
        self._recorded: RecordedStep | None = None
        self._kl_share: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        """Reconstruct float images (B, C, H, W) in [0, 1] without noise."""
        x_hat: Tensor = self.network(x)
        return x_hat

    def on_after_batch_transfer(self, batch: Tensor, dataloader_idx: int) -> Tensor:
        # A training step takes the bytes: what is done to them is part of what is recorded.
        return batch if self.training else self._scaled(batch)

    def on_train_start(self) -> None:
        self._begin()
        if self._ranks.several:
            self._ranks.agree(self.network)

    def on_train_batch_start(self, batch: Tensor, batch_idx: int) -> None:
        if self._record_step and self._steps_here == WARM_UP_STEPS:
            self._record(batch)

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        if self._kl_share is not None:
            self._kl_share.fill_(self.kl_weight())
        self._clipping.begin_step()
        share = self._share(batch, self.trainer.train_dataloader, batch_idx)
        loss = self._loss_of(batch, share) if self._recorded is None else self._recorded(batch)
        self._steps_here += 1
        self._raise_if_diverged(self._watch.after_step())
        return loss

    def backward(self, loss: Tensor, *args: Any, **kwargs: Any) -> None:
        if self._recorded is None:
            super().backward(loss, *args, **kwargs)
            if self._ranks.several:  # before 16-mixed looks whether they are finite
                self._ranks.add_gradients(self.network.parameters())

    def optimizer_zero_grad(self, epoch: int, batch_idx: int, optimizer: Any) -> None:
        if self._recorded is None:
            super().optimizer_zero_grad(epoch, batch_idx, optimizer)

    def optimizer_step(
        self, epoch: int, batch_idx: int, optimizer: Any, optimizer_closure: Any = None
    ) -> None:
        if self._recorded is None:
            super().optimizer_step(epoch, batch_idx, optimizer, optimizer_closure)
        else:
            optimizer_closure()  # `training_step`, which is all of the step

    def on_validation_epoch_start(self) -> None:
        # The same noise in every validation, and none of the training's own random numbers.
        self._noise = torch.Generator().manual_seed(0)

    def validation_step(  # type: ignore[override]  # only our callbacks look at it
        self, batch: Tensor, batch_idx: int
    ) -> Reconstruction:
        # Scores decide between checkpoints by less than what bfloat16 rounds away.
        with torch.autocast(batch.device.type, enabled=False):
            share = self._share(batch, self.trainer.val_dataloaders, batch_idx)
            first = share.first(_SAMPLED)
            rows = max(1, first.own)  # one that is not among the first does not count
            mean, log_variance = self.network.encode(batch)
            x_hat = self.network.decode(mean)
            posterior = sample_posterior(mean[:rows], log_variance[:rows], self._noise, first)
            sampled = self.network.decode(posterior)
            terms = self.loss(x_hat, batch, mean, log_variance, **self._shared(share))
        return Reconstruction(batch, x_hat, mean, log_variance, sampled, terms, share, first)

    def kl_weight(self, step: int | None = None) -> float:
        """The KL's share of `beta` at a step: 1, or less while it warms up.

        Args:
            step: counted from 0; the one that comes by default.
        """
        if self._kl_warmup_steps == 0:
            return 1.0
        step = self.global_step if step is None else step
        return min(1.0, (step + 1) / self._kl_warmup_steps)

    @property
    def is_warmed_up(self) -> bool:
        """Whether the last step was one at the full `beta`; what came before chooses nothing."""
        return self.kl_weight(self.global_step - 1) == 1.0

    def lr_scheduler_step(self, scheduler: Any, metric: Any | None) -> None:
        # A plateau is one of the objective, which may get worse while the KL's weight rises.
        if metric is None or self.is_warmed_up:
            super().lr_scheduler_step(scheduler, metric)

    def configure_optimizers(self) -> Any:
        optimizer = self._make_optimizer(self.network.parameters())
        return [optimizer], self._make_schedules(optimizer)

    def configure_gradient_clipping(
        self,
        optimizer: Any,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        self._clip_gradients()

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        self._steps_summed += 1
        if self.global_step % self._log_every == 0:
            self._log_means()

    def on_train_epoch_end(self) -> None:
        self._raise_if_diverged(self._watch.look())

    def on_train_end(self) -> None:
        self._recorded = None

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["vaesweep"] = {"schema": CHECKPOINT_SCHEMA, **self._description}
        checkpoint["running_means"] = (self._steps_summed, self._sums)
        checkpoint["clipping"] = self._clipping.state_dict()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self._steps_summed, self._sums = checkpoint["running_means"]
        before = "spike_guard"  # its name in older checkpoints
        self._clipping.load_state_dict(checkpoint.get("clipping") or checkpoint[before])

    def _begin(self) -> None:
        """Prepare for a session of training."""
        self._first_step, self._steps_here = self.global_step, 0
        self._watch = FiniteWatch()
        self._recorded = None
        self._kl_share = None
        if self._record_step and self._kl_warmup_steps > 0:
            self._kl_share = torch.ones((), device=self.device)
        self._sums = {name: value.to(self.device) for name, value in self._sums.items()}
        self._clipping.to(self.device)

    def _scaled(self, batch: Tensor) -> Tensor:
        return batch.to(dtype=torch.float32, memory_format=self._memory_format).div_(255)

    def _share(self, batch: Tensor, batches: Any, batch_idx: int) -> Share:
        """The part that `batch` is of the batch that all processes share."""
        count = batches.size_of(batch_idx) if self._ranks.several else len(batch)
        return self._ranks.share(count)

    def _shared(self, share: Share) -> dict[str, Any]:
        """What the loss is told of the part: nothing, where it is the whole batch."""
        return {"share": share} if self._ranks.several else {}

    def _loss_of(self, batch: Tensor, share: Share | None = None) -> Tensor:
        """The loss of a batch of bytes in training, or of this process's share of one."""
        share = share or self._ranks.share(len(batch))
        x = self._scaled(batch)
        if self._augment is not None:
            x = self._augment(x, **self._shared(share))
        mean, log_variance = self.network.encode(x)
        x_hat = self.network.decode(sample_posterior(mean, log_variance, share=share))
        weight = self.kl_weight() if self._kl_share is None else self._kl_share
        terms = self.loss(x_hat, x, mean, log_variance, kl_weight=weight, **self._shared(share))
        self._watch.observe(terms["loss"].detach())
        self._accumulate({name: term.detach() for name, term in terms.items()})
        loss: Tensor = terms["loss"]
        return loss

    def _clip_gradients(self) -> None:
        norm, clipped = self._clipping(self.network.parameters())
        self._accumulate({"grad_norm": norm, "clipped": clipped})

    def _record(self, batch: Tensor) -> None:
        optimizer = self.trainer.optimizers[0]

        def step(batch: Tensor) -> Tensor:
            with self.trainer.precision_plugin.forward_context():
                loss = self._loss_of(batch)
            loss.backward()
            self._clip_gradients()
            optimizer.step()
            return loss.detach()

        try:
            self._recorded = RecordedStep(step, batch, optimizer)
        except RuntimeError as error:
            optimizer.zero_grad()
            reason = str(error).partition("\n")[0]
            log.info("the training step goes on unrecorded (trainer.cuda_graph): %s", reason)

    def _raise_if_diverged(self, finite_steps: int | None) -> None:
        if finite_steps is not None:
            raise DivergedError(self._first_step + finite_steps)

    def _accumulate(self, values: dict[str, Tensor]) -> None:
        if values.keys() <= self._sums.keys():
            torch._foreach_add_([self._sums[name] for name in values], list(values.values()))
        else:
            self._sums |= {name: value.clone() for name, value in values.items()}

    def _log_means(self) -> None:
        means = {f"train/{name}": s / self._steps_summed for name, s in self._sums.items()}
        means["lr"] = torch.tensor(self.trainer.optimizers[0].param_groups[0]["lr"])
        self.log_dict(means, on_step=True, on_epoch=False)
        for sum_ in self._sums.values():
            sum_.zero_()
        self._steps_summed = 0
