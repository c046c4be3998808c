"""What a study has found, as tables and files. Nothing but the study is read."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from experiments.record.files import replacing
from sweeps.results.configurations import check_names, params_of, seconds_of
from sweeps.results.ranking import front
from sweeps.storage import attributes

if TYPE_CHECKING:
    import pandas as pd


def rows(study: optuna.Study, names: Sequence[str]) -> list[dict[str, Any]]:
    """One row a trial, without those that were withdrawn or repeated as another.

    Keys are `number`, `state` (Optuna's, in lower case), `params/<name>`, `seed`,
    `objective/<name>` (of an unfinished trial its last report), `val/<metric>`, `epochs`,
    `seconds`, `directory`, `reason`. A trial lacks what it does not have.

    Args:
        study: to read.
        names: of the objectives.

    Raises:
        ValueError: there is not one name for each objective.
    """
    check_names(study, names)
    trials = attributes.counted(study.get_trials(deepcopy=False))
    return [_row(trial, names) for trial in trials]


def table(study: optuna.Study, names: Sequence[str] | None = None) -> pd.DataFrame:
    """`rows` as a data frame; `names` default to those that the study was given, or to numbers.

    Raises:
        ValueError: there is not one name for each objective.
    """
    import pandas as pd

    if names is None:
        names = study.metric_names or [str(i) for i in range(len(study.directions))]
    return pd.DataFrame(rows(study, names))


def optimization_results(study: optuna.Study, names: Sequence[str]) -> dict[str, Any]:
    """What Hydra's own sweeper writes at the end, of configurations and means over their seeds.

    Returns:
        `name`, and `best_params` and `best_value` for one objective or `solutions` for several.

    Raises:
        ValueError: there is not one name for each objective.
    """
    found = front(study, names)
    if len(names) > 1:
        solutions = [{"params": dict(c.params), "values": list(c.means)} for c in found]
        return {"name": "optuna", "solutions": solutions}
    if not found:
        return {"name": "optuna", "best_params": {}, "best_value": None}
    first = found[0]
    return {"name": "optuna", "best_params": dict(first.params), "best_value": first.means[0]}


def write_results(path: str | Path, study: optuna.Study, names: Sequence[str]) -> None:
    """Replace a YAML file by `optimization_results`, whole or not at all.

    Raises:
        ValueError: there is not one name for each objective.
        OSError: the file cannot be written.
    """
    import yaml

    path = Path(path)
    text = yaml.safe_dump(optimization_results(study, names), sort_keys=False, allow_unicode=True)
    with replacing(path, durable=True) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _row(trial: FrozenTrial, names: Sequence[str]) -> dict[str, Any]:
    attrs = trial.user_attrs
    summary = attrs.get(attributes.SUMMARY) or {}
    report = attributes.last_report(trial)
    values = trial.values or (report[1] if report else ())
    scores = (summary.get("metrics") or {}).get("val", {})
    row = {
        "number": trial.number,
        "state": trial.state.name.lower(),
        **{f"params/{name}": value for name, value in params_of(trial).items()},
        "seed": attrs.get(attributes.SEED, trial.params.get(attributes.SEED)),
        **{f"objective/{name}": value for name, value in zip(names, values, strict=False)},
        **{f"val/{name}": value for name, value in scores.items()},
        "epochs": summary.get("epochs", report[0] if report else None),
        "seconds": seconds_of(trial),
        "directory": attrs.get(attributes.DIRECTORY),
        "reason": attrs.get(attributes.REASON) if trial.state != TrialState.COMPLETE else None,
    }
    return {key: value for key, value in row.items() if value is not None}
