"""Try out what a storage does."""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager
from typing import NamedTuple

_PATIENCE = 1.0  # seconds that an event is waited for


class Probed(NamedTuple):
    """
    What was found.

    Attributes:
        event: Seconds until inotify told of a new file; None: it did not.
        clock: Seconds that the storage's clock is ahead of this host's.
        links: Whether a hard link can be made.
    """

    event: float | None
    clock: float
    links: bool


def probe(directory: str) -> Probed:
    """
    Write two small files, blocking, and remove them.

    Raises:
        OSError: Nothing can be written there.
    """
    with _events(directory) as wait:
        before, began = time.time(), time.monotonic()
        # No layout takes a name that begins with a dot for a checkpoint.
        file, path = tempfile.mkstemp(prefix=".ckptstream-probe-", dir=directory)
        try:
            os.write(file, b"ckptstream doctor\n")
            os.fsync(file)
            written = os.stat(path).st_mtime
            clock = written - (before + time.time()) / 2
            event = time.monotonic() - began if wait(os.path.basename(path)) else None
            return Probed(event, clock, _can_link(path))
        finally:
            os.close(file)
            os.unlink(path)


def _can_link(path: str) -> bool:
    link = f"{path}-link"
    try:
        os.link(path, link)
    except OSError:
        return False
    os.unlink(link)
    return True


@contextmanager
def _events(directory: str) -> Generator[Callable[[str], bool]]:
    """While it is open, events are collected; it gives what waits for that of one name."""
    if sys.platform != "linux":
        yield lambda name: False
        return
    from inotify_simple import INotify, flags

    with ExitStack() as stack:
        try:
            inotify = stack.enter_context(INotify())
            inotify.add_watch(directory, flags.CREATE)
        except OSError:
            inotify = None  # A limit was hit, which is said elsewhere.

        def wait(name: str) -> bool:
            until = time.monotonic() + _PATIENCE
            while inotify is not None and (rest := until - time.monotonic()) > 0:
                if any(event.name == name for event in inotify.read(timeout=int(rest * 1000))):
                    return True
            return False

        yield wait
