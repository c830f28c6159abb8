"""Evaluate each checkpoint of a stream, some at a time."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, TypeAlias

import anyio
import anyio.to_thread
from anyio.abc import TaskGroup

from .._model import Checkpoint, printable
from ._log import logger
from .arguments import count, one_argument

if TYPE_CHECKING:
    from ._stream import CheckpointStream

# For `anyio.BusyResourceError`: "Another task is already ... this resource".
_EVALUATING = "evaluating each checkpoint (for more of them at once, give that call more jobs) of"

Evaluate: TypeAlias = Callable[[Checkpoint], "Awaitable[Any] | Any"]


async def for_each(stream: CheckpointStream, evaluate: Evaluate, jobs: int) -> None:
    """See `CheckpointStream.for_each`."""
    call = _Call(stream, one_argument("evaluate", evaluate), count("jobs", jobs, least=1))
    handed = stream.engine.handed
    if handed.evaluating:
        raise anyio.BusyResourceError(_EVALUATING)
    handed.evaluating = True
    try:
        await call.all()
    finally:
        handed.evaluating = False


class _Call:
    def __init__(self, stream: CheckpointStream, evaluate: Evaluate, jobs: int) -> None:
        self._stream = stream
        self._evaluate = evaluate
        self._slots = anyio.Semaphore(jobs)
        self._threads = anyio.CapacityLimiter(jobs)
        self._handed = stream.engine.handed
        self._begun = set[Checkpoint]()  # and not settled yet
        self._fault: BaseException | None = None

    async def all(self) -> None:
        """Until the stream ends; raises what it raises, alone."""
        try:
            await self._begin_all()
            self._raise()
        finally:
            self._fault = None
            # What was cancelled, maybe before it began: else it would count as done.
            for checkpoint in self._begun:
                if checkpoint in self._handed:
                    self._handed.give_back(checkpoint)

    async def _begin_all(self) -> None:
        async with anyio.create_task_group() as tasks:
            try:
                while True:
                    # Asked for only when somebody is free for it: the newest then, and verified.
                    await self._slots.acquire()
                    checkpoint = await anext(self._stream)
                    self._begun.add(checkpoint)
                    tasks.start_soon(self._one, checkpoint, tasks)
            except StopAsyncIteration:
                pass
            except Exception as error:
                self._end(error, tasks)

    def _raise(self) -> None:
        fault, self._fault = self._fault, None
        try:
            if fault is not None:
                raise fault
        finally:
            del fault  # It refers to this frame.

    def _end(self, fault: BaseException, tasks: TaskGroup) -> None:
        """End all calls; it is raised after that, for a task group would wrap it."""
        if self._fault is None:
            self._fault = fault
        tasks.cancel_scope.cancel()

    async def _one(self, checkpoint: Checkpoint, tasks: TaskGroup) -> None:
        try:
            await self._settle(checkpoint)
            self._begun.discard(checkpoint)
        except Exception as error:  # The cursor's: what evaluations raise is an attempt that fails.
            self._end(error, tasks)
        except anyio.get_cancelled_exc_class() as error:
            # If nobody cancels this, an evaluation has awaited what was cancelled: on asyncio that
            # ends a task group without an error, and would pass for the end of the stream.
            self._end(error, tasks)
            raise
        finally:
            self._slots.release()

    async def _settle(self, checkpoint: Checkpoint) -> None:
        try:
            await self._call(checkpoint)
        except Exception as error:  # That is what an attempt that fails is.
            logger.exception("%s: the evaluation has failed", printable(checkpoint.path))
            if checkpoint in self._handed:
                await self._stream.failed(checkpoint, f"{type(error).__name__}: {error}")
        else:
            if checkpoint in self._handed:  # Else it has said so itself.
                await self._stream.done(checkpoint)

    async def _call(self, checkpoint: Checkpoint) -> None:
        if _is_async(self._evaluate):
            await self._evaluate(checkpoint)
            return
        answer = await anyio.to_thread.run_sync(
            self._evaluate, checkpoint, limiter=self._threads, abandon_on_cancel=True
        )
        if inspect.isawaitable(answer):
            await answer


def _is_async(function: Callable[..., object]) -> bool:
    call = getattr(function, "__call__", None)  # noqa: B004  # Not whether: what it is.
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(call)
