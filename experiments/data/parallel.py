"""Work on many items at once in threads, in order, with a bar for the person who waits.

Threads do: Pillow, NumPy and hashlib let go of the interpreter while they work. (700 photos,
two cores: 0.4 s in threads; 0.9 s in processes, which must start and send the pixels back.)
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from experiments.machine.cores import cores

T = TypeVar("T")
R = TypeVar("R")


def in_order(
    work: Callable[[T], R],
    items: Iterable[T],
    workers: int | None = None,
    closing: Callable[[], object] = lambda: None,
) -> Iterator[R]:
    """Results in the order of the items, of which only a few are in memory at a time.

    Args:
        work: called in threads; what it raises is raised here.
        items: taken as they are needed, in the caller's thread.
        workers: threads; None for as many as this process may use cores.
        closing: called at the end, also of a caller who wants no more, before threads are awaited.
    """
    count = workers or cores()
    waiting: deque[Future[R]] = deque()
    with ThreadPoolExecutor(count) as pool:
        try:
            for item in items:
                waiting.append(pool.submit(work, item))
                if len(waiting) >= 4 * count:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            closing()
            pool.shutdown(wait=True, cancel_futures=True)


def shown(items: Iterable[T], total: int, *, doing: str, progress: bool) -> Iterator[T]:
    """The items, with a progress bar on stderr while they come, or a line without a terminal."""
    if not progress:
        yield from items
        return
    from rich.console import Console
    from rich.progress import track

    console = Console(stderr=True)
    if console.is_terminal:
        yield from track(items, doing, total=total, console=console, transient=True)
        return
    console.print(f"{doing} ({total})", markup=False, highlight=False)
    yield from items
