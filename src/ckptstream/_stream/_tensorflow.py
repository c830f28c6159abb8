"""The contract of `tf.train`: newest only, paths as text, TensorFlow's names and argument order."""

from __future__ import annotations

import os
from types import TracebackType

import anyio

from .._model import Checkpoint, Status, absolute
from ..layouts import Layout, resolve
from . import arguments as check
from . import places
from ._engine import Engine
from ._stream import CheckpointStream
from .arguments import Options, TimeoutFn, WatcherChoice
from .places import RunPath, StrPath


class PathStream:
    """A `CheckpointStream` that gives paths; what `checkpoints_iterator` returns."""

    def __init__(self, stream: CheckpointStream) -> None:
        self._stream = stream
        self.engine = stream.engine

    def __aiter__(self) -> PathStream:
        return self

    async def __anext__(self) -> str:
        return (await anext(self._stream)).path

    async def aclose(self) -> None:
        """End it now; see `CheckpointStream.aclose`."""
        await self._stream.aclose()

    async def __aenter__(self) -> PathStream:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._stream.aclose()

    def wake(self, *paths: StrPath) -> None:
        """Look now; see `CheckpointStream.wake`."""
        self._stream.wake(*paths)

    def status(self) -> Status:
        """What it knows; see `CheckpointStream.status`."""
        return self._stream.status()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self.engine}>"


def checkpoints_iterator(
    checkpoint_dir: RunPath,
    min_interval_secs: float = 0,
    timeout: float | None = None,
    timeout_fn: TimeoutFn | None = None,
    *,
    layout: str | Layout = "auto",
    watcher: WatcherChoice = "auto",
) -> PathStream:
    """
    Iterate over new checkpoints as they are finished: the newest each time, as a path.

    `tf.train.checkpoints_iterator` for `async for`, and for other frameworks too. Unlike it, this
    also gives a checkpoint that was written again at the same path, and on expiry of the timeout
    takes one more complete look before it ends.

    Args:
        checkpoint_dir: The directory that the checkpoints lie in.
        min_interval_secs: Seconds between two checkpoints, at least.
        timeout: Seconds to wait for one new checkpoint, at most. None waits for ever.
        timeout_fn: As in `follow`. Without a timeout it is never asked, as in TensorFlow.
        layout: As in `follow`.
        watcher: As in `follow`.

    Raises:
        TypeError: An argument is of the wrong type.
        ValueError: An argument makes no sense; the message names it and its value.
    """
    options = Options(
        layout=resolve(layout),
        latest_only=True,
        min_interval_secs=check.seconds("min_interval_secs", min_interval_secs),
        timeout=check.optional_seconds("timeout", timeout),
        timeout_fn=check.timeout_function("timeout_fn", timeout_fn),
        watcher=check.watcher_choice("watcher", watcher),
    )
    location = places.location("checkpoint_dir", checkpoint_dir)
    return PathStream(CheckpointStream(Engine([location], options)))


async def wait_for_new_checkpoint(
    checkpoint_dir: RunPath,
    last_checkpoint: StrPath | None = None,
    seconds_to_sleep: float = 1,
    timeout: float | None = None,
    *,
    layout: str | Layout = "auto",
    watcher: WatcherChoice = "auto",
) -> str | None:
    """
    Wait until the newest finished checkpoint is another one than *last_checkpoint*.

    Args:
        checkpoint_dir: The directory that the checkpoints lie in.
        last_checkpoint: The path seen last, or None to take any. A `Checkpoint` also tells a new
            generation at the same path.
        seconds_to_sleep: Seconds between two looks where events cannot be trusted.
        timeout: Seconds to wait at most. None waits for ever.
        layout: As in `follow`.
        watcher: As in `follow`.

    Returns:
        Its path, or None when the timeout has expired.

    Raises:
        NotADirectoryError: If *checkpoint_dir* is a file.
        TypeError: An argument is of the wrong type.
        ValueError: An argument makes no sense; the message names it and its value.
    """
    options = Options(
        layout=resolve(layout),
        latest_only=True,
        timeout=check.optional_seconds("timeout", timeout),
        poll_interval=check.seconds("seconds_to_sleep", seconds_to_sleep),
        watcher=check.watcher_choice("watcher", watcher),
    )
    location = places.location("checkpoint_dir", checkpoint_dir)
    if last_checkpoint is not None:
        places.directory("last_checkpoint", _path_of(last_checkpoint))
    async with CheckpointStream(Engine([location], options)) as stream:
        begin = anyio.current_time()
        async for found in stream:
            if not _is_same(found, last_checkpoint):
                return found.path
            if options.timeout is not None:
                # The same one saved again is not what is waited for.
                left = begin + options.timeout - anyio.current_time()
                stream.engine.expiry.timeout = max(0.0, left)
    return None


def _is_same(found: Checkpoint, last: StrPath | None) -> bool:
    if last is None or isinstance(last, Checkpoint):
        return found == last
    return absolute(found.path) == absolute(os.fspath(last))


def _path_of(last: StrPath) -> StrPath:
    return last.path if isinstance(last, Checkpoint) else last


async def latest_checkpoint(
    checkpoint_dir: RunPath,
    latest_filename: str | None = None,
    *,
    layout: str | Layout = "auto",
    watcher: WatcherChoice = "auto",
) -> str | None:
    """
    The newest finished checkpoint.

    One complete look, which takes a settle interval longer where only that proves a checkpoint
    finished. Where the storage hangs it waits for it, rather than say that there is none.

    Args:
        checkpoint_dir: The directory that the checkpoints lie in.
        latest_filename: The name of TensorFlow's state file, if it is not `checkpoint`. Only with
            the layouts `"auto"` and `"tensorflow"`.
        layout: As in `follow`.
        watcher: As in `follow`.

    Returns:
        Its path, or None if there is none.

    Raises:
        NotADirectoryError: If *checkpoint_dir* is a file.
        TypeError: An argument is of the wrong type.
        ValueError: An argument makes no sense; the message names it and its value.
    """
    state_file = check.state_file("latest_filename", latest_filename, layout)
    options = Options(
        layout=resolve(layout, state_file=state_file),
        latest_only=True,
        timeout=0.0,
        watcher=check.watcher_choice("watcher", watcher),
    )
    location = places.location("checkpoint_dir", checkpoint_dir)
    while True:
        stream = CheckpointStream(Engine([location], options))
        async for found in stream:
            return found.path
        if all(run.unanswered is None for run in stream.status().runs):
            return None
        await anyio.sleep(1)
