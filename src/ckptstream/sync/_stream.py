"""The streams for blocking code."""

from __future__ import annotations

import inspect
import threading
from collections.abc import Awaitable, Callable
from functools import partial
from types import TracebackType
from typing import TypeVar

import anyio

from .._model import Checkpoint, Status
from .._portals import Home
from .._stream import CheckpointStream as AsyncStream
from .._stream import Engine
from .._stream.places import StrPath, changed_path

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
            raise anyio.BusyResourceError(self._engine.guard.action)
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
            answer = wait_for(said) if inspect.isawaitable(said) else bool(said)
        finally:
            self._engine.expiry.answer(answer)  # If it raised, the wait starts anew.

    def done(self, checkpoint: Checkpoint) -> None:
        """Say that a checkpoint is done; see `ckptstream.CheckpointStream.done`."""
        self._home.tell(partial(self._engine.handed.done, checkpoint))
        self._write()

    def failed(self, checkpoint: Checkpoint, reason: object) -> None:
        """Say that an attempt has failed; see `ckptstream.CheckpointStream.failed`."""
        self._home.tell(partial(self._engine.fail, checkpoint, reason))
        self._write()

    def for_each(self, evaluate: Callable[[Checkpoint], object], jobs: int = 1) -> None:
        """
        Call *evaluate* with each checkpoint, in worker threads, until the stream ends.

        See `ckptstream.CheckpointStream.for_each`. Ctrl-C ends it.
        """
        if not self._busy.acquire(blocking=False):
            raise anyio.BusyResourceError(self._engine.guard.action)
        try:
            if self._kept is not None:
                self._engine.handed.give_back(self._take())
            call = partial(AsyncStream(self._engine).for_each, evaluate, jobs)
            self._home.run(partial(self._visit, call))
        finally:
            self._busy.release()

    def _write(self) -> None:
        self._home.ask(self._engine.write, partial(self._visit, self._engine.write))

    async def _visit(self, call: Callable[[], Awaitable[None]]) -> None:
        try:
            await call()
        finally:
            self._engine.release()

    def close(self) -> None:
        """End the stream now; from another thread too, whose call then gets `StopIteration`."""
        self._home.tell(partial(self._engine.end, "it was closed"))

    def wake(self, *paths: StrPath) -> None:
        """Look now rather than at the next event or poll; from any thread."""
        texts = [changed_path("path", path) for path in paths]
        self._home.tell(partial(self._engine.wake, *texts))

    def status(self) -> Status:
        """What the stream knows of its run, at this moment; from any thread. Does not look."""
        return self._home.tell(self._engine.status)

    def __enter__(self) -> CheckpointStream:
        """Open the cursor, if there is one; see `ckptstream.CheckpointStream.__aenter__`."""
        if self._engine.options.needs_block:
            self._home.run(partial(self._visit, self._engine.open))
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()
        if self._engine.options.needs_block:
            with self._busy:  # A call in another thread ends first.
                if self._kept is not None:
                    self._engine.handed.take_back(self._kept)
                self._home.run(partial(self._engine.close, succeeded=exc_type is None))

    def __repr__(self) -> str:
        return f"<ckptstream.sync.{type(self).__name__} of {self._engine}>"


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

    def wake(self, *paths: StrPath) -> None:
        """Look now; see `CheckpointStream.wake`."""
        self._stream.wake(*paths)

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
        return f"<ckptstream.sync.{type(self).__name__} of {self._engine}>"


def wait_for(awaitable: Awaitable[T]) -> T:
    """Await it in an event loop of its own."""

    async def wait() -> T:
        return await awaitable

    return Home().run(wait)
