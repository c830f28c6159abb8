"""One look at a pattern."""

from __future__ import annotations

from collections.abc import Callable

from ._attempt import attempt
from ._directories import Directories
from ._pattern import Matches, PatternRequest
from ._prefixes import Prefixes
from ._watching import Watching


def match(request: PatternRequest, alive: Callable[[], None]) -> Matches:
    """
    Look for the runs that match, in a thread.

    Args:
        request: What is known already.
        alive: Called now and then, as a sign of life.
    """
    watching = Watching(request)
    kind = Directories if request.location.requests is None else Prefixes
    matching = kind(request, watching, alive)
    return matching.matches(attempt(watching, matching.look, whole=request.thorough))
