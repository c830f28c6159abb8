"""What a pointer proves, and of what it proves nothing."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from ._files import files_below, newer_than
from ._proofs import Renamed, Settled, newer_data
from ._subject import Subject


@dataclass(frozen=True, slots=True)
class Pointed:
    """
    The layout's pointer names the checkpoint, or once named the generation that is there.

    A pointer that is older than the data may have named the last save of the same step: it counts
    once the data has settled.

    Args:
        later: A later step will do, once the data has settled, if the pointer was written after it.
            After a rollback the pointer names a later step while this one is written again. Where
            all that it names is newer than itself it was copied, and its time says nothing; but
            it does not count for what was finished before, and written again since.
        last: Nothing of a save comes after the pointer: where only a part of what it names is newer
            than itself, that is being written again.
        unless: If there may be no pointer, what lies beside it instead, where renames are not
            atomic; there it has settled, too. What was found finished needs no pointer that comes
            later.
        written: Which of the data nobody but the trainer writes; all of it if there is none.
    """

    later: bool = False
    last: bool = False
    unless: str = ""
    written: tuple[str, ...] = ()

    def lacking(self, subject: Subject) -> str | None:
        """That the pointer does not name it."""
        if self.unless and not self._is_wanted(subject):
            return Renamed().lacking(subject)
        names = [name for name, _ in subject.pointing()] if subject.renewed else []
        if subject.evidence.named and (not subject.renewed or subject.name in names):
            return self._mixed(subject) or newer_data(subject.pointer, subject)
        named, reached = next(iter(subject.pointing()), ("", None))
        if not self.later or subject.step is None or reached is None:
            return f"not named by {subject.pointer!r} yet"
        newer = newer_than(subject.pointer, self._written(subject), subject.evidence)
        if reached <= subject.step:
            return _not_reached(subject, reached, newer)
        if newer is not None and (subject.renewed or not _is_copied(named, subject)):
            newer = subject.short(newer)
            return f"{newer} is newer than {subject.pointer!r}, which names step {reached}"
        return Settled().lacking(subject)

    def _is_wanted(self, subject: Subject) -> bool:
        """Whether there is a pointer, and it was not found finished without one."""
        evidence = subject.evidence
        if evidence.before is not None and not subject.renewed:
            return False
        if evidence.stat(subject.pointer) is not None:
            return True
        return not evidence.rename_is_atomic and evidence.stat(self.unless) is None

    def _mixed(self, subject: Subject) -> str | None:
        """That there are files of two saves, as far as the pointer's time tells."""
        files = self._written(subject) if self.last else ()
        newer = newer_than(subject.pointer, files, subject.evidence)
        if newer is None or _is_copied(subject.name, subject):
            return None
        return f"{subject.short(newer)} is newer than {subject.pointer!r}"

    def _written(self, subject: Subject) -> Iterable[str]:
        found = [path for pattern in self.written for path in subject.find(pattern)]
        return found or subject.data


def _not_reached(subject: Subject, reached: int, newer: str | None) -> str:
    """Why what the pointer has not come to is not finished; *newer*: what is newer than it."""
    if newer is not None or not subject.data:
        return f"not named by {subject.pointer!r} yet"
    # Finished in a timeline that was given up, or half-written when it was: both look alike.
    return (
        f"not named by {subject.pointer!r}, which has gone back to step {reached} since: "
        "left from before a rollback, finished or not"
    )


def _is_copied(named: str, subject: Subject) -> bool:
    """Whether the pointer is older than all that it names, which no trainer leaves like that."""
    evidence = subject.evidence
    files = [path for path, _ in files_below(named, evidence)]
    return bool(files) and all(newer_than(subject.pointer, [path], evidence) for path in files)
