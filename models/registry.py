"""Names that configs and records may use, each with what it stands for."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, MutableMapping
from typing import TypeVar

T = TypeVar("T")


class Registry(MutableMapping[str, T]):
    """A dictionary in which a name, once given, stays what it is.

    Args:
        kind: what the names are of, for messages.
        own: the names that this project gives.
        check: raises ValueError for a name with an entry that breaks its contract.
    """

    def __init__(
        self,
        kind: str,
        own: Mapping[str, T] | None = None,
        check: Callable[[str, T], None] | None = None,
    ) -> None:
        self._kind, self._check = kind, check
        self._entries: dict[str, T] = dict(own or {})
        self._own = frozenset(self._entries)

    def __setitem__(self, name: str, entry: T) -> None:
        """Give a name.

        Raises:
            ValueError: it is another one's, or the entry breaks its contract.
        """
        if self._check is not None:
            self._check(name, entry)
        if self._entries.get(name, entry) != entry:
            raise ValueError(
                f"a {self._kind} must have a name of its own, but {name!r}, for {entry}, is "
                f"already that of {self._entries[name]}; choose another name"
            )
        self._entries[name] = entry

    def __getitem__(self, name: str) -> T:
        return self._entries[name]

    def __delitem__(self, name: str) -> None:
        del self._entries[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def added(self) -> list[str]:
        """The names that came from outside."""
        return [name for name in self if name not in self._own]
