"""
New machine-learning checkpoints as an async stream.

    async for ckpt in ckptstream.follow("runs/7b", timeout=3600):
        await anyio.to_thread.run_sync(evaluate, ckpt.path)

Runs on asyncio (with or without uvloop) and on trio. `ckptstream.sync` has the same names for
blocking code.

What it needs is imported when the first of its names is asked for: `from ckptstream import follow`
has that done before an event loop runs.
"""

from importlib import import_module

TYPE_CHECKING = False  # To checkers it is the one of `typing`, which takes long to import.
if TYPE_CHECKING:
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

_PARTS = ("_errors", "_model", "_pins", "_stream")  # where these names are, what takes longest last
_MODULES = {"layouts", "sync", "testing"}

if not TYPE_CHECKING:  # A checker would believe that any name is there.

    def __getattr__(name: str) -> object:
        """Import what is asked for: the command answers `--help`, and Ctrl-C, without it."""
        if name in _MODULES:
            return import_module(f".{name}", __name__)
        for part in _PARTS if name in __all__ else ():
            module = import_module(f".{part}", __name__)
            if hasattr(module, name):
                globals()[name] = getattr(module, name)
                return globals()[name]
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__, *_MODULES})
