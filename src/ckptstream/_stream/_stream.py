"""The stream: an asynchronous iterator over the finished checkpoints of a run."""

from __future__ import annotations

import inspect
from types import TracebackType

import anyio.lowlevel

from .._model import Checkpoint, Status
from ._engine import Engine
from ._for_each import Evaluate, for_each
from .places import StrPath, changed_path


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
            with self.engine.guard, self.engine.expiry.asking():
                answer = timeout_fn()
                if inspect.isawaitable(answer):
                    answer = await answer
            self.engine.expiry.answer(bool(answer))

    async def aclose(self) -> None:
        """
        End the stream now; from another task too, whose call then gets `StopAsyncIteration`.

        Idempotent. What was not delivered stays where it is.
        """
        self.engine.end("it was closed")
        await anyio.lowlevel.checkpoint()

    async def __aenter__(self) -> CheckpointStream:
        """
        Open the cursor, if there is one.

        Raises:
            CursorError: It cannot be used; the message says why, and what to do.
        """
        await self.engine.open()
        await self.engine.keep()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.engine.close(succeeded=exc_type is None)

    async def done(self, checkpoint: Checkpoint) -> None:
        """
        Say that a checkpoint is done: it is not delivered again, whatever happens.

        On return the cursor has it, and a killed process cannot lose it any more. A cancelled call
        may or may not have said it. For `done="explicit"`, from any task.

        Raises:
            ValueError: This stream did not deliver it, or it is done, or has failed, already.
            CursorError: It cannot be written; the next call of anything tries that again.
        """
        self.engine.handed.done(checkpoint)
        await self.engine.write()

    async def failed(self, checkpoint: Checkpoint, reason: object) -> None:
        """
        Say that an attempt at a checkpoint has failed.

        It is delivered again, up to *retries* times: 10 seconds later, then 20, 40 and so on, up
        to an hour; newer ones do not wait for it. After that it is set aside: see `status()`.
        Raises what `done` raises.

        Args:
            checkpoint: One that this stream delivered.
            reason: Why, in words; an exception will do.
        """
        self.engine.fail(checkpoint, reason)
        await self.engine.write()

    async def for_each(self, evaluate: Evaluate, jobs: int = 1) -> None:
        """
        Call *evaluate* with each checkpoint, until the stream ends.

        A checkpoint is done when the call returns. One that raises is a failed attempt, logged
        with its traceback and not the end of the stream; see `failed`. The first cancellation
        ends all calls, and leaves what they were at undone; a thread cannot be ended, and is left
        behind. What *evaluate* itself says of its checkpoint, with `done` or `failed`, counts.

        Args:
            evaluate: An async function, or a plain one, which is called in a worker thread.
            jobs: How many calls there are at once, at most.
        """
        await for_each(self, evaluate, jobs)

    def wake(self, *paths: StrPath) -> None:
        """
        Look now rather than at the next event or poll, for example when a webhook came in.

        Synchronous; call it in the event loop's thread. Between two calls of `__anext__` it is
        remembered for the next one.

        Args:
            paths: What has changed: runs, or files and objects in them, such as
                `"s3://bucket/runs/7b/step_5/DONE"`; each begins as its run was given to `follow`.
                Only there it looks: of a thousand runs in buckets, each look is paid for. There one
                look serves all that comes within a moment, which grows from 0.05 seconds to one
                while more comes. What lies in none of the runs counts for nothing. None given:
                everywhere.

        Raises:
            TypeError: Something is no path.
            ValueError: A path is empty.
        """
        self.engine.wake(*(changed_path("path", path) for path in paths))

    def status(self) -> Status:
        """What the stream knows of its run, at this moment. Does not look."""
        return self.engine.status()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self.engine}>"
