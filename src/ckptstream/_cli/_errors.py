"""What the command line says of errors."""

from __future__ import annotations

from .._errors import CheckpointGone, CursorError, PinUnsupported

NOBODY_READS = 141  # the exit code, as if SIGPIPE had ended it

_SPEAKING = (CheckpointGone, CursorError, PinUnsupported, ImportError)


class Refused(Exception):
    """Raised for a wrong call, before anything is started; its text says what to do."""


def one_line(error: BaseException) -> str:
    """What an error says, in one line."""
    if isinstance(error, _SPEAKING):
        return str(error)
    if isinstance(error, OSError) and error.strerror:
        where = "" if error.filename is None else f": {error.filename!r}"
        return f"{error.strerror}{where}"
    return f"{type(error).__name__}: {error}: with --debug it says where"
