"""From the thread that makes something to the task that waits for it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class HandOver(Generic[T]):
    """
    Something on its way from a thread to a task, which may have left by the time it is made.

    Args:
        make: Called in the thread, with a callable for signs of life and with one that says
            whether it is still wanted.
        undo: Called in the thread, with a callable for signs of life, if it is not.
    """

    def __init__(
        self,
        make: Callable[[Callable[[], None], Callable[[], bool]], T],
        undo: Callable[[T, Callable[[], None]], object],
    ) -> None:
        self._make = make
        self._undo = undo
        self._lock = threading.Lock()
        self._wanted = True
        self._made: T | None = None

    def run(self, alive: Callable[[], None]) -> T | None:
        """In the thread: make it. Returns None if nobody wants it any more."""
        made = self._make(alive, lambda: self._wanted)
        with self._lock:
            if self._wanted:
                self._made = made
                return made
        self._undo(made, alive)
        return None

    def leave(self) -> T | None:
        """In the event loop: do not want it any more. What was made already is the caller's."""
        with self._lock:
            self._wanted = False
            made, self._made = self._made, None
            return made
