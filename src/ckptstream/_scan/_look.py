"""One look at one run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from sys import intern

from .._errors import CursorLocked
from .._stores import Profile, Store
from ..layouts import Verdict, judge
from ..layouts._auto import NOBODY, Auto
from ..layouts._pointers import POINTER_LIMIT
from ._attempt import attempt
from ._candidates import RELIST, Candidates, hinted, known, listed
from ._evidence import StoreEvidence
from ._foreign import Place, foreign, unfinished
from ._memory import Entry, Ground, Look, Request, Trouble, Witness
from ._watching import Watching

_FEW = 3  # entries that are explained anew in each look
_MANY = 100  # hints: so many new ones are not all among the newest


def look(request: Request, alive: Callable[[], None]) -> Look:
    """
    Look at a run, in a thread.

    Args:
        request: What is known already.
        alive: Called now and then, as a sign of life.

    Raises:
        CursorError: The cursor cannot be read, or the run belongs to another stream.
    """
    claim, began = None, request.clock()
    if request.cursor is not None and request.claimed is None:
        try:
            claim = request.cursor.claim(request.location.path, briefly=True)
        except CursorLocked as error:
            reason = Trouble.LOCKED.value
            return Look(trouble=Trouble.LOCKED, detail=str(error), reason=reason)
        request = request._replace(claimed=claim.run)
    watching = Watching(request)
    result = attempt(
        watching, lambda: _Looking(request, watching, alive).result, whole=request.whole
    )
    result.began, result.claim = began, claim
    return result


class _Looking:
    def __init__(self, request: Request, watching: Watching, alive: Callable[[], None]) -> None:
        self._request = request
        self._watching = watching
        ground = watching.stand()
        self._profile: Profile = ground.profile
        self._store: Store = request.location.open(ground.profile, alive)
        announced = any(layout.pointer in request.hints for layout in request.pointers)
        # What a pointer names may be new, of which no other event need tell in a bucket.
        full = request.full or watching.moved or (announced and self._profile.paid)
        modified = watching.modified() if full else -1
        trusted = full and ground.trusted and not request.thorough
        unchanged = trusted and modified == ground.modified
        # A pointer is read before the listing, for that must hold what it names. Where none was,
        # a new one is in the listing, or would have changed the directory's time.
        likely = full and (ground.pointer or (watching.moved and not self._profile.paid))
        self._pointed, pointer = request.pointed, ground.pointer
        if likely or announced:
            self._pointed, pointer = self._read_pointers()
            unchanged |= likely and self._says_all(ground, pointer)
        self._told = {name for name, hint in request.hints.items() if hint is not None}
        if unchanged:
            candidates = known(request, paid=self._profile.paid)
        elif full:
            candidates, ground = listed(request, self._store, ground, modified, alive)
            if candidates.pointer and not likely:
                self._pointed, pointer = self._read_pointers()
                candidates, ground = listed(request, self._store, ground, modified, alive)
        else:
            candidates = hinted(request, self._store, alive)
        self._named = frozenset(name for names in self._pointed for name in names)
        unwatched = full or len(request.hints) > _MANY
        self.result = Look(full=full, unwatched=unwatched, pointed=self._pointed)
        self.result.ground = ground._replace(pointer=pointer)
        self.result.explains = full and candidates.puzzles
        self._look_into(candidates, alive)
        if candidates.puzzles and (not unchanged or len(candidates.groups) <= _FEW):
            self._explain(candidates.groups, alive)

    def _says_all(self, ground: Ground, pointer: bool) -> bool:
        """Whether a pointer that names the same as before is answer enough."""
        request = self._request
        recent = request.clock() - ground.listed < RELIST
        same = pointer and bool(self._pointed) and self._pointed == request.pointed
        return self._profile.paid and same and recent and not request.whole

    def _read_pointers(self) -> tuple[tuple[tuple[str, ...], ...], bool]:
        """What the pointers name, and whether there are any."""
        names, layouts = list[tuple[str, ...]](), self._request.pointers
        # Several frameworks have the same name for theirs.
        contents = {
            pointer: self._store.pointer(pointer, POINTER_LIMIT)
            for pointer in dict.fromkeys(layout.pointer for layout in layouts)
        }
        for layout in layouts:
            content = contents[layout.pointer]
            names.append(() if content is None else layout.pointed(content))
        return tuple(filter(None, names)), any(content is not None for content in contents.values())

    def _look_into(self, candidates: Candidates, alive: Callable[[], None]) -> None:
        request, result = self._request, self.result
        result.gone, result.vanished = candidates.gone, candidates.vanished
        result.foreign = candidates.foreign
        self._store.expect(candidates.groups)
        for name, members in candidates.groups.items():
            alive()
            entry, parts = request.entries.get(name), tuple(sorted(members))
            if entry is None or not self._is_same(name, parts, entry):
                self._examine(name, parts)
        if result.full and len(result.settling) > 1:
            self._order_settling()
        if request.subscription is not None:
            watched = {*request.newest, *request.unfinished, *result.changed} - set(result.gone)
            self._watching.release(result.full, lambda path, name: name in watched)

    def _order_settling(self) -> None:
        """A listing is in any order; they are looked at again, and delivered, in that of steps."""
        entries = {**self._request.entries, **self.result.changed}

        def place(name: str) -> tuple[bool, int, str]:
            step = entries[name].step
            return step is not None, step or 0, name

        settling = self.result.settling
        self.result.settling = {name: settling[name] for name in sorted(settling, key=place)}

    def _explain(self, groups: Mapping[str, set[str]], alive: Callable[[], None]) -> None:
        """Find out more where nothing is finished: `seed_1` may be a run, `step_1` anybody's."""
        request, changed = self._request, self.result.changed
        if not groups or len(request.entries) > len(groups) or request.entries.keys() - groups:
            return
        entries = [changed.get(name) or request.entries.get(name) for name in groups]
        place = Place(request.location, self._profile, self._store)
        if all(entry is None or entry.layout == NOBODY for entry in entries):
            self.result.foreign = foreign(request, groups, place, alive)
        elif all(entry is None or entry.missing is not None for entry in entries):
            self.result.foreign = unfinished(request, groups, place)

    def _is_same(self, name: str, members: tuple[str, ...], entry: Entry) -> bool:
        """Whether a finished entry is what it was, so that it need not be judged again."""
        witness = entry.witness
        # Of a checkpoint in several files events tell by their names.
        told = any(map(self._told.__contains__, (name, *members)))
        if entry.missing is not None or witness is None or told or members != entry.members:
            return False
        # Every look arms again. Watched first, the witness then speaks of all that went before.
        if name in self._request.newest and self._watching.kind == "inotify":
            places = {(name + file).rpartition("/")[0] for file in witness.files} - {""}
            self._watching.watch_entry(name, places)
        return self._holds(name, witness)

    def _holds(self, name: str, witness: Witness) -> bool:
        try:
            return witness.is_same(name, self._store)
        except OSError:
            return False  # To be told of this entry, not of the whole run.

    def _examine(self, name: str, members: tuple[str, ...]) -> None:
        old = self._request.entries.get(name)
        entry, evidence = self._judge(name, members, old)
        wanted = entry.missing is not None or name in self._request.newest
        # What an event told of is among the newest from now on.
        told = not self.result.unwatched and self._request.hints.get(name) is not None
        # What only time can prove is looked at again soon, and watched if it is not finished then:
        # where ten thousand lie, watching each of them took as long as looking at it.
        soon = old is None and evidence.again is not None and entry.missing is not None
        if soon and self.result.full:
            wanted = False
        fresh = (wanted or told) and self._watching.watch_entry(name, evidence.places)
        if fresh and not (entry.witness is not None and self._holds(name, entry.witness)):
            entry, evidence = self._judge(name, members, old)
        if evidence.again is not None and entry.missing is not None:
            self.result.settling[name] = evidence.again
        if entry.missing is None:
            self._recognise(name, entry.layout, evidence)
        if entry != old:
            self.result.changed[name] = entry
            self._recall(name, entry)

    def _recognise(self, name: str, chosen: str, evidence: StoreEvidence) -> None:
        """Note by what `auto` has recognised a layout's first one."""
        layout, known = self._request.layout, dict(self.result.recognised)
        if isinstance(layout, Auto) and chosen not in {*known, *self._request.recognised}:
            with suppress(OSError):  # Another one will tell.
                sign = intern(layout.sign(chosen, name, evidence))
                self.result.recognised += ((chosen, sign),)

    def _recall(self, name: str, entry: Entry) -> None:
        cursor, run = self._request.cursor, self._request.claimed
        if cursor is None or run is None or entry.missing is not None or entry.generation is None:
            return
        memory = cursor.recall(run, name, entry.generation)
        if memory is not None:
            self.result.remembered[name] = memory

    def _judge(
        self, name: str, members: tuple[str, ...], old: Entry | None
    ) -> tuple[Entry, StoreEvidence]:
        evidence = StoreEvidence(
            self._store,
            self._profile,
            self._request.clock,
            name=name,
            members=members,
            # What has just been moved here is another entry, though it may have the old inode.
            old=None if self._request.hints.get(name) else old,
            named=self._is_named,
        )
        try:
            evidence.recognise()
            verdict = judge(self._request.layout, name, evidence)
            if verdict.missing is None and not evidence.still():
                verdict = verdict._replace(missing="it is still being written")
        except OSError as error:
            # EACCES on a finished checkpoint is neither "incomplete" nor "corrupt".
            missing = f"{Trouble.UNREADABLE.value}: {error.strerror}: {error.filename!r}"
            blank = Entry(None, self._request.layout.name, members, missing, None)
            unreadable = replace(old or blank, members=members, missing=missing, witness=None)
            return unreadable, evidence
        return self._entry(name, old, verdict, evidence), evidence

    def _entry(
        self, name: str, old: Entry | None, verdict: Verdict, evidence: StoreEvidence
    ) -> Entry:
        missing, generation = verdict.missing, verdict.generation
        if missing is None and generation is None:
            missing = "it is vanishing"
        known = None if generation is None else str(generation)
        pointed = known if name in self._named else None
        if pointed is None and old is not None:
            pointed = old.pointed
        same = old is not None and evidence.before is not None
        written = old.written if old is not None and same else 0
        again = old is not None and same and old.rewritten
        return Entry(
            step=verdict.step,
            layout=verdict.layout,
            members=tuple(evidence.members),
            missing=missing,
            generation=known if missing is None else evidence.before,
            stamp=generation if isinstance(generation, int) else None,
            inode=evidence.inode,
            pointed=pointed,
            settling=tuple(evidence.settling),
            seen_unfinished=evidence.seen_unfinished or missing is not None,
            witness=evidence.witness() if missing is None else None,
            written=evidence.newest if missing is None else written,
            rewritten=missing is not None and (again or 0 < written < evidence.newest),
        )

    def _is_named(self, name: str, evidence: StoreEvidence, old: Entry | None) -> bool:
        """The pointer's word counts for the generation that was there when it named it."""
        if name in self._named:
            return True
        if old is None or old.pointed is None:
            return False
        layouts = self._request.pointers
        return any(str(layout.generation(name, evidence)) == old.pointed for layout in layouts)
