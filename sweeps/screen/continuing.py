"""What a command says of a study that it goes on with: what is new, or why nothing is trained."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import optuna
from optuna.distributions import json_to_distribution
from optuna.trial import TrialState

from experiments.errors import UserError
from sweeps.plan import Plan
from sweeps.screen.formatting import trials_of
from sweeps.storage.attributes import SEARCH, budgeted
from sweeps.study.definition import in_words

_GRID = "grid"


def notice(study: optuna.Study, plan: Plan, *, is_work_left: bool) -> str | None:
    """What to say before the workers begin; keeps in the study how it is searched from now on.

    Raises:
        UserError: the budget is spent, so that nothing would be trained, but it was spent on
            another search than the one that the command asks for.
    """
    earlier, now = study.user_attrs.get(SEARCH), _search(plan)
    differences = "; ".join(_differences(earlier or now, now))
    if is_work_left:
        if earlier != now:
            study.set_user_attr(SEARCH, now)
        if not differences:
            return None
        return f"study {study.study_name!r} goes on with another search ({differences})"
    if plan.grid:
        return _grid_is_done(study)
    more = f"hydra.sweeper.n_trials={2 * (plan.settings.n_trials or 1)}"
    spent = f"study {study.study_name!r} has had its {trials_of(_counted(study))}"
    if differences:
        raise UserError(
            f"a search must have trials left, but {spent} (`hydra.sweeper.n_trials`, or `run_cap` "
            f"of a W&B sweep file), and for another search than this one ({differences}); add "
            f"name=... for a study of its own, or {more} to go on with the same"
        )
    return f"nothing is left to train: {spent}; to add some: {more}"


def _grid_is_done(study: optuna.Study) -> str:
    states = [trial.state for trial in budgeted(study.get_trials(deepcopy=False))]
    text = f"nothing is left to train: all combinations of study {study.study_name!r} have begun"
    if TrialState.RUNNING in states:
        return f"{text}, and another command trains the last"
    if TrialState.FAIL in states:
        return f"{text}; to try again what failed: sweep.retry_failed=true"
    return f"{text} and ended; more values or seeds (seed=0,1,2) add some, name=... begins anew"


def _counted(study: optuna.Study) -> int:
    return len(budgeted(study.get_trials(deepcopy=False)))


def _search(plan: Plan) -> dict[str, Any]:
    sampler = _GRID if plan.grid else str(plan.settings.sampler.get("_target_")).rpartition(".")[2]
    return {"sampler": sampler, "space": plan.space.describe()}


def _differences(earlier: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    if earlier["sampler"] == now["sampler"] == _GRID:
        return  # which may grow
    if earlier["sampler"] != now["sampler"]:
        yield f"by {earlier['sampler']} before, by {now['sampler']} now"
    before, after = earlier["space"], now["space"]
    for key in dict.fromkeys([*before, *after]):
        if before.get(key) != after.get(key):
            yield f"`{key}` {_words(before.get(key))} before, {_words(after.get(key))} now"


def _words(described: Any) -> str:
    import json

    if described is None:
        return "not searched"
    return in_words(json_to_distribution(json.dumps(described)))
