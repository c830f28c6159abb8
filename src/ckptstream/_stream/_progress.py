"""What a cursor remembers of one run, and what it is told."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from .._cursor import Claim, Memory, Record, State
from .._scan import Entry


class Notes(Protocol):
    """Where it is written down; `Journal` says how."""

    @property
    def silence(self) -> str | None: ...
    def add(self, run: int, record: Record) -> None: ...
    def add_baseline(self, run: int) -> None: ...


class Progress:
    """
    One run's.

    Attributes:
        run: Its number in the cursor; None before the first look, which finds it out.
    """

    __slots__ = ("_awaited", "_has_baseline", "_notes", "run")

    def __init__(self, notes: Notes) -> None:
        self._notes = notes
        self.run: int | None = None
        self._has_baseline = False
        # What was to be delivered when the run was last followed, and may be gone.
        self._awaited: dict[tuple[str, str], Record] = {}

    @property
    def silence(self) -> str | None:
        """Why nothing is delivered at the moment, if the cursor does not answer."""
        return self._notes.silence

    def enter(self, claim: Claim) -> None:
        """The run is ours."""
        self.run, self._has_baseline = claim.run, claim.baseline
        self._awaited = {(record.name, record.generation): record for record in claim.pending}

    def take_baseline(self) -> None:
        """The first look at the run is entered."""
        if not self._has_baseline and self.run is not None:
            self._has_baseline = True
            self._notes.add_baseline(self.run)

    def note(self, name: str, generation: str | None, step: int | None, memory: Memory) -> None:
        """Remember how far a checkpoint has come."""
        if self.run is not None:
            self._notes.add(self.run, Record(name, generation or "", step, memory))

    def awaits(self, name: str) -> bool:
        """Whether something of that name was to be delivered when the run was last followed."""
        return any(awaited == name for awaited, _ in self._awaited)

    def lost(self, entries: Mapping[str, Entry]) -> list[Record]:
        """What was to be delivered and is not there any more; each of them once."""
        if not self._awaited:
            return []
        decided = dict[tuple[str, str], Record]()
        for key, record in self._awaited.items():
            entry = entries.get(record.name)
            if entry is None or entry.missing is None:
                decided[key] = record
        for key in decided:
            del self._awaited[key]
        return [record for record in decided.values() if not _is_there(record, entries)]


def _is_there(record: Record, entries: Mapping[str, Entry]) -> bool:
    entry = entries.get(record.name)
    return entry is not None and entry.generation == record.generation


SEEN, DONE, SKIPPED, MISSED = (
    Memory(state) for state in (State.SEEN, State.DONE, State.SKIPPED, State.MISSED)
)
