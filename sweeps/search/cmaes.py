"""Optuna's CMA-ES, for studies that may be somebody else's.

Optuna keeps the state of the search as a pickle in the study, and a pickle can run anything when
it is loaded. Here nothing is loaded but numbers and the optimizers of `cmaes`.
"""

from __future__ import annotations

import io
import pickle
from typing import Any

import optuna
from optuna.samplers import CmaEsSampler

from experiments.errors import UserError

TARGET = "optuna.samplers.CmaEsSampler"
"""What configs call it."""

_ARRAYS = ("numpy._core.multiarray", "numpy.core.multiarray")
_KNOWN = {
    ("cmaes._cma", "CMA"),
    ("cmaes._sepcma", "SepCMA"),
    ("cmaes._cmawm", "CMAwM"),
    ("numpy", "dtype"),
    ("numpy", "ndarray"),
    *((module, name) for module in _ARRAYS for name in ("_reconstruct", "scalar")),
}


class CautiousCmaEsSampler(CmaEsSampler):
    """The same sampler; it refuses a study whose state holds anything else.

    Raises:
        UserError: when a trial is asked for in such a study.
    """

    def _restore_optimizer(self, completed_trials: list[optuna.trial.FrozenTrial]) -> Any:
        for trial in reversed(completed_trials):
            parts = {
                key: value
                for key, value in trial.system_attrs.items()
                if key.startswith(self._attr_key_optimizer)
            }
            if parts:
                return _restored(self._concat_optimizer_attrs(parts), trial.number)
        return None


class _Numbers(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _KNOWN:
            raise pickle.UnpicklingError(f"it holds {module}.{name}")
        return super().find_class(module, name)


def _restored(text: str, number: int) -> Any:
    try:
        return _Numbers(io.BytesIO(bytes.fromhex(text))).load()
    except (
        pickle.UnpicklingError, ValueError, EOFError, TypeError, AttributeError, KeyError,
        IndexError, ImportError, MemoryError,
    ) as error:  # fmt: skip
        raise UserError(
            "the state of CMA-ES in a study must be Optuna's own, but that of trial "
            f"{number} is not: {error}; nothing of it was run; use another sampler, or a new "
            "study: hydra.sweeper.study_name=NAME"
        ) from error
