"""One look at a run: what is finished, what is not and why, and where to watch for more."""

from ._look import look
from ._match import match
from ._memory import Entry, Foreign, Ground, Look, Request, Stranger, Trouble
from ._pattern import Match, Matches, PatternRequest, fits, split

__all__ = [
    "Entry",
    "Foreign",
    "Ground",
    "Look",
    "Match",
    "Matches",
    "PatternRequest",
    "Request",
    "Stranger",
    "Trouble",
    "fits",
    "look",
    "match",
    "split",
]
