"""The runs of one stream: what each has to do, and what it has to deliver."""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from collections.abc import Sequence
from functools import partial

from .._errors import PinUnsupported
from .._model import printable
from .._scan import Look
from .._stores import Location
from .._watchers import Alarm, Watcher
from ._agenda import Agenda
from ._journal import Journal
from ._log import logger
from ._offers import Offers
from ._pattern import Change, Pattern
from ._queued import Asked, Moment, Queued
from ._removals import Removal
from ._reports import report, report_end, report_left, report_limit, report_missed, report_pattern
from ._roster import Roster
from ._run import Run
from .arguments import Options

_SHORT = 0.005  # seconds that most looks take at most
SLICE = 0.002  # seconds: then the event loop goes on with something else,
_AT_LEAST = 128  # if so many runs were attended to


class Following:
    """
    Attends to the runs that have something to do, and takes turns with what they have to deliver.

    One event must not cost more because ten thousand other runs are followed: what is done for
    each event goes over none but the runs that it is about.
    """

    __slots__ = (
        *("_agenda", "_asked", "_in_flight", "_looks_last", "_offers", "_started", "_unsealed"),
        *("_wanting", "_watcher", "roster"),
    )

    def __init__(
        self, locations: Sequence[Location], options: Options, alarm: Alarm, journal: Journal | None
    ) -> None:
        self._agenda: Agenda[Run | Pattern] = Agenda(alarm)
        self.roster = Roster(locations, options, self._agenda, journal)
        self._offers = Offers(self.roster.runs.values(), ends=options.until_step is not None)
        self._wanting: OrderedDict[Run | Pattern, None] = OrderedDict()  # who wants a look
        self._in_flight: dict[Run, None] = {}
        self._unsealed: dict[Run | Pattern, None] = {}  # who is before the end of its last look
        self._looks_last = False
        self._asked = Asked()
        self._started = -math.inf  # when the last look at a filesystem began
        self._watcher: Watcher | None = None

    @property
    def next(self) -> float:
        """When there will be something to do, if nothing happens before."""
        return self._agenda.next

    def attend(self, now: float) -> None:
        """To each run that has something to do: take its look's result, see what it wants."""
        until = time.monotonic() + SLICE
        for count, item in enumerate(self._agenda.take(now), 1):
            try:
                if isinstance(item, Run):
                    self._attend_to_run(item, now)
                else:
                    self._attend_to_pattern(item, now)
            except BaseException:
                self._agenda.touch(item)  # The next call tries again.
                raise
            if item.wants_look(now):
                self._wanting[item] = None
            else:
                self._agenda.schedule(item, now)
            if count >= _AT_LEAST and time.monotonic() > until:
                break  # The others come when the event loop has been round.

    @property
    def is_behind(self) -> bool:
        """Whether there is more to do than was done."""
        return bool(self._wanting) or self._agenda.is_behind

    def _attend_to_run(self, run: Run, now: float) -> None:
        news: bool | None = None
        try:
            news = run.merge(now, self._asked)
        finally:
            if not run.flight.looking:
                self._in_flight.pop(run, None)
        if run.queue.retrying:
            run.queue.resume(now)
        self._pin(run, now)
        if run.left:
            report_missed(run)  # What was out may have failed.
            return
        laden = run in self._offers.laden or run.queue.waiting or run.queue.retrying
        busy = run.flight.looking or laden or self._unsealed
        if run.told.waits and not (news or busy):
            return  # As most often, where runs are polled.
        self._sort(run, now)
        if run.sight.look.found_no_directory and not run.named:
            # The pattern that named it says whether it has left.
            for pattern in self.roster.patterns if news else ():
                pattern.doubt(run.directory)
        else:
            report(run)
        self._report_limit(run.sight.look, run.directory)

    def _pin(self, run: Run, now: float) -> None:
        """Pin what waits, and release what is done."""
        try:
            gone = run.pinning.attend(now, run)
        except PinUnsupported:
            if run.named:
                raise
            return  # One that a pattern has found must not end the stream over all the others.
        if gone is not None:
            run.entry_changed(gone, arrived=False)

    def _attend_to_pattern(self, pattern: Pattern, now: float) -> None:
        change = pattern.merge(now)
        if change is not None and not self._is_sealed(pattern):
            self._enter(pattern, change, now)
        report_pattern(pattern)
        self._report_limit(pattern.look, pattern.text)
        if pattern.sealed:
            self._unsealed.pop(pattern, None)

    def _report_limit(self, look: Look, path: str) -> None:
        if look.out_of is not None and self._watcher is not None:
            report_limit(look.out_of, path, self._watcher)

    def _enter(self, pattern: Pattern, change: Change, now: float) -> None:
        left = [run for each in change.left if (run := self._leave(each)) is not None]
        joined = [each for each in change.joined if self._join(each, pattern, change.late, now)]
        for directory in change.replaced:
            run = self.roster.runs.get(directory)
            if run is not None:
                run.all_changed()
        # A handler of these records may raise, or close the stream: all is entered by now.
        for run in left:
            report_left(run)
        for directory in joined:
            logger.info("%s: has joined", printable(directory))

    def _is_sealed(self, pattern: Pattern) -> bool:
        """Whether its last look was merged before: what comes later is not this stream's."""
        return self._looks_last and pattern not in self._unsealed

    def _join(self, directory: str, pattern: Pattern, late: bool, now: float) -> bool:
        run = self.roster.join(directory, pattern, late)
        if run is None:
            return False
        assert self._watcher is not None
        run.bind(self._watcher)
        self._offers.add(run)
        if self._looks_last:
            self._unsealed[run] = None
            run.look_last(now)
        return True

    def _leave(self, directory: str) -> Run | None:
        run = self.roster.leave(directory)
        if run is None:
            return None
        self._offers.drop(run)
        self._in_flight.pop(run, None)
        self._wanting.pop(run, None)
        self._unsealed.pop(run, None)
        return run

    def _sort(self, run: Run, now: float) -> None:
        self._offers.sort(run, now)
        if run.sealed:
            self._unsealed.pop(run, None)

    def ask(self) -> None:
        """The user asks for a checkpoint, once more."""
        self._asked = Asked(self._asked.call + 1, time.monotonic())

    def choose(self, now: float) -> Run | None:
        """A run whose next checkpoint is good to go. Have the first few verified, if none is."""
        if self._unsealed:
            return None
        return self._offers.choose(now, self._asked.call, partial(self._verify, now))

    def _verify(self, now: float, run: Run) -> None:
        if not run.pinning.doubt(Moment(self._asked.call, now), run):
            self._wanting[run] = None

    def start_looks(self, now: float) -> None:
        """Begin the looks that are wanted."""
        until, some, count = time.monotonic() + SLICE, bool(self._wanting), 0
        while self._wanting and (count < _AT_LEAST or time.monotonic() <= until):
            item, _ = self._wanting.popitem(last=False)
            count += 1
            if not item.flight.looking:
                if isinstance(item, Run):
                    self._in_flight[item] = None
                self._started = self._started if item.flight.remote else now
                item.start_look(now, self._asked.call)
                self._agenda.schedule(item, now)
        if some and self._watcher is not None:
            self._watcher.begin()

    @property
    def looks(self) -> bool:
        """Whether a look is in flight."""
        patterns = self.roster.patterns
        return bool(self._in_flight) or any(pattern.flight.looking for pattern in patterns)

    @property
    def lands(self) -> float:
        """
        Until when nothing but a look that goes on need be waited for.

        What happens to other runs meanwhile is read right after it; but one that hangs must not
        keep them from being told.
        """
        if not self._in_flight:
            return -math.inf
        return math.inf if self.roster.is_single else self._started + _SHORT

    def deliver(self, run: Run, now: float) -> Queued:
        """Take the next checkpoint of *run*, which was chosen."""
        queued = run.queue.candidate()
        assert queued is not None
        run.ledger.outcomes.deliver(queued, now)
        run.told.waits = False
        self._offers.requeue(run, now)
        self._agenda.touch(run)
        return queued

    # The event loop.

    def bind(self, watcher: Watcher, shift: float) -> None:
        """Live in the event loop of *watcher*, whose clock is *shift* ahead of the one before."""
        self._watcher = watcher
        self.roster.shift(shift)
        for member in self.roster.members():
            member.bind(watcher)

    def unbind(self) -> None:
        """Watch nothing any more."""
        self._watcher = None
        for member in self.roster.everyone():
            member.unbind()

    def close_pins(self) -> list[Removal]:
        """Release all pins. Returns what to wait for."""
        runs = (member for member in self.roster.everyone() if isinstance(member, Run))
        return [removal for run in runs for removal in run.pinning.close()]

    def changed(self, paths: Sequence[str]) -> None:
        """Something has happened to these, or anything anywhere, if there are none."""
        for path in paths:
            self.roster.changed(path)
        for member in () if paths else self.roster.members():
            member.all_changed()

    # The end.

    @property
    def reached(self) -> bool:
        """Whether every run has reached `until_step`. A pattern can always bring more runs."""
        return self._offers.reached and not self.roster.patterns

    def look_last(self, now: float) -> None:
        """Take one complete look at everything, begun now or later. Only the first call counts."""
        if self._looks_last:
            return
        self._looks_last = True
        for member in self.roster.members():
            member.look_last(now)
            self._unsealed[member] = None

    @property
    def exhausted(self) -> bool:
        """Whether the last look is complete, and all that it found delivered."""
        return not self._unsealed and all(run.exhausted for run in self._offers.laden)

    def end(self, over: bool) -> None:
        """The stream has ended; *over*: not by the user, so that what is left is lost."""
        for run in self.roster.runs.values():
            if over:
                run.abandon()
            run.ledger.give_up_kept()
            report_end(run)
        self.unbind()
        for member in self.roster.everyone():
            member.flight.end()
