"""A look that may fail: each fault of the storage has its reason, and is waited out."""

from __future__ import annotations

import os
from collections.abc import Callable

from .._errors import CursorLocked
from ._memory import Look, Trouble
from ._watching import Watching


def attempt(watching: Watching, make: Callable[[], Look]) -> Look:
    """
    What *make* returns, or the trouble that it met; and how the place is watched.

    Where the directory is not there, the nearest one above it is watched.
    """
    try:
        result = make()
    except FileNotFoundError:
        result = Look(trouble=Trouble.MISSING, detail=_absolute(watching.directory))
        result.again = watching.watch_gap()
    except NotADirectoryError as error:
        result = _trouble(Trouble.NOT_A_DIRECTORY, error)
        watching.reason = "it is no directory"
    except OSError as error:
        result = _trouble(Trouble.UNREADABLE, _own(watching.directory) or error)
    except CursorLocked as error:
        result = Look(trouble=Trouble.LOCKED, detail=str(error))
    result.watcher, result.reason, result.out_of = watching.kind, watching.reason, watching.out_of
    return result


def _absolute(directory: str) -> str:
    """The path in full, with what is there if it is a checkpoint's prefix."""
    try:
        path = os.path.abspath(directory)
        if os.path.lexists(f"{path}.index"):
            above = os.path.dirname(path)
            return f"{path!r}: it looks like a checkpoint of TensorFlow itself: follow {above!r}"
        return repr(path)
    except OSError:
        return f"{directory!r}, and the working directory is gone"


def _own(directory: str) -> OSError | None:
    """Why nothing in a directory can be reached; None if it was one of its files."""
    try:
        os.stat(os.path.join(directory, "."))
    except OSError as error:
        return OSError(error.errno, error.strerror, directory)
    return None


def _trouble(trouble: Trouble, error: OSError) -> Look:
    return Look(trouble=trouble, detail=f"{error.strerror}: {error.filename!r}")
