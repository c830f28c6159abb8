"""The order in which one run's checkpoints are delivered."""

from __future__ import annotations

import re

from .._scan import Entry


def sort(finds: list[tuple[str, Entry]], first: bool, listed: bool) -> None:
    """At first by step; later by commit stamp, else as the events came, else by step."""
    if not first and all(entry.stamp is not None for _, entry in finds):
        finds.sort(key=lambda found: found[1].stamp or 0)
    elif first or listed:
        finds.sort(key=lambda found: order(*found))


def order(name: str, entry: Entry) -> tuple[bool, int, list[tuple[bool, int, str]]]:
    """By step; without one first, by name, its numbers compared as numbers."""
    # Every second part is a number.
    parts = enumerate(re.split(r"([0-9]+)", name))
    natural = [(i % 2 == 1, int(part) if i % 2 else 0, part) for i, part in parts]
    return (entry.step is not None, entry.step or 0, natural)
