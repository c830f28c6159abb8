"""How much inotify a user may use, and does."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import NamedTuple

_LIMITS = "/proc/sys/fs/inotify/max_user_"


class Used(NamedTuple):
    """Limits of inotify(7), for each user, and what of them is in use as far as can be seen."""

    instances: int
    max_instances: int
    watches: int
    max_watches: int


def used() -> Used | None:
    """None where there is no inotify."""
    try:
        limits = [_limit(name) for name in ("instances", "watches")]
    except (OSError, ValueError):
        return None
    instances = watches = 0
    for process in filter(str.isdigit, os.listdir("/proc")):
        with suppress(OSError):  # It has ended, or is another user's.
            if os.stat(f"/proc/{process}").st_uid == os.getuid():
                for count in _watches(process):
                    instances, watches = instances + 1, watches + count
    return Used(instances, limits[0], watches, limits[1])


def _limit(name: str) -> int:
    with open(f"{_LIMITS}{name}", encoding="ascii") as file:
        return int(file.read())


def _watches(process: str) -> list[int]:
    """For each of a process's instances, how many."""
    found = list[int]()
    for descriptor in os.listdir(f"/proc/{process}/fd"):
        with suppress(OSError):  # It was closed.
            if os.readlink(f"/proc/{process}/fd/{descriptor}") == "anon_inode:inotify":
                with open(f"/proc/{process}/fdinfo/{descriptor}", encoding="ascii") as file:
                    found.append(sum(line.startswith("inotify wd:") for line in file))
    return found
