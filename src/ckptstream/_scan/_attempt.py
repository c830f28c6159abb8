"""A look that may fail: each fault of the storage has its reason, and is waited out."""

from __future__ import annotations

from collections.abc import Callable

from .._errors import CursorLocked
from .._stores import Location
from ._memory import Look, Trouble
from ._watching import Watching


def attempt(watching: Watching, make: Callable[[], Look], *, whole: bool) -> Look:
    """
    What *make* returns, or the trouble that it met; and how the place is watched.

    Where the directory is not there, the nearest one above it is watched.

    Args:
        watching: How it is watched.
        make: Looks.
        whole: Whether it goes over everything: if it fails, so must the next one.
    """
    try:
        result = make()
    except FileNotFoundError:
        result = Look(trouble=Trouble.MISSING, detail=_absent(watching.location))
        result.again = watching.watch_gap()
    except NotADirectoryError as error:
        result = _trouble(Trouble.NOT_A_DIRECTORY, error)
        watching.reason = "it is no directory"
    except OSError as error:
        result = _trouble(Trouble.UNREADABLE, watching.location.fault(error))
        result.ground = None if whole else watching.kept()
    except CursorLocked as error:
        result = Look(trouble=Trouble.LOCKED, detail=str(error))
    result.watcher, result.reason, result.out_of = watching.kind, watching.reason, watching.out_of
    return result


def _absent(location: Location) -> str:
    """Where it should be, in full."""
    try:
        return location.absent()
    except OSError:
        return f"{location.path!r}, and the working directory is gone"


def _trouble(trouble: Trouble, error: OSError) -> Look:
    return Look(trouble=trouble, detail=f"{error.strerror}: {error.filename!r}")
