"""All that is there: finished or not, delivered or not."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import NamedTuple

from .._stores import Location, Store
from .._threads import Call
from ..layouts import Layout, resolve
from ..layouts._auto import NOBODY
from . import places
from ._engine import Engine
from ._order import order
from ._run import Run
from ._stream import CheckpointStream
from ._words import pattern_waits_for, waiting_for
from .arguments import Options

_NANOSECONDS = 1e9  # in a second


class Listed(NamedTuple):
    """
    A checkpoint that is there.

    Attributes:
        run: Its directory.
        name: Its name in there.
        members: The names of what it consists of, in there.
        layout: None if no layout recognises it.
        missing: What it lacks; None if it is finished.
        generation: None if it is not finished.
        size: In bytes, of all that lies in it; None if it could not be read.
        modified: When anything in it changed last, in seconds on its store's clock; None as well.
    """

    run: str
    name: str
    members: tuple[str, ...]
    step: int | None
    layout: str | None
    missing: str | None
    generation: str | None
    size: int | None = None
    modified: float | None = None


class Silent(NamedTuple):
    """
    A run, or a pattern, of which there is nothing to list.

    Attributes:
        path: Its directory.
        reason: Why, in words.
        looked: Whether it could be looked at.
        answers: Whether its storage answers.
    """

    path: str
    reason: str
    looked: bool
    answers: bool


class _Lister(Engine):
    __slots__ = ()

    async def listed(self) -> list[Listed]:
        found, calls = list[Listed](), dict[str, Call[list[Listed]]]()
        for path, run in self._following.roster.runs.items():
            if run.flight.hangs is None and run.ledger.entries:
                function = partial(_measure, run.location, list(_entries(run)))
                remote = run.location.requests is not None
                calls[path] = Call(function, run.location.lane, remote=remote)
        for path, run in self._following.roster.runs.items():
            found += await calls[path].wait() if path in calls else _entries(run)
        return found

    def silent(self) -> Iterator[Silent]:
        roster = self._following.roster
        for pattern in roster.patterns:
            if not len(pattern) or pattern.unreadable:
                answers = pattern.flight.hangs is None and pattern.look.trouble is None
                yield Silent(pattern.text, pattern_waits_for(pattern), len(pattern) > 0, answers)
        for run in roster.runs.values():
            if not run.ledger.entries or run.flight.hangs is not None:
                answers = run.flight.hangs is None
                yield Silent(run.directory, waiting_for(run), run.ledger.looked, answers)


def _entries(run: Run) -> Iterator[Listed]:
    entries = run.ledger.entries
    for name in sorted(entries, key=lambda name: order(name, entries[name])):
        entry = entries[name]
        layout = None if entry.layout == NOBODY else entry.layout
        generation = entry.generation if entry.missing is None else None
        what = (entry.members, entry.step, layout, entry.missing, generation)
        yield Listed(run.directory, name, *what)


def _measure(
    location: Location, listed: Sequence[Listed], alive: Callable[[], None]
) -> list[Listed]:
    """The same, with sizes and times, in a thread; as they were if the storage has a fault."""
    try:
        store = location.open(location.profile(), alive)
        store.names()
        store.expect([member for each in listed for member in each.members])
        return [_measured(each, store) for each in listed]
    except OSError:
        return list(listed)


def _measured(listed: Listed, store: Store) -> Listed:
    sizes, times = zip(*map(store.extent, listed.members), strict=True)
    return listed._replace(size=sum(sizes), modified=max(times) / _NANOSECONDS or None)


async def everything(
    checkpoint_dirs: Sequence[str], layout: str | Layout
) -> tuple[list[Listed], list[Silent]]:
    """
    Take one complete look at runs.

    Raises:
        NotADirectoryError: One of them is a file.
        ValueError: An argument makes no sense; the message names it and its value.
    """
    options = Options(layout=resolve(layout), latest_only=True, timeout=0.0)
    engine = _Lister(places.locations(tuple(checkpoint_dirs)), options)
    async for _ in CheckpointStream(engine):
        pass
    return await engine.listed(), list(engine.silent())
