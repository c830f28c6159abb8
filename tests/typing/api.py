"""
The public API as users write it; checked by mypy and pyright, never run.
"""

from __future__ import annotations

import functools
import os
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import ckptstream
import ckptstream.sync
from ckptstream import (
    Checkpoint,
    CheckpointGone,
    Missed,
    PinUnsupported,
    RunStatus,
    Status,
    UnknownLayout,
)
from ckptstream.layouts import Evidence, HuggingFace, Layout, resolve
from ckptstream.testing import ManualWatcher, SimulatedTrainer, save

if TYPE_CHECKING:
    from typing_extensions import assert_type


async def iterate() -> None:
    async for checkpoint in ckptstream.follow("runs/7b", timeout=3600):
        assert_type(checkpoint, Checkpoint)
        assert_type(checkpoint.path, str)
        assert_type(checkpoint.step, "int | None")
        assert_type(checkpoint.run, str)
        assert_type(checkpoint.layout, str)
        assert_type(checkpoint.generation, str)
        assert_type(os.fspath(checkpoint), str)
        assert_type(str(checkpoint), str)
        assert_type(Path(checkpoint) / "trainer_state.json", Path)
        assert_type(os.listdir(checkpoint), "list[str]")

    async with ckptstream.follow(Path("runs/7b")) as stream:
        assert_type(stream, ckptstream.CheckpointStream)
        assert_type(await anext(stream), Checkpoint)
        assert_type(await anext(stream, None), "Checkpoint | None")
        assert_type([c.step async for c in stream], "list[int | None]")
        assert_type(stream.wake(), None)
        assert_type(await stream.aclose(), None)
        iterator: AsyncIterator[Checkpoint] = stream
        assert_type(await anext(iterator), Checkpoint)


async def tensorflow() -> None:
    async for path in ckptstream.checkpoints_iterator("runs/7b", 10, 60.0, lambda: True):
        assert_type(path, str)
    async with ckptstream.checkpoints_iterator(
        checkpoint_dir="runs/7b", min_interval_secs=1.5, timeout=None, timeout_fn=None, layout="hf"
    ) as paths:
        assert_type(await anext(paths), str)
        assert_type(paths.status(), Status)
    assert_type(await ckptstream.wait_for_new_checkpoint("runs", None, 1, 60), "str | None")
    assert_type(await ckptstream.wait_for_new_checkpoint("runs", Path("last")), "str | None")
    assert_type(await ckptstream.latest_checkpoint("runs", "checkpoint"), "str | None")
    assert_type(await ckptstream.latest_checkpoint(Path("runs"), layout="orbax"), "str | None")


async def restarts(checkpoint: Checkpoint) -> None:
    async def scored(checkpoint: Checkpoint) -> float:
        return 0.5

    def printed(checkpoint: Checkpoint) -> None:
        print(checkpoint)

    async with ckptstream.follow("runs", cursor=Path("a.db"), done="explicit", retries=3) as stream:
        assert_type(await stream.done(checkpoint), None)
        assert_type(await stream.failed(checkpoint, "out of memory"), None)
        assert_type(await stream.failed(checkpoint, OSError()), None)
        assert_type(await stream.for_each(scored, jobs=4), None)
        assert_type(await stream.for_each(printed), None)
        for each in stream.status().runs[0].set_aside:
            assert_type(each.reason, str)
    with ckptstream.sync.follow("runs", cursor="a.db", done="next", retries=1) as blocking:
        assert_type(blocking.done(checkpoint), None)
        assert_type(blocking.failed(checkpoint, "no"), None)
        assert_type(blocking.for_each(printed, 2), None)
    ckptstream.follow("runs", cursor="a.db", done="now")  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
    await stream.for_each(len)  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]


def options(layout: Layout, watcher: ManualWatcher) -> None:
    async def is_over() -> bool:
        return True

    class IsOver:
        async def __call__(self) -> bool:
            return True

    ckptstream.follow("runs", timeout=1, timeout_fn=is_over)
    ckptstream.follow("runs", timeout=1, timeout_fn=IsOver())
    ckptstream.follow("runs", timeout=1, timeout_fn=functools.partial(is_over))
    ckptstream.follow("runs", timeout=1, timeout_fn=lambda: False)
    ckptstream.follow(
        "runs",
        layout=layout,
        latest_only=True,
        skip_existing=True,
        until_step=1000,
        min_interval_secs=2,
        timeout=0.5,
        timeout_fn=None,
        poll_interval=5,
        watcher=watcher,
    )
    for choice in ("auto", "inotify", "poll"):
        ckptstream.follow("runs", layout="step_{step}/DONE", watcher=choice)

    ckptstream.follow("runs/7b", Path("runs/13b"))
    ckptstream.follow(b"runs")  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
    ckptstream.follow("runs", 5)  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
    ckptstream.follow("runs", watcher="fast")  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
    ckptstream.follow("runs", timeout_fn=lambda x: x)  # type: ignore[arg-type, misc] # pyright: ignore


def blocking() -> None:
    with ckptstream.sync.follow("runs/7b", timeout=3600) as stream:
        assert_type(stream, ckptstream.sync.CheckpointStream)
        for checkpoint in stream:
            assert_type(checkpoint, Checkpoint)
        assert_type(next(stream), Checkpoint)
        assert_type(next(stream, None), "Checkpoint | None")
        assert_type(stream.close(), None)
        assert_type(stream.wake(), None)
        assert_type(stream.status(), Status)
        iterator: Iterator[Checkpoint] = stream
        assert_type(list(iterator), "list[Checkpoint]")
    for path in ckptstream.sync.checkpoints_iterator("runs/7b", 10, 60.0, lambda: True):
        assert_type(path, str)
    assert_type(ckptstream.sync.wait_for_new_checkpoint("runs", None, 1, 60), "str | None")
    assert_type(ckptstream.sync.latest_checkpoint("runs"), "str | None")


async def pins(checkpoint: Checkpoint, layout: Layout) -> None:
    async with ckptstream.pin(checkpoint) as pinned:
        assert_type(pinned, Checkpoint)
    async with ckptstream.pin(checkpoint, layout=layout), ckptstream.pin(checkpoint, layout="hf"):
        pass
    with ckptstream.sync.pin(checkpoint, layout=None) as pinned:
        assert_type(pinned, Checkpoint)
    ckptstream.pin("runs/1")  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
    ckptstream.pin(checkpoint, layout)  # type: ignore[call-arg] # pyright: ignore[reportCallIssue]


def values(status: Status) -> None:
    assert_type(status.ended, "str | None")
    for run in status.runs:
        assert_type(run, RunStatus)
        assert_type(run.newest, "Checkpoint | None")
        assert_type(run.last_look, "float | None")
        assert_type(dict(run.unfinished), "dict[str, str]")
        assert_type(run.remedies, "tuple[str, ...]")
        for missed in run.missed:
            assert_type(missed, Missed)
            assert_type(missed.finished, bool)
    status.ended = None  # type: ignore[misc] # pyright: ignore[reportAttributeAccessIssue]


def errors() -> None:
    try:
        assert_type(resolve("hff"), Layout)
    except UnknownLayout as error:
        assert_type(error.layout, str)
        assert_type(error.known, "tuple[str, ...]")
    except CheckpointGone as error:
        assert_type(error.path, str)
        assert_type(error.found, str)
    except PinUnsupported as error:
        assert_type(error.reason, str)


class Mine:
    """
    A layout that inherits nothing.
    """

    name = "mine"

    def match(self, name: str) -> tuple[str, int | None] | None:
        return (name, None)

    def missing(self, name: str, evidence: Evidence) -> str | None:
        return None

    def generation(self, name: str, evidence: Evidence) -> int | str | None:
        return 1


def layouts() -> Sequence[Layout]:
    ckptstream.follow("runs", layout=Mine())
    return [HuggingFace(), Mine()]


async def simulated() -> None:
    trainer = SimulatedTrainer("runs", "orbax", steps=3, interval=0.1)
    await trainer.run()
    assert_type(trainer.committed, "dict[str, float]")
    assert_type(save("runs", 4, "megatron", crash_after=7), str)
