"""How long a stream waits for one checkpoint, and why it is about to end."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager

import anyio

from .arguments import Options


class Expiry:
    """
    The timeout of one stream.

    Attributes:
        timeout: Seconds to wait for one checkpoint, at most; None: without end.
        ending: Why a last look is to be taken; None: it is not.
    """

    __slots__ = ("_asks", "_deadline", "ending", "timeout")

    def __init__(self, options: Options) -> None:
        self.timeout = options.timeout
        self._asks = options.timeout_fn is not None
        self._deadline: float | None = None  # survives cancelled calls
        self.ending: str | None = None

    def remaining(self, first_eligible: Callable[[float], float]) -> float | None:
        """
        Seconds until it expires; None if it never does, or has for good.

        Args:
            first_eligible: When a checkpoint could be delivered at all, given the time now.
        """
        if self.timeout is None or self.ending is not None:
            return None
        now = anyio.current_time()
        if self._deadline is None:
            self._deadline = first_eligible(now) + self.timeout
        if self._deadline <= now and not self._asks:
            self.expire()  # There is only the last look left, and no other before it.
            return None
        return self._deadline - now

    def restart(self) -> None:
        """A checkpoint is delivered: the next wait starts anew."""
        self._deadline = None

    def shift(self, seconds: float) -> None:
        """Another event loop has begun, whose clock is so far ahead."""
        if self._deadline is not None:
            self._deadline += seconds

    def expire(self) -> None:
        """Nobody is asked whether to wait any longer."""
        self.ending = "the timeout has expired"

    @contextmanager
    def asking(self) -> Generator[None]:
        """
        Around the call of `timeout_fn`, once for each expiry.

        If it raises, the wait starts anew; if it is cancelled there was no answer: ask again.
        """
        deadline, self._deadline = self._deadline, None
        try:
            yield
        except anyio.get_cancelled_exc_class():
            self._deadline = deadline
            raise

    def answer(self, ended: bool) -> None:
        """What `timeout_fn` said: True ends the stream after a last look, False waits anew."""
        self._deadline = None
        if ended:
            self.ending = "timeout_fn said that the training has ended"
