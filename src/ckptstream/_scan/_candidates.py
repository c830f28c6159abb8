"""Which checkpoints a look has to look into: by a listing, or by the events alone."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from .._stores import Store
from ._foreign import Place, foreign
from ._memory import Foreign, Ground, Request

_TRUST_AFTER = 2.0  # seconds: the coarsest directory times there are (FAT)


@dataclass(slots=True)
class Candidates:
    """
    Attributes:
        groups: The checkpoints to look into, with their names in the run's directory.
        gone: Entries that are no longer there.
        vanished: Checkpoints that an event told of and that are not there, with their steps.
        foreign: What lies there if nothing was recognised.
        pointer: Whether a listing has found a pointer.
    """

    groups: dict[str, set[str]] = field(default_factory=dict[str, set[str]])
    gone: tuple[str, ...] = ()
    vanished: tuple[tuple[str, int | None], ...] = ()
    foreign: Foreign | None = None
    pointer: bool = False


def known(request: Request) -> Candidates:
    """Where the directory's time says that nothing has come or gone."""
    again = {*request.unfinished, *request.newest, *_hinted(request)} & request.entries.keys()
    return Candidates({name: set(request.entries[name].members) for name in again})


def listed(
    request: Request, store: Store, ground: Ground, modified: int, alive: Callable[[], None]
) -> tuple[Candidates, Ground]:
    """By a listing of the run's directory; *modified*: its time before that."""
    same = modified == ground.modified
    began = request.clock()
    names = store.names()
    # In another directory than before, the old names say nothing.
    request = request._replace(thorough=request.thorough or ground.modified < 0)
    found = _compare(request, *_group(request, names, alive))
    found.pointer = not {layout.pointer for layout in request.pointers}.isdisjoint(names)
    if not found.groups and not request.entries:
        place = Place(request.location, ground.profile, alive)
        found.foreign = foreign(request, names, place)
    if not same:
        return found, ground._replace(modified=modified, since=request.clock(), trusted=False)
    # Where renames are not known to be atomic, directory times are not known to change either.
    trusted = began - ground.since >= _TRUST_AFTER and ground.profile.rename
    return found, ground._replace(trusted=trusted)


def _group(
    request: Request, names: Iterable[str], alive: Callable[[], None]
) -> tuple[set[str], dict[str, set[str]]]:
    """What is known by its own name alone, and the members of everything else."""
    lone, groups = set[str](), dict[str, set[str]]()
    known = request.entries.get
    for count, name in enumerate(names):
        entry = known(name)
        # A profile of polling showed nothing but the matching of names that were matched before.
        if entry is not None and entry.members == (name,):
            lone.add(name)
        elif (matched := request.layout.match(name)) is not None:
            groups.setdefault(matched[0], set()).add(name)
        if count % 1000 == 0:
            alive()
    for name in lone & groups.keys():
        groups[name].add(name)
    return lone, groups


def _compare(request: Request, lone: set[str], groups: dict[str, set[str]]) -> Candidates:
    here = lone | groups.keys()
    vanished = tuple(item for item in _arrived(request).items() if item[0] not in here)
    again = {*request.newest, *request.unfinished, *_hinted(request)}
    wanted = lone if request.thorough else lone & again
    due = {n: m for n, m in groups.items() if request.thorough or n in again or _due(request, n, m)}
    due |= {name: {name} for name in wanted - groups.keys()}
    entries = request.entries
    some = bool(entries.keys() - here)  # Seldom: then they are looked for one by one, in order.
    gone = tuple(name for name in entries if name not in here) if some else ()
    return Candidates(due, gone, vanished)


def _due(request: Request, name: str, members: set[str]) -> bool:
    old = request.entries.get(name)
    return old is None or old.missing is not None or members != set(old.members)


def _hinted(request: Request) -> set[str]:
    """The checkpoints to which the names in the hints belong."""
    matches = {hint: request.layout.match(hint) for hint in request.hints}
    return {hint if match is None else match[0] for hint, match in matches.items()}


def hinted(request: Request, store: Store, alive: Callable[[], None]) -> Candidates:
    """By the events since the last look: however many others lie here, it costs the same."""
    groups = dict[str, set[str]]()
    if any(layout.pointer in request.hints for layout in request.pointers):
        groups = {name: set(request.entries[name].members) for name in request.unfinished}
    for hint in request.hints:
        matched = request.layout.match(hint)
        name = hint if matched is None else matched[0]
        if name in request.entries:
            groups.setdefault(name, set()).update(request.entries[name].members)
        if matched is not None:
            groups.setdefault(name, set()).add(hint)
    return _still_there(request, store, groups, alive)


def _still_there(
    request: Request, store: Store, groups: dict[str, set[str]], alive: Callable[[], None]
) -> Candidates:
    found, arrived = Candidates(), _arrived(request)
    for name, members in groups.items():
        alive()  # What has settled are ten thousand at once, which took a busy machine a second.
        there = {m for m in members if store.has(m)}
        if there:
            found.groups[name] = there
            continue
        if name in request.entries:
            found.gone += (name,)
        if name in arrived:
            found.vanished += ((name, arrived[name]),)
    return found


def _arrived(request: Request) -> dict[str, int | None]:
    """The checkpoints of which something was created or moved in, with their steps."""
    names = (name for name, arrived in request.hints.items() if arrived)
    return dict(match for name in names if (match := request.layout.match(name)) is not None)
