"""Remove a directory and all below it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable


def remove(directory: str, alive: Callable[[], None]) -> None:
    """
    Remove a directory and all below it, if it is there; another one may be about it, too.

    Raises:
        OSError: If something cannot be removed.
    """
    with contextlib.suppress(FileNotFoundError):
        for _, directories, files, here in os.fwalk(directory, topdown=False):
            for name in files:
                alive()
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(name, dir_fd=here)
            for name in directories:
                _remove_directory(name, here)
        os.rmdir(directory)


def _remove_directory(name: str, here: int) -> None:
    try:
        os.rmdir(name, dir_fd=here)
    except FileNotFoundError:
        pass
    except NotADirectoryError:  # A symbolic link to one.
        os.unlink(name, dir_fd=here)
