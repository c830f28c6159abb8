"""
The simulated trainer's operations, done like a trace's: each a second after the one before.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from replaying import Book
from tracing import MEANINGS, Disk, Line, Trace, read

from ckptstream.layouts import resolve
from ckptstream.testing import Operation, apply, operations

KEEP = 2
STEPS = (1, 2, 3, 2, 4)  # After 3 it goes back to 2, and saves that again.

# What comes into a checkpoint after it is finished.
LATE = ("config.json", "tokenizer.json")

Saving = Callable[..., Iterator[Operation]]


@dataclass(frozen=True)
class Simulated:
    """
    A layout, in how many shards, and the trace of the framework that does the same.

    Attributes:
        whole: Fits the path after whose last operation it may be taken for finished if the trainer
            stalls there, before it is.
        overwritten: Why one that stalls while it writes again may look finished, if it may.
        alike: Whether its order is that of the trace.
    """

    layout: str
    trace: str
    shards: int = 1
    whole: str = ""
    overwritten: str = ""
    alike: bool = True

    def __str__(self) -> str:
        return f"{self.layout}-{self.shards}"

    def traced(self) -> Trace:
        trace = read(Path(__file__).with_name(f"{self.trace}.trace"))
        own = {"overwritten": self.overwritten} if self.overwritten else {}
        return replace(trace, head=trace.head | own)


class SimulatedDisk(Disk):
    """
    A directory in which the operations are done.
    """

    def apply(self, operation: Operation) -> None:
        self._begin()
        path = self.run / operation.path
        there = os.path.lexists(path)
        apply(operation, self.run)
        match operation.action:
            case "mkdir" if not there:
                self._touch(operation.path, arrived=True)
            case "write" | "append":
                self._touch(operation.path, arrived=None if there else True)
            case "rename":
                self._tell(operation.path)
                self._tell(operation.target, arrived=True)
            case "symlink":
                self._tell(operation.path, arrived=True)
            case "remove" | "rmtree" if there:
                self._tell(operation.path)
            case _:
                pass


def train(
    disk: SimulatedDisk,
    book: Book,
    simulated: Simulated,
    saving: Saving = operations,
    steps: Sequence[int] = STEPS,
) -> Iterator[Operation]:
    """
    Save and delete, and stop after each operation, once it is noted what it means.
    """
    layout, kept = resolve(simulated.layout), list[int]()
    for step in steps:
        run = list(saving(step, simulated.layout, earlier=kept, keep=KEEP, shards=simulated.shards))
        (name,) = (operation.finishes for operation in run if operation.finishes)
        others = [other for other in kept if other != step]
        for other in others[: len(others) + 1 - KEEP]:
            _note_deletion(book, name_of(simulated, other), name)
        if name in book.state:
            book.note(Line(0, "overwrite", (name,)))
        finished = False
        for operation in run:
            disk.apply(operation)
            _check_nothing_follows(simulated, operation, name if finished else None)
            if operation.finishes:
                finished, match = True, layout.match(_members(name, disk.run)[0])
                assert match is not None
                book.note(Line(0, "commit", (name, "-" if match[1] is None else str(match[1]))))
            elif not finished and _is_whole(simulated, operation, run):
                book.note(Line(0, "whole", (name, str(step))))
            pointer = book.trace.head.get("pointer")
            book.blind = pointer == operation.path and operation.action == "write"
            yield operation
        kept = [*others, step][-KEEP:]


def name_of(simulated: Simulated, step: int) -> str:
    """
    What the checkpoint of a step is called.
    """
    run = operations(step, simulated.layout, shards=simulated.shards)
    return next(operation.finishes for operation in run if operation.finishes)


def _note_deletion(book: Book, old: str, name: str) -> None:
    if old != name:
        book.note(Line(0, "delete", (old,)))


def _members(name: str, run: Path) -> list[str]:
    """
    The names in the run that begin with the checkpoint's; TensorFlow has no entry called like it.
    """
    found = sorted(entry for entry in os.listdir(run) if entry.startswith(name))
    return [entry for entry in found if entry == name] or found


def _check_nothing_follows(simulated: Simulated, operation: Operation, name: str | None) -> None:
    """
    What is finished is not written any more.
    """
    top, _, below = operation.path.partition("/")
    match = resolve(simulated.layout).match(top)
    belongs = name is not None and match is not None and match[0] == name
    writes = operation.action in {"write", "append", "rename"}
    assert not (belongs and writes and below not in LATE), f"{operation.path} comes after the end"


def _is_whole(simulated: Simulated, operation: Operation, run: list[Operation]) -> bool:
    if not simulated.whole or not re.fullmatch(simulated.whole, operation.path):
        return False
    later = run[run.index(operation) + 1 :]
    written = (other for other in later if other.action != "remove")
    return not any(re.fullmatch(simulated.whole, other.path) for other in written)


def too_early(*arguments: object, **options: object) -> Iterator[Operation]:
    """
    What `operations` gives, with a mistake in it: finished one operation before it is.
    """
    run = list(operations(*arguments, **options))  # type: ignore[arg-type]
    for operation, following in zip(run, [*run[1:], None], strict=True):
        yield replace(operation, finishes=None if following is None else following.finishes)


def written(trace: Trace) -> list[str]:
    """
    The files of a trace's first save, by when they are last touched; numbers do not count.
    """
    names, unlinked = list[str](), list[str]()
    for line in trace.lines:
        if line.verb == "commit":
            break
        if line.verb == "unlink":
            unlinked = [_shape(line.paths[0])]
        elif line.verb not in MEANINGS | {"chmod", "utime", "mkdir", "rmdir"}:
            names, unlinked = [*names, _shape(line.paths[-1])], []
    return _by_last(names + unlinked)


def written_by(run: Iterator[Operation]) -> list[str]:
    """
    The same of the simulated trainer's.
    """
    names = list[str]()
    for operation in run:
        if operation.action in {"write", "append", "rename"} or operation.finishes:
            names.append(_shape(operation.target or operation.path))
        if operation.finishes:
            break
    return _by_last(names)


def _by_last(names: list[str]) -> list[str]:
    return list(dict.fromkeys(reversed(names)))[::-1]


def _shape(path: str) -> str:
    name = os.path.basename(path).removesuffix("-unsharded")
    return re.sub(r"[0-9a-f]*[0-9][0-9a-f]*", "N", name)
