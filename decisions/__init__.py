"""Who is best: what a comparison of a few trainings has found, and how surely.

Pure functions of arrays, of which nothing here knows what they measure or where they come from.
The sweep asks them who needs another seed; the terminal, the report, the notebooks and the service
ask them for the answer.
"""

from decisions.decision import Decision, Rival, all_pairs, decide
from decisions.pairs import Pair, adjusted_means, between_best, means_of, pair
from decisions.planning import seeds_needed, seeds_to_plan
from decisions.ranking import mean_places
from decisions.selection import (
    best_of,
    chosen_by_other_seeds,
    judged_by_other_seeds,
    weighted,
)
from decisions.sentences import Answer, Candidate, Measure, answer, for_all, good_by_all
from decisions.sequential import (
    ALPHA,
    LEAST_PLAN,
    Array,
    intervals,
    looks,
    nominal_levels,
    spent,
    welch,
)

__all__ = [
    "ALPHA",
    "LEAST_PLAN",
    "Answer",
    "Array",
    "Candidate",
    "Decision",
    "Measure",
    "Pair",
    "Rival",
    "adjusted_means",
    "all_pairs",
    "answer",
    "best_of",
    "between_best",
    "chosen_by_other_seeds",
    "decide",
    "for_all",
    "good_by_all",
    "intervals",
    "judged_by_other_seeds",
    "looks",
    "mean_places",
    "means_of",
    "nominal_levels",
    "pair",
    "seeds_needed",
    "seeds_to_plan",
    "spent",
    "weighted",
    "welch",
]
