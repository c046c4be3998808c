"""What a decision means, in sentences that a person can act on."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from decisions.decision import MOST_SEEDS, Decision, Pair

_FEWEST = 3  # seeds, of which an interval of what is open is told
_FASTER = 0.9  # of the leader's time, from which it is worth a word
_MOST_NAMED = 6


@dataclass(frozen=True)
class Level:
    """One of what is compared.

    Attributes:
        name: such as `ssim`.
        settings: what else was chosen for it, such as `latent 64, lr 0.001`; may be empty.
        mean: of the metric, over its seeds.
        seeds: that it was judged by.
        seconds: a training takes; None if unknown.
    """

    name: str
    settings: str
    mean: float
    seeds: int
    seconds: float | None = None

    def __str__(self) -> str:
        return f"{self.name} ({self.settings})" if self.settings else self.name


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
        few = max(0, -math.floor(math.log10(self.margin))) if self.margin > 0 else 0
        return self.said(self.margin, few)

    @property
    def digits(self) -> int:
        """After the point, such that a tenth of the margin shows."""
        return max(0, 1 - math.floor(math.log10(self.margin))) if self.margin > 0 else 4


@dataclass(frozen=True)
class Answer:
    """What has been found.

    Attributes:
        use: what to use, and why.
        more: what is practically equal, what is worse, and what is open; in that order.
        open_levels: indices of levels that more seeds would probably decide, the leader among
            them; not of those that are too close to call.
        seeds: how many each of these needs in all; None if there are none.
    """

    use: str
    more: tuple[str, ...]
    open_levels: tuple[int, ...]
    seeds: int | None

    @property
    def sentences(self) -> tuple[str, ...]:
        """All, the most important first."""
        return (self.use, *self.more)


def answer(decision: Decision, levels: Sequence[Level], measure: Measure) -> Answer:
    """Say what a decision has found.

    Args:
        decision: of these levels.
        levels: in the order of the scores that were decided about.
        measure: what the scores are.
    """
    lines = [
        _equal(decision, levels, measure),
        _open(decision, levels, measure),
        _too_close(decision, levels),
        _worse(decision, levels, measure),
    ]
    needed = [(r.level, r.seeds_needed) for r in decision.open if r.seeds_needed is not None]
    return Answer(
        use=_use(decision, levels, measure),
        more=tuple(line for line in lines if line),
        open_levels=(decision.leader, *(level for level, _ in needed)) if needed else (),
        seeds=max((seeds for _, seeds in needed), default=None),
    )


def _use(decision: Decision, levels: Sequence[Level], measure: Measure) -> str:
    best = levels[decision.leader]
    reached = f"{measure.title} {measure.said(best.mean, measure.digits)} over {_seeds(best.seeds)}"
    if not decision.rivals:
        return f"use {best}: {reached}; there is nothing to compare it with"
    nearest = min(decision.rivals, key=lambda rival: rival.pair.difference)
    name = levels[nearest.level].name
    if decision.is_best:
        return (
            f"use {best}: {reached}, better than the next, {name}, by "
            f"{_by(nearest.pair, measure, decision.confidence)}"
        )
    if best.seeds < 2:
        return f"{best} leads: {reached}; with one seed that may be luck"
    if not decision.open:
        return f"use {best}: {reached}; no other is better by more than {measure.said_margin}"
    return f"use {best} for now: it leads with {reached}, but is not surely best"


def _equal(decision: Decision, levels: Sequence[Level], measure: Measure) -> str:
    equal = decision.equal
    if not equal:
        return ""
    leader = levels[decision.leader]
    names = _listed([levels[rival.level].name for rival in equal])
    verb = "are" if len(equal) > 1 else "is"
    line = (
        f"{names} {verb} practically equal to {leader.name}: within "
        f"{measure.said_margin} ({_range(decision, measure)})"
    )
    timed = [levels[rival.level] for rival in equal if levels[rival.level].seconds is not None]
    if leader.seconds and timed:
        fastest = min(timed, key=lambda level: level.seconds or math.inf)
        assert fastest.seconds is not None
        if fastest.seconds < _FASTER * leader.seconds:
            share = leader.seconds / fastest.seconds
            return f"{line}; {fastest.name} is the fastest of them, {share:.1f} times as fast"
        return f"{line}; none of them is faster"
    return line


def _range(decision: Decision, measure: Measure) -> str:
    low = min(rival.pair.equal_low for rival in decision.equal)
    high = max(rival.pair.equal_high for rival in decision.equal)
    ends = f"{_signed(-high, measure)} to {_signed(-low, measure)}"
    if not measure.is_higher_better:
        ends = f"{_signed(low, measure)} to {_signed(high, measure)}"
    return f"90% interval{'s' if len(decision.equal) > 1 else ''} {ends}"


def _open(decision: Decision, levels: Sequence[Level], measure: Measure) -> str:
    rivals = [rival for rival in decision.open if rival.seeds_needed is not None]
    if not rivals or levels[decision.leader].seeds < 2:
        return ""
    said = [
        f"{levels[rival.level].name}, behind by {_by(rival.pair, measure, decision.confidence)}"
        for rival in rivals
    ]
    why = "" if all(_is_told(rival.pair) for rival in rivals) else ", since two seeds say little,"
    return f"open{why} is whether {levels[decision.leader].name} is better than {_few(said, '; ')}"


def _too_close(decision: Decision, levels: Sequence[Level]) -> str:
    names = [levels[rival.level].name for rival in decision.open if rival.seeds_needed is None]
    if not names:
        return ""
    return (
        f"too close to call between {levels[decision.leader].name} and {_few(names, ', ')}: "
        f"even {MOST_SEEDS} seeds of each would hardly do"
    )


def _worse(decision: Decision, levels: Sequence[Level], measure: Measure) -> str:
    """Those that are surely worse, and not by next to nothing."""
    worse = [rival for rival in decision.rivals if rival.is_worse and not rival.is_equal]
    if decision.is_best:  # the next one is named with it
        nearest = min(decision.rivals, key=lambda rival: rival.pair.difference)
        worse = [rival for rival in worse if rival is not nearest]
    if not worse:
        return ""
    said = [
        f"{levels[rival.level].name} by {measure.said(rival.pair.difference, measure.digits)}"
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
    return f"{by} ({100 * confidence:.3g}% interval {ends})"


def _is_told(pair: Pair) -> bool:
    """Whether the interval of an open pair tells anything: that of two seeds is a hundred wide."""
    return pair.is_sure or pair.seeds >= _FEWEST


def _signed(value: float, measure: Measure) -> str:
    return f"{value:+.{measure.digits}f}"


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
