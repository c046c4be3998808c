"""How much each swept parameter matters."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence

import optuna
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from sweeps.results.configurations import check_names
from sweeps.storage import attributes

_LEAST = 4  # completed trials


def importances(study: optuna.Study, names: Sequence[str]) -> dict[str, dict[str, float]]:
    """How much each parameter matters for each objective, most first; each sums to 1.

    PED-ANOVA (Watanabe, Bansal and Hutter, IJCAI 2023): how far the distribution of a parameter
    among the best trials differs from that among all. Confirmations, copies and the seed are left
    out.

    Args:
        study: to read.
        names: of the objectives.

    Returns:
        By objective and parameter; empty with fewer than 4 completed trials or than 2 parameters
        that took several values.

    Raises:
        ValueError: there is not one name for each objective.
    """
    check_names(study, names)
    trials = [t for t in attributes.counted(study.get_trials(deepcopy=False)) if _is_evidence(t)]
    values: dict[str, set[str]] = {}
    for trial in trials:
        for name, value in trial.params.items():
            values.setdefault(name, set()).add(repr(value))
    varied = [n for n, taken in values.items() if len(taken) > 1 and n != attributes.SEED]
    if len(trials) < _LEAST or len(varied) < 2:
        return {}
    return {name: _importance(study, trials, varied, i) for i, name in enumerate(names)}


def _is_evidence(trial: FrozenTrial) -> bool:
    copied = attributes.SAME_AS in trial.user_attrs
    complete = trial.state == TrialState.COMPLETE
    return complete and not copied and not attributes.is_confirmation(trial)


def _importance(
    study: optuna.Study, trials: Sequence[FrozenTrial], params: list[str], objective: int
) -> dict[str, float]:
    from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances

    maximize = study.directions[objective] == StudyDirection.MAXIMIZE
    losses = {t.number: (-1 if maximize else 1) * t.values[objective] for t in trials}
    # Optuna advises at least five trials among the best.
    quantile = min(0.5, max(0.1, 5 / len(trials)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that low values are meant, and that some are rare
        found: Mapping[str, float] = get_param_importances(
            study,
            evaluator=PedAnovaImportanceEvaluator(target_quantile=quantile),
            params=params,
            # Optuna leaves out what is not finite.
            target=lambda trial: losses.get(trial.number, float("nan")),
        )
    return dict(sorted(found.items(), key=lambda item: (-item[1], item[0])))
