"""What a look at a pattern needs to know, and what it says."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from functools import lru_cache
from typing import NamedTuple

from .._stores import Location
from .._watchers import Subscription
from ._memory import Ground, Look
from ._watching import Watching


class Match(NamedTuple):
    """
    A run that matches.

    Attributes:
        path: The root as the user wrote it, and the names that match.
        identity: Device and inode: another directory may have taken its place. A prefix has none.
    """

    path: str
    identity: tuple[int, int]


class PatternRequest(NamedTuple):
    """
    What a look at a pattern needs to know; nothing in it changes while the look goes on.

    Attributes:
        location: The root, as the system understands it.
        root: What stands before the part with the first `*`, as the user wrote it; may be empty.
        parts: That part and those after it.
        known: The names in the root that earlier looks looked into, with the runs below each.
        hints: Names in the root of which something has changed since.
        full: List the root; otherwise only the hints are followed.
        thorough: Look into every name in the root, also where each is a request that is paid for.
        seen: The names in the root that the last look saw, where not all are looked into at once.
        turn: The one of them that was looked into last.
        subscription: To watch with; None to poll, and why.
        trust_any: Watch also where events are not known to be complete.
    """

    location: Location
    root: str
    parts: tuple[str, ...]
    known: Mapping[str, tuple[Match, ...]]
    hints: Collection[str]
    full: bool
    thorough: bool
    seen: frozenset[str]
    turn: str
    ground: Ground | None
    subscription: Subscription | None
    why_poll: str
    trust_any: bool


class Matches(NamedTuple):
    """
    What matches now.

    Attributes:
        look: How the look went. If it was full, all that is not in *below* is no match any more.
        below: The names in the root that were looked into, with the runs below each.
        unreadable: Why some of those could not be looked into, or not whole; what was known of
            them holds on.
        seen: For the next `PatternRequest`, as is *turn*.
    """

    look: Look
    below: dict[str, tuple[Match, ...]]
    unreadable: dict[str, str]
    seen: frozenset[str]
    turn: str


class Matching:
    """One look at a pattern, whatever it is that matches."""

    def __init__(
        self, request: PatternRequest, watching: Watching, alive: Callable[[], None]
    ) -> None:
        self._request = request
        self._watching = watching
        self._alive = alive
        self._below: dict[str, tuple[Match, ...]] = {}
        self._unreadable: dict[str, str] = {}
        self._seen, self._turn = request.seen, request.turn

    def matches(self, look: Look) -> Matches:
        """What was found."""
        below = {} if look.trouble is not None else self._below
        return Matches(look, below, self._unreadable, self._seen, self._turn)


def split(path: str) -> tuple[str, tuple[str, ...]]:
    """The root of a pattern, which is a plain path, and the parts from the first `*` on."""
    parts = path.split("/")
    first = next(number for number, part in enumerate(parts) if "*" in part)
    root = "/".join(parts[:first])
    if path.startswith("/") and not root:
        root = "/"
    return root, tuple(part for part in parts[first:] if part not in ("", "."))


def fits(name: str, part: str) -> bool:
    """Whether a name fits one part of a pattern."""
    # As in a shell, a name that begins with a dot is matched only by one that is written.
    hidden = name.startswith(".") and not part.startswith(".")
    return not hidden and _compiled(part).fullmatch(name) is not None


@lru_cache
def _compiled(part: str) -> re.Pattern[str]:
    return re.compile(".*".join(map(re.escape, part.split("*"))), re.DOTALL)
