"""What a cursor remembers."""

from __future__ import annotations

import os
from enum import Enum
from typing import NamedTuple


class State(Enum):
    """How far a checkpoint has come."""

    SEEN = "seen"
    """It was seen finished, and is to be delivered."""

    FAILED = "failed"
    """It was delivered, and the attempt failed: it is to be delivered again."""

    DONE = "done"
    SKIPPED = "skipped"
    """It was passed over."""

    MISSED = "missed"
    """It was deleted before it could be delivered; should it come back after all, it is new."""

    SET_ASIDE = "set aside"
    """It has failed too often."""

    @property
    def is_final(self) -> bool:
        """Whether it is not delivered again."""
        return self in {State.DONE, State.SKIPPED, State.SET_ASIDE}

    @property
    def reaches(self) -> bool:
        """Whether `until_step` counts it."""
        return self in {State.DONE, State.MISSED, State.SET_ASIDE}


class Memory(NamedTuple):
    """
    What is known of one generation of a checkpoint.

    Attributes:
        attempts: How many have failed.
        reason: Why the last one did.
    """

    state: State
    attempts: int = 0
    reason: str = ""


class Record(NamedTuple):
    """
    What is to be remembered of one generation of a checkpoint.

    Attributes:
        name: Its name in the run's directory.
        generation: Empty if it was never seen finished.
        step: Its step, or None.
    """

    name: str
    generation: str
    step: int | None
    memory: Memory


class Claim(NamedTuple):
    """
    A run that belongs to one open stream, and what is remembered of it.

    Attributes:
        run: Its number in the file.
        baseline: Whether what was there at the first look ever was passed over.
        reached: The highest step that is done, was missed or set aside; None if there is none.
        pending: What was seen, or has failed, and is still to be delivered.
        set_aside: What has failed too often, the latest 100.
    """

    run: int
    baseline: bool
    reached: int | None
    pending: tuple[Record, ...]
    set_aside: tuple[Record, ...]


def key_of(value: str) -> str | bytes:
    """A path as the database keeps it: as text, or as bytes where it is not UTF-8."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return os.fsencode(value)
    return value


def number_of(text: str | None) -> int | None:
    """A step as the database keeps it, which is as text: SQLite's integers end at 2**63."""
    return None if text is None else int(text)


def record_of(row: tuple[str | bytes, str, str | None, str, int, str]) -> Record:
    """A row: name, generation, step, state, attempts, reason."""
    name, generation, step, state, attempts, reason = row
    memory = Memory(State(state), attempts, reason)
    return Record(os.fsdecode(name), generation, number_of(step), memory)
