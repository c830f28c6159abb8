"""What lies between the root and a run: the names whose change could move the run."""

from __future__ import annotations

import os
from collections import deque

_LINKS = 40  # the kernel's own limit, path_resolution(7)


def turns(path: str) -> list[tuple[str, str]]:
    """
    The places where the way to *path* could change: each symbolic link, and the first gap.

    Returns:
        Pairs of an existing directory and a name in it.
    """
    found = list[tuple[str, str]]()
    at, rest = "/", deque(part for part in os.path.abspath(path).split("/") if part)
    while rest and len(found) <= _LINKS:
        part = rest.popleft()
        if part == "..":
            at = os.path.dirname(at)
            continue
        here = os.path.join(at, part)
        try:
            target = os.readlink(here)
        except FileNotFoundError:
            return [*found, (at, part)]
        except OSError:  # EINVAL: no link. Anything else shows when the path itself is asked.
            at = here
            continue
        found.append((at, part))
        at = "/" if target.startswith("/") else at
        rest.extendleft(part for part in reversed(target.split("/")) if part not in ("", "."))
    return found
