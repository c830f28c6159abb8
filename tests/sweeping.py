"""
Many runs of one stream: trees of directories, and what came of which run.
"""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, Callable, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
from observing import SECONDS, mark_done, until
from steering import drained

from ckptstream import Checkpoint, CheckpointStream, follow
from ckptstream.testing import ManualWatcher

LAYOUT = "step_{step}/DONE"
HOUR = 3600.0  # between two polls: nothing in a test is found by one

Came = tuple[str, "int | None"]
Sweep = Callable[..., CheckpointStream]


def sweep_of(*paths: str | Path, **options: Any) -> CheckpointStream:
    """
    One stream over all of them, which only events wake.
    """
    options = {"layout": LAYOUT, "poll_interval": HOUR, **options}
    return follow(*paths, **options)


def finish(root: Path, *wanted: tuple[str, int]) -> None:
    """
    Finish a checkpoint in each run, and make the run if it is not there.
    """
    for run, step in wanted:
        mark_done(root / run, step)


def named(root: Path, checkpoints: Iterable[Checkpoint]) -> list[Came]:
    """
    Of each the run, as it lies below *root*, and the step.
    """
    return [(os.path.relpath(item.run, root), item.step) for item in checkpoints]


async def came(stream: CheckpointStream, watcher: ManualWatcher, root: Path) -> list[Came]:
    """
    All that comes until the stream ends or waits, in order.
    """
    return named(root, await drained(stream, watcher))


async def news(stream: CheckpointStream, watcher: ManualWatcher, root: Path) -> list[Came]:
    """
    The same sorted, after everything may have changed.
    """
    watcher.touch()
    return sorted(await came(stream, watcher, root), key=str)


def runs_of(stream: CheckpointStream, root: Path) -> list[str]:
    """
    The runs that have a row in the status.
    """
    return [os.path.relpath(run.run, root) for run in stream.status().runs]


class Reading:
    """
    What a task took of a stream.
    """

    def __init__(self, stream: CheckpointStream, root: Path) -> None:
        self.stream = stream
        self.root = root
        self.got: list[Came] = []

    async def take(self) -> None:
        async for checkpoint in self.stream:
            self.got += named(self.root, [checkpoint])

    async def until(self, *wanted: Came) -> None:
        """
        Until all of them came, and nothing else goes on.
        """
        await until(lambda: set(wanted) <= set(self.got))
        await at_rest(self.stream)


@asynccontextmanager
async def reading(stream: CheckpointStream, root: Path) -> AsyncGenerator[Reading]:
    """
    A task takes what comes; no look is made without an event, once it has begun to wait.
    """
    reader = Reading(stream, root)
    with anyio.fail_after(SECONDS * 2):
        async with anyio.create_task_group() as group:
            group.start_soon(reader.take)
            await at_rest(stream)
            yield reader
            group.cancel_scope.cancel()


async def at_rest(stream: CheckpointStream) -> None:
    """
    Until a stream waits, and no look of it is in flight.
    """
    engine = stream.engine

    def idle() -> bool:
        watcher = engine._watcher
        if watcher is None:
            return stream.status().ended is not None
        waiting = engine._alarm in watcher._waiting and not engine._alarm.rung  # type: ignore[attr-defined]
        return waiting and not any(
            member.flight.looking for member in engine._following.roster.members()
        )

    await until(idle)
