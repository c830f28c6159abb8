"""`pin` for blocking code."""

from __future__ import annotations

from types import TracebackType

from .._model import Checkpoint
from ..layouts import Layout
from ._hold import Hold, take


class BlockingPin:
    """What `ckptstream.sync.pin` returns: `with` enters it, once."""

    def __init__(self, checkpoint: Checkpoint, layout: Layout) -> None:
        self._checkpoint = checkpoint
        self._layout = layout
        self._entered = False
        self._hold: Hold | None = None

    def __enter__(self) -> Checkpoint:
        if self._entered:
            raise RuntimeError(f"{self!r} was entered before: call pin() again")
        self._entered = True
        self._hold = take(self._checkpoint, self._layout)
        return self._hold.pinned

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        assert self._hold is not None
        self._hold.release()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self._checkpoint.path!r}>"
