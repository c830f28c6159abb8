"""Where a directory lies, and what watches it. Watch first, then look: what changes wakes us."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Collection
from typing import Protocol

from .._stores import LocalLocation, Location, Profile
from .._watchers import Meaning, Subscription
from ._memory import Ground
from ._paths import turns

_RUN = Meaning()
_NOT_THERE = frozenset({errno.ENOENT, errno.ENOTDIR})
_LIMITS = {errno.ENOSPC: "max_user_watches", errno.EMFILE: "max_user_instances"}


class Watched(Protocol):
    """What is known of a directory before a look at it; `Request` says what each one means."""

    @property
    def location(self) -> Location: ...
    @property
    def full(self) -> bool: ...
    @property
    def ground(self) -> Ground | None: ...
    @property
    def subscription(self) -> Subscription | None: ...
    @property
    def why_poll(self) -> str: ...
    @property
    def trust_any(self) -> bool: ...


class Watching:
    """
    One look's dealings with the watcher.

    Attributes:
        location: What is looked at.
        kind: `"inotify"` if all that matters is watched, else `"poll"`; *reason* says why.
        out_of: The kernel limit that was hit, if any.
        moved: The run's directory is another one than before, or was not watched before.
    """

    def __init__(self, request: Watched) -> None:
        self._request = request
        self.location = request.location
        self._turns = list[tuple[str, str]]()
        self.kind = "poll"
        self.reason = request.why_poll
        self.out_of: str | None = None
        self.moved = request.ground is None
        self._modified: int | None = None  # the directory's own time, if it was asked for

    def stand(self) -> Ground:
        """Watch the run and learn what it lies on. Raises `OSError` if it is not there."""
        request, ground = self._request, self._request.ground
        if (request.full or ground is None) and request.subscription is not None:
            self._turns = turns(self.location.path)
        if ground is not None:
            self.moved |= self._watch_run(ground.profile)
            if self.kind == "inotify" and not self.moved:
                return ground  # The same watch: the same directory.
        identity, self._modified = self.location.stand()
        if ground is None or ground.identity != identity:
            known = self.location.profile()
            self._watch_run(known)
            ground, self.moved = Ground(identity, known, -1, 0.0, False), True
        return ground

    def kept(self) -> Ground | None:
        """
        What is still known after a fault; None: nothing, and the next look goes over everything.

        A prefix is always the same place. A server that is overloaded must not be asked for more.
        """
        ground = self._request.ground
        if ground is None or not ground.profile.paid:
            return None
        return ground._replace(names=0)  # What nobody recognises is explained anew.

    def modified(self) -> int:
        """The directory's own time, asked for once. Raises `OSError`."""
        if self._modified is None:
            self._modified = self.location.stand()[1]
        return self._modified

    def _watch_run(self, known: Profile) -> bool:
        """Watch the directory and the way to it; whether it had not been watched before."""
        request = self._request
        if request.subscription is None:
            return False
        if not (known.events or request.trust_any):
            self.reason = f"{known.filesystem} may change without an event"
            return False
        self.kind, self.reason = "inotify", f"{known.filesystem} is local"
        try:
            fresh = request.subscription.arm(self.location.path, _RUN)
            for directory, name in self._turns:
                request.subscription.arm(directory, Meaning(only=name))
        except OSError as error:
            self._refused(error)
            return False
        return fresh

    def watch_entry(self, name: str, places: Collection[str]) -> bool:
        """Watch where an entry's evidence lies; whether a place had not been watched before."""
        fresh = False
        for place in sorted(places):
            fresh |= self.watch(os.path.join(self.location.path, place), Meaning(entry=name))
        return fresh

    def watch(self, path: str, meaning: Meaning) -> bool:
        """Watch a directory, where events can be trusted; whether it had not been watched."""
        subscription = self._request.subscription
        if subscription is None or self.kind != "inotify":
            return False
        try:
            return subscription.arm(path, meaning)
        except OSError as error:
            # What is not there has a parent that is another place, or the directory itself.
            if error.errno not in _NOT_THERE:
                self._refused(error)
            return False

    def watch_gap(self) -> bool:
        """
        The run is not there: watch the nearest parent that is, and each link on the way.

        Returns:
            Whether the way has changed meanwhile, so that another look is due.
        """
        request, subscription = self._request, self._request.subscription
        if subscription is None:
            return False
        self.kind, self.reason = "poll", request.why_poll
        try:
            places = turns(self.location.path)
        except OSError:
            self.reason = "the working directory is gone"
            return False
        try:
            if not (request.trust_any or all(_tells(place) for place, _ in places)):
                self.reason = "its parent may change without an event"
                return False
            for place, name in places:
                subscription.arm(place, Meaning(only=name))
        except OSError as error:
            if error.errno in _NOT_THERE:
                return True
            self._refused(error)
            return False
        wanted = {(place, Meaning(only=name)) for place, name in places}
        subscription.keep(lambda path, meaning: (path, meaning) in wanted)
        if places:
            self.kind, self.reason = "inotify", f"waits in {places[-1][0]!r}"
        return turns(self.location.path) != places or os.path.exists(self.location.path)

    def release(self, full: bool, still: Callable[[str, str], bool]) -> None:
        """
        Watch no longer what is not wanted, nor a way that leads here no longer.

        Args:
            full: Whether the look was.
            still: Whether a path is wanted that is watched for an entry.
        """
        turning = set(self._turns)

        def wanted(path: str, meaning: Meaning) -> bool:
            if meaning.entry is not None:
                return still(path, meaning.entry)
            return meaning.only is None or not full or (path, meaning.only) in turning

        if self._request.subscription is not None:
            self._request.subscription.keep(wanted)

    def _refused(self, error: OSError) -> None:
        if error.errno in _NOT_THERE:
            raise error
        limit = _LIMITS.get(error.errno or 0)
        if limit is not None:
            self.out_of = f"fs.inotify.{limit}"
        reason = error.strerror if limit is None else f"fs.inotify.{limit} is exhausted"
        self.kind, self.reason = "poll", str(reason)


def _tells(place: str) -> bool:
    """Whether events tell of every change there."""
    return LocalLocation(place).profile().events
