"""Names, sizes and times for people."""

from __future__ import annotations

import re

from .._model import printable

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")

NOTHING = "-"
_SIZES = ("B", "kB", "MB", "GB", "TB")
_AGES = ((86400, "d"), (3600, "h"), (60, "min"))


def shown(text: str) -> str:
    """In one line, with escapes for what a terminal would obey: a name may hold anything."""
    line = " ".join(printable(text).splitlines())
    return _CONTROL.sub(lambda found: f"\\x{ord(found[0]):02x}", line)


def size(number: int | None) -> str:
    """So many bytes."""
    if number is None:
        return NOTHING
    scaled, power = float(number), 0
    while scaled >= 999.5 and power < len(_SIZES) - 1:
        scaled, power = scaled / 1000, power + 1
    return f"{scaled:.{1 if power and scaled < 9.95 else 0}f} {_SIZES[power]}"


def age(seconds: float | None) -> str:
    """So long: at least two of the unit, so that it is not far off."""
    if seconds is None:
        return NOTHING
    for length, unit in _AGES:
        if seconds >= 2 * length:
            return f"{seconds // length:.0f} {unit}"
    return f"{max(seconds, 0):.0f} s"
