"""When a checkpoint was committed, as the framework wrote it down."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

from ._files import read_json
from ._protocol import Evidence

_LIMIT = 64 * 1024
_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


def read_stamp(path: str, key: str, evidence: Evidence) -> int | None:
    """
    The nanoseconds since 1970 of a date in a JSON file, as `isoformat` writes it; None without one.

    Without a time zone it counts as UTC.
    """
    content = read_json(evidence.head(path, _LIMIT))
    text = (content or {}).get(key)
    try:
        date = datetime.fromisoformat(text) if isinstance(text, str) else _EPOCH
        zoned = date if date.tzinfo is not None else date.replace(tzinfo=timezone.utc)
        stamp = (zoned - _EPOCH) // timedelta(microseconds=1) * 1000
    except (ValueError, OverflowError):
        return None
    return stamp or None
