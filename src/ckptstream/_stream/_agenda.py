"""Which runs have something to do, and when: those that have nothing cost nothing."""

from __future__ import annotations

import heapq
import math
from collections import OrderedDict
from collections.abc import Iterator
from typing import Generic, Protocol, TypeVar

from .._watchers import Alarm

_SPARE = 64  # moments that may be kept in vain


class Item(Protocol):
    """Something that can be due."""

    def due(self, now: float) -> float:
        """When there will be something to do, if nothing happens before."""
        ...


T = TypeVar("T", bound=Item)
T_contra = TypeVar("T_contra", contravariant=True)


class Touched(Protocol[T_contra]):
    """What an item knows of the agenda that it is on."""

    def touch(self, item: T_contra) -> None:
        """Something happened to *item*."""
        ...


class Agenda(Generic[T]):
    """
    What a stream has to attend to when it wakes.

    One event must not cost more because ten thousand other runs are followed: nothing here goes
    over all of them.
    """

    __slots__ = ("__weakref__", "_alarm", "_count", "_scheduled", "_timers", "_touched")

    def __init__(self, alarm: Alarm) -> None:
        self._alarm = alarm
        # Not a dict: it goes over all that was ever taken out to find its first one.
        self._touched: OrderedDict[T, None] = OrderedDict()
        self._timers: list[tuple[float, int, T]] = []
        self._scheduled: dict[T, float] = {}
        self._count = 0

    def touch(self, item: T) -> None:
        """Something happened to *item*: attend to it when the stream wakes, which is now."""
        self._touched[item] = None
        self._alarm.ring()

    def take(self, now: float) -> Iterator[T]:
        """What was touched, and whose time has come; what is not taken stays."""
        while self._timers and self._timers[0][0] <= now:
            moment, _, item = heapq.heappop(self._timers)
            if self._scheduled.get(item) == moment:
                del self._scheduled[item]
                self._touched[item] = None
        while self._touched:
            item, _ = self._touched.popitem(last=False)
            yield item

    @property
    def is_behind(self) -> bool:
        """Whether not all was taken that was touched."""
        return bool(self._touched)

    def forget(self, item: T) -> None:
        """Attend to *item* no more."""
        self._touched.pop(item, None)
        self._scheduled.pop(item, None)

    def schedule(self, item: T, now: float) -> None:
        """Attend to *item* when it is due. A later moment than before is noticed at the earlier."""
        moment = item.due(now)
        if moment < self._scheduled.get(item, math.inf):
            self._scheduled[item] = moment
            self._count += 1  # Items cannot be compared; equal moments keep their order.
            heapq.heappush(self._timers, (moment, self._count, item))
            if len(self._timers) > 2 * len(self._scheduled) + _SPARE:
                self._rebuild()

    def _rebuild(self) -> None:
        """Forget moments that items have changed their mind about: a busy run leaves many."""
        wanted = (timer for timer in self._timers if self._scheduled.get(timer[2]) == timer[0])
        self._timers = sorted({timer[2]: timer for timer in wanted}.values(), key=_order)

    @property
    def next(self) -> float:
        """When the next item is due."""
        return self._timers[0][0] if self._timers else math.inf


def _order(timer: tuple[float, int, object]) -> tuple[float, int]:
    return timer[:2]
