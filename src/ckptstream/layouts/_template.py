"""Checkpoints whose names a user describes by a string."""

from __future__ import annotations

import re
import string
from dataclasses import dataclass, field

from ._files import VANISHING, files_below, largest_file, mark, newer_than
from ._footers import unfinished_file
from ._names import is_weights
from ._protocol import Evidence


@dataclass(frozen=True, slots=True)
class Template:
    """
    Checkpoints with a name of your own, such as `ckpt_{step}.pt` or `step_{step}/DONE`.

    `{step}` stands for a number, `{{` and `}}` for braces. What follows a `/` is a marker: the
    directory is finished when it is there; a file of weights is no marker, and must have its
    format's end and have settled. Without a marker a file is finished when its format's
    end is there and it has settled, a directory when its files have.

    Args:
        pattern: The string.

    Raises:
        ValueError: If it is no name of a checkpoint.
    """

    pattern: str
    _name: re.Pattern[str] = field(init=False, repr=False, compare=False)
    _marker: str = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        before, after, marker = _parse(self.pattern)
        name = re.compile(f"{re.escape(before)}([0-9]+){re.escape(after)}", re.DOTALL)
        object.__setattr__(self, "_name", name)
        object.__setattr__(self, "_marker", marker)

    def __str__(self) -> str:
        return self.pattern.replace("{step}", "1000")

    @property
    def name(self) -> str:
        """The string itself."""
        return self.pattern

    def match(self, name: str) -> tuple[str, int | None] | None:
        """The file or directory itself, with its number."""
        step = self._name.fullmatch(name)
        return None if step is None else (name, int(step[1]))

    def missing(self, name: str, evidence: Evidence) -> str | None:
        """The marker; without one, the file's end or any file, and that it has settled."""
        if evidence.stat(name) is None:
            return "not there"
        own = self._own(name)
        entry = evidence.stat(own)
        if entry is None:
            return f"no {self._marker}"
        if self._marker and (entry.is_directory or not is_weights(own)):
            # Somebody writes it last; weights are there from their first byte on.
            return _uploaded_after(own, name, evidence)
        if entry.is_directory:
            lacking = _unfinished_directory(own, evidence)
        else:
            lacking = unfinished_file(own, entry, evidence)
        if lacking is not None or evidence.settled(own):
            return lacking
        return f"waits until {self._marker or 'it'} has settled"

    def generation(self, name: str, evidence: Evidence) -> str | None:
        """The fingerprint of the marker, of the file, or of the directory's largest file."""
        own = self._own(name)
        entry = evidence.stat(own)
        if entry is None or not entry.is_directory:
            return evidence.fingerprint(own)
        largest = largest_file(own, evidence)
        return None if largest is None else f"{evidence.fingerprint(largest)}-{mark(largest)}"

    def _own(self, name: str) -> str:
        """What tells whether it is finished: the marker, else the file or directory itself."""
        return f"{name}/{self._marker}" if self._marker else name


def _uploaded_after(marker: str, name: str, evidence: Evidence) -> str | None:
    """That files are newer than the marker: an upload that began with it may go on."""
    if evidence.rename_is_atomic:
        return None
    files = (path for path, _ in files_below(name, evidence))
    newer = newer_than(marker, files, evidence)
    if newer is None or evidence.settled(name):
        return None
    newer, marker = (path.removeprefix(f"{name}/") for path in (newer, marker))
    return f"{newer} is newer than {marker}: waits until it has settled"


def _unfinished_directory(name: str, evidence: Evidence) -> str | None:
    marks = {mark(path) for path, _ in files_below(name, evidence)}
    if not marks:
        return "empty"
    # Saved again, the largest file is another one of the same name; deleted, it is gone, and what
    # is left must not pass for a new checkpoint.
    if evidence.before is not None and evidence.before.rpartition("-")[2] not in marks:
        return VANISHING
    return None


def _parse(pattern: str) -> tuple[str, str, str]:
    """The text before `{step}`, the text after it, and the marker ("" without one)."""
    parts = pattern.split("/")
    if any(part in {"", ".", ".."} or "*" in part or "\0" in part for part in parts):
        raise _error(pattern, "write a name in the run's directory, without '*', '..' or '//'")
    name, *marker = (_literals(pattern, part) for part in parts)
    steps = [len(literals) - 1 for literals in (name, *marker)]
    if steps[0] == 0 and any(steps):
        raise _error(pattern, f"follow the directory {parts[0]!r} itself")
    if sum(steps) != 1:
        raise _error(pattern, "write {step} exactly once")
    return name[0], name[1], "/".join(text for (text,) in marker)


def _literals(pattern: str, part: str) -> list[str]:
    """The text before, between and after each `{step}`."""
    try:
        fields = list(string.Formatter().parse(part))
    except ValueError:
        raise _error(pattern, "write a literal brace as '{{' or '}}'") from None
    literals = [""]
    for literal, placeholder, spec, conversion in fields:
        literals[-1] += literal
        if placeholder is not None:
            if (placeholder, spec, conversion) != ("step", "", None):
                raise _error(pattern, "write {step}, which reads padded numbers too, and no other")
            literals.append("")
    return literals


def _error(pattern: str, remedy: str) -> ValueError:
    return ValueError(f"layout={pattern!r} names no checkpoints: {remedy}")
