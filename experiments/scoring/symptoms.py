"""What is wrong with a trained model, seen from its metrics and history alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from experiments.metrics import METRICS
from experiments.record import at_full_weight

COLLAPSE = "posterior collapse"
IDLE = "idle units"
NOTHING_LEARNED = "nothing learned"
SATURATED = "saturated outputs"
UNSTABLE = "unstable training"
SHORT = "budget too short"

BETTER_THAN_MEAN = 0.3
"""dB of PSNR above the mean image, from which a model has learned something."""

_COLLAPSED_KL = 0.1  # nats an image
_EXPLODED_KL = 100.0  # nats a unit: a trained unit has at most some ten
_FEW = 0.5  # share of the units below which most are idle
_SATURATED = 0.1  # share of values, beyond the images' own
_FALL = 0.25  # of what was gained, lost again
_STILL = 0.05  # of what was gained, in the last quarter of the validations
_LEAST_VALIDATIONS = 4


@dataclass(frozen=True)
class Symptom:
    """Something that is wrong with a trial.

    Attributes:
        kind: one of the names above.
        evidence: the numbers that show it.
        remedy: overrides, or what to do.
    """

    kind: str
    evidence: str
    remedy: str


def symptoms(
    parameters: Mapping[str, Any],
    metrics: Mapping[str, float | None],
    history: Sequence[Mapping[str, Any]],
    *,
    objective: str,
    epochs: int | None,
) -> list[Symptom]:
    """What is wrong with a trial; what cannot be seen, since a number is missing, is not.

    Args:
        parameters: the flat config.
        metrics: of the validation split, by name.
        history: a row for each validation, in order, with `epoch` and `val/<metric>`.
        objective: name of the metric that the trial was steered by.
        epochs: that were trained.
    """
    found = [
        _collapse(parameters, metrics),
        _saturation(metrics),
        *_course(parameters, history, objective, epochs),
    ]
    return [symptom for symptom in found if symptom is not None]


def _collapse(parameters: Mapping[str, Any], metrics: Mapping[str, float | None]) -> Symptom | None:
    kl, active = metrics.get("kl"), metrics.get("active_units")
    units = parameters.get("latent_dim")
    if kl is None or active is None or not units:
        return None
    psnr, of_mean = metrics.get("psnr"), metrics.get("mean_image_psnr")
    compared = ""
    if psnr is not None and of_mean is not None:
        compared = f"; PSNR {psnr:.2f} dB, of the mean image {of_mean:.2f}"
    evidence = f"{active:.0f} of {units} units active, KL {kl:.2g} nats{compared}"
    if kl > _EXPLODED_KL * units:
        return Symptom(UNSTABLE, evidence, f"lr={_lower(parameters.get('lr'))}")
    if kl < _COLLAPSED_KL or active == 0:
        return Symptom(COLLAPSE, evidence, _cheaper_kl(parameters))
    if active < _FEW * units:
        remedy = f"{_cheaper_kl(parameters)}; or latent_dim={_next_power(int(active))}"
        return Symptom(IDLE, evidence, remedy)
    if psnr is not None and of_mean is not None and psnr < of_mean + BETTER_THAN_MEAN:
        return Symptom(NOTHING_LEARNED, evidence, "more max_epochs, or a higher lr")
    return None


def _saturation(metrics: Mapping[str, float | None]) -> Symptom | None:
    excess = metrics.get("saturation")
    if excess is None or excess < _SATURATED:
        return None
    evidence = f"{excess:.0%} more of the reconstructions' values are 0 or 255 than of the images'"
    return Symptom(SATURATED, evidence, "a smaller lr, or optimizer.gradient_clip=2")


def _course(
    parameters: Mapping[str, Any],
    history: Sequence[Mapping[str, Any]],
    objective: str,
    epochs: int | None,
) -> list[Symptom]:
    """Of the objective over the validations: lost again, or not yet at its end."""
    column = f"val/{objective}"
    rows = [row for row in at_full_weight(history) if isinstance(row.get(column), int | float)]
    rows = [row for row in rows if row[column] == row[column]]
    if len(rows) < _LEAST_VALIDATIONS or objective not in METRICS:
        return []
    sign = 1 if METRICS[objective].direction == "maximize" else -1
    values = [sign * float(row[column]) for row in rows]
    best = max(range(len(values)), key=values.__getitem__)
    gained = values[best] - values[0]
    lost = values[best] - values[-1]
    spread = max(values) - min(values)

    def at(i: int) -> str:
        return f"{sign * values[i]:.4g} at epoch {int(rows[i]['epoch']) + 1}"

    if best < len(values) - 1 and spread > 0 and lost > _FALL * spread:
        evidence = f"{objective} was {at(best)} and is {at(len(values) - 1)}"
        return [Symptom(UNSTABLE, evidence, f"lr={_lower(parameters.get('lr'))}")]
    quarter = values[-1] - values[-1 - max(1, len(values) // 4)]
    most = parameters.get("max_epochs")
    if epochs is None or most is None or epochs < most or gained <= 0:
        return []
    if best == len(values) - 1 and quarter > _STILL * gained:
        evidence = f"{objective} was {at(-1 - max(1, len(values) // 4))} and is {at(-1)}, the last"
        return [Symptom(SHORT, evidence, f"max_epochs={2 * most}")]
    return []


def _cheaper_kl(parameters: Mapping[str, Any]) -> str:
    beta, most = parameters.get("beta"), parameters.get("max_epochs")
    if parameters.get("loss.scale") not in (None, "optimal_sigma"):
        return "loss.scale=optimal_sigma"
    smaller = f"beta={beta / 4:.2g}" if beta else "a smaller beta"
    warmup = f"kl.warmup_epochs={min(10, most / 2) if most else 10:g}"
    if beta and beta > 1:
        return f"{smaller}, or {warmup}"
    # The scale pays for the units of most images at beta 1: it may have been too early.
    longer = f"max_epochs={2 * most}" if most else "more max_epochs"
    return f"{longer}, {warmup} or {smaller}"


def _lower(lr: Any) -> str:
    return f"{lr / 3:.1g}" if isinstance(lr, float | int) else "a third of it"


def _next_power(units: int) -> int:
    return 1 << max(units - 1, 0).bit_length()
