"""A call in the package's own threads that a task waits for."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Generic, TypeVar

import anyio

from ._job import HUNG_AFTER, Job
from ._pool import Pool, current_pool, current_remote_pool

T = TypeVar("T")


class Call(Generic[T]):
    """
    A call in a thread, under way from now on. It is made to its end even if nobody waits for it.

    Args:
        function: What the thread calls, with a callable for signs of life.
        lane: Names what the call depends on; see `Job`.
        remote: Whether it waits for a server.
    """

    def __init__(
        self,
        function: Callable[[Callable[[], None]], T],
        lane: Callable[[], str],
        *,
        remote: bool = False,
    ) -> None:
        pool = current_remote_pool() if remote else current_pool()
        self._pool: Pool | None = pool
        self._job = Job(partial(_make, pool, function), lane, remote=remote)
        self._ended = anyio.Event()
        pool.submit(self._job, self._ended.set)

    @property
    def ended(self) -> bool:
        """Whether it has returned or raised."""
        return self._job.done

    async def wait(self) -> T:
        """Wait for what it returns or raises. A cancelled waiter leaves at once."""
        while not self._ended.is_set():
            with anyio.move_on_after(HUNG_AFTER):
                await self._ended.wait()
            self._review()
        self._pool = None  # Whoever keeps an error keeps this, but need not keep idle threads.
        return self._job.take()

    async def until_ended(self) -> None:
        """Wait until it has ended, or hangs; what it returns or raises is dropped."""
        while not (self.ended or self._job.hangs is not None):
            # If it was begun in another event loop, that one is told.
            with anyio.move_on_after(HUNG_AFTER):
                await self._ended.wait()
            self._review()

    def _review(self) -> None:
        # Those that hang may be others, for whose threads this one waits.
        if self._pool is not None and not self._ended.is_set():
            self._pool.review()


def _make(pool: Pool, function: Callable[[Callable[[], None]], T], alive: Callable[[], None]) -> T:
    """Make the call. Until it begins it holds *pool*, which drops what has not when it goes."""
    del pool
    return function(alive)
