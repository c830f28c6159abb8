"""One run as a stream follows it: what is known, what is queued, when to look again."""

from __future__ import annotations

import math
import time
import weakref
from functools import partial

from .._scan import Ground, Look, Request, Trouble, look
from .._stores import Location
from .._threads import HUNG_AFTER
from .._watchers import Watcher
from ._agenda import Touched
from ._flight import Flight
from ._hints import Hints
from ._journal import Journal
from ._ledger import Ledger
from ._pinning import pinning
from ._progress import Progress
from ._queued import Asked, Moment
from ._sight import Sight, Told, landed
from ._timers import Timers
from .arguments import Options

_BRIEF = 0.1  # seconds: what a look saw so long ago counts as seen now
_FRESH = 0.02  # seconds: what was seen so long ago still counts, if no event has come since


class Run:
    """
    One run of a stream. All of it happens in the event loop, but for the look itself.

    At most one look is in flight, even if its caller was cancelled; the result is kept for the
    next call. A hint is spent only when the look it caused is merged.
    """

    __slots__ = (
        *("__weakref__", "_agenda", "_ground", "_hints", "_journal", "_listed", "_looked"),
        *("_moment", "_timers", "directory", "flight", "ledger", "left", "location", "named"),
        *("options", "pinning", "queue", "sight", "told"),
    )

    def __init__(
        self, location: Location, options: Options, agenda: Touched[Run], journal: Journal | None
    ) -> None:
        self.location = location
        self.directory = location.path
        self.named = True  # by the user, not by a pattern
        self.left = False  # it has gone, and nothing but a pattern had named it
        self.ledger = Ledger(location.path, options, None if journal is None else Progress(journal))
        self.queue = self.ledger.queue
        self.pinning = pinning(location.path, options, self.ledger)
        self.sight = Sight()
        self.told = Told()
        self.options = options
        # Weak: a stream that is dropped must go at once, not when the garbage is collected.
        self._agenda = weakref.ref(agenda)
        self._journal = journal
        self.flight: Flight[Look] = Flight(location.lane, remote=location.requests is not None)
        # Of the look in flight; of the last look, and of the last listing, that were merged.
        self._moment = self._looked = self._listed = Moment()
        self._ground: Ground | None = None
        self._hints = Hints()
        self._timers = Timers(location, options.poll_interval)

    # What the watcher tells.

    def entry_changed(self, name: str, arrived: bool) -> None:
        """Something happened to an entry; the latest one goes last."""
        # Most events tell of something else.
        if name in self.ledger.entries or self.options.may_be_part(name):
            self._hints.add(name, arrived)
            self.touch()
        elif not self.ledger.entries:
            self._timers.explain_soon()
            self.touch()

    def all_changed(self) -> None:
        """Anything may have happened."""
        self._hints.add_all()
        self.touch()

    def touch(self) -> None:
        """There is something to do: attend to it when the stream wakes, which is now."""
        agenda = self._agenda()
        # Else bind() does it; of one that has left there may be something to release.
        if agenda is not None and (self.flight.watcher is not None or self.left):
            agenda.touch(self)

    # Looks.

    @property
    def requests(self) -> int | None:
        """How many were made in the last hour; None where they are not paid for."""
        return self._timers.requests_last_hour

    def shift(self, seconds: float) -> None:
        """Another event loop has begun, whose clock is so far ahead."""
        self._timers.shift(seconds)
        self.queue.shift(seconds)
        self.sight = self.sight.shifted(seconds)
        self._moment = self._moment._replace(began=self._moment.began + seconds)

    def bind(self, watcher: Watcher) -> None:
        """Live in the event loop of *watcher*; look at everything."""
        told = self.location.requests is not None and self._ground is not None
        self._timers.restart()
        self.flight.bind(watcher, self, self.options.polls or bool(self.location.why_poll))
        self.pinning.bind(watcher, self)
        # No event was lost where there are none, and each look is paid for.
        self._hints.everything |= not told
        # A look in flight does not know what happened between the two loops.
        self._moment = self._moment._replace(thorough=False)
        self.touch()

    def unbind(self) -> None:
        """Leave that event loop."""
        self.flight.unbind()
        self.pinning.unbind()

    def wants_look(self, now: float) -> bool:
        """Whether to look now, at whatever may have changed."""
        can = not (self.left or self.flight.looking)
        return can and self._timers.wants_look(bool(self._hints), now)

    def wants_to_verify(self, now: float, call: int) -> bool:
        """Whether to look now, since the next checkpoint was not verified in this call."""
        return self.may_deliver(now) and not self.flight.looking and not self._is_verified(call)

    def _is_verified(self, call: int) -> bool:
        head = self.queue.candidate()
        if head is None:
            return True
        # With min_interval_secs a call may be much older than the moment that counts.
        needed = Moment(call, self.queue.eligible)
        served = head.verified.serves(needed)
        if head.kept or not (served or self._is_fresh(head.verified)):
            return served
        # The newest when the caller asks: what is polled must be asked.
        polled = self.options.latest_only and self.sight.look.watcher == "poll"
        return not polled or self._listed.serves(needed)

    def _is_fresh(self, seen: Moment) -> bool:
        """Whether a look as good as ended just now: an event would have told of any change."""
        told = self.flight.is_told and self.sight.look.watcher == "inotify"
        return told and seen.events == self._hints.events and time.monotonic() - seen.ended < _FRESH

    def may_deliver(self, now: float) -> bool:
        """Whether nothing but a verification stands between the user and what is queued."""
        return self._answers and self.queue.eligible <= now

    @property
    def _answers(self) -> bool:
        """Whether what is to be delivered next can be had."""
        head = self.queue.candidate()
        is_there = self.sight.look.trouble is None or (head is not None and head.kept)
        return is_there and self.flight.hangs is None and not self.pinning.blocks

    def ready(self, now: float, call: int) -> bool:
        """Whether the next checkpoint may be handed out as it stands."""
        changing = self.options.latest_only and (self._hints or self.flight.looking)
        lacks = changing or self.queue.candidate() is None or not self.pinning.ready
        return not lacks and self.may_deliver(now) and self._is_verified(call)

    def due(self, now: float) -> float:
        """When there will be something to do, if nothing happens before."""
        due = self.pinning.due(now)
        if self.flight.looking:
            return min(due, self.flight.asked_again(now))
        if self.left:
            return due
        due = min(due, self._timers.due(bool(self._hints)), self.queue.next_retry)
        waits = self.queue.eligible > now and self.queue.candidate() is not None
        return min(due, self.queue.eligible) if waits else due

    def start_look(self, now: float, call: int) -> None:
        """Begin the look that is due, in the caller's call of that number."""
        watcher, progress = self.flight.watcher, self.ledger.outcomes.progress
        assert watcher is not None
        self._timers.look(now, self._hints.events)
        scope = self._timers.scope(now, self._hints.everything, self.sight.look.watcher == "poll")
        full, head = scope.full, self.queue.candidate()
        if head is not None and not head.kept:
            self._hints.verify(head.name)
            full |= self.options.latest_only and self.sight.look.watcher == "poll"
        self._moment = Moment(call, now, self._hints.events, scope.thorough)
        request = Request(
            location=self.location,
            layout=self.options.layout,
            pointers=self.options.pointers,
            pointed=self.sight.look.pointed,
            entries=self.ledger.entries,
            unfinished=self.ledger.unfinished,
            newest=self.ledger.newest,
            hints=self._hints.give(scope.settled),
            full=full,
            whole=scope.whole,
            thorough=scope.thorough,
            ground=self._ground,
            subscription=self.flight.subscription,
            why_poll=self.location.why_poll or self.options.why_poll,
            trust_any=self.options.watcher != "auto",
            clock=watcher.clock,
            cursor=None if self._journal is None else self._journal.cursor,
            claimed=None if progress is None else progress.run,
            recognised=[layout for layout, _ in self.sight.look.recognised],
        )
        self.flight.start(partial(look, request), self)

    def merge(self, now: float, asked: Asked) -> bool | None:
        """
        Take the result of a look, if there is one; *asked*: when the user did, the last time.

        Returns:
            Whether it brought anything new; None if there is no result.

        Raises:
            NotADirectoryError: If the first look finds a file.
        """
        if not self.flight.has_landed or self.flight.take_stale():
            return None
        ended, now = self.flight.landed(now)
        if self.flight.age_at(asked.moment) < _BRIEF:  # It serves that call, too.
            self._moment = self._moment._replace(call=asked.call)
        try:
            result = landed(self.flight, self.named)
        except BaseException:
            self._hints.everything = True  # A layout of the user's failed.
            raise
        if result.found_a_file and self.named and not self.ledger.looked:
            self._hints.everything = True
            raise NotADirectoryError(f"{result.detail}: name the directory that holds checkpoints")
        before, waited = self.sight.look, now - self._moment.began >= HUNG_AFTER
        nothing_new = result.says_nothing_after(before) and self.ledger.rests and not waited
        result.remember(before)
        self.sight = self.sight.after(result, now)
        self._looked = self._moment._replace(ended=time.monotonic())
        if not nothing_new:
            self.ledger.merge(result, self._hints.judged, self._looked, ended)
        self._ground = result.ground
        if result.trouble is None:
            self._hints.spend()
        self._prepare_next(result, ended, now)
        result.forget()
        return not nothing_new

    def _prepare_next(self, result: Look, ended: float, now: float) -> None:
        if result.trouble is None and result.full:
            self._listed = self._looked
        self._hints.everything |= result.again  # The way has changed meanwhile.
        if result.watcher == "inotify" and result.unwatched:
            # Which ones are the newest is known only now.
            self._hints.watch(self.ledger.fresh)
        self._hints.everything |= self.flight.take_disturbed()
        newest = (self.ledger.entries[name].written for name in self.ledger.newest)
        self._timers.set(result, now, self._looked.thorough, result.full, newest)
        self._timers.look_by(math.inf if self.sight.puzzling else self.sight.explained)
        if self._timers.is_last(result, self._looked.began, ended, now):
            self.seal()

    # The end.

    def look_last(self, now: float) -> None:
        """Take one complete look, begun now or later."""
        self._timers.last_from, self._hints.everything = now, True
        # The one in flight does not count, even where a coarse clock says that it began just now.
        self._moment = self._moment._replace(began=-math.inf)
        self.touch()

    def seal(self) -> None:
        """The last look is over: what comes later is not this stream's."""
        self.ledger.seal()
        self._timers.last_until = None

    @property
    def sealed(self) -> bool:
        """Whether the last look is complete. A run whose storage hangs does not count."""
        hangs = self.flight.hangs is not None and not self.flight.remote  # A client gives up.
        if hangs and self._timers.last_from < math.inf:
            self.seal()
        return self.ledger.sealed

    @property
    def exhausted(self) -> bool:
        """After the last look: whether there is nothing left to deliver."""
        return self.queue.candidate() is None or not self._answers

    def leave(self) -> None:
        """The directory is gone for good, as far as can be known: what was queued is lost."""
        self.flight.unbind()  # Not the pins: what is out is released when it is done.
        self.flight.expire()
        self.ledger.lose_all()
        self.ledger.give_up_kept()
        self.left, self.queue.left, self.sight, self._ground = True, True, Sight(), None

    def abandon(self) -> None:
        """The stream has ended: what was queued in a directory that is gone is lost."""
        self.ledger.abandon(everything=self.sight.look.trouble is Trouble.MISSING)
