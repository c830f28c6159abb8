"""
The same names for blocking code.

Nothing is implemented twice: each call of `next()` runs the async stream in an event loop of its
own, in another thread, and both are gone when it returns. So it works in a plain script, in a
thread, in a Jupyter cell, and in code that is itself called from an event loop (which it blocks).

Between two calls nothing watches: a checkpoint that is born and deleted meanwhile cannot be known.
"""

from __future__ import annotations

import inspect
import threading
from collections.abc import Awaitable
from functools import partial
from types import TracebackType
from typing import TypeVar

import anyio

from ._model import Checkpoint, Status
from ._pins import BlockingPin, layout_of
from ._portals import Home
from ._stream import Engine, StrPath, TimeoutFn, WatcherChoice
from ._stream import checkpoints_iterator as _checkpoints_iterator
from ._stream import follow as _follow
from ._stream import latest_checkpoint as _latest_checkpoint
from ._stream import wait_for_new_checkpoint as _wait_for_new_checkpoint
from .layouts import Layout

__all__ = [
    "CheckpointStream",
    "PathStream",
    "checkpoints_iterator",
    "follow",
    "latest_checkpoint",
    "pin",
    "wait_for_new_checkpoint",
]

T = TypeVar("T")


class CheckpointStream:
    """
    `ckptstream.CheckpointStream` for `for`, `next()` and `with`.

    A stream that is idle may be continued in another thread; two threads that ask at once get
    `anyio.BusyResourceError`. Ctrl-C ends a waiting call with `KeyboardInterrupt` and loses no
    checkpoint.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._busy = threading.Lock()
        self._home = Home()
        self._kept: Checkpoint | None = None  # handed out to a call that Ctrl-C ended

    def __iter__(self) -> CheckpointStream:
        return self

    def __next__(self) -> Checkpoint:
        """
        Wait for the next finished checkpoint.

        Raises:
            StopIteration: When the stream has ended, now and ever after.
            NotADirectoryError: If the first look finds a file where a directory belongs.
            anyio.BusyResourceError: If another thread is waiting in this stream.
        """
        if not self._busy.acquire(blocking=False):
            raise anyio.BusyResourceError("waiting for a checkpoint in")
        try:
            if self._kept is not None and self.status().ended is None:
                return self._take()
            while self._home.run(self._wait):
                if self._kept is not None:
                    return self._take()
                self._ask()
            raise StopIteration
        finally:
            self._busy.release()

    def _take(self) -> Checkpoint:
        checkpoint, self._kept = self._kept, None
        assert checkpoint is not None
        return checkpoint

    async def _wait(self) -> bool:
        """Wait for a checkpoint, which is then kept, or for the timeout; False: it has ended."""
        try:
            self._kept = await self._engine.next_or_expired()
        except StopAsyncIteration:
            return False  # Raised into the other thread, it would keep all this until collected.
        finally:
            self._engine.release()
        return True

    def _ask(self) -> None:
        """Ask `timeout_fn` in the caller's own thread, as TensorFlow does."""
        timeout_fn = self._engine.options.timeout_fn
        assert timeout_fn is not None
        answer = False
        try:
            said = timeout_fn()
            answer = _wait_for(said) if inspect.isawaitable(said) else bool(said)
        finally:
            self._engine.answer(answer)  # If it raised, the wait starts anew.

    def close(self) -> None:
        """End the stream now; from another thread too, whose call then gets `StopIteration`."""
        self._home.tell(partial(self._engine.end, "it was closed"))

    def wake(self) -> None:
        """Look now rather than at the next event or poll; from any thread."""
        self._home.tell(self._engine.wake)

    def status(self) -> Status:
        """What the stream knows of its run, at this moment; from any thread. Does not look."""
        return self._home.tell(self._engine.status)

    def __enter__(self) -> CheckpointStream:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<{__name__}.{type(self).__name__} of {self._engine}>"


class PathStream:
    """A `CheckpointStream` that gives paths; what `checkpoints_iterator` returns."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._stream = CheckpointStream(engine)

    def __iter__(self) -> PathStream:
        return self

    def __next__(self) -> str:
        return next(self._stream).path

    def close(self) -> None:
        """End it now; see `CheckpointStream.close`."""
        self._stream.close()

    def wake(self) -> None:
        """Look now; see `CheckpointStream.wake`."""
        self._stream.wake()

    def status(self) -> Status:
        """What it knows; see `CheckpointStream.status`."""
        return self._stream.status()

    def __enter__(self) -> PathStream:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stream.close()

    def __repr__(self) -> str:
        return f"<{__name__}.{type(self).__name__} of {self._engine}>"


def follow(
    *checkpoint_dirs: StrPath,
    layout: str | Layout = "auto",
    latest_only: bool = False,
    skip_existing: bool = False,
    until_step: int | None = None,
    min_interval_secs: float = 0,
    timeout: float | None = None,
    timeout_fn: TimeoutFn | None = None,
    poll_interval: float | None = None,
    watcher: WatcherChoice = "auto",
) -> CheckpointStream:
    """`ckptstream.follow` for `for`; a plain *timeout_fn* runs in the caller's thread."""
    stream = _follow(
        *checkpoint_dirs,
        layout=layout,
        latest_only=latest_only,
        skip_existing=skip_existing,
        until_step=until_step,
        min_interval_secs=min_interval_secs,
        timeout=timeout,
        timeout_fn=timeout_fn,
        poll_interval=poll_interval,
        watcher=watcher,
    )
    return CheckpointStream(stream.engine)


def checkpoints_iterator(
    checkpoint_dir: StrPath,
    min_interval_secs: float = 0,
    timeout: float | None = None,
    timeout_fn: TimeoutFn | None = None,
    *,
    layout: str | Layout = "auto",
    watcher: WatcherChoice = "auto",
) -> PathStream:
    """`tf.train.checkpoints_iterator`: the newest checkpoint each time, as a path, for `for`."""
    paths = _checkpoints_iterator(
        checkpoint_dir, min_interval_secs, timeout, timeout_fn, layout=layout, watcher=watcher
    )
    return PathStream(paths.engine)


def wait_for_new_checkpoint(
    checkpoint_dir: StrPath,
    last_checkpoint: StrPath | None = None,
    seconds_to_sleep: float = 1,
    timeout: float | None = None,
    *,
    layout: str | Layout = "auto",
    watcher: WatcherChoice = "auto",
) -> str | None:
    """`ckptstream.wait_for_new_checkpoint` for blocking code."""
    return _wait_for(
        _wait_for_new_checkpoint(
            checkpoint_dir,
            last_checkpoint,
            seconds_to_sleep,
            timeout,
            layout=layout,
            watcher=watcher,
        )
    )


def latest_checkpoint(
    checkpoint_dir: StrPath,
    latest_filename: str | None = None,
    *,
    layout: str | Layout = "auto",
    watcher: WatcherChoice = "auto",
) -> str | None:
    """`ckptstream.latest_checkpoint` for blocking code."""
    return _wait_for(
        _latest_checkpoint(checkpoint_dir, latest_filename, layout=layout, watcher=watcher)
    )


def pin(ckpt: Checkpoint, *, layout: str | Layout | None = None) -> BlockingPin:
    """`ckptstream.pin` for `with`; it works in the caller's own thread."""
    return BlockingPin(ckpt, layout_of(ckpt, layout))


def _wait_for(awaitable: Awaitable[T]) -> T:
    async def wait() -> T:
        return await awaitable

    return Home().run(wait)
