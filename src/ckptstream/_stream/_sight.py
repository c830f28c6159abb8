"""What the last look said of a run as a whole, and what was said of it to the user."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from .._scan import Look


class Sight(NamedTuple):
    """
    What the last look said of the run as a whole.

    Attributes:
        ended: When its result was merged, by `time.monotonic`; None before the first one.
    """

    ended: float | None = None
    look: Look = Look()


@dataclass(slots=True)
class Told:
    """What was logged of a run already: the last reason, warnings, how many were missed."""

    reason: str = ""
    warned: frozenset[str] = frozenset()
    missed: int = 0
