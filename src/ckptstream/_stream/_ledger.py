"""The bookkeeping of one run: what was seen, queued, delivered, passed over and missed."""

from __future__ import annotations

import math
import os
from collections.abc import Collection

from .._model import Missed
from .._scan import Entry, Look, Trouble
from ..layouts._auto import NOBODY
from ._order import order, sort
from ._queue import Queue
from ._queued import Moment, Queued
from .arguments import Options

WATCHED_FINISHED = 3  # finished checkpoints that are watched for being written again
_REMEMBERED_MISSED = 100


class Ledger:
    """
    Progress by name and generation, never by a high-water mark: steps go backwards.

    Attributes:
        entries: Every checkpoint that is there, as the last look saw it.
        unfinished: The names of those that are not finished, in the order they appeared.
        newest: The last few finished ones.
        queue: What is to be delivered.
        looked: Whether a look has succeeded.
        fresh: What the last look found.
    """

    # A program may follow ten thousand runs, each with a ledger; most of it stays empty for ever.
    __slots__ = (
        *("_accepted", "_baseline", "_baseline_due", "_directory", "_first", "_first_settling"),
        *("_options", "entries", "fresh", "looked", "missed", "missed_count", "newest", "queue"),
        *("sealed", "unfinished"),
    )

    def __init__(self, directory: str, options: Options) -> None:
        self._directory = directory
        self._options = options
        self.entries: dict[str, Entry] = {}
        self.unfinished: dict[str, None] = {}
        self.newest: tuple[str, ...] = ()
        self.queue = Queue(options)
        self.missed: tuple[Missed, ...] = ()
        self.missed_count = 0
        self.fresh: tuple[str, ...] = ()
        self.looked = False
        self.sealed = False  # the last look was merged: what comes later is not this stream's
        # The generation of each name that was queued, delivered or passed over, also of those
        # that are gone: a directory that vanishes and comes back brings nothing new.
        self._accepted: dict[str, str | None] = {}
        self._first = -math.inf  # when the first look was made, on its own clock
        self._first_settling: frozenset[str] = frozenset()
        # Entries that had settled since before this moment were there at the first look.
        self._baseline = -math.inf
        self._baseline_due = options.skip_existing

    def merge(self, look: Look, judged: Collection[str], seen: Moment, clock: float) -> None:
        """
        Enter what a look found.

        Args:
            look: Its result.
            judged: Names that it was told to look into.
            seen: When it was made.
            clock: The time now, on the look's clock.
        """
        first, self.fresh = not self.looked, ()
        if look.trouble is not None:
            if look.trouble is Trouble.MISSING:
                # Nothing was there at the start, so nothing of it is passed over.
                self._baseline_due = False
            return
        self.looked = True
        self._point(look)
        self._take_out(look)
        finds, returned = self._enter(look)
        sort(finds, first or self.holding, look.full)
        sort(returned, first=True, listed=True)
        for name, _ in returned:
            self._watch(name)
        self.fresh = tuple(name for name, _ in (returned + finds)[-WATCHED_FINISHED:])
        for name in judged:
            if name in self.queue.waiting:
                self.queue.waiting[name].verified = seen
        if first:
            self._first, self._first_settling = clock, frozenset(look.settling)
        if self._baseline_due:
            self._baseline, self._baseline_due = self._first, False
            self._pass_over(finds)
        else:
            self._accept(finds, seen)
        if self.holding:
            self._hold(look, judged)
        self.queue.held = self.holding
        self._point(look)

    def _point(self, look: Look) -> None:
        latest = self.entries.get(look.pointed[0]) if look.pointed else None
        self.queue.pointed = look.pointed[0] if latest and latest.missing is None else None

    def _take_out(self, look: Look) -> None:
        for name in look.gone:
            self._lose(name)
        for name, step in look.vanished:
            # Of one that was there in the last look the event may be old news.
            if name not in look.gone:
                self._miss(name, step, finished=False)

    def expect_nothing(self) -> None:
        """The run was not there at the stream's first look: nothing of it is passed over."""
        self._baseline_due = False

    def lose_all(self) -> None:
        """The run is gone, with all that was not delivered."""
        self._first_settling, self.queue.held, self.queue.pointed = frozenset(), False, None
        # Others of its own: a look may be under way that goes over the old ones.
        self.entries, self.unfinished = dict(self.entries), dict(self.unfinished)
        for name in list(self.entries):
            self._lose(name)

    @property
    def rests(self) -> bool:
        """Whether a look that found nothing new leaves it as it is."""
        waits = self.queue.waiting or self._first_settling or self._baseline_due
        return self.looked and not waits and not self.fresh

    @property
    def holding(self) -> bool:
        """Whether the first look is not complete yet: some of what it saw has still to settle."""
        return bool(self._first_settling)

    def _hold(self, look: Look, judged: Collection[str]) -> None:
        for name in self._first_settling:
            since = [s.since for s in self.entries[name].settling] if name in look.settling else []
            asked = look.full or name in judged or name in look.changed or name in look.gone
            if asked and min(since, default=math.inf) > self._first:
                self._first_settling -= {name}
        if not self.holding:
            waiting = self.queue.waiting.values()
            found = sorted(waiting, key=lambda queued: order(queued.name, queued.entry))
            self.queue.waiting = {queued.name: queued for queued in found}

    def _enter(self, look: Look) -> tuple[list[tuple[str, Entry]], list[tuple[str, Entry]]]:
        """Take over what has changed; return what is finished and new, and what has come back."""
        finds, returned = list[tuple[str, Entry]](), list[tuple[str, Entry]]()
        for name, entry in look.changed.items():
            known = name in self.entries
            self.entries[name] = entry
            if entry.missing is not None:
                self.unfinished[name] = None
                if self.queue.waiting.pop(name, None) is not None:
                    del self._accepted[name]  # Finished again, it is found again.
                continue
            self.unfinished.pop(name, None)
            if self._accepted.get(name) != entry.generation:
                finds.append((name, entry))
            elif not known:
                returned.append((name, entry))
        return finds, returned

    def _accept(self, finds: list[tuple[str, Entry]], seen: Moment) -> None:
        for name, entry in finds:
            settled = max((s.since for s in entry.settling), default=math.inf)
            if settled <= self._baseline:
                self._pass_over([(name, entry)])
                continue
            if self.queue.waiting.pop(name, None) is not None:
                self._miss(name, entry.step, finished=True)  # overwritten before it was delivered
            if self.sealed:
                continue
            self._remember(name, entry)
            if self.queue.is_beyond(entry.step):
                continue
            self.queue.waiting[name] = Queued(name, entry, seen)

    def _pass_over(self, finds: list[tuple[str, Entry]]) -> None:
        for name, entry in finds:
            self._remember(name, entry)
            self.queue.skipped += 1

    def _remember(self, name: str, entry: Entry) -> None:
        self._accepted[name] = entry.generation
        self._watch(name)

    def _watch(self, name: str) -> None:
        """It is the newest one now, and watched for being written again."""
        others = tuple(other for other in self.newest if other != name)
        self.newest = (*others, name)[-WATCHED_FINISHED:]

    def _lose(self, name: str) -> None:
        """An entry is no longer there."""
        entry = self.entries.pop(name)
        self.unfinished.pop(name, None)
        self.newest = tuple(other for other in self.newest if other != name)
        if self.queue.pointed == name:
            self.queue.pointed = None
        newest = self.queue.candidate()
        queued = self.queue.waiting.pop(name, None)
        if queued is None:
            recognised = entry.layout != NOBODY
            if recognised and entry.missing is not None and not self._is_accepted(name, entry):
                self._miss(name, entry.step, finished=entry.generation is not None)
            return
        if self._options.latest_only and newest is not queued:
            self.queue.skipped += 1
            return
        del self._accepted[name]  # Should it come back after all, it is new.
        self._miss(name, entry.step, finished=True)

    def was_delivered(self, name: str) -> bool:
        """Whether the generation that an entry has, or last had, was delivered or passed over."""
        entry = self.entries.get(name)
        return entry is not None and self._is_accepted(name, entry)

    def _is_accepted(self, name: str, entry: Entry) -> bool:
        return entry.generation is not None and self._accepted.get(name) == entry.generation

    def _miss(self, name: str, step: int | None, finished: bool) -> None:
        if self.queue.is_beyond(step):
            return
        missed = Missed(os.path.join(self._directory, name), step, finished)
        self.missed = (*self.missed, missed)[-_REMEMBERED_MISSED:]
        self.missed_count += 1
        if finished:
            self.queue.reach(step)

    def abandon(self, everything: bool) -> None:
        """The stream ends: what was finished and is being deleted is lost, or all there is."""
        until = self._options.until_step
        for name in () if self._options.latest_only else self.unfinished:
            entry = self.entries[name]
            wanted = until is None or entry.step is None or entry.step <= until
            if wanted and entry.generation is not None and not self._is_accepted(name, entry):
                self._miss(name, entry.step, finished=True)
        if not everything:
            return
        for name, queued in self.queue.waiting.items():
            self._miss(name, queued.entry.step, finished=True)
        self.queue.waiting.clear()
