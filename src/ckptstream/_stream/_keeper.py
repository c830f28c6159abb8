"""The one thing that goes on while the user's code runs: what arrives meanwhile is pinned."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import anyio
from anyio.abc import TaskGroup

_PAUSE = 1.0  # seconds after something has gone wrong


class Keeper:
    """
    A task that attends to a stream while nobody waits in it.

    It lives in the stream's own `async with` block, and ends with it.

    Args:
        attend: Attends to what there is to do. Returns the time; None: the stream has ended.
        rest: Waits until there is more to do. Is given the time, and when it rested the last
            time, and returns when it did.
        ring: Wakes whoever rests.
    """

    def __init__(
        self,
        attend: Callable[[], float | None],
        rest: Callable[[float, float], Awaitable[float]],
        ring: Callable[[], None],
    ) -> None:
        self._attend = attend
        self._rest = rest
        self._ring = ring
        self._tasks: TaskGroup | None = None
        self._at_work = anyio.Lock(fast_acquire=True)  # whoever attends to the stream
        self._alone = anyio.Event()
        self._alone.set()
        self._fault: Exception | None = None  # for whoever calls next

    async def start(self) -> None:
        """The block is entered."""
        self._tasks = anyio.create_task_group()
        await self._tasks.__aenter__()
        self._tasks.start_soon(self._stay, name="ckptstream pins")

    async def stop(self) -> None:
        """The block is left."""
        tasks, self._tasks = self._tasks, None
        if tasks is not None:
            tasks.cancel_scope.cancel()
            # What has ended the block passes by: a task group would wrap it.
            await tasks.__aexit__(None, None, None)

    async def _stay(self) -> None:
        goes_on = True
        while goes_on:
            await self._alone.wait()
            async with self._at_work:
                goes_on = await self._attend_alone()
            if self._alone.is_set():
                await anyio.sleep(_PAUSE)  # Something is wrong; other runs must not wait for it.

    async def _attend_alone(self) -> bool:
        """Until somebody calls, or something goes wrong. Returns whether the stream goes on."""
        rested = anyio.current_time()
        while self._alone.is_set():
            try:
                now = self._attend()
            except Exception as error:  # Whatever it is, it is for who calls next.
                self._fault = error
                return True
            if now is None:
                return False
            rested = await self._rest(now, rested)
        return True

    async def take_over(self) -> None:
        """
        Somebody calls, and attends himself from now on, until `hand_back`.

        Raises what has gone wrong since the last call: then there is nothing to hand back.
        """
        self._alone = anyio.Event()
        self._ring()
        try:
            await self._at_work.acquire()
        except BaseException:
            self._alone.set()
            raise
        if self._fault is not None:
            self.hand_back()
            self._raise_fault()

    def hand_back(self) -> None:
        """The call has ended."""
        self._at_work.release()
        self._alone.set()

    def _raise_fault(self) -> None:
        error, self._fault = self._fault, None
        try:
            if error is not None:
                raise error
        finally:
            del error  # It refers to this frame.
