"""What was handed out, and has neither succeeded nor failed yet."""

from __future__ import annotations

from dataclasses import replace

from .._model import Checkpoint, printable
from ._log import logger
from ._queued import Queued
from ._run import Run
from .arguments import Options

_NANOSECONDS = 1e9  # in a second


class Handed:
    """
    Of one stream.

    Attributes:
        evaluating: Whether `for_each` is at work, which says of each what became of it.
    """

    __slots__ = ("_explicit", "_out", "_retries", "evaluating")

    def __init__(self, options: Options) -> None:
        self._explicit = options.done == "explicit"
        self._retries = options.retries
        self.evaluating = False
        self._out: dict[Checkpoint, tuple[Run, Queued]] = {}

    def add(self, run: Run, queued: Queued) -> Checkpoint:
        """As the user sees it."""
        checkpoint = queued.checkpoint(run.directory)
        if queued.hold is not None:
            checkpoint = replace(checkpoint, path=queued.hold.pinned.path)
        queued.out = True
        self._out[checkpoint] = (run, queued)
        return checkpoint

    @property
    def may_come_again(self) -> bool:
        """Whether something is out that is delivered again if it fails."""
        return self.evaluating and self._retries > 0 and bool(self._out)

    def written(self, checkpoint: Checkpoint) -> float | None:
        """When the newest of its files was, on its store's clock; None if that is not known."""
        found = self._out.get(checkpoint)
        return None if found is None else found[1].entry.written / _NANOSECONDS or None

    def take_back(self, checkpoint: Checkpoint) -> None:
        """The user never saw it."""
        if checkpoint in self._out:
            self._take(checkpoint)

    def __contains__(self, checkpoint: Checkpoint) -> bool:
        return checkpoint in self._out

    def give_back(self, checkpoint: Checkpoint) -> None:
        """The user was cancelled while at work on it: it is the next one again."""
        run, queued = self._take(checkpoint)
        run.ledger.give_back(queued)
        run.touch()

    def settle(self) -> None:
        """The user asks for the next one, or leaves the block: what is out is done, by default."""
        if not (self._explicit or self.evaluating):
            for checkpoint in list(self._out):
                run, queued = self._take(checkpoint)
                run.ledger.outcomes.finish(queued)
                if queued.hold is not None:
                    run.touch()

    def end(self, succeeded: bool) -> None:
        """The user leaves the block."""
        if succeeded:
            self.settle()
        if succeeded and self._explicit and self._out:
            count, first = len(self._out), printable(next(iter(self._out)).path)
            text = "%d delivered but not said to be done, such as %s: delivered again next time; %s"
            logger.warning(text, count, first, "call 'await stream.done(ckpt)' for each")

    def done(self, checkpoint: Checkpoint) -> None:
        """The user says that it is done."""
        run, queued = self._take(checkpoint)
        run.ledger.outcomes.finish(queued)
        run.touch()

    def failed(self, checkpoint: Checkpoint, reason: str, now: float) -> None:
        """The user says that it has failed."""
        run, queued = self._take(checkpoint)
        delay = run.ledger.fail(queued, reason, now)
        run.touch()
        path, attempts = printable(checkpoint.path), queued.attempts
        if delay is not None:
            text = "%s: attempt %d has failed: %s; it is delivered again in %.0f s"
            logger.warning(text, path, attempts, printable(reason), delay)
        else:
            text = "%s: attempt %d has failed: %s; it is not delivered again"
            logger.warning(text, path, attempts, printable(reason))

    def _take(self, checkpoint: Checkpoint) -> tuple[Run, Queued]:
        try:
            run, queued = self._out.pop(checkpoint)
        except KeyError:
            raise ValueError(
                f"{checkpoint!r} is not out: this stream did not deliver it, or it is done, or "
                "has failed, already"
            ) from None
        queued.out = False
        return run, queued
