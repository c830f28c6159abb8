"""A pattern as a stream follows it: which directories match, and when to look again."""

from __future__ import annotations

import math
import os
import time
import weakref
from functools import partial
from typing import NamedTuple

from .._scan import Ground, Look, Match, Matches, PatternRequest, fits, match, split
from .._stores import Location
from .._watchers import Watcher
from ._agenda import Touched
from ._flight import Flight
from ._hints import Hints
from ._timers import Timers
from .arguments import Options


class Change(NamedTuple):
    """
    What a look at a pattern has changed.

    Attributes:
        replaced: Runs that are other directories than before.
        late: Whether it was not the first look that could tell what was there.
    """

    joined: tuple[str, ...]
    left: tuple[str, ...]
    replaced: tuple[str, ...]
    late: bool


class Pattern:
    """
    One pattern of a stream. All of it happens in the event loop, but for the look itself.

    Attributes:
        below: The names in the root that lead to runs, with the runs below each.
        unreadable: Why names in the root could not be looked into.
        look: How the last look went; *ended*: when, by `time.monotonic`, None before the first.
    """

    def __init__(self, location: Location, options: Options, agenda: Touched[Pattern]) -> None:
        self.text = location.path
        self.below: dict[str, tuple[Match, ...]] = {}
        self.unreadable: dict[str, str] = {}
        self.look = Look()
        self.ended: float | None = None
        self.matched = False  # whether it ever had a run
        self.told = ""  # the reason that was logged last
        self.warned = set[str]()  # what was said to need a person
        self._root, self._parts = split(self.text)
        self._location = location.at(self._root or ".")
        self._options = options
        self._agenda = weakref.ref(agenda)
        remote = self._location.requests is not None
        self.flight: Flight[Matches] = Flight(self._location.lane, remote=remote)
        self._began = -math.inf  # when the look in flight began, on the event loop's clock
        self._ground: Ground | None = None
        self._hints = Hints()
        self._timers = Timers(self._location, options.poll_interval)
        self._turn: tuple[frozenset[str], str] = frozenset(), ""  # see `PatternRequest`
        self._listed = False  # whether the look in flight lists the root
        self._sealed = False
        self._seen = False  # whether a look could tell what was there

    # What the watcher tells, and a run that has gone.

    def entry_changed(self, name: str, arrived: bool = False) -> None:
        """Something happened at or below a name in the root."""
        if fits(name, self._parts[0]):  # What else lies there may change all the time.
            self._hints.add(name, arrived)
            self.touch()

    def all_changed(self) -> None:
        """Anything may have happened."""
        self._hints.add_all()
        self.touch()

    def changed(self, path: str) -> None:
        """Something has happened somewhere."""
        if path.startswith(os.path.join(self._root, "")):
            self.entry_changed(self._name(path))

    def doubt(self, run: str) -> None:
        """A run that may match is not there any more."""
        if run in self:
            self.entry_changed(self._name(run))

    def _name(self, run: str) -> str:
        """The name in the root that leads to a run."""
        return run[len(os.path.join(self._root, "")) :].partition("/")[0]

    def location_of(self, run: str) -> Location:
        """Where a run that matches lies."""
        return self._location.at(run)

    @property
    def check(self) -> tuple[str, str]:
        """What a person should check; see `Location`."""
        return self._location.check

    @property
    def requests(self) -> int | None:
        """How many were made in the last hour; None where they are not paid for."""
        return self._timers.requests_last_hour

    def touch(self) -> None:
        """There is something to do: attend to it when the stream wakes, which is now."""
        agenda = self._agenda()
        if agenda is not None and self.flight.watcher is not None:
            agenda.touch(self)

    # Looks.

    def shift(self, seconds: float) -> None:
        """Another event loop has begun, whose clock is so far ahead."""
        self._timers.shift(seconds)
        self._began += seconds

    def bind(self, watcher: Watcher) -> None:
        """Live in the event loop of *watcher*; look at everything."""
        told = self._location.requests is not None and self._ground is not None
        self._timers.restart()
        self.flight.bind(watcher, self, self._options.polls or bool(self._location.why_poll))
        self._hints.everything |= not told
        self.touch()

    def unbind(self) -> None:
        """Leave that event loop."""
        self.flight.unbind()

    def wants_look(self, now: float) -> bool:
        """Whether to look now, at whatever may have changed."""
        return not self.flight.looking and self._timers.wants_look(bool(self._hints), now)

    def due(self, now: float) -> float:
        """When there will be something to do, if nothing happens before."""
        looking = self.flight.looking
        return self.flight.asked_again(now) if looking else self._timers.due(bool(self._hints))

    def start_look(self, now: float, call: int) -> None:
        """Begin the look that is due."""
        self._timers.look(now, self._hints.events)
        self._listed = full = self._hints.everything or self._timers.next <= now
        self._began = now
        thorough = self._timers.safety_at <= now or self._timers.last_from < math.inf
        request = PatternRequest(
            location=self._location,
            root=self._root,
            parts=self._parts,
            known=self.below,
            hints=self._hints.give().keys(),
            full=full,
            thorough=thorough,
            seen=self._turn[0],
            turn=self._turn[1],
            ground=self._ground,
            subscription=self.flight.subscription,
            why_poll=self._location.why_poll or self._options.why_poll,
            trust_any=self._options.watcher != "auto",
        )
        self.flight.start(partial(match, request), self)

    def merge(self, now: float) -> Change | None:
        """
        Take the result of a look; None if there is none.

        Raises:
            NotADirectoryError: If the first look finds a file.
        """
        if not self.flight.has_landed:
            return None
        ended, now = self.flight.landed(now)
        try:
            matches = self.flight.take()
        except BaseException:
            self._hints.everything = True
            raise
        result = matches.look
        if result.found_a_file and self.ended is None:
            self._hints.everything = True
            raise NotADirectoryError(f"{result.detail}: name a directory before the first '*'")
        change = self._change(matches, late=self._seen)
        self._seen |= result.trouble is None or result.found_no_directory
        known = {} if result.full else self.unreadable
        others = {name: why for name, why in known.items() if name not in matches.below}
        self.unreadable = others | matches.unreadable
        self.ended, self.look, self._ground = time.monotonic(), result, result.ground
        if result.trouble is None:
            self._hints.spend()
        self._hints.everything |= result.again
        self._hints.everything |= self.flight.take_disturbed()
        self._turn = matches.seen, matches.turn
        thorough = result.full or result.trouble is not None
        self._timers.set(result, now, thorough=thorough, listed=self._listed)
        self._sealed |= self._timers.is_last(result, self._began, ended, now)
        return change

    def _change(self, matches: Matches, late: bool) -> Change:
        """Enter which runs have come and gone; in proportion to what was looked into."""
        look, now = matches.look, matches.below
        if look.trouble is not None and not look.found_no_directory:
            return Change((), (), (), late)
        if look.full or look.trouble is not None:
            now = dict.fromkeys(self.below, ()) | now
        joined, left, replaced = list[str](), list[str](), list[str]()
        for name, matched in now.items():
            before = self.below.pop(name, ())
            if matched:
                self.below[name], self.matched = matched, True
            if matched != before:
                old, new = dict(before), dict(matched)
                joined += [path for path in new if path not in old]
                left += [path for path in old if path not in new]
                replaced += [path for path in new if old.get(path, new[path]) != new[path]]
        return Change(tuple(joined), tuple(left), tuple(replaced), late)

    # The end.

    def look_last(self, now: float) -> None:
        """Take one complete look, begun now or later."""
        self._timers.last_from, self._hints.everything = now, True
        self._began = -math.inf  # The one in flight does not count.
        self.touch()

    @property
    def sealed(self) -> bool:
        """Whether the last look is complete. A pattern whose storage hangs does not count."""
        hangs = self.flight.hangs is not None and not self.flight.remote  # A client gives up.
        self._sealed |= hangs and self._timers.last_from < math.inf
        return self._sealed

    def __contains__(self, run: str) -> bool:
        return any(run == match.path for match in self.below.get(self._name(run), ()))

    def __len__(self) -> int:
        return sum(map(len, self.below.values()))

    def __str__(self) -> str:
        return self.text
