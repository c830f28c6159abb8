"""The stream: an asynchronous iterator over the finished checkpoints of a run."""

from __future__ import annotations

import inspect
from types import TracebackType

import anyio
import anyio.lowlevel

from .._model import Checkpoint, Status
from ._engine import Engine


class CheckpointStream:
    """
    What `follow` returns: iterate over it with `async for`, or ask with `await anext(stream)`.

    Nothing of it goes on between two calls: a bare `break` leaves nothing behind. `async with` and
    `aclose` end it at a chosen moment.

    A cancelled call loses nothing: the next one returns the same checkpoint, and the wait for
    `timeout` goes on from where it began. Two tasks that ask at once get
    `anyio.BusyResourceError`. When idle, it may be continued in another event loop.
    """

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    def __aiter__(self) -> CheckpointStream:
        return self

    async def __anext__(self) -> Checkpoint:
        """
        Wait for the next finished checkpoint.

        Raises:
            StopAsyncIteration: When the stream has ended, now and ever after.
            NotADirectoryError: If the first look finds a file where a directory belongs.
            anyio.BusyResourceError: If another task is waiting in this stream.
        """
        while True:
            checkpoint = await self.engine.next_or_expired()
            if checkpoint is not None:
                return checkpoint
            timeout_fn = self.engine.options.timeout_fn
            assert timeout_fn is not None
            with self.engine.asking():
                answer = timeout_fn()
                if inspect.isawaitable(answer):
                    answer = await answer
            self.engine.answer(bool(answer))

    async def aclose(self) -> None:
        """
        End the stream now; from another task too, whose call then gets `StopAsyncIteration`.

        Idempotent. What was not delivered stays where it is.
        """
        self.engine.end("it was closed")
        await anyio.lowlevel.checkpoint()

    async def __aenter__(self) -> CheckpointStream:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.engine.end("its block was left")

    def wake(self) -> None:
        """
        Look now rather than at the next event or poll, for example when a webhook came in.

        Synchronous; call it in the event loop's thread. Between two calls of `__anext__` it is
        remembered for the next one.
        """
        self.engine.wake()

    def status(self) -> Status:
        """What the stream knows of its run, at this moment. Does not look."""
        return self.engine.status()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self.engine}>"
