"""What proves a checkpoint finished: each proof is small, and says what it lacks."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

from .._model import FileStat
from ._files import newer_than, read_integer, read_json
from ._footers import unfinished_file
from ._protocol import Evidence
from ._subject import Subject

_JSON_LIMIT = 2**20
_SETTLES = "waits until it has settled"


class Proof(Protocol):
    """One of the conditions that a finished checkpoint meets."""

    def lacking(self, subject: Subject) -> str | None:
        """What is lacking, in words; None if nothing."""
        ...


@dataclass(frozen=True, slots=True)
class Marker:
    """
    A file that is written after the data.

    Saving the same step again in place leaves the old one there: where data is newer, it counts
    once the data has settled, for it may also be a straggler's, or copied. It must be whole, where
    its format tells: JSON, and what `Footers` knows.

    Args:
        path: Where it lies in the checkpoint.
        step: The key of a JSON file that must hold the checkpoint's step.
        empty: Whether it has no content.
        beside: Whether it lies beside the checkpoint.
        stale: Whether it may be older than the data, since it is written first.
        settled: Whether it must have settled, since its format has no end.
        optional: Whether it may be absent: some of the framework's formats do without.
    """

    path: str
    step: str = ""
    empty: bool = False
    beside: bool = False
    stale: bool = False
    settled: bool = False
    optional: bool = False

    def lacking(self, subject: Subject) -> str | None:
        """That it is not there, not whole, or older than the data."""
        path = self.path if self.beside else f"{subject.name}/{self.path}"
        stat = subject.evidence.stat(path)
        if stat is None:
            return None if self.optional else f"no {self.path}"
        if stat.size == 0 and not self.empty:
            return f"{self.path} is empty"
        if not self.empty and not _is_whole(path, stat, subject.evidence):
            return f"{self.path} is not whole"
        if self.settled and not subject.evidence.settled(path):
            return f"{self.path}: {_SETTLES}"
        return self._other_step(path, subject) or (None if self.stale else _newer(path, subject))

    def _other_step(self, path: str, subject: Subject) -> str | None:
        if not self.step:
            return None
        step = read_integer(path, self.step, _JSON_LIMIT, subject.evidence)
        if step is None:
            return f"{self.path} is not whole"
        return None if step == subject.step else f"{self.path} is of step {step}"


def _is_whole(path: str, stat: FileStat, evidence: Evidence) -> bool:
    if not path.endswith(".json") or stat.is_directory:
        return stat.is_directory or unfinished_file(path, stat, evidence) is None
    if stat.size > _JSON_LIMIT:
        return (evidence.tail(path, 64) or b"").rstrip().endswith(b"}")
    return read_json(evidence.head(path, _JSON_LIMIT)) is not None


def _newer(marker: str, subject: Subject) -> str | None:
    evidence = subject.evidence
    files = [path for path in subject.data if not _is_directory(path, subject)]
    newer = newer_than(marker, files, evidence)
    if newer is None or evidence.settled(marker, *files):
        return None
    newer, marker = subject.short(newer), subject.short(marker)
    return f"{newer} is newer than {marker}: {_SETTLES}"


def _is_directory(path: str, subject: Subject) -> bool:
    stat = subject.evidence.stat(path)
    return stat is not None and stat.is_directory


@dataclass(frozen=True, slots=True)
class Absent:
    """
    No file beside the checkpoint that says that it is not finished.

    Args:
        suffix: What follows the checkpoint's name. Only what `match` takes for a part of the
            checkpoint is noticed at once when it goes.
    """

    suffix: str

    def lacking(self, subject: Subject) -> str | None:
        """That the file is there."""
        path = subject.name + self.suffix
        return None if subject.evidence.stat(path) is None else f"{path} is there"


@dataclass(frozen=True, slots=True)
class Pointed:
    """
    The layout's pointer names the checkpoint, or once named the generation that is there.

    A pointer that is older than the data may have named the last save of the same step: it counts
    once the data has settled.

    Args:
        later: A later step will do, once the data has settled: what lay here before the stream
            began was named before.
    """

    later: bool = False

    def lacking(self, subject: Subject) -> str | None:
        """That the pointer does not name it."""
        if subject.evidence.named:
            return _newer(subject.pointer, subject)
        reached = subject.reached() if self.later and subject.step is not None else None
        if reached is None or subject.step is None or reached <= subject.step:
            return f"not named by {subject.pointer!r} yet"
        return Settled().lacking(subject)


@dataclass(frozen=True, slots=True)
class Holds:
    """
    Something that is there, and not empty.

    Args:
        pattern: What, a regular expression per level; `""` is the entry itself.
        words: How to call it when it is not there.
    """

    pattern: str
    words: str = ""

    def lacking(self, subject: Subject) -> str | None:
        """That it is not there."""
        found = subject.find(self.pattern) if self.pattern else [subject.name]
        stats = [stat for path in found if (stat := subject.evidence.stat(path)) is not None]
        if not stats:
            return f"no {self.words or self.pattern or subject.name}"
        whole = any(stat.size or stat.is_directory for stat in stats)
        return None if whole else f"{subject.short(found[0])} is empty"


@dataclass(frozen=True, slots=True)
class Footers:
    """
    The end of each data file is there: zip archives, safetensors, HDF5; others must not be empty.

    Args:
        members: What zip archives must contain.
    """

    members: tuple[str, ...] = ()

    def lacking(self, subject: Subject) -> str | None:
        """The first file that has no end."""
        for path in subject.data:
            stat = subject.evidence.stat(path)
            if stat is None:
                return f"no {subject.short(path)}"
            if stat.is_directory:
                continue
            lacking = unfinished_file(path, stat, subject.evidence, self.members)
            if lacking is not None:
                return lacking if path == subject.name else f"{subject.short(path)}: {lacking}"
        return None


@dataclass(frozen=True, slots=True)
class Settled:
    """The data has stopped changing; without data, all that the checkpoint holds."""

    def lacking(self, subject: Subject) -> str | None:
        """That it may still change."""
        settled = subject.evidence.settled(*(subject.data or (subject.name,)))
        return None if settled else _SETTLES


@dataclass(frozen=True, slots=True)
class Renamed:
    """It came whole, by a rename; where renames are not atomic, it has settled."""

    def lacking(self, subject: Subject) -> str | None:
        """Nothing, or that it may still change."""
        return None if subject.evidence.rename_is_atomic else Settled().lacking(subject)


@dataclass(frozen=True, slots=True)
class Unlinked:
    """
    Not just another name of a checkpoint beside it: a link is no checkpoint of its own.

    Told by inodes; where the filesystem keeps none, a link counts.

    Args:
        names: Which names may be links, a regular expression.
    """

    names: str

    def lacking(self, subject: Subject) -> str | None:
        """What it is a link to."""
        evidence = subject.evidence
        if re.fullmatch(self.names, subject.name, re.DOTALL) is None:
            return None
        stat = evidence.stat(subject.name)
        if stat is None or not stat.inode:
            return None
        for other in sorted(evidence.list("")):
            itself = re.fullmatch(self.names, other, re.DOTALL) is not None
            if not itself and evidence.stat(other) == stat:
                return f"a link to {other}"
        return None


@dataclass(frozen=True, slots=True)
class AnyOf:
    """
    One of several ways to be finished.

    Args:
        ways: Each of them a tuple of proofs, all of which must hold.
    """

    ways: tuple[tuple[Proof, ...], ...]

    def lacking(self, subject: Subject) -> str | None:
        """What each of the ways lacks."""
        answers = list[str]()
        for way in self.ways:
            lacking = first_lacking(way, subject)
            if lacking is None:
                return None
            answers.append(lacking)
        return ", or ".join(dict.fromkeys(answers))


def first_lacking(proofs: Iterable[Proof], subject: Subject) -> str | None:
    """
    What the first proof lacks that lacks something.

    Those after it are asked only while nothing but time is missing: all settle in the same time.
    """
    first: str | None = None
    for proof in proofs:
        answer = proof.lacking(subject)
        first = answer if first is None else first
        if answer is not None and not answer.endswith(_SETTLES):
            break
    return first
