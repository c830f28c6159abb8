"""What lies in a directory in which nothing was recognised: it only serves an explanation."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from itertools import islice
from typing import NamedTuple

from .._stores import LocalStore, Profile
from ..layouts import Auto, Layout, Template, judge
from ..layouts._auto import NOBODY
from ..layouts._names import is_temporary, is_weights
from ._evidence import StoreEvidence
from ._memory import Entry, Foreign, Request, Stranger

_EXAMPLES = 3
_LOOK_BELOW = 100  # sub-directories of a directory in which nothing was recognised
_LOOK_INSIDE = 1000  # names in one of them
_JUDGED = 3  # entries that are shown to the layouts that were not asked for

_AUTO = Auto()
# `step_5` is hardly ever a run, and `seed_5` hardly ever a checkpoint.
_SAYS_CHECKPOINT = re.compile(r"(?i).*(step|ckpt|checkpoint|iter|epoch|save|snap).*", re.DOTALL)
_SAYS_FINISHED = re.compile(
    r"(?i)[._]*(done|success|completed?|finished|ready|stable|committed|ok)[._]*(txt|json)?"
    r"|.*[._-](done|success|completed?|finished|ready|committed)",
    re.DOTALL,
)


class Place(NamedTuple):
    """
    A directory with entries to be explained.

    Attributes:
        directory: Its path.
        profile: What can be trusted of its filesystem.
        alive: Called now and then, as a sign of life.
    """

    directory: str
    profile: Profile
    alive: Callable[[], None]

    def evidence(self, name: str, members: Iterable[str]) -> StoreEvidence:
        """What a layout may ask about an entry."""
        return _Hopeful(
            LocalStore(self.directory, self.profile.inodes, self.alive),
            self.profile,
            float,
            name=name,
            members=tuple(sorted(members)),
            old=None,
            named=_always,
        )

    def finished(self, layout: Layout, name: str, members: Iterable[str]) -> str | None:
        """The layout by which an entry may be finished, if *layout* says so."""
        try:
            verdict = judge(layout, name, self.evidence(name, members))
        except OSError:
            return None
        return verdict.layout if verdict.missing is None and verdict.layout != NOBODY else None


class _Hopeful(StoreEvidence):
    """Takes everything for settled: no time passes for a mere explanation."""

    def settled(self, *paths: str) -> bool:
        """That it is."""
        return True


def _always(name: str, evidence: StoreEvidence, old: Entry | None) -> bool:
    return True


def foreign(request: Request, names: Iterable[str], place: Place) -> Foreign | None:
    """What lies there that nobody recognises, to explain the silence."""
    strangers = sorted(name for name in names if not is_temporary(name))
    if not strangers:
        return None  # The first checkpoint is on its way.
    inside = {name: _inside(name, place) for name in strangers[:_LOOK_BELOW]}
    below = tuple(name for name, files in inside.items() if _is_run(request.layout, name, files))
    return Foreign(
        total=len(strangers),
        examples=tuple(strangers[:_EXAMPLES]),
        below=below,
        itself=_itself(request, place),
        stranger=None if below else _stranger(inside),
        known=None if isinstance(request.layout, Auto) else _known(request, strangers, place),
    )


def unfinished(
    request: Request, groups: Mapping[str, Collection[str]], place: Place
) -> Foreign | None:
    """Whose the entries may be of which none is finished; None if nobody else's."""
    if not isinstance(request.layout, Auto):
        # One is being written; that several are, and none is finished, is another layout's.
        names = {name for members in groups.values() for name in members}
        known = _known(request, names, place) if len(groups) > 1 else None
        return None if known is None else Foreign(len(groups), known=known)
    some = sorted(groups)[:_JUDGED]
    if any(_AUTO.is_owned(name, place.evidence(name, groups[name])) for name in some):
        return None
    stranger = _stranger({name: _inside(name, place) for name in some})
    if stranger is None:
        return None
    sure = stranger.marker is not None
    return Foreign(len(groups), stranger=stranger._replace(sure=sure))


def _known(request: Request, names: Iterable[str], place: Place) -> str | None:
    """The layout by which something here is finished, if it is not the one that was asked for."""
    groups = dict[str, set[str]]()
    for name in islice(names, _LOOK_INSIDE):
        matched = _AUTO.match(name)
        if matched is not None:
            groups.setdefault(matched[0], set()).add(name)
    found = (place.finished(_AUTO, name, groups[name]) for name in sorted(groups)[:_JUDGED])
    return next((each for each in found if each not in {None, request.layout.name}), None)


def _itself(request: Request, place: Place) -> tuple[str, str] | None:
    """If the directory is a checkpoint itself, by which layout, and the one to follow."""
    try:
        parent, name = os.path.split(os.path.abspath(request.directory))
    except OSError:
        return None  # The working directory is gone.
    own = (request.layout,) if isinstance(request.layout, Template) else ()
    for layout in (*own, _AUTO):
        matched = layout.match(name)
        if matched is not None and matched[0] == name:
            found = place._replace(directory=parent).finished(layout, name, (name,))
            if found is not None:
                above, written = os.path.split(request.directory.rstrip("/"))
                return found, (above or ".") if written == name else parent
    return None


def _inside(name: str, place: Place) -> Sequence[os.DirEntry[str]] | None:
    """What lies in a directory, as far as it matters; None if it is none, or cannot be read."""
    place.alive()
    try:
        with os.scandir(os.path.join(place.directory, name)) as entries:
            return [each for each in islice(entries, _LOOK_INSIDE) if not is_temporary(each.name)]
    except OSError:
        return None


def _is_run(layout: Layout, name: str, files: Sequence[os.DirEntry[str]] | None) -> bool:
    """Whether a directory holds checkpoints, and is not rather one with files of such names."""
    found = [each for each in files or () if layout.match(each.name) is not None]
    if layout.match(name) is None or _SAYS_CHECKPOINT.fullmatch(name) is None:
        return bool(found)
    return any(_SAYS_CHECKPOINT.fullmatch(each.name) and _is_directory(each) for each in found)


def _is_directory(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False


def _stranger(
    inside: dict[str, Sequence[os.DirEntry[str]] | None],
) -> Stranger | None:
    """The entry that looks most like a checkpoint of the user's own, if one does."""
    found = list[Stranger]()
    for name, files in inside.items():
        names = sorted(each.name for each in files or () if not _is_directory(each))
        marker = next((each for each in names if _SAYS_FINISHED.fullmatch(each)), None)
        says = is_weights(name) if files is None else _SAYS_CHECKPOINT.fullmatch(name) is not None
        if (files == []) or (marker is None and not says):
            continue
        template = _template(name, marker)
        if template is not None:
            shown = [marker, *(each for each in names if each != marker)] if marker else names
            found.append(Stranger(name, tuple(shown[:_EXAMPLES]), marker, template))
    marked = (stranger for stranger in found if stranger.marker is not None)
    return next(marked, found[0] if found else None)


def _template(name: str, marker: str | None) -> str | None:
    """A string that fits a name with a number; None if there is none."""
    digits = list(re.finditer(r"[0-9]+", name))
    if not digits:
        return None
    before, after = name[: digits[-1].start()], name[digits[-1].end() :]
    text = f"{_escape(before)}{{step}}{_escape(after)}"
    text = text if marker is None else f"{text}/{_escape(marker)}"
    try:
        fits = Template(text).match(name) is not None
    except ValueError:
        return None  # There is a `*` in it, say.
    return text if fits else None


def _escape(text: str) -> str:
    return text.replace("{", "{{").replace("}", "}}")
