"""The look in flight, and the event loop whose threads make it."""

from __future__ import annotations

import math
import weakref
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Generic, Protocol, TypeVar

import anyio

from .._threads import HUNG_AFTER, Job
from .._watchers import Listener, Subscription, Watcher

T = TypeVar("T")

_AGAIN = 0.1  # seconds between two questions whether a look that was late hangs still


class Passenger(Listener, Protocol):
    """Whose look it is."""

    def touch(self) -> None:
        """The look has ended."""
        ...


class Flight(Generic[T]):
    """
    At most one look at a directory, even if its caller was cancelled: the result is kept.

    Args:
        lane: Names what the look depends on; see `Job`.
        remote: Whether it waits for a server.

    Attributes:
        remote: Whether it waits for a server.
        watcher: The event loop's; None while the stream is in none.
        subscription: To watch with; None to poll.
        job: The look in flight.
    """

    __slots__ = ("_lane", "_stale", "job", "remote", "subscription", "watcher")

    def __init__(self, lane: Callable[[], str], *, remote: bool = False) -> None:
        self._lane = lane
        self.remote = remote
        self.watcher: Watcher | None = None
        self.subscription: Subscription | None = None
        self.job: Job[T] | None = None
        self._stale = False  # what the look in flight says is of another time

    def bind(self, watcher: Watcher, passenger: Passenger, polls: bool) -> None:
        """
        Live in the event loop of *watcher*.

        Args:
            watcher: What the loop's streams share.
            passenger: Whom to tell of events, and of the end of the look in flight; held weakly.
            polls: Whether it wants no events.
        """
        self.watcher = watcher
        self.subscription = None if polls else watcher.subscribe(passenger)
        self._drop_unbegun()
        if self.job is not None:
            self.job.notify(partial(_tell, weakref.ref(passenger)))

    def unbind(self) -> None:
        """Watch nothing any more."""
        self.watcher = self.subscription = None
        self._drop_unbegun()

    def end(self) -> None:
        """Nobody takes what the look in flight finds any more."""
        if self.job is not None:
            self.job.drop()

    def _drop_unbegun(self) -> None:
        # The threads that were to make this look go, or have gone, with their event loop; what it
        # was to watch with must not stay open for it.
        if self.job is not None and not self.job.started:
            self.job, self._stale = None, False

    def start(
        self,
        look: Callable[[Callable[[], None]], T],
        passenger: Passenger,
        *,
        first: bool = False,
    ) -> None:
        """
        Have a thread make a look, and the event loop tell *passenger*, who is held weakly.

        Args:
            look: What the thread calls.
            passenger: Whose look it is.
            first: Before the looks that have not begun yet.
        """
        assert self.watcher is not None
        self.job = Job(look, self._lane, remote=self.remote, clock=self.watcher.clock)
        self.watcher.submit(self.job, partial(_tell, weakref.ref(passenger)), first=first)

    def take_disturbed(self) -> bool:
        """Whether an event came before its watch was registered, so that another look is due."""
        if self.subscription is None:
            return False
        disturbed, self.subscription.disturbed = self.subscription.disturbed, False
        return disturbed

    @property
    def looking(self) -> bool:
        """Whether a look is in flight."""
        return self.job is not None

    @property
    def is_told(self) -> bool:
        """Whether what happens is heard of at once, where events are trusted."""
        return self.watcher is not None and self.watcher.live

    def expire(self) -> None:
        """What the look in flight says, if there is one, counts no more."""
        self._stale = self.job is not None

    def take_stale(self) -> bool:
        """Drop a result that counts no more; whether it was one."""
        stale, self._stale = self._stale, False
        if stale:
            with suppress(Exception):  # Whatever it was, another look is due.
                self.take()
        return stale

    @property
    def has_landed(self) -> bool:
        """Whether there is a result to take."""
        return self.job is not None and self.job.done

    async def until_landed(self) -> None:
        """Wait until it has landed, or hangs. Nobody else is told any more."""
        job, landed = self.job, anyio.Event()
        if job is None:
            return
        job.notify(landed.set)
        while not landed.is_set() and job.hangs is None:
            with anyio.move_on_after(HUNG_AFTER):
                await landed.wait()

    def age_at(self, moment: float) -> float:
        """
        Seconds since the look had begun; infinite if it was over by then.

        Args:
            moment: By `time.monotonic`.
        """
        assert self.job is not None
        return moment - self.job.began_at if moment < self.job.ended_at else math.inf

    def landed(self, now: float) -> tuple[float, float]:
        """
        When the result came, for which nobody may have asked for long.

        Args:
            now: The time, on the event loop's clock.

        Returns:
            On the look's own clock, and on the event loop's.
        """
        assert self.watcher is not None
        assert self.job is not None
        return self.job.landed_at, now - (self.watcher.clock() - self.job.landed_at)

    def take(self) -> T:
        """The result of the look, or raise what it raised. Only when there is one."""
        assert self.job is not None
        job, self.job = self.job, None
        return job.take()

    @property
    def hangs(self) -> float | None:
        """Seconds since the storage last answered, if the look in flight hangs."""
        return None if self.job is None else self.job.hangs

    def asked_again(self, now: float) -> float:
        """When to ask whether it hangs: threads that do are noticed by those who wait for them."""
        assert self.job is not None
        # One that hangs tells of itself when it ends, and one that waits for its turn may be one
        # of ten thousand.
        rests = self.hangs is not None or not self.job.started
        return now + (HUNG_AFTER if rests else max(self.job.patience - self.job.silent, _AGAIN))


def _tell(reference: weakref.ref[Passenger]) -> None:
    # A stream that is dropped must go at once, not when a thread that hangs lets it go.
    passenger = reference()
    if passenger is not None:
        passenger.touch()
