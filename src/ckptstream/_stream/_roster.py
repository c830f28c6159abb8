"""Which runs a stream follows: those that were named, and those that match a pattern now."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

from .._stores import Location
from ._agenda import Agenda
from ._journal import Journal
from ._pattern import Pattern
from ._run import Run
from .arguments import Options
from .places import is_pattern


class Roster:
    """
    The runs of one stream.

    Attributes:
        runs: By directory, those that are followed now.
        patterns: Where runs come from, and whereto they go.
    """

    __slots__ = ("_agenda", "_journal", "_left", "_named", "_options", "patterns", "runs")

    def __init__(
        self,
        locations: Sequence[Location],
        options: Options,
        agenda: Agenda[Run | Pattern],
        journal: Journal | None,
    ) -> None:
        self._options = options
        self._agenda = agenda
        self._journal = journal
        self.runs = {each.path: self._new(each) for each in locations if not is_pattern(each.path)}
        patterns = (each for each in locations if is_pattern(each.path))
        self.patterns = [Pattern(each, options, agenda) for each in patterns]
        # Only asked where a pattern could name them too.
        self._named = frozenset(map(_bare, self.runs) if self.patterns else ())
        # What was delivered of a run that has left is not delivered again when it comes back.
        self._left: dict[str, Run] = {}

    def _new(self, location: Location) -> Run:
        return Run(location, self._options, self._agenda, self._journal)

    @property
    def is_single(self) -> bool:
        """Whether it is one run, now and ever."""
        return len(self.runs) == 1 and not self.patterns

    def join(self, directory: str, pattern: Pattern, late: bool) -> Run | None:
        """
        Follow a directory that matches; None if it is followed already.

        Args:
            directory: As the pattern spells it.
            pattern: The pattern.
            late: It was not there at the first look, so all that is in it is new.
        """
        if directory in self.runs or directory in self._named:
            return None
        run = self._left.pop(directory, None)
        if run is None:
            run = self._new(pattern.location_of(directory))
        if late:
            run.ledger.expect_nothing()
        run.left = run.queue.left = run.named = False
        self.runs[directory] = run
        return run

    def leave(self, directory: str) -> Run | None:
        """Follow a directory no more that matched; None if something else still names it."""
        matches = any(directory in pattern for pattern in self.patterns)
        if directory in self._named or matches or directory not in self.runs:
            return None
        run = self._left[directory] = self.runs.pop(directory)
        self._agenda.forget(run)
        run.leave()
        run.touch()
        return run

    def changed(self, path: str) -> None:
        """Something has happened to a run, or in one, or where a pattern may find a new one."""
        found = self._run_of(path)
        if found is None:
            for pattern in self.patterns:
                pattern.changed(path)
            return
        run, name = found
        if name:
            run.entry_changed(name, arrived=False)
        else:
            run.all_changed()

    def _run_of(self, path: str) -> tuple[Run, str] | None:
        """The run in which a path lies, and the name in it that leads there."""
        above, name = _bare(path), ""
        while above:
            run = self.runs.get(above) or self.runs.get(f"{above}/")
            if run is not None:
                return run, name
            above, _, name = above.rpartition("/")
        return None

    def shift(self, seconds: float) -> None:
        """Another event loop has begun, whose clock is so far ahead."""
        for member in self.everyone():
            member.shift(seconds)

    def members(self) -> Iterator[Run | Pattern]:
        """All that is looked at, patterns first."""
        yield from self.patterns
        yield from self.runs.values()

    def everyone(self) -> Iterator[Run | Pattern]:
        """Also the runs that have left."""
        yield from self.members()
        yield from self._left.values()

    def shown(self) -> Iterator[Run]:
        """The runs that a status speaks of: also those that have left, if they missed anything."""
        yield from self.runs.values()
        yield from (run for run in self._left.values() if run.ledger.outcomes.missed_count)

    def first_eligible(self, now: float) -> float:
        """When a checkpoint could be delivered at all, by `min_interval_secs`; *now* or later."""
        first = math.inf
        for run in self.runs.values():
            first = min(first, run.queue.eligible)
            if first <= now:
                break  # Most often it is the first one: not all are gone over at each delivery.
        return max(now, first) if first < math.inf else now

    def describe(self, show: Callable[[str], str]) -> str:
        """What is followed, in a few words; *show*: how to write each path."""
        named = [run.directory for run in self.runs.values() if run.named]
        names = [*map(str, self.patterns), *named]
        more = f" and {len(names) - 3} more" if len(names) > 4 else ""
        return ", ".join(map(show, names[:3] if more else names)) + more


def _bare(directory: str) -> str:
    """As a pattern would name it."""
    return directory.rstrip("/") or "/"
