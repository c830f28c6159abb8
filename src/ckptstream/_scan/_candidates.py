"""Which checkpoints a look has to look into: by a listing, or by the events alone."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field

from .._stores import Store
from ..layouts import FileStat
from ._foreign import Place, foreign
from ._memory import Foreign, Ground, Request

_TRUST_AFTER = 2.0  # seconds: the coarsest directory times there are (FAT)
_MANY = 1000  # names, that a store lists in one request at most
RELIST = 120.0  # seconds between two listings of everything, where each request is paid for


@dataclass(slots=True)
class Candidates:
    """
    Attributes:
        groups: The checkpoints to look into, with their names in the run's directory.
        gone: Entries that are no longer there.
        vanished: Checkpoints that an event told of and that are not there, with their steps.
        foreign: What lies there if nothing was recognised.
        pointer: Whether a listing has found a pointer.
        puzzles: Whether what nobody recognises has not been explained before, as far as is known.
    """

    groups: dict[str, set[str]] = field(default_factory=dict[str, set[str]])
    gone: tuple[str, ...] = ()
    vanished: tuple[tuple[str, int | None], ...] = ()
    foreign: Foreign | None = None
    pointer: bool = False
    puzzles: bool = True


def known(request: Request, *, paid: bool) -> Candidates:
    """Where the directory's time says that nothing has come or gone, or a pointer does."""
    newest = () if paid else request.newest
    again = {*request.unfinished, *newest, *_hinted(request)} & request.entries.keys()
    groups = {name: set(request.entries[name].members) for name in again}
    return Candidates(groups, puzzles=not paid)  # A directory is cheap to explain anew.


def listed(
    request: Request, store: Store, ground: Ground, modified: int, alive: Callable[[], None]
) -> tuple[Candidates, Ground]:
    """By a listing of the run's directory; *modified*: its time before that."""
    same = modified == ground.modified
    began = request.clock()
    some = _new_names(request, store, ground, began)
    names = store.names() if some is None else some
    if some is None:
        last = _last_in_order(request, names) if ground.profile.paid and len(names) > _MANY else ""
        ground = ground._replace(listed=began, after=last)
    if ground.profile.paid and not request.whole:
        # Of objects a listing tells whether they were written again; of others it is asked less
        # often.
        newest = [n for n in request.newest if some is None and _is_file(store.stat(n))]
        request = request._replace(newest=newest)
    # In another directory than before, the old names say nothing.
    request = request._replace(thorough=request.thorough or ground.modified < 0)
    found = _compare(request, *_group(request, names, alive))
    if ground.profile.paid:
        before, ground = ground.names, ground._replace(names=hash(frozenset(names)))
        found.puzzles = request.thorough or before != ground.names
    pointers = {layout.pointer for layout in request.pointers}.intersection(names)
    found.pointer = any(not ground.profile.paid or _is_file(store.stat(p)) for p in pointers)
    if not found.groups and not request.entries:
        place = Place(request.location, ground.profile, store)
        found.foreign = foreign(request, names, place, alive) if found.puzzles else None
    if not same:
        return found, ground._replace(modified=modified, since=request.clock(), trusted=False)
    # Where renames are not known to be atomic, directory times are not known to change either.
    trusted = began - ground.since >= _TRUST_AFTER and ground.profile.rename
    return found, ground._replace(trusted=trusted)


def _is_file(found: FileStat | None) -> bool:
    return found is not None and not found.is_directory


def _new_names(
    request: Request, store: Store, ground: Ground, now: float
) -> Collection[str] | None:
    """What is known and what is new, where only that need be listed; None: it must be all."""
    if not ground.after or request.whole or now - ground.listed >= RELIST:
        return None
    news = store.names_after(ground.after)
    known = (name for each in request.entries.values() for name in each.members)
    return None if news is None else {*known, *news}


def _last_in_order(request: Request, names: Iterable[str]) -> str:
    """The last checkpoint's name, if names are in the order of steps: their numbers are padded."""
    last, highest = "", -1
    for name in sorted(names, key=str.encode):
        matched = request.layout.match(name)
        if matched is not None and matched[1] is not None:
            if matched[1] < highest:
                return ""
            last, highest = matched[0], matched[1]
    return last


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
