"""Statistics of scores: pure functions of arrays, of which nothing here knows what they measure.

Scores of one configuration are an array (S, N): S seeds trained it, each scored on the same N
images. Both are samples, of the trainings and of the images there could be, so an interval that
counted only images would say nothing about the next training, and one that counted only seeds
nothing about other images.
"""

from analysis.statistics.bootstrap import (
    Resamples,
    draw,
    percentile_interval,
    probability_of_improvement,
    resampled_improvement,
    resampled_interquartile_means,
    resampled_means,
)
from analysis.statistics.comparisons import (
    Difference,
    holm,
    mean_ranks,
    paired_difference,
    ranks,
    welch_difference,
)
from analysis.statistics.estimates import (
    Array,
    Interval,
    check_level,
    interquartile_mean,
    mean_interval,
    seed_interval,
)

__all__ = [
    "Array",
    "Difference",
    "Interval",
    "Resamples",
    "check_level",
    "draw",
    "holm",
    "interquartile_mean",
    "mean_interval",
    "mean_ranks",
    "paired_difference",
    "percentile_interval",
    "probability_of_improvement",
    "ranks",
    "resampled_improvement",
    "resampled_interquartile_means",
    "resampled_means",
    "seed_interval",
    "welch_difference",
]
