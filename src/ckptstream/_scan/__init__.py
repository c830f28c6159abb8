"""One look at a run: what is finished, what is not and why, and where to watch for more."""

from ._look import look
from ._memory import Entry, Ground, Look, Request, Trouble

__all__ = ["Entry", "Ground", "Look", "Request", "Trouble", "look"]
