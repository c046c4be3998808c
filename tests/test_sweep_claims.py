"""Without a lock, or when a server lets go of it, workers still share the trials."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution
from optuna.trial import TrialState

from sweeps import bounds
from sweeps.plan import Plan
from sweeps.results.configurations import configurations
from sweeps.settings import Settings
from sweeps.space.dimensions import Dimension, Space
from sweeps.space.grammar import parse
from sweeps.space.grid import Grid
from sweeps.space.points import point_name
from sweeps.storage import private
from sweeps.storage.attributes import CONFIRM, LEASE, PHASE, POINT, RETRIED, TAKEN, is_superseded
from sweeps.study import claims
from sweeps.study.claims import Claims
from sweeps.study.contests import Claim
from sweeps.study.definition import open_study
from sweeps.study.leases import Lease
from sweeps.study.recovery import retry_failed

SIZES = Dimension("latent_dim", CategoricalDistribution([4, 8, 16]), ("4", "8", "16"))
RATES = Dimension("lr", FloatDistribution(1e-4, 1e-2, log=True), enumerated=False)

Two = Callable[..., tuple[Claims, Claims]]


@pytest.fixture
def two(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Two]:
    """Workers of two machines at one study, without a lock that both know."""
    monkeypatch.setattr(bounds, "POLL", 0.0)
    leases: list[Lease] = []
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    url = f"sqlite:///{tmp_path}/study.db"

    def make(dimension: Dimension, *, grid: bool, n_trials: int | None) -> tuple[Claims, Claims]:
        plan = Plan(
            settings=Settings(n_trials=n_trials, study_name="shared"),
            storage=url,
            directory=tmp_path,
            session="here",
            space=Space((dimension,)),
            grid=grid,
            objectives=("psnr",),
            pruner={},
            workers=1,
            threads=None,
            on_one_machine=True,
            command={},
            working_directory=tmp_path,
        )
        optuna.create_study(study_name="shared", storage=url, direction="maximize")
        studies = [
            optuna.load_study(
                study_name="shared", storage=url, sampler=optuna.samplers.RandomSampler(seed=seed)
            )
            for seed in (0, 1)
        ]
        leases.extend(Lease(s, f"here-{i}", lambda: False) for i, s in enumerate(studies))
        one, other = (
            Claims(s, plan, nullcontext, lease) for s, lease in zip(studies, leases, strict=True)
        )
        return one, other

    yield make
    for lease in leases:
        lease.end()


def end(claims: Claims, claim: Claim | None) -> list[Claim]:
    """Complete what was claimed, if anything was."""
    if claim is None:
        return []
    private.end(claims._study, claim.trial, TrialState.COMPLETE, [1.0])
    return [claim]


def claimed_at_once(one: Claims, other: Claims) -> list[Any]:
    """All that both get, when the other claims after each look that the first takes."""
    found: list[Any] = []
    look = one._update

    def interrupted() -> None:
        look()
        one._update = look  # type: ignore[method-assign]  # once a claim
        theirs = other.next()
        found.extend(end(other, theirs))

    while True:
        one._update = interrupted  # type: ignore[method-assign]
        mine = one.next()
        if mine is None:
            return found
        found += end(one, mine)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("dimension", "grid", "n_trials", "expected"),
    [(RATES, False, 5, 5), (SIZES, True, None, 3), (SIZES, False, 2, 2), (SIZES, False, 3, 3)],
)
def test_a_budget_is_spent_once_though_two_claim_at_the_same_time(
    two: Two, dimension: Dimension, grid: bool, n_trials: int | None, expected: int
) -> None:
    one, other = two(dimension, grid=grid, n_trials=n_trials)
    found = claimed_at_once(one, other)
    numbers = [claim.trial.number for claim in found]
    assert len(numbers) == len(set(numbers)) == expected
    assert len({claim.trial.user_attrs[POINT] for claim in found}) == expected
    kept = [t.number for t in one._study.trials if not is_superseded(t)]
    assert sorted(numbers) == kept, "what was one too many counts nowhere"


def test_a_trial_that_was_begun_without_an_answer_is_gone_on_with(
    two: Two, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The storage began it, and then the connection broke."""
    one, _ = two(RATES, grid=False, n_trials=5)
    begin = private.begin

    def unheard(*arguments: Any, **more: Any) -> optuna.Trial:
        begin(*arguments, **more)
        raise ConnectionError

    with monkeypatch.context() as patch:
        patch.setattr(private, "begin", unheard)
        with pytest.raises(ConnectionError):
            one.next()
    claim = one.next()
    assert claim is not None
    assert claim.trial.number == 0
    assert len(one._study.trials) == 1


def test_a_trial_for_which_no_point_is_left_counts_nowhere(
    two: Two, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was begun without an answer, and meanwhile others took what was left."""
    one, other = two(SIZES, grid=False, n_trials=9)

    def unheard(*arguments: Any, **more: Any) -> None:
        private.begin(*arguments, **more)
        raise ConnectionError

    with monkeypatch.context() as patch:
        patch.setattr(claims, "private", SimpleNamespace(**{**vars(private), "begin": unheard}))
        with pytest.raises(ConnectionError):
            one.next()
    assert len([end(other, other.next()) for _ in range(3)]) == 3
    assert one.next() is None
    assert [t.number for t in one._study.trials if is_superseded(t)] == [0]


def test_of_two_retries_of_one_trial_the_second_counts_nowhere(two: Two) -> None:
    """Whoever took it over had let go of the lock; and it had no point yet."""
    one, _ = two(RATES, grid=False, n_trials=2)
    lost = private.begin(one._study, {RETRIED: TAKEN})
    private.end(one._study, lost, TrialState.FAIL)
    for _ in range(2):
        private.clone(one._study, one._study.trials[0], {})
    assert [claim.trial.number for claim in all_of(one)] == [1, 3]
    assert [t.number for t in one._study.trials if is_superseded(t)] == [0, 2]


def test_a_retry_that_made_way_is_no_rival_of_a_later_one(two: Two) -> None:
    """A trial was retried twice, of which the first failed, and the user wants it again."""
    one, _ = two(RATES, grid=False, n_trials=1)
    lost = private.begin(one._study, {RETRIED: TAKEN})
    private.end(one._study, lost, TrialState.FAIL)
    for _ in range(2):
        private.clone(one._study, one._study.trials[0], {})
    first = one.next()
    assert first is not None
    private.end(one._study, first.trial, TrialState.FAIL)
    assert one.next() is None, "the second makes way"
    assert retry_failed(one._study) == 1
    again = one.next()
    assert again is not None
    assert again.trial.number == 3


def test_who_lost_a_claim_does_not_take_the_trial_for_its_own(
    two: Two, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both claim what waits, and the loser writes its lease last."""
    one, other = two(RATES, grid=False, n_trials=1)
    one._study.enqueue_trial({"lr": 1e-3}, user_attrs={POINT: '[{"lr": 0.001}, null]'})
    theirs: list[Claim | None] = []

    def late(*arguments: Any) -> None:
        if not theirs:
            theirs.append(None)
            theirs[0] = other.next()
        private.set_attribute(*arguments)

    ours = SimpleNamespace(**{**vars(private), "set_attribute": late})
    monkeypatch.setattr(claims, "private", ours)
    assert [one._attempt()[0] for _ in range(3)] == [None, None, None]
    assert theirs[0] is not None
    assert one._study.trials[0].user_attrs[LEASE]["worker"] == "here-0"


def test_a_trial_has_its_owner_from_its_first_moment(two: Two) -> None:
    one, _ = two(SIZES, grid=True, n_trials=None)
    claim = one.next()
    assert claim is not None
    (trial,) = one._study.trials
    assert trial.user_attrs[LEASE]["worker"] == "here-0"


@pytest.mark.parametrize("is_described", [False, True])
def test_a_command_that_searches_fewer_keys_trains_what_it_can(
    two: Two, is_described: bool
) -> None:
    """Another's trial waits: with its overrides stored, or not."""
    one, _ = two(RATES, grid=False, n_trials=5)
    attributes = {POINT: '[{"loss": "l1", "lr": 0.001}, null]'}
    if is_described:
        attributes["overrides"] = ["loss=l1", "lr=0.001"]  # type: ignore[assignment]
    one._study.enqueue_trial({"loss": "l1", "lr": 1e-3}, user_attrs=attributes)
    claim = one.next()
    assert claim is not None
    assert claim.overrides == (("loss=l1", "lr=0.001") if is_described else None)
    assert claim.trial.number == (0 if is_described else 1)


def test_a_study_that_somebody_else_makes_meanwhile_is_joined(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = optuna.storages.get_storage(f"sqlite:///{tmp_path}/study.db")
    space, settings = Space((RATES,)), {"lr": 1e-3}

    def open_it(*, is_locked: bool) -> optuna.Study:
        return open_study(
            storage, "a", objectives=["psnr"], space=space, base=settings, grid=False,
            is_locked=is_locked,
        )[0]  # fmt: skip

    create = optuna.create_study

    def slower(**arguments: Any) -> optuna.Study:
        monkeypatch.setattr(optuna, "create_study", create)
        open_it(is_locked=False)
        return create(**arguments)

    monkeypatch.setattr(optuna, "create_study", slower)
    joined = open_it(is_locked=False)
    assert joined.user_attrs["vaesweep"]["objectives"] == ["psnr"]


@pytest.mark.parametrize("grid", [True, False])
def test_points_of_an_older_study_are_the_points_of_this_one(two: Two, grid: bool) -> None:
    """Which named the third tenth as a sampler had computed it."""
    (tenths,) = parse(["beta=range(0.1,1.0,0.1)"]).dimensions
    one, _ = two(tenths, grid=grid, n_trials=None if grid else 9)
    for value in (0.1, 0.2, 0.30000000000000004, 0.6, 0.7000000000000001, 0.8):
        one._study.add_trial(
            optuna.trial.create_trial(
                params={"beta": value},
                distributions={"beta": tenths.distribution},
                value=1.0,
                user_attrs={POINT: f'[{{"beta": {value!r}}}, null]'},
            )
        )
    assert sorted(claim.values["beta"] for claim in all_of(one)) == [0.4, 0.5, 0.9]
    grouped = configurations(one._study.get_trials(deepcopy=False)[:6])
    assert [c.params["beta"] for c in grouped] == [0.1, 0.2, 0.3, 0.6, 0.7, 0.8]


def all_of(claims: Claims) -> list[Any]:
    """What one worker gets, one after the other."""
    return [claim for next_ in iter(claims.next, None) for claim in end(claims, next_)]


def test_what_a_sampler_computes_is_stored_in_its_one_form(two: Two) -> None:
    (tenths,) = parse(["beta=range(0.1,1.0,0.1)"]).dimensions
    one, _ = two(tenths, grid=False, n_trials=9)
    one._plan = replace(one._plan, space=Space((tenths, RATES)))
    one._remaining = None  # as of a space that has an interval as well
    claimed = all_of(one)
    assert len(claimed) == 9
    for claim, trial in zip(claimed, one._study.trials, strict=True):
        assert trial.params == claim.values
        assert trial.params["beta"] in tenths.values()


@pytest.mark.parametrize("grid", [True, False])
def test_a_claim_lists_no_grid(two: Two, grid: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is made under the lock that all workers share."""
    (wide,) = parse(["latent_dim=range(0,100000)"]).dimensions
    one, other = two(wide, grid=grid, n_trials=None if grid else 100_000)
    looked_at: list[int] = []
    get = Grid.__getitem__

    def counted(self: Grid, number: int) -> Any:
        looked_at.append(number)
        return get(self, number)

    monkeypatch.setattr(Grid, "__getitem__", counted)
    claimed = [c for _ in range(3) for claims in (one, other) for c in end(claims, claims.next())]
    assert one.is_work_left()
    assert len({claim.trial.user_attrs[POINT] for claim in claimed}) == 6
    assert len(looked_at) <= len(claimed)


def test_a_confirmation_takes_no_point_of_the_search(two: Two) -> None:
    """Whose seeds may come to include those with which the best were confirmed."""
    one, _ = two(SIZES, grid=True, n_trials=None)
    one._study.add_trial(
        optuna.trial.create_trial(
            params={"latent_dim": 4},
            distributions={"latent_dim": SIZES.distribution},
            value=1.0,
            user_attrs={POINT: point_name({"latent_dim": 4}, None), PHASE: CONFIRM},
        )
    )
    assert [claim.values["latent_dim"] for claim in all_of(one)] == [4, 8, 16]


def test_a_worker_does_not_leave_while_a_trial_that_it_was_refused_has_its_lease(
    two: Two, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = two(RATES, grid=False, n_trials=1)
    one._study.enqueue_trial({"lr": 1e-3})
    take = private.take

    def slower(study: optuna.Study, trial: Any) -> Any:
        assert take(one._study, trial) is not None
        return take(study, trial)

    monkeypatch.setattr(private, "take", slower)
    assert other._attempt() == (None, True)
