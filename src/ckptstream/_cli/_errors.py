"""What the command line says of errors: one line each, on standard error."""

from __future__ import annotations

import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress

from .._errors import CheckpointGone, CursorError, PinUnsupported
from .._model import printable

# Exit codes: as if a signal had ended it.
INTERRUPTED = 130  # SIGINT
NOBODY_READS = 141  # SIGPIPE

_SPEAKING = (CheckpointGone, CursorError, PinUnsupported, ImportError)


class Refused(Exception):
    """Raised for a wrong call, before anything is started; its text says what to do."""


def say(text: str) -> None:
    """Say something in one line, but not to nobody."""
    line = " ".join(printable(text).splitlines())
    _speakers[-1](f"ckptstream: {line}")


@contextmanager
def said_by(speaker: Callable[[str], None]) -> Generator[None]:
    """While it is open, lines are given to *speaker*, who knows where there is room for them."""
    _speakers.append(speaker)
    try:
        yield
    finally:
        _speakers.remove(speaker)


def _print(line: str) -> None:
    with suppress(OSError, ValueError):  # It may be closed.
        print(line, file=sys.stderr, flush=True)


_speakers: list[Callable[[str], None]] = [_print]


def one_line(error: BaseException) -> str:
    """What an error says, in one line."""
    if isinstance(error, _SPEAKING):
        return str(error)
    if isinstance(error, OSError) and error.strerror:
        where = "" if error.filename is None else f": {error.filename!r}"
        return f"{error.strerror}{where}"
    return f"{type(error).__name__}: {error}: with --debug it says where"
