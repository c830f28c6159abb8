"""Pins that nobody wants any more, on their way off the disk."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import TypeAlias

import anyio

from .._pins import Hold, clean
from .._stores import mount_point
from .._threads import HUNG_AFTER, Call

# Waits until something has been removed, or the storage hangs.
Removal: TypeAlias = Callable[[], Awaitable[None]]


class Removals:
    """Those of one run; first of all, what dead processes have left beside it."""

    __slots__ = ("_calls", "_cleaned", "_directory", "_unwanted")

    def __init__(self, directory: str) -> None:
        self._directory = directory
        self._cleaned = False
        self._unwanted = list[Hold]()
        self._calls = list[Call[None]]()

    def add(self, hold: Hold) -> None:
        """Remove this, from the next `begin` on; in or outside of an event loop."""
        self._unwanted.append(hold)

    def begin(self) -> None:
        """Have threads remove what was added. Only in an event loop."""
        self._calls = [call for call in self._calls if not call.ended]
        if not self._cleaned:
            self._cleaned = True
            self._call(partial(clean, self._directory))
        if self._unwanted:
            holds, self._unwanted = self._unwanted, []
            self._call(partial(_release_all, holds))

    def _call(self, function: Callable[[Callable[[], None]], None]) -> None:
        self._calls.append(Call(function, partial(mount_point, self._directory)))

    @property
    def under_way(self) -> list[Removal]:
        """What to wait for."""
        return [call.until_ended for call in self._calls]


def _release_all(holds: Sequence[Hold], alive: Callable[[], None]) -> None:
    for hold in holds:
        hold.release(alive)


async def until_removed(removals: Sequence[Removal]) -> None:
    """Wait for all of them; when cancelled, 1 second longer at most."""
    try:
        await _until_removed(removals)
    except anyio.get_cancelled_exc_class():
        with anyio.move_on_after(HUNG_AFTER, shield=True):
            await _until_removed(removals)
        raise


async def _until_removed(removals: Sequence[Removal]) -> None:
    for removal in removals:
        await removal()
