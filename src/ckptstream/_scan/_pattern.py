"""One look at a pattern: which directories match it now."""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Callable, Collection, Mapping
from functools import lru_cache
from typing import NamedTuple

from .._stores import LocalLocation
from .._watchers import Meaning, Subscription
from ._attempt import attempt
from ._memory import Ground, Look
from ._watching import Watching


class Match(NamedTuple):
    """
    A run that matches.

    Attributes:
        path: The root as the user wrote it, and the names that match.
        identity: Device and inode: another directory may have taken its place.
    """

    path: str
    identity: tuple[int, int]


class PatternRequest(NamedTuple):
    """
    What a look at a pattern needs to know; nothing in it changes while the look goes on.

    Attributes:
        root: What stands before the part with the first `*`, as the user wrote it; may be empty.
        parts: That part and those after it.
        known: The names in the root that earlier looks looked into, with the runs below each.
        hints: Names in the root of which something has changed since.
        full: List the root; otherwise only the hints are followed.
        subscription: To watch with; None to poll, and why.
        trust_any: Watch also where events are not known to be complete.
    """

    root: str
    parts: tuple[str, ...]
    known: Mapping[str, tuple[Match, ...]]
    hints: Collection[str]
    full: bool
    ground: Ground | None
    subscription: Subscription | None
    why_poll: str
    trust_any: bool

    @property
    def location(self) -> LocalLocation:
        """The root as the system understands it."""
        return LocalLocation(self.root or ".")


class Matches(NamedTuple):
    """
    What matches now.

    Attributes:
        look: How the look went. If it was full, all that is not in *below* is no match any more.
        below: The names in the root that were looked into, with the runs below each.
        unreadable: Why some of those could not be looked into, or not whole; what was known of
            them holds on.
    """

    look: Look
    below: dict[str, tuple[Match, ...]]
    unreadable: dict[str, str]


def split(path: str) -> tuple[str, tuple[str, ...]]:
    """The root of a pattern, which is a plain path, and the parts from the first `*` on."""
    parts = path.split("/")
    first = next(number for number, part in enumerate(parts) if "*" in part)
    root = "/".join(parts[:first])
    if path.startswith("/") and not root:
        root = "/"
    return root, tuple(part for part in parts[first:] if part not in ("", "."))


def match(request: PatternRequest, alive: Callable[[], None]) -> Matches:
    """
    Look for the directories that match, in a thread.

    Args:
        request: What is known already.
        alive: Called now and then, as a sign of life.
    """
    watching = Watching(request)
    matching = _Matching(request, watching, alive)
    look = attempt(watching, matching.look)
    below = {} if look.trouble is not None else matching.below
    return Matches(look, below, matching.unreadable)


class _Matching:
    def __init__(
        self, request: PatternRequest, watching: Watching, alive: Callable[[], None]
    ) -> None:
        self._request = request
        self._watching = watching
        self._alive = alive
        self._full = True
        self._watched: set[tuple[str, str]] = set()  # what is watched, and for which name
        self.below: dict[str, tuple[Match, ...]] = {}
        self.unreadable: dict[str, str] = {}

    def look(self) -> Look:
        request = self._request
        ground = self._watching.stand()
        self._full = request.full or self._watching.moved
        names = os.listdir(request.location.path) if self._full else request.hints
        for name in sorted(names):
            if fits(name, request.parts[0]):
                path = os.path.join(request.root, name)
                self.below[name] = tuple(self._look_into(path, request.parts[1:], name))
        self._watching.release(self._full, self._is_wanted)
        return Look(full=self._full, ground=ground)

    def _look_into(self, path: str, parts: tuple[str, ...], entry: str) -> list[Match]:
        """The runs at or below *path*. What cannot be read for a while has not gone."""
        self._alive()
        try:
            return self._find(path, parts, entry)
        except OSError as error:
            self.unreadable[entry] = f"{error.strerror}: {path!r}"
            known = self._request.known.get(entry, ())
            return [match for match in known if f"{match.path}/".startswith(f"{path}/")]

    def _find(self, path: str, parts: tuple[str, ...], entry: str) -> list[Match]:
        """The runs at or below *path*. What could become one, or another one, is watched."""
        identity = _directory(path)
        if identity is None:
            return []
        if not parts:
            return [Match(path, identity)]
        part, rest = parts[0], parts[1:]
        if "*" not in part:
            below = os.path.join(path, part)
            # Watch first, then look: it may appear between the two. A run that is there is watched
            # by itself; but it does not notice that a directory above it is moved.
            if rest or _directory(below) is None:
                self._watch(path, Meaning(entry=entry, only=part))
            return self._find(below, rest, entry)
        self._watch(path, Meaning(entry=entry))
        names = [name for name in sorted(os.listdir(path)) if fits(name, part)]
        found = (self._look_into(os.path.join(path, n), rest, entry) for n in names)
        return [match for matches in found for match in matches]

    def _watch(self, path: str, meaning: Meaning) -> None:
        assert meaning.entry is not None
        self._watched.add((path, meaning.entry))
        self._watching.watch(path, meaning)

    def _is_wanted(self, path: str, name: str) -> bool:
        return (path, name) in self._watched or not (self._full or name in self.below)


def _directory(path: str) -> tuple[int, int] | None:
    """Which directory lies there, if one does. Raises `OSError` if that cannot be told for now."""
    try:
        found = os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        if error.errno == errno.ELOOP:
            return None
        raise
    return (found.st_dev, found.st_ino) if stat.S_ISDIR(found.st_mode) else None


def fits(name: str, part: str) -> bool:
    """Whether a name fits one part of a pattern."""
    # As in a shell, a name that begins with a dot is matched only by one that is written.
    hidden = name.startswith(".") and not part.startswith(".")
    return not hidden and _compiled(part).fullmatch(name) is not None


@lru_cache
def _compiled(part: str) -> re.Pattern[str]:
    return re.compile(".*".join(map(re.escape, part.split("*"))), re.DOTALL)
