"""Checkpoints in several files: by an index that names them, and by rank."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple, cast

from ._files import newer_than, read_json
from ._names import remember_few
from ._protocol import Evidence
from ._subject import Subject

_INDEX = ".index.json"
_PART = re.compile(r"(.+)-[0-9]{5,}-of-[0-9]{5,}(\.safetensors|\.bin)", re.DOTALL)
_INDEX_LIMIT = 32 * 2**20
_METADATA_LIMIT = 32 * 2**20
_LONGEST = 1024  # bytes of a key; what is longer is no name, and shall fill no log
_DATA_FILE = re.compile(rb"__[0-9]{1,20}_[0-9]{1,20}\.distcp")
_DIGITS = str.maketrans("123456789", "0" * 9)


def missing_shard(name: str, evidence: Evidence) -> str | None:
    """The first file that an index in the directory *name* asks for in vain, or None."""
    files = evidence.list(name)
    # `save_pretrained` writes the index last, and without it nothing finds the shards.
    parts = filter(None, map(_PART.fullmatch, sorted(files)))
    for whole in dict.fromkeys(part[1] + part[2] for part in parts):
        if whole not in files and whole + _INDEX not in files:
            return f"no {whole}{_INDEX}"
    # Beside the one file an index is a former save's: `from_pretrained` takes the file first.
    indices = (file for file in sorted(files) if file.endswith(_INDEX))
    for index in (index for index in indices if index.removesuffix(_INDEX) not in files):
        head = evidence.head(f"{name}/{index}", _INDEX_LIMIT) or b""
        content = read_json(head)
        if content is None and len(head) < _INDEX_LIMIT:
            return f"{index} is not whole"
        for shard in _shards(content or {}):
            if shard.partition("/")[0] not in files:
                return f"no {shard}"
    return None


def _shards(index: dict[str, object]) -> list[str]:
    weights = index.get("weight_map")
    found = cast("dict[str, object]", weights).values() if isinstance(weights, dict) else ()
    lists = (cast("list[object]", each) if isinstance(each, list) else [each] for each in found)
    names = {name[:_LONGEST] for names in lists for name in names if isinstance(name, str)}
    return sorted(names)


@dataclass(frozen=True, slots=True)
class Index:
    """
    Every file that an index of shards (`*.index.json`, its `weight_map`) names is there.

    Args:
        directory: Where it lies in the checkpoint; empty: in it itself.
    """

    directory: str = ""

    def lacking(self, subject: Subject) -> str | None:
        """The first file that is not there."""
        where = f"{subject.name}/{self.directory}".rstrip("/")
        return missing_shard(where, subject.evidence)


@dataclass(frozen=True, slots=True)
class Manifest:
    """
    The checkpoint itself: a JSON file whose `weight_map` names the shards that lie beside it.

    It may be written anew after each of them. Then the next one is newer than it, which it does not
    name; and its `total_size` counts what will not be in those that it names.
    """

    def lacking(self, subject: Subject) -> str | None:
        """What it says that is not there."""
        name, evidence = subject.name, subject.evidence
        content = read_json(evidence.head(name, _INDEX_LIMIT))
        if content is None:
            return f"{name} is not whole"
        # Of those beside it alone: it could name any path, or what is none.
        shards, there = _shards(content), {*subject.data}
        absent = (shard for shard in shards if shard not in there)
        lacking = next(absent, None if shards else "shards")
        if lacking is not None:
            return f"no {lacking}"
        unnamed = newer_than(name, sorted(there.difference(shards)), evidence)
        if unnamed is not None:
            return f"{unnamed} is newer than {name}"
        stats = map(evidence.stat, shards)
        # Shards hold more than their weights, never less.
        if sum(stat.size for stat in stats if stat is not None) < _total_size(content):
            return f"{name} counts more than its shards hold"
        return None


def _total_size(content: dict[str, object]) -> float:
    metadata = content.get("metadata")
    found = cast("dict[str, object]", metadata) if isinstance(metadata, dict) else {}
    size = found.get("total_size")
    return size if isinstance(size, (int, float)) else 0


@dataclass(frozen=True, slots=True)
class NoShard:
    r"""
    It is no shard of a manifest beside it.

    Args:
        pattern: A regular expression for the names of shards.
        manifest: What the manifest is called, with groups as in `r"\1.json"`.
        layout: Who takes all of them together.
    """

    pattern: str
    manifest: str
    layout: str

    def lacking(self, subject: Subject) -> str | None:
        """Whose shard it is."""
        found = re.fullmatch(self.pattern, subject.name, re.DOTALL)
        manifest = "" if found is None else found.expand(self.manifest)
        if not manifest or subject.evidence.stat(manifest) is None:
            return None
        return f"a shard of {manifest}: use layout={self.layout!r}"


@dataclass(frozen=True, slots=True)
class Stored:
    """
    Every file that DCP's `.metadata` names is there.

    Args:
        path: Where it lies, as `Subject.find` has it; nothing is asked of one that is not there.
    """

    path: str = r"\.metadata"

    def lacking(self, subject: Subject) -> str | None:
        """The first file that is not there."""
        for path in subject.find(self.path):
            lacking = missing_stored(path, subject.evidence)
            if lacking is not None:
                return f"no {subject.short(lacking)}"
        return None


def missing_stored(path: str, evidence: Evidence) -> str | None:
    """The first file that DCP's `.metadata` at *path* asks for in vain, or None."""
    directory = path.rpartition("/")[0]
    there = evidence.list(directory)
    # The names stand behind all that describes the tensors.
    names = _data_files(evidence.tail(path, _METADATA_LIMIT) or b"")
    return next((f"{directory}/{name}" for name in names if name not in there), None)


def _data_files(pickled: bytes) -> list[str]:
    """
    The names of data files in a pickle, which is not loaded: strings that are such a name.

    Source: Python's `pickletools`, SHORT_BINUNICODE and BINUNICODE; pytorch/pytorch
    `torch/distributed/checkpoint/filesystem.py` (`_StorageInfo.relative_path`).
    """
    found = set[str]()
    for match in _DATA_FILE.finditer(pickled):
        length, start = len(match[0]), match.start()
        short, long = bytes([0x8C, length]), b"X" + length.to_bytes(4, "little")
        if pickled.endswith((short, long), 0, start):
            found.add(match[0].decode())
    return sorted(found)


@dataclass(frozen=True, slots=True)
class Ranks:
    """
    One file for each rank, from 0 on.

    Files that differ in other numbers are sets of their own, all equally large.

    Args:
        pattern: Their names, with a group `rank` and, if they say how many there are, `of`; only
            the last level may have groups.
        base: The first number.
    """

    pattern: str
    base: int = 0

    def lacking(self, subject: Subject) -> str | None:
        """The first file that is not there."""
        files = tuple(map(subject.short, subject.find(self.pattern)))
        found = _search(files, self.pattern, self.base)
        return None if found is None else f"no {found[0].name(found[1], subject)}"


@remember_few
def _search(files: Collection[str], pattern: str, base: int) -> tuple[_Set, int] | None:
    """The first set that lacks a file, and the number that it lacks."""
    sets: dict[_Set, set[int]] = {}
    counts: dict[str, int] = {}
    for path, rank in _ranks(pattern, files):
        one = _Set(path[: rank.start("rank")], path[rank.end("rank") :])
        number, of = int(rank["rank"]) - base, rank.groupdict().get("of")
        sets.setdefault(one, set()).add(number)
        count = number + 1 if of is None else int(of)
        counts[one.kind] = max(counts.get(one.kind, 0), count)
    for one, ranks in sorted(sets.items()):
        gap = _first_gap(ranks, counts[one.kind])
        if gap is not None:
            return one, gap + base
    return None


class _Set(NamedTuple):
    """Files that differ in their rank alone: what stands before it, and after it."""

    before: str
    after: str

    @property
    def kind(self) -> str:
        """The same for the sets that are equally large."""
        return f"{self.before.translate(_DIGITS)}*{self.after.translate(_DIGITS)}"

    def name(self, rank: int, subject: Subject) -> str:
        """What the file of a rank would be called, with as many digits as the others."""
        directory = self.before.rpartition("/")[0]
        above = f"{directory}/" if directory else ""
        inside = subject.evidence.list(f"{subject.name}/{directory}".rstrip("/"))
        names = (above + name for name in inside)
        widths = [len(n) for n in names if n.startswith(self.before) and n.endswith(self.after)]
        width = min(widths, default=0) - len(self.before) - len(self.after)
        return f"{self.before}{rank:0{max(width, 1)}}{self.after}"


def _ranks(pattern: str, paths: Iterable[str]) -> Iterator[tuple[str, re.Match[str]]]:
    """Each path, and its last part's match, with positions in the path."""
    last = re.compile(pattern.rpartition("/")[2], re.DOTALL)
    for path in paths:
        match = last.fullmatch(path, path.rfind("/") + 1)
        if match is not None:
            yield path, match


def _first_gap(ranks: set[int], count: int) -> int | None:
    # No further than there are files: a name can claim any number.
    return next((rank for rank in range(min(count, len(ranks) + 1)) if rank not in ranks), None)
