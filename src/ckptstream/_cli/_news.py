"""What a stream says while nobody asks: on standard error, one line each when it happens."""

from __future__ import annotations

import logging
import os
from collections.abc import Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from .._model import Checkpoint, Status
from ._saying import say, trace

if TYPE_CHECKING:
    from ._activity import Activities

_KEYWORDS = {
    "timeout_fn": "--timeout-cmd",
    "until_step": "--until-step",
    "layout=": "--layout ",
    "pin=True": "--pin",
}


class News(logging.Handler):
    """
    Says what the stream has logged, and keeps count for a summary.

    Args:
        debug: Say more, with tracebacks.

    Attributes:
        done: How many were done.
        undone: How many were begun, and are neither done nor have failed.
        activities: What has happened, for a live view; None: there is none.
    """

    def __init__(self, debug: bool) -> None:
        super().__init__(logging.DEBUG if debug else logging.WARNING)
        self._debug = debug
        self.done = self.undone = 0
        self.activities: Activities | None = None
        self._failed = set[tuple[str, str, str]]()

    def emit(self, record: logging.LogRecord) -> None:
        """Say it."""
        say(_in_options(record.getMessage()))
        if self._debug and record.exc_info is not None:
            trace(record.exc_info[1])

    def arrived(self, checkpoint: Checkpoint, *, evaluated: bool) -> None:
        """It was delivered."""
        if self.activities is not None:
            self.activities.arrived(checkpoint, evaluated=evaluated)

    def left(self, checkpoint: Checkpoint) -> None:
        """Its evaluation has ended, however."""
        if self.activities is not None:
            self.activities.ended(checkpoint)

    def succeeded(self, checkpoint: Checkpoint) -> None:
        """It is done."""
        self.done += 1
        self._failed.discard(_identity(checkpoint))

    def failed(self, checkpoint: Checkpoint) -> None:
        """An attempt has failed."""
        self._failed.add(_identity(checkpoint))

    def sum_up(self, status: Status, why: str) -> bool:
        """Say how it ended. Returns whether all is done."""
        aside = {each.path for run in status.runs for each in run.set_aside}
        failed = {os.path.join(run, name) for run, name, _ in self._failed} - aside
        missed = sum(run.missed_count for run in status.runs)
        silent = [run.run for run in status.runs if run.unanswered is not None]
        counts = {
            "undone": self.undone,
            "failed": len(failed),
            "missed": missed,
            "set aside": len(aside),
        }
        text = [f"{self.done} done", *(f"{n} {what}" for what, n in counts.items() if n)]
        if silent:
            text.append(f"the storage does not answer: {', '.join(silent)}")
        say(_in_options(f"ended: {why}: {', '.join(text)}"))
        return not (failed or aside or silent or missed)


def _in_options(text: str) -> str:
    """What a stream says of its keywords, as they are written on the command line."""
    for keyword, option in _KEYWORDS.items():
        text = text.replace(keyword, option)
    return text


def _identity(checkpoint: Checkpoint) -> tuple[str, str, str]:
    """The same for each of its pins."""
    return checkpoint.run, os.path.basename(checkpoint.path), checkpoint.generation


@contextmanager
def news_of(debug: bool) -> Generator[News]:
    """While it is open, all that is logged is said, and by nobody else."""
    news, logger = News(debug), logging.getLogger("ckptstream")
    before = logger.level, logger.propagate
    logger.addHandler(news)
    logger.setLevel(news.level)
    logger.propagate = False
    try:
        yield news
    finally:
        logger.removeHandler(news)
        logger.setLevel(before[0])
        logger.propagate = before[1]


def keep_silent() -> None:
    """Have nothing said of what is logged: without a handler Python itself would say it."""
    logging.getLogger("ckptstream").addHandler(logging.NullHandler())
