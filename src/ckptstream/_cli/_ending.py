"""How a command ends before its time: by a signal, or since nobody reads what it says."""

from __future__ import annotations

import signal

import anyio
from anyio.abc import TaskStatus

from .. import CheckpointStream
from ._processes import Processes
from ._saying import say

GRACE = 5.0  # seconds

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Ending:
    """
    Ends a stream: at first what is under way is given time, then it is cancelled.

    Args:
        stream: What is ended.
        grace: Seconds that are given.
        processes: What may be under way.

    Attributes:
        begun: Set when it has begun.
        scope: What is cancelled.
        code: The exit code; None: it has not begun.
        reason: In words.
    """

    def __init__(self, stream: CheckpointStream, grace: float, processes: Processes) -> None:
        self._stream = stream
        self._grace = grace
        self._processes = processes
        self.begun = anyio.Event()
        self.scope = anyio.CancelScope()
        self.code: int | None = None
        self.reason = ""

    async def begin(self, reason: str, code: int) -> None:
        """Ask for no more checkpoints."""
        if self.code is not None:
            return
        self.reason, self.code = reason, code
        self.begun.set()
        self.scope.deadline = anyio.current_time() + self._grace
        if count := len(self._processes):
            what = "1 command is" if count == 1 else f"{count} commands are"
            say(f"{reason}: {what} given {self._grace:g} s to end; again: ended at once")
        await self._stream.aclose()

    async def watch(self, task_status: TaskStatus[None]) -> None:
        """Begin at the first signal; at the second one end all at once."""
        # What is ignored stays so, as `nohup` and a shell's background jobs want it.
        wanted = [s for s in SIGNALS if signal.getsignal(s) is not signal.SIG_IGN]
        with anyio.open_signal_receiver(*wanted) as received:
            task_status.started()
            async for number in received:
                if self.code is None:
                    await self.begin(number.name, 128 + number)
                else:
                    self.scope.cancel()  # First, for what is killed is not what has failed.
                    self._processes.kill()
