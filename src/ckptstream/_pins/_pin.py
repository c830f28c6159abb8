"""`pin`: keep a checkpoint's files alive while an async program reads them."""

from __future__ import annotations

from functools import partial
from types import TracebackType

import anyio
import anyio.lowlevel

from .._model import Checkpoint
from .._stores import mount_point
from .._threads import Call, HandOver
from ..layouts import Layout
from ._hold import Hold, take
from ._subject import layout_of

_GRACE = 1.0  # seconds that a cancelled exit waits for the removal


def pin(ckpt: Checkpoint, *, layout: str | Layout | None = None) -> Pin:
    """
    Keep a checkpoint's files alive while the block runs, whatever the trainer deletes.

        async with ckptstream.pin(ckpt) as pinned:
            await anyio.to_thread.run_sync(evaluate, pinned.path)

    `pinned` is the same checkpoint at a path of its own, made of hard links: nothing is copied,
    but what the trainer deletes takes up space until the block is left. The links lie in
    `.ckptstream-pins` beside the run's directory, where no framework and no pattern sees them.

    That the files are all there, and of the generation that was delivered, is verified before and
    after they are linked. Not seen is a deletion that stands still meanwhile and has only taken
    what the layout does not ask for. A link is the same file: do not write into `pinned`.

    A pin is released when the block is left; when the process dies, by the next pin beside the
    same run. A forked child neither keeps nor releases it.

    Storage is touched in threads only. When cancelled, entering leaves at once, and the thread
    undoes what it has done; leaving waits for the removal 1 second longer, and it goes on.

    Args:
        ckpt: As `follow` delivered it.
        layout: The layout it was found with, if that is an object of your own.

    Returns:
        What `async with` enters, once; it gives the pinned `Checkpoint`.

    Raises:
        CheckpointGone: On entering, if it was deleted or written again.
        PinUnsupported: On entering, if the filesystem or its permissions allow no links.
        OSError: On entering, if the storage cannot be read or is full.
        TypeError: If *ckpt* is no `Checkpoint`, or *layout* no layout.
        ValueError: If the layout is not known.
    """
    return Pin(ckpt, layout_of(ckpt, layout))


class Pin:
    """What `pin` returns: `async with` enters it, once."""

    def __init__(self, checkpoint: Checkpoint, layout: Layout) -> None:
        self._checkpoint = checkpoint
        self._layout = layout
        self._lane = partial(mount_point, checkpoint.run)
        self._entered = False
        self._hold: Hold | None = None

    async def __aenter__(self) -> Checkpoint:
        if self._entered:
            raise RuntimeError(f"{self!r} was entered before: call pin() again")
        self._entered = True
        await anyio.lowlevel.checkpoint_if_cancelled()
        taking = HandOver(partial(take, self._checkpoint, self._layout), Hold.release)
        call = Call(taking.run, self._lane)
        try:
            self._hold = await call.wait()
        except BaseException:
            hold = taking.leave()
            if hold is not None:  # The thread was done in this very moment.
                Call(hold.release, self._lane)
            raise
        assert self._hold is not None
        return self._hold.pinned

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        assert self._hold is not None
        call = Call(self._hold.release, self._lane)
        try:
            await call.wait()
        except anyio.get_cancelled_exc_class():
            with anyio.move_on_after(_GRACE, shield=True):
                await call.wait()
            raise

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self._checkpoint.path!r}>"
