"""What proves a checkpoint finished: each proof is small, and says what it lacks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

from .._model import FileStat
from ._files import files_below, is_directory, newer_than, read_integer, read_json
from ._footers import unfinished_file
from ._protocol import Evidence
from ._subject import Subject

_JSON_LIMIT = 2**20


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
    once the data has settled, for it may also be a straggler's, or copied.

    Args:
        path: Where it lies in the checkpoint.
        step: The key of a JSON file that must hold the checkpoint's step.
        empty: Whether it has no content.
        beside: Whether it lies beside the checkpoint.
        stale: Whether it may be older than the data: it is written first, or another one last.
    """

    path: str
    step: str = ""
    empty: bool = False
    beside: bool = False
    stale: bool = False

    def lacking(self, subject: Subject) -> str | None:
        """That it is not there, or older than the data."""
        path = self.path if self.beside else f"{subject.name}/{self.path}"
        stat = subject.evidence.stat(path)
        if stat is None:
            return f"no {self.path}"
        if stat.size == 0 and not self.empty:
            return f"{self.path} is empty"
        if self.step:
            step = read_integer(path, self.step, _JSON_LIMIT, subject.evidence)
            if step is not None and step != subject.step:
                return f"{self.path} is of step {step}"
        if stat.size and not _is_whole(path, stat, subject.evidence):
            return f"{self.path} is not whole"
        return None if self.stale else newer_data(path, subject)


def _is_whole(path: str, stat: FileStat, evidence: Evidence) -> bool:
    """Whether a marker's end is there, as far as its format tells: most are written in place."""
    if path.endswith(".json"):
        head = evidence.head(path, _JSON_LIMIT) or b""
        cut_off = len(head) == _JSON_LIMIT and b"}" in (evidence.tail(path, 64) or b"")
        return cut_off or read_json(head) is not None
    if path.endswith(".yaml"):
        return (evidence.tail(path, 64) or b"").endswith(b"\n")
    return unfinished_file(path, stat, evidence) is None


def newer_data(marker: str, subject: Subject) -> str | None:
    """What of the data is newer than a marker and has not settled."""
    evidence = subject.evidence
    if subject.renewed and newer_than(marker, (subject.own or "",), evidence) is not None:
        # No straggler, and no copy: it was whole before.
        return f"{subject.short(marker)} is of the last save"
    newer = newer_than(marker, _data_files(subject), evidence)
    # As `Settled` asks it, so that one interval proves both.
    if newer is None or Settled().lacking(subject) is None:
        return None
    newer, marker = subject.short(newer), subject.short(marker)
    return f"{newer} is newer than {marker}: waits until it has settled"


def _data_files(subject: Subject) -> Iterator[str]:
    """The data, and of its directories all that lies below them."""
    for path in subject.data:
        if is_directory(path, subject.evidence):
            yield from (below for below, _ in files_below(path, subject.evidence))
        else:
            yield path


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
class Holds:
    """
    Something that is there, and not empty.

    Args:
        pattern: What, a regular expression per level; `""` is the entry itself, that may be.
        words: How to call it when it is not there; of the entry itself what to do then.
    """

    pattern: str
    words: str = ""

    def lacking(self, subject: Subject) -> str | None:
        """That it is not there."""
        if not self.pattern:
            there = subject.evidence.stat(subject.name) is not None
            return None if there else f"no {subject.name}"
        found = subject.find(self.pattern)
        stats = (subject.evidence.stat(path) for path in found)
        if any(stat is not None and (stat.size or stat.is_directory) for stat in stats):
            return None
        return f"no {self.words or self.pattern}"


@dataclass(frozen=True, slots=True)
class Footers:
    """
    The end of each data file is there: zip, tar, safetensors, HDF5; others must not be empty.

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
    """
    The data has stopped changing; without data, all that the checkpoint holds.

    Args:
        named: What the pointer names, and is not newer than the pointer, need not settle.
    """

    named: bool = False

    def lacking(self, subject: Subject) -> str | None:
        """That it may still change."""
        evidence = subject.evidence
        named = self.named and evidence.named and not subject.renewed
        if named and newer_than(subject.pointer, subject.data, evidence) is None:
            return None
        settled = evidence.settled(*(subject.data or (subject.name,)))
        return None if settled else "waits until it has settled"


@dataclass(frozen=True, slots=True)
class Renamed:
    """It came whole, by a rename; where renames are not atomic, it has settled."""

    def lacking(self, subject: Subject) -> str | None:
        """Nothing, or that it may still change."""
        return None if subject.evidence.rename_is_atomic else Settled().lacking(subject)


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


@dataclass(frozen=True, slots=True)
class Uploaded:
    """
    What must hold besides where files may come in any order: an upload may begin with the marker.

    Args:
        proofs: All of which must hold in buckets, and wherever renames are not atomic.
    """

    proofs: tuple[Proof, ...]

    def lacking(self, subject: Subject) -> str | None:
        """What the first of them lacks."""
        in_order = subject.evidence.rename_is_atomic
        return None if in_order else first_lacking(self.proofs, subject)


def first_lacking(proofs: Iterable[Proof], subject: Subject) -> str | None:
    """What the first proof lacks that lacks something; those after it are not asked."""
    answers = (proof.lacking(subject) for proof in proofs)
    return next((answer for answer in answers if answer is not None), None)
