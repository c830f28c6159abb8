"""Lines on standard output, written without blocking the event loop."""

from __future__ import annotations

import hashlib
import json
import os
import re
import select
from collections.abc import Awaitable, Callable
from functools import partial

import anyio

from .. import Checkpoint
from .._model import absolute
from .._threads import Call
from ._units import shown

_STDOUT = 1
_OFTEN = 0.2  # seconds
_STRANGE = re.compile(r"[^A-Za-z0-9._=+-]+")
_LONGEST = 80  # characters that an identifier has of each name


class Lines:
    """
    Writes a line for each checkpoint.

    Args:
        as_json: Write an object with every field, rather than the path.
        say: Writes a line where there is a live view; None: there is none.
    """

    def __init__(self, as_json: bool, say: Callable[[str], Awaitable[None]] | None = None) -> None:
        self._json = as_json
        self._say = say
        # Only there is room for more than the path: `xargs` takes every word for an argument.
        self._wordy = os.isatty(_STDOUT)
        self._output = Output()

    async def write(self, checkpoint: Checkpoint) -> None:
        """
        Write the line of one checkpoint.

        Raises:
            BrokenPipeError: Nobody reads it.
        """
        line = self._line(checkpoint)
        if self._say is not None:
            await self._say(line)
            return
        await self._output.write(os.fsencode(f"{line}\n"))

    def _line(self, checkpoint: Checkpoint) -> str:
        if self._json:
            return json.dumps(fields(checkpoint))
        if self._wordy:
            return shown(f"{checkpoint.path}  step {checkpoint.step}  {checkpoint.layout}")
        return checkpoint.path


async def reader_has_gone() -> None:
    """Wait until nobody reads standard output any more."""
    poll = select.poll()
    poll.register(_STDOUT, 0)  # That it was closed is told unasked.
    while not poll.poll(0):  # noqa: ASYNC110  # No event loop waits for that alone.
        await anyio.sleep(_OFTEN)


def is_drawable() -> bool:
    """Whether standard output is a terminal that can be drawn on."""
    return os.isatty(_STDOUT) and os.environ.get("TERM", "dumb") not in {"dumb", "unknown"}


class Output:
    """Standard output, written to in a thread: its reader may be slow, or a terminal stopped."""

    def __init__(self) -> None:
        self._lock = anyio.Lock()
        self._left: Call[None] | None = None  # by who was cancelled

    async def write(self, data: bytes) -> None:
        """
        Write all of it. Who is cancelled leaves at once, and it is written as soon as it can be.

        Raises:
            OSError: It cannot be written.
        """
        async with self._lock:
            if self._left is not None:
                await self._left.wait()
            # Nobody waits until it is ready: a terminal that says so may block all the same.
            self._left = Call(partial(_write, data), lambda: "standard output")
            await self._left.wait()
            self._left = None


def _write(data: bytes, alive: Callable[[], None]) -> None:
    while data:
        data = data[os.write(_STDOUT, data) :]
        alive()


def fields(checkpoint: Checkpoint) -> dict[str, str | int | None]:
    """All that is known of a checkpoint, by the names that the command line has for it."""
    return {
        "path": checkpoint.path,
        "step": checkpoint.step,
        "run": checkpoint.run,
        "layout": checkpoint.layout,
        "generation": checkpoint.generation,
        "identifier": identifier(checkpoint),
    }


def identifier(checkpoint: Checkpoint) -> str:
    """
    A word that can be a file's name; another one for each name in each run.

    Made of the last two names of the run's absolute path or URL, the checkpoint's name, and a hash
    of both. The same from wherever the run is followed, whether pinned or not, and for each
    generation.
    """
    run, name = absolute(checkpoint.run), os.path.basename(checkpoint.path)
    digest = hashlib.blake2b(os.fsencode(f"{run}\0{name}"), digest_size=5).hexdigest()
    words = "-".join(run.split("/")[-2:])[-_LONGEST:], name[-_LONGEST:], digest
    return "-".join(_STRANGE.sub("_", word).strip("-._") for word in words).lstrip("-")
