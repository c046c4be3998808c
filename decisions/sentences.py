"""What a decision means, in sentences that a person can act on."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from decisions.decision import Decision
from decisions.pairs import Pair
from decisions.planning import MOST_SEEDS

_TIMED = 3  # trainings, from which on a time says something
_WIDEST = 5  # deviations to either side, of an interval that tells anything
_FASTER = 0.9  # of the leader's time, from which it is worth a word
_MOST_NAMED = 6


@dataclass(frozen=True)
class Candidate:
    """One of what is compared.

    Attributes:
        name: such as `ssim`.
        settings: what else was chosen for it, such as `latent 64, lr 0.001`; may be empty.
        mean: of the metric, over its seeds.
        seeds: that it was judged by.
        failed: seeds that gave no score; what the others reached may flatter it.
        seconds: that each of its trainings took, as far as that is known.
    """

    name: str
    settings: str
    mean: float
    seeds: int
    failed: int = 0
    seconds: tuple[float, ...] = ()

    def __str__(self) -> str:
        return f"{self.name} ({self.settings})" if self.settings else self.name

    @property
    def warned(self) -> str:
        """Its name, with the seeds that failed."""
        if not self.failed:
            return self.name
        return f"{self.name} ({self.failed} of its {self.seeds + self.failed} seeds failed)"

    def is_faster_than(self, other: Candidate) -> bool:
        """Whether each of its trainings, of three or more, took less time than each of another's.

        One of few short trainings is often slow by chance, or since it was a worker's first.
        """
        if min(len(self.seconds), len(other.seconds)) < _TIMED:
            return False
        is_clear = max(self.seconds) < min(other.seconds)
        return is_clear and median(self.seconds) < _FASTER * median(other.seconds)


@dataclass(frozen=True)
class Measure:
    """What levels are compared by.

    Attributes:
        title: of the metric, such as `PSNR`.
        unit: such as `dB`; may be empty.
        margin: below which a difference does not matter.
        is_higher_better: else lower is, and gains are differences the other way round.
    """

    title: str
    unit: str
    margin: float
    is_higher_better: bool = True

    def said(self, value: float, digits: int) -> str:
        """A value with its unit."""
        return f"{value:z.{digits}f} {self.unit}".rstrip()

    @property
    def said_margin(self) -> str:
        """The margin with its unit."""
        return f"{self.margin:.3g} {self.unit}".rstrip()

    @property
    def digits(self) -> int:
        """After the point, such that a tenth of the margin shows."""
        return max(1, 1 - math.floor(math.log10(self.margin))) if self.margin > 0 else 4


@dataclass(frozen=True)
class Answer:
    """What has been found.

    Attributes:
        use: what to use, and why.
        more: what is practically equal, what is worse, and what is open; in that order.
        open_levels: indices of levels that more seeds would probably decide, the leader among
            them; not of those that are too close to call.
        seeds: how many each of these needs in all; None where there are none, or too many.
        fresh_seeds: how many without those there are, if so many are planned; None if there are no
            such levels.
    """

    use: str
    more: tuple[str, ...]
    open_levels: tuple[int, ...]
    seeds: int | None
    fresh_seeds: int | None

    @property
    def sentences(self) -> tuple[str, ...]:
        """All, the most important first."""
        return (self.use, *self.more)


def answer(decision: Decision, candidates: Sequence[Candidate], measure: Measure) -> Answer:
    """Say what a decision has found.

    Args:
        decision: of these candidates.
        candidates: in the order of the scores that were decided about.
        measure: what the scores are.
    """
    lines = [
        _equal(decision, candidates, measure),
        _open(decision, candidates, measure),
        _too_close(decision, candidates),
        _worse(decision, candidates, measure),
    ]
    wanted = [rival for rival in decision.open if rival.fresh_needed is not None]
    added = [rival.seeds_needed for rival in wanted]
    return Answer(
        use=_use(decision, candidates, measure),
        more=tuple(line for line in lines if line),
        open_levels=(decision.leader, *(rival.level for rival in wanted)) if wanted else (),
        seeds=max((n for n in added if n is not None), default=None) if None not in added else None,
        fresh_seeds=max((rival.fresh_needed or 0 for rival in wanted), default=None),
    )


def good_by_all(decisions: Sequence[Decision]) -> int | None:
    """The level that by each of several metrics leads, or is practically equal to what does.

    Of several it is the one that leads by the earliest metric; None if there is none.
    """
    for leader in dict.fromkeys(decision.leader for decision in decisions):
        behind = [decision for decision in decisions if decision.leader != leader]
        if all(leader in {rival.level for rival in decision.equal} for decision in behind):
            return leader
    return None


def for_all(
    decisions: Sequence[Decision], candidates: Sequence[Candidate], titles: Sequence[str]
) -> str:
    """What to use where each of several metrics has an answer of its own.

    Args:
        decisions: of the metrics.
        candidates: of each of them the same.
        titles: of the metrics, such as PSNR.
    """
    said = _listed(titles)
    leaders = list(dict.fromkeys(decision.leader for decision in decisions))
    good = good_by_all(decisions)
    if good is None:
        names = _listed([candidates[leader].name for leader in leaders])
        return f"none leads by all of {said}: {names} do by one each, so choose which matters"
    if candidates[good].seeds < 2:
        return f"{candidates[good]} leads by {said}; with one seed that may be luck"
    is_open = [t for t, one in zip(titles, decisions, strict=True) if _is_open_for(good, one)]
    use = f"use {candidates[good]}{' for now' if is_open else ''}"
    how = f", but is not surely best by {_listed(is_open)}" if is_open else ""
    if len(leaders) == 1:
        ties = [{rival.level for rival in decision.equal} for decision in decisions]
        equal = _listed([candidates[level].name for level in sorted(set.intersection(*ties))])
        tied = f"; practically equal by all of them: {equal}" if equal else ""
        return f"{use}: it leads by {said}{how}{tied}"
    led = [t for t, one in zip(titles, decisions, strict=True) if one.leader == good]
    equal = _listed([title for title in titles if title not in led])
    return (
        f"{use}: it leads by {_listed(led)}, and is practically equal to the first by {equal}{how}"
    )


def _is_open_for(level: int, decision: Decision) -> bool:
    """Whether something else may still be better than a level that leads."""
    return decision.leader == level and not decision.is_best and bool(decision.open)


def _use(decision: Decision, candidates: Sequence[Candidate], measure: Measure) -> str:
    best = candidates[decision.leader]
    failed = f" ({best.failed} more failed)" if best.failed else ""
    reached = measure.said(best.mean, measure.digits)
    reached = f"{measure.title} {reached} over {_seeds(best.seeds)}{failed}"
    if best.seeds < 2:
        return f"{best} leads: {reached}; with one seed that may be luck"
    if not decision.rivals:
        return f"use {best}: {reached}; there is nothing to compare it with"
    nearest = min(decision.rivals, key=lambda rival: rival.pair.difference)
    name = candidates[nearest.level].warned
    if decision.is_best:
        return (
            f"use {best}: {reached}, better than the next, {name}, by "
            f"{_by(nearest.pair, measure, decision.confidence)}"
        )
    if not decision.open:
        return f"use {best}: {reached}; no other is better by more than {measure.said_margin}"
    sign = 1 if measure.is_higher_better else -1
    is_ahead = all(sign * (best.mean - one.mean) >= 0 for one in candidates if one.seeds)
    how = "" if is_ahead else " seed by seed"  # where some seeds are missing
    return f"use {best} for now: it leads{how} with {reached}, but is not surely best"


def _equal(decision: Decision, candidates: Sequence[Candidate], measure: Measure) -> str:
    equal = [candidates[rival.level] for rival in decision.equal]
    if not equal:
        return ""
    leader = candidates[decision.leader]
    line = (
        f"{_listed([one.warned for one in equal])} {'are' if len(equal) > 1 else 'is'} "
        f"practically equal to {leader.name}: within {measure.said_margin} "
        f"(behind by {_range(decision, measure)})"
    )
    faster = [one for one in equal if one.is_faster_than(leader) and not one.failed]
    if not faster:
        return line
    fastest = min(faster, key=lambda one: median(one.seconds))
    times = median(leader.seconds) / median(fastest.seconds)
    return f"{line}; {fastest.name} is the fastest of them, {times:.1f} times as fast"


def _range(decision: Decision, measure: Measure) -> str:
    low = min(rival.pair.equal_low for rival in decision.equal)
    high = max(rival.pair.equal_high for rival in decision.equal)
    ends = f"{low:z.{measure.digits}f} to {high:z.{measure.digits}f}"
    return f"{ends}, 90% interval{'s' if len(decision.equal) > 1 else ''}"


def _open(decision: Decision, candidates: Sequence[Candidate], measure: Measure) -> str:
    rivals = [rival for rival in decision.open if rival.fresh_needed is not None]
    leader = candidates[decision.leader]
    if not rivals or leader.seeds < 2:
        return ""
    said = [
        f"{candidates[rival.level].warned}, {_behind(rival.pair, measure, decision.confidence)}"
        for rival in rivals
    ]
    why = (
        "" if all(_is_told(rival.pair) for rival in rivals) else ", since so few seeds say little,"
    )
    return f"open{why} is whether {leader.name} is better than {_few(said, '; ')}"


def _behind(pair: Pair, measure: Measure, confidence: float) -> str:
    if pair.difference >= 0:
        return f"behind by {_by(pair, measure, confidence)}"
    # Where some seeds are missing, the leader by all of them may be second by these.
    ahead = _by(pair.reversed(), measure, confidence)
    if not pair.paired:
        return f"which with other seeds reached more, by {ahead}"
    return f"which on the {_seeds(pair.seeds)} that both have is ahead by {ahead}"


def _too_close(decision: Decision, candidates: Sequence[Candidate]) -> str:
    names = [candidates[r.level].warned for r in decision.open if r.fresh_needed is None]
    if not names:
        return ""
    return (
        f"too close to call between {candidates[decision.leader].name} and {_few(names, ', ')}: "
        f"even {MOST_SEEDS} seeds of each would hardly do"
    )


def _worse(decision: Decision, candidates: Sequence[Candidate], measure: Measure) -> str:
    """Those that are surely worse, and not by next to nothing."""
    worse = [rival for rival in decision.rivals if rival.is_worse and not rival.is_equal]
    if decision.is_best:  # the next one is named with it
        nearest = min(decision.rivals, key=lambda rival: rival.pair.difference)
        worse = [rival for rival in worse if rival is not nearest]
    if not worse:
        return ""
    said = [
        f"{candidates[rival.level].warned} by {measure.said(rival.pair.difference, measure.digits)}"
        for rival in worse
    ]
    return f"surely worse: {_few(said, ', ')}"


def _by(pair: Pair, measure: Measure, confidence: float) -> str:
    """`0.31 dB (95% interval 0.12 to 0.50)`."""
    by = measure.said(pair.difference, measure.digits)
    if not (math.isfinite(pair.low) and math.isfinite(pair.high) and _is_told(pair)):
        return by
    digits = measure.digits
    ends = f"{pair.low:z.{digits}f} to {pair.high:z.{digits}f}"
    percent = min(100 * confidence, 99.99)
    return f"{by} ({percent:.4g}% interval {ends})"


def _is_told(pair: Pair) -> bool:
    """Whether the interval of an open pair tells anything: that of two seeds is a hundred wide."""
    return pair.is_sure or pair.high - pair.low < 2 * _WIDEST * pair.deviation


def _seeds(count: int) -> str:
    return f"{count} seed{'' if count == 1 else 's'}"


def _few(names: Sequence[str], between: str) -> str:
    """The first of them; the others are counted."""
    others = len(names) - _MOST_NAMED
    more = [f"{others} more"] if others > 0 else []
    return between.join([*names[:_MOST_NAMED], *more])


def _listed(names: Sequence[str]) -> str:
    if len(names) < 2:
        return "".join(names)
    return f"{', '.join(names[:-1])} and {names[-1]}"
