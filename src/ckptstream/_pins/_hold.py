"""Pin a checkpoint and release it: the blocking core of all that pins."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

from .._errors import PinUnsupported
from .._model import Checkpoint
from ..layouts import Layout
from ._claims import Claim, claim, collect
from ._links import Links, explain
from ._subject import Subject
from ._trees import remove

# Beside the run, not in it: some frameworks take every name there for a checkpoint. No pattern of
# `follow`, and no framework's own, matches a leading dot.
DIRECTORY = ".ckptstream-pins"
_TRIES = 3


class NotWantedError(Exception):
    """Raised where a pin is being made that nobody waits for any more."""


class Hold:
    """
    A checkpoint that is pinned.

    Attributes:
        pinned: The checkpoint at the pin's own path.
    """

    def __init__(self, pinned: Checkpoint, claim: Claim) -> None:
        self.pinned = pinned
        self._claim = claim
        self._files: dict[str, tuple[int, int]] = {}

    def remember(self, alive: Callable[[], None]) -> None:
        """Remember the files as they are now, for `is_intact`."""
        self._files = _written(self._claim.directory, alive)

    def is_intact(self, alive: Callable[[], None]) -> bool:
        """Whether nobody has written to a file since `remember`: a link is the same file."""
        now = _written(self._claim.directory, alive)
        return all(now.get(path) == seen for path, seen in self._files.items())

    def release(self, alive: Callable[[], None] = lambda: None) -> None:
        """Remove the links. Idempotent; never raises for what cannot be removed, but logs it."""
        self._claim.release(alive)


def _written(directory: str, alive: Callable[[], None]) -> dict[str, tuple[int, int]]:
    """Size and time of every file below *directory*."""
    found = dict[str, tuple[int, int]]()
    for where, _, names in os.walk(directory):
        for name in names:
            alive()
            path = os.path.join(where, name)
            stat = os.lstat(path)
            found[path] = stat.st_size, stat.st_mtime_ns
    return found


def take(
    checkpoint: Checkpoint,
    layout: Layout,
    alive: Callable[[], None] = lambda: None,
    is_wanted: Callable[[], bool] = lambda: True,
) -> Hold:
    """
    Pin a checkpoint, in a thread; and first remove what dead processes left in the same place.

    Args:
        checkpoint: As it was delivered.
        layout: By which it is judged.
        alive: Called for each file, as a sign of life.
        is_wanted: Asked for each file.

    Raises:
        CheckpointGone: If it is not there any more as it was delivered.
        PinUnsupported: If no links can be made.
        NotWantedError: If it was not wanted any more.
        OSError: If the storage cannot be read, or is full.
    """

    def go_on() -> None:
        alive()
        if not is_wanted():
            raise NotWantedError

    if sys.platform == "win32":
        raise PinUnsupported(checkpoint.path, "this system has no POSIX file locks")
    subject = Subject(checkpoint, layout, go_on)
    members = subject.verify()
    root = _root(subject.run)
    collect(root, alive)
    claimed = _claim(subject, root)
    try:
        _link(subject, members, claimed.directory, go_on)
    except BaseException:
        claimed.release(alive)
        raise
    return Hold(subject.at(claimed.directory), claimed)


def clean(run: str, alive: Callable[[], None]) -> None:
    """Remove what dead processes have left beside a run."""
    if sys.platform != "win32":
        collect(_root(os.path.realpath(run)), alive)


def _root(run: str) -> str:
    """Where the pins of a run lie, whose path leads over no symbolic links."""
    return os.path.join(os.path.dirname(run), DIRECTORY)


def _claim(subject: Subject, root: str) -> Claim:
    try:
        return claim(root, subject.profile.linked_locks)
    except FileNotFoundError:
        subject.verify()  # The directory above the run has been deleted, most likely.
        raise
    except OSError as error:
        explain(error, subject.path, root)
        raise


def _link(
    subject: Subject, members: tuple[str, ...], directory: str, go_on: Callable[[], None]
) -> None:
    """Make *directory*, with a link for all that the checkpoint consists of."""
    come = list[str]()
    for _ in range(_TRIES):
        links = Links(subject.path, go_on, subject.profile.inodes)
        os.mkdir(directory)
        try:
            for member in members:
                links.add(os.path.join(subject.run, member), os.path.join(directory, member))
        except (FileNotFoundError, NotADirectoryError) as error:
            subject.verify()  # It has better words, if the layout knows.
            raise subject.gone(f"it is being deleted ({error.filename!r} has vanished)") from error
        # What was there before the links and is there after them was there all the time.
        again = subject.verify_again()
        lost, come = links.compare()
        if lost:
            raise subject.gone(f"it is being deleted or written again ({min(lost)!r} has vanished)")
        come += set(again) - set(members)
        if not come:
            return
        # Somebody has added to it meanwhile, and without that it is not whole.
        remove(directory, go_on)
        members = again
    raise subject.gone(f"it keeps changing ({min(come)!r} is new)")
