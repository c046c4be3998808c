"""Losses, or any other levels of what was varied, compared: `compare`.

Every verdict is that of `decisions`; here is said which trials it is about, and what it means.
"""

from analysis.comparison.checking import checked
from analysis.comparison.comparing import METRICS, Comparison, compare
from analysis.comparison.factor import groups_of
from analysis.comparison.levels import Level
from analysis.comparison.results import Result

__all__ = ["METRICS", "Comparison", "Level", "Result", "checked", "compare", "groups_of"]
