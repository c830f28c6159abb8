"""What threads tell an event loop."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable

from anyio import RunFinishedError
from anyio.lowlevel import current_token

from ._per_loop import PerLoop


class Mailbox:
    """
    What threads tell one event loop; `current_mailbox` returns it.

    A thousand looks that end at once wake the loop a few times, not a thousand: waking it costs
    more than most looks.
    """

    def __init__(self) -> None:
        self._token = current_token()
        self._calls: deque[Callable[[], None]] = deque()
        self._awake = False  # the loop has been told to come by

    def put(self, callback: Callable[[], None]) -> None:
        """Have the event loop call *callback* when it is woken; from any thread."""
        self._calls.append(callback)

    def wake(self) -> None:
        """Wake the event loop if there is something in here; from any thread. Never waits."""
        if self._awake or not self._calls:
            return
        self._awake = True
        token = self._token
        # One that has ended, or ends right now, would never answer: whoever asks in another loop
        # finds the result all the same.
        with contextlib.suppress(RunFinishedError):
            token.backend_class.run_sync_soon(self.deliver, (), token.native_token)

    def deliver(self) -> None:
        """Make the calls; in the event loop."""
        self._awake = False  # Before the calls are taken: whatever comes later asks again.
        while self._calls:
            self._calls.popleft()()


current_mailbox = PerLoop("ckptstream_mailbox", Mailbox)
