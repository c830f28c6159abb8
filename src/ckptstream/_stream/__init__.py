"""The streams that users see."""

from ._cadence import shortest
from ._engine import Engine
from ._follow import follow
from ._listing import Listed, Silent, everything
from ._stream import CheckpointStream
from ._tensorflow import (
    PathStream,
    checkpoints_iterator,
    latest_checkpoint,
    wait_for_new_checkpoint,
)
from .arguments import Done, TimeoutFn, WatcherChoice
from .places import RunPath, StrPath

__all__ = [
    "CheckpointStream",
    "Done",
    "Engine",
    "Listed",
    "PathStream",
    "RunPath",
    "Silent",
    "StrPath",
    "TimeoutFn",
    "WatcherChoice",
    "checkpoints_iterator",
    "everything",
    "follow",
    "latest_checkpoint",
    "shortest",
    "wait_for_new_checkpoint",
]
