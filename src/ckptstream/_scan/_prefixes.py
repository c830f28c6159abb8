"""Which prefixes match a pattern now, where each listing is a request that is paid for."""

from __future__ import annotations

import os
from bisect import bisect
from collections.abc import Collection, Iterable

from .._stores import Store
from ._memory import Look
from ._pattern import Match, Matching, fits

_IN_TURN = 10  # names in the root that are looked into by one look, beside those that are new


class Prefixes(Matching):
    """
    One look at a pattern in a bucket: one listing of the root, which tells of new runs.

    What lies below a name that was there before is looked into in turn. A run that is gone says so
    itself.
    """

    def look(self) -> Look:
        """Look for them. Raises `OSError` if the root cannot be listed."""
        request = self._request
        ground = self._watching.stand()
        store = request.location.open(ground.profile, self._alive)
        names, whole = self._names(store)
        for name in names:
            self._below[name] = tuple(self._look_into(store, name))
        return Look(full=whole, ground=ground)

    def _names(self, store: Store) -> tuple[Collection[str], bool]:
        """The names in the root to look into, and whether they are all that may match."""
        request = self._request
        first, rest = request.parts[0], request.parts[1:]
        if not request.full:
            return [name for name in request.hints if fits(name, first)], False
        here = sorted(name for name in _directories(store, "", store.names()) if fits(name, first))
        self._seen = frozenset(here)
        if not rest or request.thorough or request.ground is None:
            return here, True
        gone, new = request.known.keys() - here, self._seen - request.seen
        # One that is gone says so itself, but a second `*` may match more and more below it.
        more = any("*" in part for part in rest)
        known = () if more else request.known
        old = [name for name in here if name in request.seen and name not in known]
        start = bisect(old, request.turn)
        turn = (old[start:] + old[:start])[:_IN_TURN]
        self._turn = turn[-1] if turn else ""
        return gone | new | {*turn} | (self._seen & {*request.hints}), False

    def _look_into(self, store: Store, name: str) -> list[Match]:
        """The runs at or below a name in the root. What cannot be read for a while has not gone."""
        try:
            return list(self._find(store, name, self._request.parts[1:]))
        except OSError as error:
            self._unreadable[name] = f"{error.strerror}: {error.filename!r}"
            return list(self._request.known.get(name, ()))

    def _find(self, store: Store, path: str, parts: tuple[str, ...]) -> Iterable[Match]:
        if not parts:
            found = store.stat(path)
            if found is not None and found.is_directory:
                yield Match(os.path.join(self._request.root, path), (0, 0))
            return
        part, rest = parts[0], parts[1:]
        if "*" not in part:
            yield from self._find(store, f"{path}/{part}", rest)
            return
        for name in _directories(store, path, store.list(path)):
            if fits(name, part):
                yield from self._find(store, f"{path}/{name}", rest)


def _directories(store: Store, path: str, names: Iterable[str]) -> Iterable[str]:
    """Those of the names that are prefixes of others."""
    for name in names:
        found = store.stat(f"{path}/{name}".strip("/"))
        if found is not None and found.is_directory:
            yield name
