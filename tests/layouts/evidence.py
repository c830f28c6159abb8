"""A real directory as a layout's evidence, and the order in which things happen there."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable
from pathlib import Path
from typing import Any, NamedTuple

from ckptstream.layouts import FileStat, Layout, Verdict, judge, pointer_layouts

Snapshot = dict[str, tuple[int, int, int]]

ORDERS: dict[str, Callable[[Path], Any]] = {
    "by name": str,
    "backwards": lambda path: [-ord(letter) for letter in str(path)],
    "top first": lambda path: len(path.parts),
    "bottom first": lambda path: -len(path.parts),
    "largest first": lambda path: -path.stat().st_size,
    "smallest first": lambda path: path.stat().st_size,
}


class Look(NamedTuple):
    """One look at one checkpoint; `earlier` is what a look a settle interval ago saw, if any."""

    root: Path
    members: Collection[str] = ()
    rename_is_atomic: bool = True
    named: bool = False
    before: str | None = None
    seen_unfinished: bool = False
    earlier: Snapshot | None = None

    def list(self, directory: str) -> Collection[str]:
        path = self.root / directory
        return os.listdir(path) if path.is_dir() else []

    def stat(self, path: str) -> FileStat | None:
        try:
            stat = os.stat(self.root / path)
        except (FileNotFoundError, NotADirectoryError):
            return None
        is_directory = (self.root / path).is_dir()
        return FileStat(stat.st_size, stat.st_mtime_ns, stat.st_ino, is_directory)

    def head(self, path: str, size: int) -> bytes | None:
        return self._content(path)[:size] if (self.root / path).is_file() else None

    def tail(self, path: str, size: int) -> bytes | None:
        return self._content(path)[-size:] if (self.root / path).is_file() else None

    def fingerprint(self, path: str) -> str | None:
        stat = self.stat(path)
        if stat is None or stat.is_directory:
            return None
        return f"{stat.inode:x}-{stat.mtime_ns:x}-{stat.size:x}"

    def settled(self, *paths: str) -> bool:
        return self.earlier is not None and all(
            _below(path, self.earlier) == _below(path, snapshot(self.root)) for path in paths
        )

    def _content(self, path: str) -> bytes:
        return (self.root / path).read_bytes()


class Run:
    """
    A run's directory, looked at again and again.

    It remembers of each checkpoint what a stream would: finished before, unfinished before, named.
    """

    def __init__(self, root: Path, layout: Layout, *, rename_is_atomic: bool = True) -> None:
        self.root = root
        self.layout = layout
        self.rename_is_atomic = rename_is_atomic
        self.finished: dict[str, str] = {}
        self.unfinished: set[str] = set()
        self._named: set[tuple[str, int | str | None]] = set()

    def look(self, name: str, *, settled: bool = False) -> Look:
        matches = {member: self.layout.match(member) for member in os.listdir(self.root)}
        members = [member for member, match in matches.items() if match and match[0] == name]
        look = Look(self.root, sorted(members), self.rename_is_atomic)
        return look._replace(
            named=self._is_named(name, look),
            before=self.finished.get(name),
            seen_unfinished=name in self.unfinished,
            earlier=snapshot(self.root) if settled else None,
        )

    def judge(self, name: str, *, settled: bool = False) -> Verdict:
        """What the layout says now; with *settled*, after nothing has changed for long enough."""
        look = self.look(name, settled=settled)
        verdict = judge(self.layout, name, look)
        if not look.members:
            self.finished.pop(name, None)
            self.unfinished.discard(name)
        elif verdict.missing is None:
            self.finished[name] = str(verdict.generation)
        else:
            self.unfinished.add(name)
        return verdict

    def _is_named(self, name: str, look: Look) -> bool:
        generation = self.layout.generation(name, look)
        for layout in pointer_layouts(self.layout):
            if name in layout.pointed(look.head(layout.pointer, 65536) or b""):
                self._named.add((name, generation))
        return (name, generation) in self._named


def replay(run: Run, name: str, operations: Iterable[Callable[[], object]], commit: int) -> None:
    """Nothing is finished before operation number *commit*, which is; everything is after it."""
    for number, operation in enumerate(operations, 1):
        operation()
        verdict = run.judge(name)
        if number < commit:
            assert verdict.missing, f"finished after operation {number}"
        else:
            assert verdict.missing is None, f"{verdict.missing} after operation {number}"


def remove_one_by_one(run: Run, name: str, paths: Iterable[Path]) -> None:
    """However slowly a finished checkpoint is deleted, what is left is never a new one."""
    first = run.judge(name, settled=True)
    assert first.missing is None
    for path in paths:
        path.rmdir() if path.is_dir() else path.unlink()
        for settled in (False, True):
            verdict = run.judge(name, settled=settled)
            same = verdict.generation == first.generation
            assert verdict.missing or same, f"new after {path.name} was removed"


def in_order(order: str, directory: Path) -> list[Path]:
    """A directory and all below it in one of `ORDERS` of deletion."""
    every = sorted(directory.rglob("*"))
    files = sorted((path for path in every if not path.is_dir()), key=ORDERS[order])
    folders = sorted((path for path in every if path.is_dir()), reverse=True)
    return [*files, *folders, directory]


def write(path: Path, content: bytes | str = b"x", *, at: int | None = None) -> Path:
    """Write a file and the directories above it; *at* is its time in seconds."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    if at is not None:
        os.utime(path, (at, at))
    return path


def snapshot(root: Path) -> Snapshot:
    paths = (path for path in root.rglob("*") if path.is_file())  # and no link that dangles
    stats = {str(path.relative_to(root)): path.stat() for path in paths}
    return {path: (stat.st_size, stat.st_mtime_ns, stat.st_ino) for path, stat in stats.items()}


def _below(path: str, files: Snapshot) -> Snapshot:
    return {file: seen for file, seen in files.items() if f"{file}/".startswith(f"{path}/")}
