"""Losses, or any other levels of what was varied, compared: `compare`.

Every verdict is that of `decisions`; here is said which trials it is about, and what it means.
"""

from analysis.comparison.alike import groups_of
from analysis.comparison.comparing import checked, compare
from analysis.comparison.found import Comparison
from analysis.comparison.levels import Level
from analysis.comparison.results import Result

__all__ = ["Comparison", "Level", "Result", "checked", "compare", "groups_of"]
