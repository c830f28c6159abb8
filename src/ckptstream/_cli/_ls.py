"""`ckptstream ls`: what is there, finished or not, and why not."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator, Sequence
from json import dumps
from typing import NamedTuple

import anyio

from .. import Checkpoint
from .._cursor import Memory, Record, State, remembered
from .._errors import CursorError
from .._scan import Trouble
from .._stream import Listed, Silent, everything
from ._command_line import DIRECTORIES, LAYOUT, FileName, command, flag, value
from ._errors import Refused
from ._lines import identifier
from ._news import keep_silent
from ._options import refusing
from ._saying import say
from ._units import age, shown, size

_EXAMPLES = """\
For each checkpoint: its path, step, layout, size, the time since anything in it changed, and
whether it is finished, or what it lacks, or why it cannot be read. With --cursor, which any number
of programs may have open, also whether it is done, is to be tried again, or is set aside, and why;
and those that are gone, but not done.

examples:
  ckptstream ls runs/7b
  ckptstream ls 'sweeps/*/checkpoints' --cursor evals.db
  ckptstream ls s3://bucket/runs/7b
  ckptstream ls runs/7b --json | jq 'select(.finished | not)'

exit codes:
  0  all directories could be read
  1  one could not, or its storage does not answer
  2  a wrong call: one is not there, for example
"""


class _Item(NamedTuple):
    listed: Listed
    there: bool
    age: float | None  # in seconds
    memory: Memory | None

    @property
    def path(self) -> str:
        return os.path.join(self.listed.run, self.listed.name)


def _ls(
    directories: tuple[str, ...],
    layout: str,
    cursor: str | None,
    json: bool,  # the option's name
    debug: bool,
) -> int:
    if not debug:
        keep_silent()  # A stream warns of what it waits for; here it is said below.
    try:
        with refusing():
            paths = list(map(os.path.expanduser, directories))
            found, silent = anyio.run(everything, paths, layout)
            items = list(_items(found, _memories(found, silent, cursor)))
    except (NotADirectoryError, CursorError) as error:
        raise Refused(str(error)) from None
    if json:
        lines = [dumps(_fields(item)) for item in items]
    else:
        lines = _columns([_words(item, cursor is not None) for item in items])
    for line in lines:
        sys.stdout.write(f"{line}\n")
    listed = {item.listed.run for item in items}
    return max([_explain(each) for each in silent if each.path not in listed], default=0)


COMMAND = command(
    "ls",
    _ls,
    long="List the checkpoints of these runs, finished and unfinished.",
    examples=_EXAMPLES,
    parameters=(
        DIRECTORIES,
        LAYOUT,
        value(
            "--cursor",
            "Say also what this file remembers: what is done, to be tried again, and set aside.",
            "FILE",
            FileName(directory=False),
        ),
        flag("--json", "Print an object with every field instead, one a line."),
    ),
)


def _memories(
    found: Sequence[Listed], silent: Sequence[Silent], cursor: str | None
) -> dict[str, list[Record]]:
    if cursor is None:
        return {}
    there: dict[str, list[tuple[str, str]]] = {each.path: [] for each in silent}
    for each in found:
        its = there.setdefault(each.run, [])
        if each.generation is not None:
            its.append((each.name, each.generation))
    return remembered(os.path.expanduser(cursor), there)


def _items(found: Sequence[Listed], memories: dict[str, list[Record]]) -> Iterator[_Item]:
    """Those that are there, then those that are only remembered."""
    now = time.time()
    known = {(run, r.name, r.generation): r for run, its in memories.items() for r in its}
    for each in found:
        record = known.pop((each.run, each.name, each.generation or ""), None)
        age = None if each.modified is None else max(0.0, now - each.modified)
        yield _Item(each, True, age, None if record is None else record.memory)
    for (directory, name, generation), record in known.items():
        gone = Listed(directory, name, (), record.step, None, "it is gone", generation or None)
        yield _Item(gone, False, None, record.memory)


def _fields(item: _Item) -> dict[str, object]:
    listed, memory = item.listed, item.memory
    path, generation = item.path, listed.generation or ""
    checkpoint = Checkpoint(path, listed.step, listed.run, listed.layout or "", generation)
    return {
        "path": path,
        "step": listed.step,
        "run": listed.run,
        "layout": listed.layout,
        "generation": listed.generation,
        "identifier": identifier(checkpoint),
        "there": item.there,
        "finished": listed.missing is None,
        "missing": listed.missing,
        "size": listed.size,
        "age": item.age,
        "state": None if memory is None else memory.state.value,
        "attempts": None if memory is None else memory.attempts,
        "reason": None if memory is None else memory.reason,
    }


def _words(item: _Item, remembered: bool) -> tuple[str, ...]:
    listed = item.listed
    step = "-" if listed.step is None else str(listed.step)
    state = _finished(listed.missing)
    if remembered and (listed.missing is None or not item.there):
        state = _state(item.memory)
        state = state if item.there else f"gone, {state}"
    return item.path, step, listed.layout or "-", size(listed.size), age(item.age), state


def _finished(missing: str | None) -> str:
    # Of what cannot be read nobody knows whether it is finished.
    if missing is not None and not missing.startswith(Trouble.UNREADABLE.value):
        return f"unfinished: {missing}"
    return missing or "finished"


def _state(memory: Memory | None) -> str:
    if memory is None or memory.state is State.SEEN:
        return "not done yet"
    attempts = "1 attempt" if memory.attempts == 1 else f"{memory.attempts} attempts"
    if memory.state is State.FAILED:
        return f"to be tried again after {attempts}: {memory.reason}"
    if memory.state is State.SET_ASIDE:
        return f"set aside after {attempts}: {memory.reason}"
    return str(memory.state.value)


def _columns(rows: Sequence[tuple[str, ...]]) -> list[str]:
    """As wide as need be; the last one, and what is not there, is not padded."""
    cells = [tuple(map(shown, row)) for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    padded = ((c.ljust(w) for c, w in zip(row, widths, strict=True)) for row in cells)
    return ["  ".join(row).rstrip() for row in padded]


def _explain(silent: Silent) -> int:
    """Say why there is nothing of it. Returns the exit code."""
    reason = silent.reason.replace(" is not there yet", " is not there").replace(" yet", "")
    if silent.looked and silent.answers and reason.startswith("waiting for"):
        reason = "there are no checkpoints"
    say(f"{silent.path}: {reason}")
    if silent.looked and silent.answers:
        return 0
    return 2 if " is not there" in reason or reason.startswith("no directory") else 1
