"""Which directories match a pattern now."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable

from .._watchers import Meaning
from ._memory import Look
from ._pattern import Match, Matching, PatternRequest, fits
from ._watching import Watching


class Directories(Matching):
    """One look at a pattern on a filesystem."""

    def __init__(
        self, request: PatternRequest, watching: Watching, alive: Callable[[], None]
    ) -> None:
        super().__init__(request, watching, alive)
        self._full = True
        self._watched: set[tuple[str, str]] = set()  # what is watched, and for which name

    def look(self) -> Look:
        """Look for them. Raises `OSError` if the root cannot be listed."""
        request = self._request
        ground = self._watching.stand()
        self._full = request.full or self._watching.moved
        names = os.listdir(request.location.path) if self._full else request.hints
        for name in sorted(names):
            if fits(name, request.parts[0]):
                path = os.path.join(request.root, name)
                self._below[name] = tuple(self._look_into(path, request.parts[1:], name))
        self._watching.release(self._full, self._is_wanted)
        return Look(full=self._full, ground=ground)

    def _look_into(self, path: str, parts: tuple[str, ...], entry: str) -> list[Match]:
        """The runs at or below *path*. What cannot be read for a while has not gone."""
        self._alive()
        try:
            return self._find(path, parts, entry)
        except OSError as error:
            self._unreadable[entry] = f"{error.strerror}: {path!r}"
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
        return (path, name) in self._watched or not (self._full or name in self._below)


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
