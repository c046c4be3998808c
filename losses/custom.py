"""A distance of the user's own, by its dotted path."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor, nn

from losses.distance import Distance
from losses.trust import how_to_trust, trusted_packages


class Custom(Distance):
    """Any callable `(x_hat, x) -> (B,)` that keeps the contract of `Distance`.

    A config or a record may come from somebody else, so naming code in it is not enough to run
    it: the top-level package has to stand in the environment variable `VAESWEEP_TRUST`.

    Args:
        target: dotted path of a function, or of a class (an `nn.Module`, say) to be called first.
        options: keyword arguments; for a function of each call, for a class of its construction.

    Raises:
        ValueError: the target is not trusted, cannot be imported or built, or (when called)
            fails or does not return (B,).
    """

    def __init__(self, target: str = "", options: Mapping[str, Any] | None = None) -> None:
        super().__init__()
        self.target = target
        options = dict(options or {})
        found = _load(target)
        self._options: dict[str, Any] = {}
        self._function: Callable[..., Tensor] = found
        if inspect.isclass(found):
            self._function = self._built(found, options)
        else:
            self._options = options

    def distance(self, x_hat: Tensor, x: Tensor) -> Tensor:
        try:
            d = self._function(x_hat, x, **self._options)
        except (Exception, SystemExit) as error:
            raise ValueError(f"`loss.target={self.target}` failed: {_said(error)}") from error
        if not isinstance(d, Tensor) or d.shape != x.shape[:1]:
            got = tuple(d.shape) if isinstance(d, Tensor) else type(d).__name__
            raise ValueError(
                f"`loss.target={self.target}` must return the mean distance of each image, "
                f"shape ({len(x)},) for a batch of {len(x)}, but got {got}; "
                "average over channels and pixels only"
            )
        return d

    def _built(self, found: type, options: dict[str, Any]) -> Callable[..., Tensor]:
        try:
            built = found(**options)
        except (Exception, SystemExit) as error:
            raise ValueError(
                f"`loss.target={self.target}` could not be built: {_said(error)}"
            ) from error
        if not callable(built):
            raise ValueError(f"`loss.target={self.target}` must be callable, but is not")
        if isinstance(built, nn.Module):
            built.requires_grad_(False).eval()
        return built  # type: ignore[no-any-return]

    def train(self, mode: bool = True) -> Custom:
        """A user's module measures and is not trained: it stays in evaluation mode."""
        super().train(mode)
        if isinstance(self._function, nn.Module):
            self._function.eval()
        return self


def _load(target: str) -> Any:
    module, _, attribute = target.rpartition(".")
    if not module:
        raise ValueError(
            f"`loss.target` must be a dotted path such as my_losses.focal, but got {target!r}"
        )
    _check_trust(module, target)
    try:
        found = getattr(importlib.import_module(module), attribute)
    except (Exception, SystemExit) as error:  # user code may fail with anything
        raise ValueError(f"`loss.target={target}` cannot be imported: {_said(error)}") from error
    if inspect.isclass(found) or inspect.isroutine(found):
        # Only imported there, it is another package's: my_losses.Popen would run any command.
        _check_trust(found.__module__ or "builtins", target)
    return found


def _check_trust(module: str, target: str) -> None:
    package = module.partition(".")[0]
    if package not in trusted_packages():
        raise ValueError(
            f"`loss.target={target}` runs code of the package {package!r}, which needs your word; "
            f"if you trust it, {how_to_trust(package)}"
        )


def _said(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"
