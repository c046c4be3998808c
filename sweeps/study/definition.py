"""The Optuna study of a sweep: made, found again, and refused where it is another's."""

from __future__ import annotations

import copy
import time
import uuid
import warnings
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
    json_to_distribution,
)
from optuna.storages import BaseStorage
from optuna.trial import TrialState

from experiments.errors import UserError
from experiments.metrics import METRICS
from sweeps.space.dimensions import Dimension, Fixed, Space
from sweeps.space.grammar import parse
from sweeps.space.points import is_name
from sweeps.storage.attributes import POINT, STUDY, STUDY_ID
from sweeps.storage.private import storage_of

Options = Mapping[str, Mapping[str, Any]]
"""Of a choice of a group, flat: {"loss=ssim": {"loss.window_size": 7, ...}}."""

SCHEMA_VERSION = 1
"""Of what `STUDY` holds; raised when older readers can no longer read it."""

_NO_OPTIONS: Options = {}
_BACKUP = " (being widened)"
_MAKING_SECONDS = 5.0


def open_study(
    storage: BaseStorage,
    name: str,
    *,
    objectives: Sequence[str],
    space: Space,
    base: Mapping[str, Any],
    options: Options = _NO_OPTIONS,
    grid: bool,
    is_locked: bool = True,
) -> tuple[optuna.Study, Space]:
    """The study of that name, made if there is none; call it under the study's lock.

    Args:
        storage: where it is or will be.
        name: of the study.
        objectives: names of metrics.
        space: what is searched.
        base: the flat config of a trial without the search.
        options: of the choices of the groups that are searched, as far as they are fixed.
        grid: whether every point is run. A grid may grow new choices, for which a study that has
            fewer is rebuilt; a sampler cannot learn from trials with other choices.
        is_locked: the lock excludes all others; else somebody may be making the study too.

    Returns:
        The study, and the space with the distributions that its storage has.

    Raises:
        UserError: the study is another program's, another version's, or its trials cannot be
            compared with those of this command.
    """
    _restore(storage, name)
    directions = [METRICS[objective].direction for objective in objectives]
    is_new = name not in optuna.study.get_all_study_names(storage)
    if is_new:
        try:
            optuna.create_study(study_name=name, storage=storage, directions=directions)
        except optuna.exceptions.DuplicatedStudyError:  # somebody was faster
            is_new = False
    study = optuna.load_study(study_name=name, storage=storage)
    if not is_locked and not is_new:
        _await_description(study)
    if _is_blank(study, directions):
        study.set_user_attr(STUDY_ID, uuid.uuid4().hex)
        _describe(study, objectives, space.describe(), base, options)
        return study, space
    stored = _description(study)
    _check_unfinished(study)
    _check_objectives(name, stored, objectives)
    _check_base(name, stored, base, space)
    _check_options(name, stored, options, space)
    distributions = {
        key: json_to_distribution(_json(value)) for key, value in stored["space"].items()
    }
    if grid:
        space = _searched_again(space, distributions)
        widened = {
            d.key: _union(distributions[d.key], d.distribution)
            for d in space.dimensions
            if d.key in distributions
        }
        changed = {key: dist for key, dist in widened.items() if dist != distributions[key]}
        if any(isinstance(dist, CategoricalDistribution) for dist in changed.values()):
            study = _rebuild(study, changed)
        space = _with(space, widened)
    _check_space(name, distributions, space, grid)
    spaces = {**stored["space"], **space.describe()}
    _describe(study, objectives, spaces, base, {**stored.get("options", {}), **options})
    return study, space


def study_id(study: optuna.Study) -> str:
    """The name that no other study has.

    That of a study of an older version follows from its first trial, so that several commands
    which look at once find the same.
    """
    known = study.user_attrs.get(STUDY_ID)
    if isinstance(known, str):
        return known
    first = [trial.datetime_start for trial in study.get_trials(deepcopy=False)[:1]]
    found = uuid.uuid5(uuid.NAMESPACE_OID, f"{study.study_name} {first}").hex
    study.set_user_attr(STUDY_ID, found)
    return found


def load_study(storage: BaseStorage, name: str, sampler: Any = None) -> optuna.Study:
    """The study of a sweep, for a worker."""
    return optuna.load_study(study_name=name, storage=storage, sampler=sampler)


def _is_blank(study: optuna.Study, directions: Sequence[str]) -> bool:
    """Whether a study says nothing yet: it is new, or whoever made it died before it said more."""
    known = [direction.name.lower() for direction in study.directions]
    has_said = study.user_attrs.keys() - {STUDY_ID} or study.get_trials(deepcopy=False)
    return known == list(directions) and not has_said


def _await_description(study: optuna.Study) -> None:
    """Wait for whoever is making the study, for 5 s at most."""
    deadline = time.monotonic() + _MAKING_SECONDS
    while STUDY not in study.user_attrs and time.monotonic() < deadline:
        time.sleep(_MAKING_SECONDS / 100)


def _json(value: Any) -> str:
    import json

    return json.dumps(value)


def _describe(
    study: optuna.Study,
    objectives: Sequence[str],
    space: Mapping[str, Any],
    base: Mapping[str, Any],
    options: Options,
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        study.set_metric_names(list(objectives))  # for optuna-dashboard
    description = {
        "schema": SCHEMA_VERSION,
        "objectives": list(objectives),
        "space": dict(space),
        "base": dict(base),
        "options": {choice: dict(values) for choice, values in options.items()},
    }
    if study.user_attrs.get(STUDY) != description:
        study.set_user_attr(STUDY, description)


def _description(study: optuna.Study) -> dict[str, Any]:
    stored = study.user_attrs.get(STUDY)
    if not isinstance(stored, dict):
        raise UserError(
            f"a study must have been made by vaesweep, but {study.study_name!r} was not; "
            "give this sweep another name=..."
        )
    if stored.get("schema") != SCHEMA_VERSION:
        raise UserError(
            f"a study must have schema {SCHEMA_VERSION}, but {study.study_name!r} has "
            f"{stored.get('schema')!r}; use the version of vaesweep that made it, or give this "
            "sweep another name=..."
        )
    return stored


def _check_unfinished(study: optuna.Study) -> None:
    """Refuse what nobody could go on with, such as trials of a later version that wait."""
    open_states = (TrialState.WAITING, TrialState.RUNNING)
    for trial in study.get_trials(deepcopy=False, states=open_states):
        point = trial.user_attrs.get(POINT)
        if point is not None and not is_name(point):
            raise UserError(
                "a trial that is to go on must name its point as this version of vaesweep does, "
                f"but trial {trial.number} of {study.study_name!r} has {point!r}; let the version "
                "that began it finish the study, or give this sweep another name=... (what is "
                "finished there stays readable)"
            )


def _check_objectives(name: str, stored: Mapping[str, Any], objectives: Sequence[str]) -> None:
    if stored["objectives"] != list(objectives):
        raise UserError(
            f"the trials of a study must have one objective, but {name!r} has "
            f"{stored['objectives']} and this command {list(objectives)}; "
            "give this sweep another name=..."
        )


def _check_base(
    name: str, stored: Mapping[str, Any], base: Mapping[str, Any], space: Space
) -> None:
    """Values that are not searched must be the same, or the trials cannot be compared."""
    searched = {key.lstrip("+") for key in (*stored["space"], *(d.key for d in space.dimensions))}
    if "experiments" in searched:  # which may set anything
        return
    before = stored["base"]
    # Other than those of a model or a loss, which has options of its own, all versions have them.
    missing = [
        key
        for key in sorted(base.keys() - before.keys())
        if not _is_under(key, searched | {"model", "loss"})
    ]
    if missing:
        raise UserError(
            f"a study must be continued by the version that made it, but {name!r} is of an older "
            f"one, which had no {', '.join(missing[:5])}; its trials can be read and reported; to "
            "train more, give this sweep another name=..."
        )
    _refuse_other_values(name, list(_changes(before, base, searched | {"seed"})))


def _check_options(name: str, stored: Mapping[str, Any], options: Options, space: Space) -> None:
    """Nor may an option of a searched group change, such as that of one of several losses."""
    searched = {key.lstrip("+") for key in (*stored["space"], *(d.key for d in space.dimensions))}
    earlier: Options = stored.get("options", {})  # of older versions there are none
    groups = {choice.partition("=")[0].lstrip("+") for choice in options}
    _refuse_other_values(
        name,
        [
            f"{choice}: {change}"
            for choice in sorted(options.keys() & earlier.keys())
            for change in _changes(earlier[choice], options[choice], searched - groups)
        ],
    )


def _changes(
    before: Mapping[str, Any], now: Mapping[str, Any], searched: set[str]
) -> Iterator[str]:
    for key in sorted(before.keys() | now.keys()):
        if before.get(key) != now.get(key) and not _is_under(key, searched):
            yield f"{key}: {before.get(key)!r} there, {now.get(key)!r} here"


def _refuse_other_values(name: str, changes: Sequence[str]) -> None:
    if changes:
        raise UserError(
            f"the trials of a study must differ in what is searched only, but {name!r} was made "
            f"with other values ({'; '.join(changes[:5])}); give this sweep another name=..."
        )


def _is_under(key: str, searched: set[str]) -> bool:
    """Whether a key of the config is one of those, or belongs to a group that is."""
    parts = key.split(".")
    return any(".".join(parts[:n]) in searched for n in range(1, len(parts) + 1))


def _check_space(
    name: str, stored: Mapping[str, BaseDistribution], space: Space, grid: bool
) -> None:
    for dimension in space.dimensions:
        old, new = stored.get(dimension.key), dimension.distribution
        if old is None or grid:
            if old is not None and type(old) is not type(new):
                raise UserError(_cannot_mix(name, dimension.key, old, new))
            continue
        try:
            optuna.distributions.check_distribution_compatibility(old, new)
        except ValueError as error:
            raise UserError(_cannot_mix(name, dimension.key, old, new)) from error


def _cannot_mix(name: str, key: str, old: BaseDistribution, new: BaseDistribution) -> str:
    return (
        f"Optuna cannot mix two kinds of search of one parameter, but `{key}` is {in_words(old)} "
        f"in {name!r} and {in_words(new)} here; give this sweep another name=..."
    )


def in_words(distribution: BaseDistribution) -> str:
    """A distribution for a message: `a logarithmic number from 0.0001 to 0.01`."""
    if isinstance(distribution, CategoricalDistribution):
        return f"one of {', '.join(map(str, distribution.choices))}"
    assert isinstance(distribution, IntDistribution | FloatDistribution)
    scale = "logarithmic " if distribution.log else ""
    kind = "integer" if isinstance(distribution, IntDistribution) else "number"
    return f"a {scale}{kind} from {distribution.low:g} to {distribution.high:g}"


def _union(old: BaseDistribution, new: BaseDistribution) -> BaseDistribution:
    if isinstance(old, CategoricalDistribution) and isinstance(new, CategoricalDistribution):
        added = [choice for choice in new.choices if choice not in old.choices]
        return CategoricalDistribution([*old.choices, *added])
    return new


def _searched_again(space: Space, keys: Collection[str]) -> Space:
    """The space with fixed values of some keys as dimensions of one choice."""

    def is_of_them(fixed: Fixed) -> bool:
        key, _, value = fixed.text.partition("=")
        return key in keys and bool(value)

    def searched(fixed: Fixed) -> Dimension:
        key, _, value = fixed.text.partition("=")
        (dimension,) = parse([f"{key}=choice({value})"]).dimensions
        return replace(dimension, conditions=fixed.conditions)

    again = [searched(fixed) for fixed in space.fixed if is_of_them(fixed)]
    others = tuple(fixed for fixed in space.fixed if not is_of_them(fixed))
    return replace(space, dimensions=(*space.dimensions, *again), fixed=others)


def _with(space: Space, distributions: Mapping[str, BaseDistribution]) -> Space:
    """The space with wider distributions, of which it goes through its own values only."""

    def wider(dimension: Dimension) -> Dimension:
        distribution = distributions.get(dimension.key, dimension.distribution)
        if not isinstance(distribution, CategoricalDistribution):
            return dimension
        own = dict(zip(dimension.values(), dimension.texts, strict=True))
        texts = tuple(own.get(choice, str(choice)) for choice in distribution.choices)
        return replace(
            dimension, distribution=distribution, texts=texts, listed=tuple(dimension.values())
        )

    return replace(space, dimensions=tuple(wider(d) for d in space.dimensions))


def _rebuild(study: optuna.Study, changed: Mapping[str, BaseDistribution]) -> optuna.Study:
    """The same study with more choices, which Optuna allows in a new one only.

    A copy is kept while the study is rebuilt, from which `_restore` mends it if that is
    interrupted.
    """
    name, storage = study.study_name, storage_of(study)
    trials = study.get_trials(deepcopy=True)
    if any(trial.state == TrialState.RUNNING for trial in trials):
        raise UserError(
            f"a grid can get new choices only while no trial runs, but {name!r} has running "
            "trials; stop the other workers, or wait for them; where their machine is gone for "
            "good, give the earlier command once more, which takes their trials over"
        )
    optuna.copy_study(
        from_study_name=name, from_storage=storage, to_storage=storage, to_study_name=name + _BACKUP
    )
    optuna.delete_study(study_name=name, storage=storage)
    rebuilt = optuna.create_study(study_name=name, storage=storage, directions=study.directions)
    for trial in trials:
        wide = copy.deepcopy(trial)
        wide.distributions = {
            key: changed.get(key, distribution) for key, distribution in trial.distributions.items()
        }
        rebuilt.add_trial(wide)
    attributes = study_attributes(storage, name + _BACKUP)
    for key in sorted(attributes, key=lambda key: key == STUDY):  # the description comes last
        rebuilt.set_user_attr(key, attributes[key])
    optuna.delete_study(study_name=name + _BACKUP, storage=storage)
    return rebuilt


def study_attributes(storage: BaseStorage, name: str) -> dict[str, Any]:
    """The user attributes of a study."""
    return optuna.load_study(study_name=name, storage=storage).user_attrs


def _restore(storage: BaseStorage, name: str) -> None:
    """Undo an interrupted `_rebuild`: the study is whole only once it has its description."""
    names = optuna.study.get_all_study_names(storage)
    if name + _BACKUP not in names:
        return
    if name in names:
        if STUDY in study_attributes(storage, name):
            optuna.delete_study(study_name=name + _BACKUP, storage=storage)
            return
        optuna.delete_study(study_name=name, storage=storage)
    optuna.copy_study(
        from_study_name=name + _BACKUP, from_storage=storage, to_storage=storage, to_study_name=name
    )
    optuna.delete_study(study_name=name + _BACKUP, storage=storage)
