"""The bookkeeping of one run: what was seen, queued, delivered, passed over and missed."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping

from .._cursor import Memory, State
from .._scan import Entry, Look, Trouble
from ..layouts._auto import NOBODY
from ._order import order, sort
from ._outcomes import Outcomes
from ._progress import SEEN, Progress
from ._queue import Queue
from ._queued import Moment, Queued, kept_key
from ._settling import Settling
from .arguments import Options

WATCHED_FINISHED = 3  # finished checkpoints that are watched for being written again


class Ledger:
    """
    Progress by name and generation, never by a high-water mark: steps go backwards.

    Attributes:
        entries: Every checkpoint that is there, as the last look saw it.
        sealed: Whether the last look was merged.
        settling: What may be finished in a moment.
        unfinished: The names of those that are not finished, in the order they appeared.
        newest: The last few finished ones.
        queue: What is to be delivered.
        outcomes: What became of the others.
        looked: Whether a look has succeeded.
        fresh: What the last look found.
    """

    # A program may follow ten thousand runs, each with a ledger; most of it stays empty for ever.
    __slots__ = (
        *("_accepted", "_baseline", "_baseline_due", "_gone", "_options"),
        *("entries", "fresh", "looked", "newest", "outcomes", "queue", "sealed", "settling"),
        "unfinished",
    )

    def __init__(self, directory: str, options: Options, progress: Progress | None = None) -> None:
        self._options = options
        self.entries: dict[str, Entry] = {}
        self.unfinished: dict[str, None] = {}
        self.newest: tuple[str, ...] = ()
        self.settling = Settling()
        self.queue = Queue(options, self.settling)
        self.outcomes = Outcomes(directory, options, self.queue, progress)
        self.fresh: tuple[str, ...] = ()
        self._gone: tuple[str, ...] = ()  # at the last look
        self.looked = False
        self.sealed = False
        # The generation of each name that was queued, delivered or passed over, also of those
        # that are gone: a directory that vanishes and comes back brings nothing new.
        self._accepted: dict[str, str | None] = {}
        # Entries that had settled since before this moment were there at the first look.
        self._baseline = -math.inf
        self._baseline_due = options.skip_existing

    def merge(self, look: Look, judged: Collection[str], seen: Moment, ended: float) -> None:
        """
        Enter what a look found.

        Args:
            look: Its result.
            judged: Names that it was told to look into.
            seen: When it was made.
            ended: When it ended, on its own clock.
        """
        first, self.fresh = not self.looked, ()
        if look.claim is not None:
            self._baseline_due &= not self.outcomes.enter(look.claim)
        if look.trouble is not None:
            if look.trouble is Trouble.MISSING:
                self.expect_nothing()
                self.settling.forget()
                self.queue.lose_all()
                self.outcomes.take_baseline()
            return
        self.looked = True
        self._point(look)
        self._take_out(look)
        finds, returned = self._enter(look)
        sort(finds, first or self.settling.holding, look.full)
        sort(returned, first=True, listed=True)
        for name, _ in returned:
            self._watch(name)
        self.fresh = tuple(name for name, _ in (returned + finds)[-WATCHED_FINISHED:])
        for name in judged:
            if name in self.queue.waiting and self.entries[name].missing is None:
                self.queue.waiting[name].verified = seen
        held = self.settling.holding
        self.settling.enter(look, judged, self.entries, ended)
        if self.sealed:
            self.settling.forget()
        self._decide(finds, look, seen)
        if held and not self.settling.holding:
            self.queue.sort()
        self.outcomes.keep_book(self.entries, self.settling.holding)
        self._point(look)

    def _decide(self, finds: list[tuple[str, Entry]], look: Look, seen: Moment) -> None:
        if self._baseline_due:
            self._baseline, self._baseline_due = self.settling.first, False
            # What an earlier stream has promised is not passed over.
            self._pass_over([find for find in finds if find[0] not in look.remembered])
            finds = [find for find in finds if find[0] in look.remembered]
        self._accept(finds, seen, look.remembered)

    def _point(self, look: Look) -> None:
        name = next((names[0] for names in look.pointed if names[0] in self.entries), "")
        self.queue.pointed = name if name and self.entries[name].missing is None else None

    def _take_out(self, look: Look) -> None:
        for name in sorted(look.gone, key=lambda name: order(name, self.entries[name])):
            self._lose(name)
        there_lately = {*look.gone, *self._gone}  # Of those an event may be old news.
        for name, step in look.vanished:
            if name not in there_lately and not self.outcomes.awaits(name):
                self.outcomes.miss(name, None, step)
        self._gone = look.gone

    def expect_nothing(self) -> None:
        """The run was not there at the start: nothing of it is passed over."""
        self._baseline_due = False

    def seal(self) -> None:
        """The last look was merged: what comes later is not this stream's."""
        self.sealed = True
        self.settling.forget()

    def lose_all(self) -> None:
        """The run is gone, with all that was not delivered."""
        self.queue.pointed = None
        self.settling.forget()
        # Others of its own: a look may be under way that goes over the old ones.
        self.entries, self.unfinished = dict(self.entries), dict(self.unfinished)
        for name in list(self.entries):
            self._lose(name)

    @property
    def rests(self) -> bool:
        """Whether a look that found nothing new leaves it as it is."""
        waits = self.queue.waiting or self.settling or self._baseline_due or self.fresh
        return self.looked and not waits

    def _enter(self, look: Look) -> tuple[list[tuple[str, Entry]], list[tuple[str, Entry]]]:
        """Take over what has changed; return what is finished and new, and what has come back."""
        finds, returned = list[tuple[str, Entry]](), list[tuple[str, Entry]]()
        for name, entry in look.changed.items():
            old = self.entries.get(name)
            self.entries[name] = entry
            if entry.missing is not None and self.queue.lose(name) is not None:
                del self._accepted[name]  # Finished again, it is found again.
            others = {None, entry.generation, self._accepted.get(name)}
            if old is not None and old.generation not in others and not self.sealed:
                # It was finished and waited, and is written again: that one does not come back.
                self.outcomes.miss(name, old.generation, old.step)
            if entry.missing is not None:
                self.unfinished[name] = None
                continue
            self.unfinished.pop(name, None)
            if self.queue.take_out(kept_key(name, entry)) is not None:
                self._accepted.pop(name, None)  # It was lost, and kept: it is found again.
            if self._accepted.get(name) != entry.generation:
                finds.append((name, entry))
            elif old is None:
                returned.append((name, entry))
        return finds, returned

    def _accept(
        self, finds: list[tuple[str, Entry]], seen: Moment, remembered: Mapping[str, Memory]
    ) -> None:
        accepted = list[Queued]()
        for name, entry in finds:
            earlier = self.queue.lose(name)
            if earlier is not None:  # overwritten before it was delivered
                self.outcomes.miss(name, earlier.entry.generation, earlier.entry.step)
            memory = remembered.get(name)
            if memory is not None and self.outcomes.is_final(memory):
                self._remember(name, entry)
                continue
            settled = max((s.since for s in entry.settling), default=math.inf)
            if settled <= self._baseline:
                self._pass_over([(name, entry)])
                continue
            if self.sealed:
                continue
            self._remember(name, entry)
            if self.queue.is_beyond(entry.step):
                continue
            if memory is None or memory.state is State.MISSED:
                memory = SEEN
                self.outcomes.note(name, entry, SEEN)
            queued = Queued(name, entry, seen, memory.attempts, memory.reason)
            queued.behind = self.settling.before(entry.step, self.entries, self.is_awaited)
            accepted.append(queued)
        self.queue.enter(accepted)

    def _pass_over(self, finds: list[tuple[str, Entry]]) -> None:
        for name, entry in finds:
            self._remember(name, entry)
            self.outcomes.skip(name, entry)

    def _remember(self, name: str, entry: Entry) -> None:
        self._accepted[name] = entry.generation
        self._watch(name)

    def _watch(self, name: str) -> None:
        """It is the newest one now, and watched for being written again."""
        self.newest = (*(n for n in self.newest if n != name), name)[-WATCHED_FINISHED:]

    def _lose(self, name: str) -> None:
        """An entry is no longer there."""
        entry = self.entries.pop(name)
        self.unfinished.pop(name, None)
        self.newest = tuple(other for other in self.newest if other != name)
        if self.queue.pointed == name:
            self.queue.pointed = None
        newest = self.queue.candidate()
        queued = self.queue.lose(name)
        if queued is None:
            recognised = entry.layout != NOBODY and not self.outcomes.awaits(name)
            if recognised and entry.missing is not None and not self._is_accepted(name, entry):
                self.outcomes.miss(name, entry.generation, entry.step)
            return
        if self._options.latest_only and newest is not queued:
            self.outcomes.skip(name, queued.entry)
            return
        del self._accepted[name]  # Should it come back after all, it is new.
        self.outcomes.miss(name, queued.entry.generation, entry.step)

    def is_awaited(self, name: str) -> bool:
        """Whether an unfinished one may become finished; one that is only being deleted may not."""
        return self.entries[name].rewritten or not self._is_accepted(name, self.entries[name])

    def _is_accepted(self, name: str, entry: Entry) -> bool:
        return entry.generation is not None and self._accepted.get(name) == entry.generation

    # What becomes of what was delivered.

    def fail(self, queued: Queued, reason: str, now: float) -> float | None:
        """What was delivered has failed. Returns in how many seconds it comes again, or None."""
        again = self.outcomes.fail(queued, reason) and self._is_still_there(queued)
        return self.queue.retry(queued, now) if again else None

    def give_back(self, queued: Queued) -> None:
        """What was delivered is the next one again."""
        if self._is_still_there(queued):
            self.queue.give_back(queued)

    def _is_still_there(self, queued: Queued) -> bool:
        """Whether it can be delivered again. If not, it is missed, or is found when it is whole."""
        if self._is_seen(queued) or self.queue.keeps(queued):
            return True
        self._part_with(queued)
        return False

    def _is_seen(self, queued: Queued) -> bool:
        """Whether it was there, finished, when a look last succeeded."""
        entry, generation = self.entries.get(queued.name), queued.entry.generation
        return entry is not None and entry.missing is None and entry.generation == generation

    def _part_with(self, queued: Queued) -> None:
        """It cannot be delivered. Unless what is there may become whole as it was, it is missed."""
        name, lost, there = queued.name, queued.entry, self.entries.get(queued.name)
        if self._accepted.get(name) == lost.generation:
            del self._accepted[name]  # Should it be found again, it is new.
        if there is None or there.generation != lost.generation:
            self.outcomes.miss(name, lost.generation, lost.step)

    def give_up(self, queued: Queued) -> None:
        """What was kept is not kept any more."""
        if self.queue.has(queued) and self._is_seen(queued):
            self.queue.unkeep(queued)  # The run is not there: nobody knows, as without a pin.
        elif self.queue.has(queued):
            self.queue.take_out(queued.key)
            self._part_with(queued)

    def give_up_kept(self) -> None:
        """Nothing of this run is delivered any more."""
        for queued in [queued for queued in self.queue.entered if queued.kept]:
            self.give_up(queued)

    def abandon(self, everything: bool) -> None:
        """The stream ends: what was finished and is being deleted is lost, or all there is."""
        until = self._options.until_step
        for name in () if self._options.latest_only else self.unfinished:
            entry = self.entries[name]
            wanted = until is None or entry.step is None or entry.step <= until
            if wanted and entry.generation is not None and not self._is_accepted(name, entry):
                self.outcomes.miss(name, entry.generation, entry.step)
        for queued in self.queue.entered if everything else ():
            self.queue.take_out(queued.key)
            self.outcomes.miss(queued.name, queued.entry.generation, queued.entry.step)
