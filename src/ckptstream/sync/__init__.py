"""
The same names for blocking code.

Nothing is implemented twice: each call of `next()` runs the async stream in an event loop of its
own, in another thread, and both are gone when it returns. So it works in a plain script, in a
thread, in a Jupyter cell, and in code that is itself called from an event loop (which it blocks).

Between two calls nothing watches: a checkpoint that is born and deleted meanwhile cannot be known.
"""

from __future__ import annotations

from .._model import Checkpoint
from .._pins import BlockingPin, layout_of
from .._stream import Done, RunPath, StrPath, TimeoutFn, WatcherChoice
from .._stream import checkpoints_iterator as _checkpoints_iterator
from .._stream import follow as _follow
from .._stream import latest_checkpoint as _latest_checkpoint
from .._stream import wait_for_new_checkpoint as _wait_for_new_checkpoint
from ..layouts import Layout
from ._stream import CheckpointStream, PathStream, wait_for

__all__ = [
    "CheckpointStream",
    "PathStream",
    "checkpoints_iterator",
    "follow",
    "latest_checkpoint",
    "pin",
    "wait_for_new_checkpoint",
]


def follow(
    *checkpoint_dirs: RunPath,
    layout: str | Layout = "auto",
    latest_only: bool = False,
    skip_existing: bool = False,
    until_step: int | None = None,
    min_interval_secs: float = 0,
    timeout: float | None = None,
    timeout_fn: TimeoutFn | None = None,
    cursor: StrPath | None = None,
    done: Done = "next",
    retries: int = 0,
    pin: bool | int = False,
    poll_interval: float | None = None,
    watcher: WatcherChoice = "auto",
) -> CheckpointStream:
    """
    `ckptstream.follow` for `for`; a plain *timeout_fn* runs in the caller's thread.

    With *pin*, what arrives between two calls is pinned by the next one, if it is still there.
    """
    stream = _follow(
        *checkpoint_dirs,
        layout=layout,
        latest_only=latest_only,
        skip_existing=skip_existing,
        until_step=until_step,
        min_interval_secs=min_interval_secs,
        timeout=timeout,
        timeout_fn=timeout_fn,
        cursor=cursor,
        done=done,
        retries=retries,
        pin=pin,
        poll_interval=poll_interval,
        watcher=watcher,
    )
    return CheckpointStream(stream.engine)


def checkpoints_iterator(
    checkpoint_dir: RunPath,
    min_interval_secs: float = 0,
    timeout: float | None = None,
    timeout_fn: TimeoutFn | None = None,
    *,
    layout: str | Layout = "auto",
    watcher: WatcherChoice = "auto",
) -> PathStream:
    """`tf.train.checkpoints_iterator`: the newest checkpoint each time, as a path, for `for`."""
    paths = _checkpoints_iterator(
        checkpoint_dir, min_interval_secs, timeout, timeout_fn, layout=layout, watcher=watcher
    )
    return PathStream(paths.engine)


def wait_for_new_checkpoint(
    checkpoint_dir: RunPath,
    last_checkpoint: StrPath | None = None,
    seconds_to_sleep: float = 1,
    timeout: float | None = None,
    *,
    layout: str | Layout = "auto",
    watcher: WatcherChoice = "auto",
) -> str | None:
    """`ckptstream.wait_for_new_checkpoint` for blocking code."""
    return wait_for(
        _wait_for_new_checkpoint(
            checkpoint_dir,
            last_checkpoint,
            seconds_to_sleep,
            timeout,
            layout=layout,
            watcher=watcher,
        )
    )


def latest_checkpoint(
    checkpoint_dir: RunPath,
    latest_filename: str | None = None,
    *,
    layout: str | Layout = "auto",
    watcher: WatcherChoice = "auto",
) -> str | None:
    """`ckptstream.latest_checkpoint` for blocking code."""
    return wait_for(
        _latest_checkpoint(checkpoint_dir, latest_filename, layout=layout, watcher=watcher)
    )


def pin(ckpt: Checkpoint, *, layout: str | Layout | None = None) -> BlockingPin:
    """`ckptstream.pin` for `with`; it works in the caller's own thread."""
    return BlockingPin(ckpt, layout_of(ckpt, layout))
