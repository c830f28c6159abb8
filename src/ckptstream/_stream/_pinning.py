"""What of one run is pinned: the next few before they are delivered, each until it is done."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from functools import partial
from itertools import islice

from .._errors import CheckpointGone, PinUnsupported
from .._model import Checkpoint
from .._pins import Hold, take
from .._stores import mount_point
from .._threads import HandOver
from .._watchers import Watcher
from ..layouts import Layout
from ._flight import Flight, Passenger
from ._ledger import Ledger
from ._queued import Moment, Queued
from ._removals import Removal, Removals
from .arguments import Options

_LATER = 1.0  # seconds until what could not be pinned is tried again


class NoPins:
    """What a run has if nothing of it is to be pinned; one for all, of which there may be many."""

    __slots__ = ()

    ready, blocks, reason = True, False, ""
    names: tuple[str, ...] = ()

    def attend(self, now: float, run: Passenger) -> str | None:
        """Nothing is pinned."""

    def due(self, now: float) -> float:
        """Never."""
        return math.inf

    def bind(self, watcher: Watcher, run: Passenger) -> None:
        """Nothing is told."""

    def unbind(self) -> None:
        """Nothing is told."""

    def doubt(self, verified: Moment, run: Passenger) -> bool:
        """Nothing is pinned."""
        return False

    def close(self) -> list[Removal]:
        """Nothing is released."""
        return []


_NO_PINS = NoPins()


def pinning(directory: str, options: Options, ledger: Ledger) -> Pinning | NoPins:
    """What pins the checkpoints of a run, if they are to be."""
    return Pinning(directory, options, ledger) if options.pin else _NO_PINS


class Pinning:
    """
    The pins of one run; a thread makes one at a time.

    A pin is made as soon as a checkpoint waits. If it is deleted then, or written again, the pin
    is delivered in its place, unless somebody has written to its files: a link is the same file.

    Attributes:
        reason: Why the next one cannot be pinned, in words; empty if nothing is wrong.
    """

    __slots__ = (
        *("_again", "_ahead", "_directory", "_flight", "_layout", "_ledger", "_pinned"),
        *("_refused", "_removals", "_taking", "_target", "reason"),
    )

    def __init__(self, directory: str, options: Options, ledger: Ledger) -> None:
        self._directory = directory
        self._layout: Layout = options.layout
        # Of the others only the newest is delivered: it is pinned as long as it is that.
        self._ahead = 0 if options.latest_only else options.pin
        self._ledger = ledger
        self._flight: Flight[Hold | None] = Flight(partial(mount_point, directory))
        self.reason = ""
        self._pinned = list[Queued]()
        self._removals = Removals(directory)
        self._target: Queued | None = None  # whom the thread is at work for
        self._taking: HandOver[Hold] | None = None  # None: it looks whether a pin is intact
        self._refused = -math.inf  # when one of them was gone, as the thread says
        self._again = -math.inf  # when the storage is tried again

    def attend(self, now: float, run: Passenger) -> str | None:
        """
        See to it that what is wanted is pinned, and nothing else.

        Args:
            now: The time, on the event loop's clock.
            run: Whom to tell when a thread has done its work.

        Returns:
            A name to look into, since it was gone when it was to be pinned.

        Raises:
            PinUnsupported: No pins can be made.
        """
        doubtful = self._land(now) if self._flight.has_landed else None
        self._release_idle()
        rests = self._flight.looking or now < self._again
        if self._flight.watcher is not None and not rests:
            self._begin(now, run)
        return doubtful

    def bind(self, watcher: Watcher, run: Passenger) -> None:
        """Live in the event loop of *watcher*."""
        self._flight.bind(watcher, run, polls=True)
        self._leave_unbegun()
        self._removals.begin()

    def unbind(self) -> None:
        """Leave it."""
        self._flight.unbind()
        self._leave_unbegun()

    def _leave_unbegun(self) -> None:
        # Nobody takes what the old loop's threads may still make.
        if self._taking is not None and not self._flight.looking:
            self._abandon()

    def _abandon(self) -> None:
        """What is being pinned is not wanted any more."""
        taking, self._taking = self._taking, None
        made = None if taking is None else taking.leave()
        if made is not None:
            self._removals.add(made)

    def _land(self, now: float) -> str | None:
        target, self._target = self._target, None
        taking, self._taking = self._taking, None
        assert target is not None
        self._again = -math.inf
        try:
            hold = self._flight.take()
        except CheckpointGone as error:
            # It is looked into, and most often gone then; else that is why it cannot be had.
            self.reason = error.found if target.refused > -math.inf else ""
            target.refused = self._refused = now
            return target.name
        except PinUnsupported as error:
            self.reason, self._again = error.reason, now + _LATER
            raise
        except OSError as error:
            self.reason, self._again = error.strerror or str(error), now + _LATER
            return None
        self.reason = ""
        if taking is not None:
            target.hold = hold
            self._pinned.append(target)
        elif hold is not None:
            target.doubtful = False
        else:
            self._ledger.give_up(target)
        return None

    def _begin(self, now: float, run: Passenger) -> None:
        for queued in self._pinned:
            if queued.doubtful and queued.hold is not None:
                self._start(queued, partial(_if_intact, queued.hold), run)
                return
        target = self._next(now)
        if target is not None:
            checkpoint = target.checkpoint(self._directory)
            taking = HandOver(partial(_take, checkpoint, self._layout), Hold.release)
            self._start(target, taking.run, run)
            self._taking = taking

    def _start(
        self, target: Queued, call: Callable[[Callable[[], None]], Hold | None], run: Passenger
    ) -> None:
        watcher = self._flight.watcher
        assert watcher is not None
        self._target, self._taking = target, None
        self._flight.start(call, run, first=True)
        watcher.begin()

    def _next(self, now: float) -> Queued | None:
        """Whom to pin: the next one to be delivered before all others."""
        queue = self._ledger.queue
        head = queue.candidate()
        ahead: Iterable[Queued] = (
            () if self._is_full else islice(queue.waiting.values(), self._ahead + 1)
        )
        for queued in (head, *ahead):
            if queued is None or queued.hold is not None:
                continue
            refused = now < queued.refused + _LATER
            if not (refused or queue.is_out_of_range(queued.entry.step)):
                return queued
        return None

    def _idle(self) -> list[Queued]:
        """Who is pinned, neither out nor the next one; those of whom nothing else is left first."""
        head = self._ledger.queue.candidate()
        idle = [queued for queued in self._pinned if not queued.out and queued is not head]
        return sorted(idle, key=lambda queued: not queued.kept)

    @property
    def _is_full(self) -> bool:
        return len(self._idle()) >= self._ahead

    def _release_idle(self) -> None:
        queue = self._ledger.queue
        for queued in [each for each in self._pinned if not each.out]:
            if not queue.has(queued) or queue.is_out_of_range(queued.entry.step):
                self._release(queued)
        for queued in self._idle()[self._ahead :]:
            if queued.kept:
                self._ledger.give_up(queued)
            self._release(queued)
        self._removals.begin()

    def _release(self, queued: Queued) -> None:
        self._pinned.remove(queued)
        hold, queued.hold = queued.hold, None
        if hold is not None:
            self._removals.add(hold)

    def doubt(self, verified: Moment, run: Passenger) -> bool:
        """
        Doubt that the pin of the next one is intact, if it is all there is of that.

        Args:
            verified: When it will have been found to be.
            run: Whose it is.

        Returns:
            Whether that is so; else the checkpoint itself is to be verified.
        """
        head = self._ledger.queue.candidate()
        if head is None or not head.kept:
            return False
        if head is not self._target:  # Else an older look is under way, which does not count.
            head.doubtful, head.verified = True, verified
            run.touch()
        return True

    @property
    def ready(self) -> bool:
        """Whether the next one is pinned."""
        head = self._ledger.queue.candidate()
        return head is not None and head.hold is not None and not head.doubtful

    @property
    def blocks(self) -> bool:
        """Whether the next one cannot be delivered, since it cannot be pinned."""
        fails = bool(self.reason) or self._flight.hangs is not None
        return fails and not self.ready

    @property
    def names(self) -> tuple[str, ...]:
        """What is pinned."""
        return tuple(queued.name for queued in self._pinned)

    def due(self, now: float) -> float:
        """When there will be something to do, if nothing happens before."""
        if self._flight.looking:
            return self._flight.asked_again(now)
        moments = self._again, self._refused + _LATER
        return min((moment for moment in moments if moment > now), default=math.inf)

    def close(self) -> list[Removal]:
        """Release all, also what a thread is about to pin. Returns what to wait for."""
        self._abandon()
        for queued in list(self._pinned):
            self._release(queued)
        self._removals.begin()
        landing = [self._flight.until_landed] if self._flight.looking else []
        return [*landing, *self._removals.under_way]


def _take(
    checkpoint: Checkpoint,
    layout: Layout,
    alive: Callable[[], None],
    is_wanted: Callable[[], bool],
) -> Hold:
    hold = take(checkpoint, layout, alive, is_wanted)
    hold.remember(alive)
    return hold


def _if_intact(hold: Hold, alive: Callable[[], None]) -> Hold | None:
    return hold if hold.is_intact(alive) else None
