"""
Traces: what a framework does to the disk while it saves and deletes, one operation a line.

A trace begins with its head, `key: value` lines, and a `#` begins a comment:

    layout      the layout by its name
    recorded    from which packages; or `transcribed`, from which source
    evidence    a regular expression that fits every reason to wait
    pointer     a file written in place, without which nothing can be told to who comes just then
    settles     `yes` where files have to settle after the commit point; `auto` if only for auto
    stalls      why one that stalls cannot be told from one that has ended, if it cannot
    overwritten why one that stalls while it writes again may look finished, if it may
    auto        what auto takes it for, if not for that layout; the names of several

Paths are relative to the directory that is followed, with quotes as in a shell:

    mkdir PATH                      rmdir PATH
    create PATH                     a new empty file, or an old one emptied
    zeros PATH CONTENT              as long as the content will be, and all zeros
    write PATH [PART/PARTS] CONTENT at its place in the file; see `contents` for the content
    rename PATH PATH                unlink PATH
    symlink TARGET PATH             link PATH PATH
    chmod MODE PATH                 utime PATH SECONDS

Every write is replayed in two halves. `utime` sets a file's time to so many operations ago.
Between the operations stands what they mean:

    whole NAME STEP                 nothing of it will change; whoever waits for long may take it
    commit NAME STEP                from here on that checkpoint is finished; `-` for no step
    touch NAME                      its times are about to be set: it may count as another one
    overwrite NAME                  the same name is about to be written again
    delete NAME                     it is about to be deleted
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from contents import build

MEANINGS = frozenset({"whole", "commit", "touch", "overwrite", "delete"})
_SECOND = 10**9
_EPOCH = 1_700_000_000 * _SECOND
_ARGUMENTS = {
    **dict.fromkeys(("mkdir", "rmdir", "create", "unlink", "touch", "overwrite", "delete"), 1),
    **dict.fromkeys(("rename", "symlink", "link", "chmod", "utime", "whole", "commit"), 2),
}


class Line(NamedTuple):
    """
    One line of a trace: `part` of `parts` of a content is written.
    """

    number: int
    verb: str
    paths: tuple[str, ...]
    content: str = ""
    part: int = 1
    parts: int = 1


@dataclass(frozen=True)
class Trace:
    """
    A whole one; its name is that of the file.
    """

    name: str
    head: dict[str, str]
    lines: tuple[Line, ...]


def read(path: Path) -> Trace:
    """
    A trace from its file.
    """
    head, lines = dict[str, str](), list[Line]()
    for number, text in enumerate(path.read_text().splitlines(), 1):
        key, colon, value = text.partition(": ")
        if not text.strip() or text.startswith("#"):
            continue
        if colon and " " not in key and not lines:
            head[key] = value.strip()
        else:
            lines.append(_parse(number, text))
    return Trace(path.stem, head, tuple(lines))


def _parse(number: int, text: str) -> Line:
    verb, _, rest = text.strip().partition(" ")
    if verb in {"write", "zeros"}:
        path, _, content = rest.partition(" ")
        part, slash, parts = content.partition(" ")[0].partition("/")
        if slash and part.isdigit():
            content = content.partition(" ")[2]
            return Line(number, verb, (path,), content, int(part), int(parts))
        return Line(number, verb, (path,), content)
    paths = tuple(shlex.split(rest))
    if _ARGUMENTS.get(verb) != len(paths):
        raise ValueError(f"line {number}: {text!r} is no operation")
    return Line(number, verb, paths)


class Disk:
    """
    A directory in which operations are done, each a second after the one before.

    Attributes:
        changed: What the last one changed, and whether something arrived there; as events tell it.
    """

    def __init__(self, run: Path) -> None:
        self.run = run
        self.changed: list[tuple[str, bool]] = []
        self._now = _EPOCH

    def do(self, line: Line) -> Iterator[bool]:
        """
        Do what a line says, and stop after each thing that a look could find; True: all is done.
        """
        if line.verb != "write":
            self._begin()
            getattr(self, f"_{line.verb}")(*line.paths, *([line.content] if line.content else []))
            yield True
            return
        content = build(line.content, str(self.run))
        bounds = [len(content) * part // line.parts for part in (line.part - 1, line.part)]
        middle = sum(bounds) // 2
        for start, end, done in (bounds[0], middle, False), (middle, bounds[1], True):
            self._begin()
            self._write(line.paths[0], content[start:end], start)
            yield done

    def _begin(self) -> None:
        self._now += _SECOND
        self.changed = []

    def _mkdir(self, path: str) -> None:
        (self.run / path).mkdir()
        self._touch(path, arrived=True)

    def _create(self, path: str) -> None:
        arrived = not (self.run / path).exists()
        (self.run / path).write_bytes(b"")
        self._touch(path, arrived=arrived)

    def _zeros(self, path: str, content: str) -> None:
        (self.run / path).write_bytes(bytes(len(build(content, str(self.run)))))
        self._touch(path)

    def _write(self, path: str, content: bytes, place: int) -> None:
        with open(self.run / path, "r+b") as file:
            file.seek(place)
            file.write(content)
        self._touch(path)

    def _rename(self, old: str, new: str) -> None:
        (self.run / old).rename(self.run / new)
        self._tell(old)
        self._tell(new, arrived=True)

    def _unlink(self, path: str) -> None:
        (self.run / path).unlink()
        self._tell(path)

    def _rmdir(self, path: str) -> None:
        (self.run / path).rmdir()
        self._tell(path)

    def _symlink(self, target: str, path: str) -> None:
        (self.run / path).symlink_to(target.replace("$RUN", str(self.run)))
        self._tell(path, arrived=True)

    def _link(self, old: str, new: str) -> None:
        os.link(self.run / old, self.run / new)
        self._tell(new, arrived=True)

    def _chmod(self, mode: str, path: str) -> None:
        (self.run / path).chmod(int(mode, 8))
        self._tell(path, moved=False)

    def _utime(self, path: str, seconds: str) -> None:
        then = self._now - int(seconds) * _SECOND
        os.utime(self.run / path, ns=(then, then))
        self._tell(path, moved=False)

    def _touch(self, path: str, *, arrived: bool | None = None) -> None:
        os.utime(self.run / path, ns=(self._now, self._now))
        self._tell(path, arrived=bool(arrived), moved=arrived is not None)

    def _tell(self, path: str, *, arrived: bool = False, moved: bool = True) -> None:
        """
        What has moved has changed its directory's time as well.
        """
        top, _, below = os.path.normpath(path).partition("/")
        if top not in {".", ".."}:
            self.changed.append((top, arrived and not below))
        if moved:
            os.utime((self.run / path).parent, ns=(self._now, self._now))
