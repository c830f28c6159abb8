"""
A trace is replayed, a stream looks, and a book is kept of what may come and what must.
"""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import anyio
import pytest
from steering import drained, run_status
from tracing import MEANINGS, Disk, Line, Trace

from ckptstream import Checkpoint, CheckpointStream, follow
from ckptstream.layouts import resolve
from ckptstream.testing import ManualWatcher

LONG = 15.0  # seconds in which everything settles, and no safety look helps
LONG_REWRITE = 5  # looks at a checkpoint that is written again, in which that must have shown
UNRECOGNISED = "looked for"  # how auto names what it would take for evidence


@dataclass
class Book:
    """
    What the trace has said up to now, and what has come.

    Attributes:
        auto: Whether the layout is not told.
        patient: Whether so much time passes that what is whole may come before it is committed.
        state: The last word about each checkpoint.
        steps: The steps of those that were finished.
        due: Those that are finished and have not come.
        may: How often each may come yet before it is committed.
        early: Those that came when they were whole.
        blind: Whether the pointer is not whole at the moment.
        came: Those of which some generation came, and which were not deleted since.
        explains: Whether the trace knows all that `status()` may say of what is written again.
        named: Of what is written again, that of which `status()` has said what it lacks.
        looks: How many looks there were meanwhile.
    """

    trace: Trace
    run: Path
    auto: bool
    patient: bool = False
    explains: bool = True
    state: dict[str, str] = field(default_factory=dict[str, str])
    steps: dict[str, int | None] = field(default_factory=dict[str, "int | None"])
    due: set[str] = field(default_factory=set[str])
    may: dict[str, int] = field(default_factory=dict[str, int])
    blind: bool = False
    early: set[str] = field(default_factory=set[str])
    came: set[str] = field(default_factory=set[str])
    named: set[str] = field(default_factory=set[str])
    looks: dict[str, int] = field(default_factory=dict[str, int])

    @property
    def layout(self) -> str:
        return "auto" if self.auto else self.trace.head["layout"]

    @property
    def settles(self) -> bool:
        return self.trace.head.get("settles", "no") in {"yes", "auto" if self.auto else "yes"}

    def note(self, line: Line) -> None:
        """
        What the operations mean that have been done, or that follow now.
        """
        name = line.paths[0]
        if self.patient and line.verb in {"whole", "touch"}:
            self.may[name] = self.may.get(name, 0) + 1
        if line.verb == "touch":
            return
        if line.verb == "commit" and self.explains:
            # Of what is renamed into place nothing can be known before.
            assert self.looks.pop(name, 0) < LONG_REWRITE or name in self.named
            self.named.discard(name)
        self.state[name] = line.verb
        if line.verb in {"whole", "commit"}:
            self.steps[name] = None if line.paths[1] == "-" else int(line.paths[1])
        if line.verb == "commit":
            early = name in self.early
            self.due |= set() if early else {name}
            self.may[name] = int(early and "overwritten" in self.trace.head)
            self.early.discard(name)

    def deliver(self, checkpoint: Checkpoint) -> None:
        name = self.check(checkpoint)
        self.came.add(name)
        if name in self.due:
            self.due.remove(name)
            return
        again = self.state[name] == "overwrite" and "overwritten" in self.trace.head
        allowed = self.patient and (again or self.may.get(name))
        assert allowed, f"{name} came, and its state is {self.state[name]}"
        self.may[name] = max(0, self.may.get(name, 0) - 1)
        self.early.add(name)

    def check(self, checkpoint: Checkpoint) -> str:
        """
        The name of a checkpoint that is, or was, what it says.
        """
        name = os.path.relpath(checkpoint.path, self.run)
        assert name in self.steps, f"{name} came, and was never finished"
        assert self.patient or self.state[name] != "whole", f"{name} came before its commit"
        assert self.steps[name] == checkpoint.step
        layouts = self.trace.head["layout"]
        layouts = self.trace.head.get("auto", layouts) if self.auto else layouts
        assert checkpoint.layout in layouts.split()
        return name

    def finished(self) -> set[str]:
        """
        Those that have neither been deleted nor begun to be written again.
        """
        return {name for name, verb in self.state.items() if verb == "commit"}

    def check_reasons(self, stream: CheckpointStream) -> None:
        """
        Whatever lies there and never came has a reason that names evidence.

        What is written again looks like what is being deleted, and is not waited for.
        """
        status = run_status(stream)
        layout, reasons = resolve(self.trace.head["layout"]), status.unfinished
        names = os.listdir(self.run) if self.run.exists() else ()
        matches = {match[0] for name in names if (match := layout.match(name))}
        for name in [name for name, verb in self.state.items() if verb == "delete"]:
            if name not in matches:
                self.came.discard(name)
                del self.state[name]
        whole = {name for name, verb in self.state.items() if verb == "whole"}
        for name in ((matches - self.state.keys()) | whole | self.due) - self.came:
            blocked = status.waiting_for if f"comes before {name}:" in status.waiting_for else ""
            reason = reasons.get(name, blocked or "nothing")
            unrecognised = self.auto and UNRECOGNISED in reason
            known = re.search(self.trace.head["evidence"], reason) or unrecognised
            assert known, f"status() says of {name}: {reason}"
        if self.explains and not self.patient:
            self._check_rewritten(reasons)

    def _check_rewritten(self, reasons: Mapping[str, str]) -> None:
        """
        What is written again has a reason, too, from when that shows until it is finished.
        """
        for name in [name for name, verb in self.state.items() if verb == "overwrite"]:
            self.looks[name] = self.looks.get(name, 0) + 1
            if name in reasons:
                self.named.add(name)
                # Between the old marker and the new one there is none, as in a deletion.
                known = rf"{self.trace.head['evidence']}|vanishing|{UNRECOGNISED}"
                assert re.search(known, reasons[name]), reasons[name]
            assert name in reasons or name not in self.named, f"nothing is said of {name} any more"


def be_patient(book: Book) -> None:
    """
    So much time passes that everything settles; skips the test where nothing else is known.
    """
    if "stalls" in book.trace.head:
        pytest.skip(f"stalls: {book.trace.head['stalls']}")
    book.patient = True


def replay(disk: Disk, book: Book) -> Iterator[int]:
    """
    Where a look is due: after each operation, once it is noted what it means. Line numbers.
    """
    lines = book.trace.lines
    for line in itertools.takewhile(_is_meaning, lines):
        book.note(line)
    for number, line in enumerate(lines, 1):
        pointer = line.paths[0] == book.trace.head.get("pointer")
        for done in () if _is_meaning(line) else disk.do(line):
            book.blind = pointer and (line.verb == "create" or not done)
            for meaning in itertools.takewhile(_is_meaning, lines[number:] if done else ()):
                book.note(meaning)
            yield line.number


def _is_meaning(line: Line) -> bool:
    return line.verb in MEANINGS


class Follower:
    """
    A stream that is there all the time.

    Args:
        events: Whether events tell of what happens; else it polls.
    """

    def __init__(self, book: Book, *, events: bool) -> None:
        self.book = book
        self.watcher = ManualWatcher(events=events)
        self.stream = follow(
            book.run, layout=book.layout, watcher=self.watcher, poll_interval=LONG / 3
        )

    async def look(self) -> None:
        """
        What comes without a wait.
        """
        for checkpoint in await drained(self.stream, self.watcher):
            self.book.deliver(checkpoint)

    async def stall(self) -> None:
        """
        What comes while the trainer does nothing for long enough.
        """
        for _ in range(2):
            await anyio.sleep(LONG)
            await self.look()

    def check_nothing_is_lost(self) -> None:
        status = run_status(self.stream)
        assert ((), set[str]()) == (status.missed, self.book.due)


async def newcomers_view(book: Book) -> set[str]:
    """
    What a stream gets that is opened now, and takes what is there.
    """
    stream = follow(book.run, layout=book.layout, watcher=ManualWatcher(), timeout=0)
    found = [book.check(checkpoint) async for checkpoint in stream]
    assert len(found) == len(set(found))
    return set(found)


async def look_by_events(
    follower: Follower, disk: Disk, book: Book, done: Iterable[object]
) -> None:
    """
    Look after each operation that is done, by its events; time passes where files must settle.
    """
    await follower.look()
    for operation in done:
        for name, arrived in disk.changed:
            follower.watcher.event(name, arrived=arrived)
        await follower.look()
        assert not book.due or book.settles, f"{operation}: {book.due} did not come"
        book.check_reasons(follower.stream)
        if book.due:
            await follower.stall()
            assert not book.due, f"{operation}: {book.due} did not settle"
    follower.check_nothing_is_lost()
