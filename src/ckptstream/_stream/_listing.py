"""All that is there: finished or not, delivered or not."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from ..layouts import Layout, resolve
from ..layouts._auto import NOBODY
from . import arguments as check
from ._engine import Engine
from ._order import order
from ._stream import CheckpointStream
from ._words import pattern_waits_for, waiting_for
from .arguments import Options


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
    """

    run: str
    name: str
    members: tuple[str, ...]
    step: int | None
    layout: str | None
    missing: str | None
    generation: str | None


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

    def listed(self) -> Iterator[Listed]:
        for run in self._following.roster.runs.values():
            entries = run.ledger.entries
            for name in sorted(entries, key=lambda name: order(name, entries[name])):
                entry = entries[name]
                layout = None if entry.layout == NOBODY else entry.layout
                generation = entry.generation if entry.missing is None else None
                what = (entry.members, entry.step, layout, entry.missing, generation)
                yield Listed(run.directory, name, *what)

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
    engine = _Lister(check.locations(tuple(checkpoint_dirs)), options)
    async for _ in CheckpointStream(engine):
        pass
    return list(engine.listed()), list(engine.silent())
