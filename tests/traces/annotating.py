"""
What the operations of a framework mean, and how they are written down.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial

from contents import RUN, describe
from recording import Content, Operation

# What differs from one recording to the next, by kind: temporary names, hashes and times.
_RANDOM = {
    "{:032x}": r"(?<![0-9a-f])[0-9a-f]{32}(?![0-9a-f])",
    ".tmp{:06}": r"\.tmp[A-Za-z0-9]{6}(?![A-Za-z0-9])",
    "/tmp{:08}": r"/tmp[a-z0-9_]{8}(?![a-z0-9_])",
    "tempstate{}": r"tempstate[0-9]+",
    "1700000000{:09}": r"\b1[78][0-9]{17}\b",
    "1700000{:03}.0": r"\b1[78][0-9]{8}\.[0-9]+",
}


@dataclass(frozen=True)
class Rules:
    """
    How to read the operations of one framework.

    The first group of a rule is the checkpoint's name, or what follows ` => ` says how the name is
    made of the groups.

    Attributes:
        commit: Fits the operation that finishes a checkpoint, with the group `step` if it has one.
            The file's content follows the paths.
        owner: Fits each path that belongs to a checkpoint.
        keep: Fits the paths of files whose content matters.
        keys: Fits what is kept of their JSON objects.
        whole: Fits the operation after which nothing of a checkpoint changes, if another one
            finishes it.
    """

    commit: str
    owner: str
    keep: str = r"$^"
    keys: str = r".*"
    whole: str = r"$^"


@dataclass
class Annotator:
    """
    Writes operations down, with what they mean.
    """

    rules: Rules
    run: str
    _state: dict[str, str] = field(default_factory=dict[str, str])
    _there: set[str] = field(default_factory=set[str])
    _names: dict[str, str] = field(default_factory=dict[str, str])

    def lines(self, operations: Iterable[Operation]) -> Iterator[str]:
        """
        The lines of a trace.
        """
        for operation in operations:
            before = self._begins(operation)
            if before is not None:
                yield before
            yield self._canonical(self._line(operation))
            after = self._finishes(operation)
            if after is not None:
                yield after

    def _begins(self, operation: Operation) -> str | None:
        """
        Whether a finished checkpoint is about to be written again or deleted.
        """
        path = operation.paths[-1]
        again = path in self._there and operation.verb in {"create", "rename"}
        self._follow(operation)
        if operation.verb == "utime":
            found = _match(self.rules.owner, path := operation.paths[0])
            whole = found is not None and self._state.get(found[0]) == "whole"
            return f"touch {path}" if whole else None
        gone = operation.paths[0] if operation.verb in {"unlink", "rmdir", "rename"} else None
        found = _match(self.rules.owner, path if again else gone or "")
        if found is None or self._state.get(found[0]) != "commit":
            return None
        self._state[found[0]] = "overwrite" if again else "delete"
        return f"{self._state[found[0]]} {found[0]}"

    def _follow(self, operation: Operation) -> None:
        if operation.verb in {"unlink", "rename"}:
            self._there.discard(operation.paths[0])
        if operation.verb in {"create", "rename", "symlink", "link"}:
            self._there.add(operation.paths[-1])
        if operation.verb == "rename":
            old, new = (f"{path}/" for path in operation.paths)
            below = {path for path in self._there if path.startswith(old)}
            self._there -= below
            self._there |= {new + path.removeprefix(old) for path in below}

    def _finishes(self, operation: Operation) -> str | None:
        content = operation.content
        if operation.verb == "write" and content is not None and operation.part < content.parts:
            return None
        text = " ".join([operation.verb, *operation.paths])
        if content is not None:
            text += f" {bytes(content.data)!r}"
        for verb, rule in ("commit", self.rules.commit), ("whole", self.rules.whole):
            found = _match(rule, text)
            if found is not None and self._state.get(found[0]) not in {"commit", verb}:
                self._state[found[0]] = verb
                return f"{verb} {found[0]} {found[1]}"
        return None

    def _line(self, operation: Operation) -> str:
        words = [operation.verb, *map(shlex.quote, operation.paths)]
        if operation.verb in {"write", "zeros"} and operation.content is not None:
            words += self._content(operation, operation.content)
        return " ".join(words).replace(self.run, RUN)

    def _content(self, operation: Operation, content: Content) -> Iterator[str]:
        if operation.verb == "write" and content.parts > 1:
            yield f"{operation.part}/{content.parts}"
        keep = re.fullmatch(self.rules.keep, operation.paths[0]) is not None
        yield describe(bytes(content.data), keep=keep, keys=self.rules.keys)

    def _canonical(self, line: str) -> str:
        for wanted, pattern in _RANDOM.items():
            line = re.sub(pattern, partial(self._name, wanted), line)
        return line

    def _name(self, wanted: str, found: re.Match[str]) -> str:
        return self._names.setdefault(found[0], wanted.format(len(self._names) + 1))


def _match(rule: str, text: str) -> tuple[str, int | str] | None:
    """
    A checkpoint's name, and its step or `-`.
    """
    pattern, _, name = rule.partition(" => ")
    found = re.match(pattern, text)
    if found is None:
        return None
    step = found.groupdict().get("step")
    return found.expand(name or r"\1"), "-" if step is None else int(step)
