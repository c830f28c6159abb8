"""A layout as one value: names, proofs, and where the generation comes from."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from .._model import FileStat
from ._files import VANISHING, files_below, mark
from ._names import is_temporary
from ._pointers import POINTER_LIMIT, Pointer
from ._proofs import Holds, Proof, first_lacking
from ._protocol import Evidence, Layout, Match
from ._signs import Signs
from ._stamps import read_stamp
from ._subject import Subject, find


@dataclass(frozen=True, slots=True)
class Described:
    r"""
    A layout that is described, not programmed; `ckptstream.layouts.parts` has what it is made of.

    What lies in a directory is described by one regular expression per level, with `/` between.

    Args:
        name: What `Checkpoint.layout` says.
        example: A name, for `str()`.
        regex: The names in the run's directory, as a whole, with a group `step` for the number.
        lead: If other names belong to a checkpoint, which are those in which the group `part`
            matches, what it is called, with groups as in `r"\g<stem>.pt"`. All of them are data.
        links: Names that may be links to a checkpoint beside them, as a regular expression: such a
            link is no checkpoint of its own. Told by inodes; where there are none, it counts.
        directory: The proofs, if the checkpoint is a directory; none: it never is one.
        file: The proofs, if it is a file; none: it never is one.
        data: What in a directory is data, so that a marker must not be older.
        own: What in a directory tells the generation: the first that is there. Without it the
            largest file does.
        stamp: A JSON file in a directory and its key with the commit's date in ISO 8601.
        like: A layout that a directory must satisfy besides, and that tells its generation.
        pointer_file: The file that names the latest checkpoint, if there is one.
        signs: By what `auto` tells it from others; without them it never chooses this layout.
    """

    name: str
    example: str
    regex: str
    lead: str = ""
    links: str = ""
    directory: tuple[Proof, ...] = ()
    file: tuple[Proof, ...] = ()
    data: tuple[str, ...] = ()
    own: tuple[str, ...] = ()
    stamp: tuple[str, str] = ("", "")
    like: Layout | None = None
    pointer_file: Pointer | None = None
    signs: Signs | None = None
    _names: re.Pattern[str] = field(init=False, repr=False, compare=False)
    _tag: str = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_names", re.compile(self.regex, re.DOTALL))
        object.__setattr__(self, "_tag", mark(self.name))

    def __str__(self) -> str:
        return f"{self.name}: {self.example}"

    @property
    def pointer(self) -> str:
        """The pointer's name; empty without one."""
        return "" if self.pointer_file is None else self.pointer_file.path

    def pointed(self, content: bytes) -> tuple[str, ...]:
        """The checkpoints that the pointer names."""
        return () if self.pointer_file is None else self.pointer_file.names(content)

    def match(self, name: str) -> tuple[str, int | None] | None:
        """The checkpoint that fits, unless a framework gives such a name to what is unfinished."""
        found = self._names.fullmatch(name)
        if found is None:
            return None
        groups = self._names.groupindex  # not groupdict(): each name is asked for several times
        has_part = "part" in groups and found["part"] is not None
        lead = found.expand(self.lead) if has_part else name
        if is_temporary(lead):
            return None
        return lead, _step(found["step"] if "step" in groups else None)

    def missing(self, name: str, evidence: Evidence) -> str | None:
        """What the first proof lacks that lacks something."""
        kind = self._is_directory(name, evidence)
        if kind is None:
            return "not there"
        proofs = self.directory if kind else self.file
        if not proofs:
            return "a directory, not a file" if self.file else "not a directory"
        if self._vanishing(name, evidence):
            return VANISHING
        lacking = self.like.missing(name, evidence) if self.like is not None and kind else None
        return lacking or first_lacking(proofs, self._subject(name, evidence, kind))

    def generation(self, name: str, evidence: Evidence) -> int | str | None:
        """The commit time, else the fingerprint of a file of its own, with which file it is."""
        if self.like is not None and self._is_directory(name, evidence):
            return self.like.generation(name, evidence)
        file, key = self.stamp
        stamp = read_stamp(f"{name}/{file}", key, evidence) if file else None
        if stamp is not None:
            return stamp
        own = self._own(name, evidence)
        return None if own is None else f"{evidence.fingerprint(own)}:{self._mark(own)}"

    def alias(self, name: str, evidence: Evidence) -> str | None:
        """What is there that is no checkpoint of its own, in words; None if it may be one."""
        itself = (each for each in self.file if isinstance(each, Holds) and not each.pattern)
        holds = next(itself, None if self.file else Holds(""))
        if evidence.stat(name) is None and holds is not None:
            beside = sorted(member for member in evidence.members if member != name)
            if beside:
                return ": ".join(filter(None, (f"not there, only {beside[0]}", holds.words)))
        if not self.links or re.fullmatch(self.links, name, re.DOTALL) is None:
            return None
        stat = evidence.stat(name)
        if stat is None:
            # Lightning removes the target first, then the link.
            return "a link that leads nowhere" if name in evidence.list("") else None
        others = (other for other in sorted(evidence.list("")) if other != name)
        same = (other for other in others if _is_same(stat, evidence.stat(other), evidence))
        another = next((other for other in same if self.match(other) is not None), None)
        return None if another is None else f"a link to {another}"

    def recognises(self, name: str, evidence: Evidence) -> bool:
        """Whether it bears the framework's signs, and none that speaks against it."""
        signs, kind = self._signs(name, evidence)
        if signs is None:
            return False
        if kind:
            return signs.in_directory(name, evidence)
        return any(signs.in_file(path, evidence) for path in self._data(name, evidence, False))

    def owns(self, name: str, evidence: Evidence) -> bool:
        """Whether it bears a sign that no other framework leaves."""
        signs, kind = self._signs(name, evidence)
        return signs is not None and signs.owns(name, evidence, is_directory=kind)

    def sign(self, name: str, evidence: Evidence) -> str | None:
        """The file by which `auto` recognises it; None if that is the checkpoint itself."""
        signs, kind = self._signs(name, evidence)
        return None if signs is None else signs.found(name, evidence, is_directory=kind)

    def _signs(self, name: str, evidence: Evidence) -> tuple[Signs | None, bool]:
        """The signs to look for, if there may be some, and whether in a directory."""
        kind = self._is_directory(name, evidence)
        proofs = self.directory if kind else self.file
        return (self.signs if kind is not None and proofs else None), bool(kind)

    def _is_directory(self, name: str, evidence: Evidence) -> bool | None:
        """None if there is nothing. Of several files together the first may not be there."""
        stat = evidence.stat(name)
        if stat is None:
            return False if self.lead and self.file and evidence.members else None
        return stat.is_directory

    def _subject(self, name: str, evidence: Evidence, is_directory: bool) -> Subject:
        def pointing() -> list[Match]:
            names = self.pointed(evidence.head(self.pointer, POINTER_LIMIT) or b"")
            return [match for pointed in names if (match := self.match(pointed)) is not None]

        matches = (match for member in evidence.members if (match := self.match(member)))
        step = next((step for lead, step in matches if lead == name), None)
        data = tuple(self._data(name, evidence, is_directory))
        own, before = self._own(name, evidence), evidence.before or ""
        renewed = own is not None and before.endswith(self._mark(own))
        renewed = renewed and before != self.generation(name, evidence)
        return Subject(name, step, data, own, renewed, self.pointer, pointing, evidence)

    def _data(self, name: str, evidence: Evidence, is_directory: bool) -> list[str]:
        if is_directory:
            return _found(name, self.data, evidence)
        return sorted(evidence.members) if self.lead else [name]

    def _own(self, name: str, evidence: Evidence) -> str | None:
        """The file that tells the generation: the same one as before, if it is still there."""
        telling, known = self._telling(name, evidence), _known(evidence)
        if known is None:
            return next(iter(telling), None)
        same = (path for path in telling if self._mark(path) == known)
        return next(same, next(iter(telling), None))

    def _telling(self, name: str, evidence: Evidence) -> list[str]:
        """The files that can tell the generation, the best first."""
        kind = self._is_directory(name, evidence)
        if kind is None:
            return []
        if not kind:
            # The file that the checkpoint is called after, if it is there.
            return sorted(self._data(name, evidence, kind), key=lambda path: path != name)
        if self.own:
            return _found(name, self.own, evidence)
        sizes = {path: -stat.size for path, stat in files_below(name, evidence)}
        return sorted(sizes, key=lambda path: (sizes[path], path))

    def _vanishing(self, name: str, evidence: Evidence) -> bool:
        # Saved again, it has another file of the same name; deleted, the file is gone, and what is
        # left must not pass for a new checkpoint.
        known = _known(evidence)
        if known is None or not known.startswith(self._tag):
            return False
        return known not in map(self._mark, self._telling(name, evidence))

    def _mark(self, path: str) -> str:
        return self._tag + mark(path)


def _is_same(link: FileStat, other: FileStat | None, evidence: Evidence) -> bool:
    if other is None or not link.inode:
        return False
    # A bucket has no links: what an upload made of one came at another time, with the same ETag.
    same = (link.size, link.inode) == (other.size, other.inode)
    return link == other if evidence.rename_is_atomic else same


def _known(evidence: Evidence) -> str | None:
    """Which file told the generation that was finished before."""
    return None if evidence.before is None else evidence.before.rpartition(":")[2]


def _found(name: str, patterns: Iterable[str], evidence: Evidence) -> list[str]:
    return list(dict.fromkeys(p for pattern in patterns for p in find(name, pattern, evidence)))


def _step(text: str | None) -> int | None:
    """The number; of another than a whole one None. `1e5` is whole."""
    if text is None:
        return None
    try:
        return int(text)
    except ValueError:
        pass
    try:
        number = float(text)
    except ValueError:
        return None
    return int(number) if number.is_integer() else None
