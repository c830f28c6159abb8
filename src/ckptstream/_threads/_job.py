"""One call in a worker thread."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Generic, TypeVar

from ._mailbox import Mailbox, current_mailbox

T = TypeVar("T")

HUNG_AFTER = 1.0  # seconds without a sign of life
REMOTE_HUNG_AFTER = 5.0  # for a server, of which an answer is one sign


class Job(Generic[T]):
    """
    One call in a worker thread; keeps its result until somebody takes it.

    The function is given a callable to call now and then as a sign of life: a large directory on
    slow storage is slow, but it does not hang.

    Args:
        function: What the thread calls.
        lane: Names what the call depends on, such as a mount point. Asked in a worker thread, and
            only when so many calls hang that those on the same lane must be held back.
        remote: Whether it waits for a server, in a thread that most of the time does nothing.
        clock: What `landed_at` is told by, in that thread.
    """

    __slots__ = (
        *("_ask_lane", "_clock", "_dropped", "_error", "_function", "_mailbox", "_notify"),
        *("_result", "alive_at", "began_at", "done", "ended_at", "held", "kept_waiting"),
        *("landed_at", "lane", "remote", "started"),
    )

    def __init__(
        self,
        function: Callable[[Callable[[], None]], T],
        lane: Callable[[], str],
        *,
        remote: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.remote = remote
        self._clock = clock
        self._function = function
        self._result: T | None = None
        self._error: BaseException | None = None
        self._dropped = False
        self._mailbox: Mailbox | None = None
        self._notify: Callable[[], None] | None = None
        self._ask_lane = lane
        self.lane: str | None = None  # None: not asked yet
        self.done = False
        self.started = False
        self.held = False  # back, since enough calls hang where this one goes
        self.began_at = math.inf  # by time.monotonic
        self.ended_at = math.inf
        self.landed_at = math.inf  # the same moment, on the clock that was given
        self.alive_at = time.monotonic()
        self.kept_waiting: Callable[[], bool] = lambda: False

    def find_lane(self) -> None:
        """Ask for the lane; in a thread."""
        try:
            self.lane = self._ask_lane()
        except OSError:
            self.lane = ""  # A relative path, and the working directory is gone.

    def alive(self) -> None:
        """Called by the function in its thread: it goes on."""
        self.alive_at = time.monotonic()

    @property
    def patience(self) -> float:
        """Seconds without a sign of life after which it hangs."""
        return REMOTE_HUNG_AFTER if self.remote else HUNG_AFTER

    @property
    def silent(self) -> float:
        """Seconds since the last sign of life, counted from the submission if there was none."""
        return time.monotonic() - self.alive_at

    @property
    def hangs(self) -> float | None:
        """
        Seconds since the last sign of life, if there should have been one.

        A job that waits for its turn does not hang; one that waits for threads that hang does.
        """
        silent = self.silent
        if self.done or silent < self.patience:
            return None
        return silent if self.started or self.held or self.kept_waiting() else None

    def notify(self, callback: Callable[[], None], mailbox: Mailbox | None = None) -> None:
        """
        Call *callback* in the event loop once the job is done; replaces others.

        Args:
            callback: What is called.
            mailbox: The loop's; None: of the one that runs now.
        """
        self._notify, self._mailbox = callback, mailbox or current_mailbox()
        if self.done:
            # The thread may have finished between the two lines above, told the old loop or none.
            callback()

    def run(self) -> Mailbox | None:
        """
        Make the call, in a thread.

        Returns:
            What holds the news for the event loop, which has still to be woken.
        """
        self.alive()
        self.began_at, self.started = self.alive_at, True
        try:
            self._result = self._function(self.alive)
        except BaseException as error:  # It is raised in the event loop, by take().
            self._error = error
        self.ended_at, self.landed_at = time.monotonic(), self._clock()
        # The result may be kept for long, but not what the call referred to.
        del self._function, self._clock
        if self._dropped:
            self.drop()  # Again: it may have come before the result.
        self.done = True
        mailbox, callback = self._mailbox, self._notify
        if mailbox is not None and callback is not None:
            mailbox.put(callback)
        return mailbox

    def drop(self) -> None:
        """Nobody takes the result: it is not kept, nor what the frames of an error refer to."""
        self._dropped = True
        self._result = self._error = None

    def take(self) -> T:
        """What the function returned, or raise what it raised. Only when done."""
        assert self.done
        if self._error is not None:
            raise self._error
        return self._result  # type: ignore[return-value]  # T may be Optional itself
