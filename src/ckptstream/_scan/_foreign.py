"""What lies in a directory in which nothing was recognised: it only serves an explanation."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from itertools import chain, islice

from .._stores import Location, Profile, Store
from ..layouts import Auto, Layout, Template, judge
from ..layouts._auto import NOBODY
from ..layouts._names import is_temporary, is_weights
from ._evidence import StoreEvidence
from ._memory import Entry, Foreign, Request, Stranger

_EXAMPLES = 3
_LOOK_BELOW = 100  # sub-directories of a directory in which nothing was recognised
_PAID_BELOW = 10  # of them, where each is a request that is paid for
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


class Place:
    """
    A directory with entries to be explained.

    Args:
        location: Where it lies.
        profile: What can be trusted there.
        store: What the look asks.
    """

    def __init__(self, location: Location, profile: Profile, store: Store) -> None:
        self.location = location
        self.profile = profile
        self.store = store

    def evidence(self, name: str, members: Iterable[str]) -> StoreEvidence:
        """What a layout may ask about an entry."""
        return _Hopeful(
            self.store,
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


def foreign(
    request: Request, names: Iterable[str], place: Place, alive: Callable[[], None]
) -> Foreign | None:
    """What lies there that nobody recognises, to explain the silence."""
    strangers = sorted(name for name in names if not is_temporary(name))
    if not strangers:
        return None  # The first checkpoint is on its way.
    some = strangers[: _PAID_BELOW if place.profile.paid else _LOOK_BELOW]
    inside = {name: _inside(name, place) for name in some}
    below = tuple(
        name for name, files in inside.items() if _is_run(request.layout, name, files, place)
    )
    return Foreign(
        total=len(strangers),
        examples=tuple(strangers[:_EXAMPLES]),
        below=below,
        itself=_itself(request, place, alive),
        stranger=None if below else _stranger(inside, place),
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
    stranger = _stranger({name: _inside(name, place) for name in some}, place)
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


def _itself(request: Request, place: Place, alive: Callable[[], None]) -> tuple[str, str] | None:
    """If the directory is a checkpoint itself, by which layout, and the one to follow."""
    try:
        above = place.location.above()
    except OSError:
        return None  # The working directory is gone.
    if above is None:
        return None
    parent, name = above
    own = (request.layout,) if isinstance(request.layout, Template) else ()
    for layout in (*own, _AUTO):
        matched = layout.match(name)
        if matched is not None and matched[0] == name:
            whole = Place(parent, place.profile, parent.open(place.profile, alive))
            found = whole.finished(layout, name, (name,))
            if found is not None:
                return found, parent.path
    return None


def _inside(name: str, place: Place) -> Sequence[str] | None:
    """What lies in a directory, as far as it matters; None if it is none, or cannot be read."""
    try:
        found = place.store.stat(name)
        if found is None or not found.is_directory:
            return None
        names = place.store.list(name)[:_LOOK_INSIDE]
    except OSError:
        return None
    return [each for each in names if not is_temporary(each)]


def _is_run(layout: Layout, name: str, files: Sequence[str] | None, place: Place) -> bool:
    """Whether a directory holds checkpoints, and is not rather one with files of such names."""
    found = [each for each in files or () if layout.match(each) is not None]
    if layout.match(name) is None or _SAYS_CHECKPOINT.fullmatch(name) is None:
        return bool(found)
    says = (each for each in found if _SAYS_CHECKPOINT.fullmatch(each))
    return any(_is_directory(f"{name}/{each}", place) for each in says)


def _is_directory(path: str, place: Place) -> bool:
    try:
        found = place.store.stat(path)
    except OSError:
        return False
    return found is not None and found.is_directory


def _stranger(inside: dict[str, Sequence[str] | None], place: Place) -> Stranger | None:
    """The entry that looks most like a checkpoint of the user's own, if one does."""
    found = list[Stranger]()
    for name, children in inside.items():

        def is_file(child: str, name: str = name) -> bool:
            return not _is_directory(f"{name}/{child}", place)

        marks = (each for each in children or () if _SAYS_FINISHED.fullmatch(each))
        marker = next(filter(is_file, marks), None)
        says = (
            is_weights(name) if children is None else _SAYS_CHECKPOINT.fullmatch(name) is not None
        )
        if (children is not None and not children) or (marker is None and not says):
            continue
        template = _template(name, marker)
        if template is not None:
            others = filter(is_file, (each for each in children or () if each != marker))
            shown = islice(others if marker is None else chain((marker,), others), _EXAMPLES)
            found.append(Stranger(name, tuple(shown), marker, template))
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
