"""The three standard streams, any of which may be closed."""

from __future__ import annotations

import os
import sys

_STDERR = 2


def open_streams() -> bool:
    """
    Have those lead to nobody that are closed: else the next file to be opened would stand for them.

    Returns:
        Whether standard output was open.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # This is the lowest number that is free.
    if sys.stderr is None:  # To `print` this would mean standard output.
        sys.stderr = os.fdopen(_STDERR, "w", closefd=False)
    return sys.stdout is not None
