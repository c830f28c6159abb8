"""
New machine-learning checkpoints as an async stream.

    async for ckpt in ckptstream.follow("runs/7b", timeout=3600):
        await anyio.to_thread.run_sync(evaluate, ckpt.path)

Runs on asyncio (with or without uvloop) and on trio. `ckptstream.sync` has the same names for
blocking code.
"""

from ._errors import CheckpointGone, CursorError, PinUnsupported, UnknownLayout
from ._model import Checkpoint, Missed, PatternStatus, RunStatus, Status
from ._pins import pin
from ._stream import (
    CheckpointStream,
    checkpoints_iterator,
    follow,
    latest_checkpoint,
    wait_for_new_checkpoint,
)

__all__ = [
    "Checkpoint",
    "CheckpointGone",
    "CheckpointStream",
    "CursorError",
    "Missed",
    "PatternStatus",
    "PinUnsupported",
    "RunStatus",
    "Status",
    "UnknownLayout",
    "checkpoints_iterator",
    "follow",
    "latest_checkpoint",
    "pin",
    "wait_for_new_checkpoint",
]
