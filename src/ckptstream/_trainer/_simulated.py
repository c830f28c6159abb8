"""Do what a framework does to the disk: at once, or as an asyncio task."""

from __future__ import annotations

import asyncio
import math
import os
import shutil
from collections.abc import Coroutine, Iterable, Sequence
from contextlib import suppress
from importlib.util import find_spec
from typing import Any, Literal

from ._operations import Operation, check, operations


def apply(operation: Operation, directory: str | os.PathLike[str]) -> None:
    """Do one operation in a run's directory, which is created with it."""
    path = os.path.join(directory, operation.path)
    match operation.action:
        case "mkdir":
            os.makedirs(path, exist_ok=True)
        case "write" | "append":
            with open(path, "wb" if operation.action == "write" else "ab") as file:
                file.write(operation.content)
        case "rename":
            os.rename(path, os.path.join(directory, operation.target))
        case "remove":
            with suppress(FileNotFoundError):
                os.remove(path)
        case "rmtree":
            shutil.rmtree(path, ignore_errors=True)


def save(
    directory: str | os.PathLike[str],
    step: int,
    layout: str = "hf",
    *,
    earlier: Sequence[int] = (),
    keep: int | None = None,
    shards: int = 1,
    shard_bytes: int = 4096,
) -> str:
    """
    Save one checkpoint, blocking; the arguments are those of `operations`.

    Returns:
        The checkpoint's path: the directory as given plus the name.
    """
    name = ""
    for operation in operations(
        step, layout, earlier=earlier, keep=keep, shards=shards, shard_bytes=shard_bytes
    ):
        apply(operation, directory)
        name = operation.finishes or name
    return os.path.join(directory, name)


class SimulatedTrainer:
    """
    An asyncio task that saves checkpoints as a training framework does, through `aiofiles`.

    Cancelled in the middle of a save it leaves a half-written checkpoint, as a real one would; what
    it is doing to the disk at that moment it does to the end, and keeps no file open.

    Args:
        directory: Where the checkpoints go; created if need be.
        layout: `"hf"`, `"orbax"`, `"tensorflow"`, or a template: `"ckpt_{step}.pt"`,
            `"step_{step}/DONE"`.
        steps: Which steps `run` saves; a number *n* means 1 to *n*.
        interval: Seconds between two checkpoints.
        keep: How many checkpoints stay on disk; None keeps all.
        shards: In how many files the weights are.
        shard_bytes: The size of each of them, without its header.

    Attributes:
        committed: For each path saved, when the operation that finished it began, on the event
            loop's clock.

    Raises:
        ImportError: If `aiofiles` is not installed.
        ValueError: If an argument makes no sense.
    """

    def __init__(
        self,
        directory: str | os.PathLike[str],
        layout: str = "hf",
        *,
        steps: int | Iterable[int] = 5,
        interval: float = 1.0,
        keep: int | None = None,
        shards: int = 1,
        shard_bytes: int = 4096,
    ) -> None:
        if find_spec("aiofiles") is None:
            message = "SimulatedTrainer needs aiofiles: pip install 'ckptstream[testing]'"
            raise ImportError(message, name="aiofiles")
        check(layout, 0, keep, shards, shard_bytes)
        if not (math.isfinite(interval) and interval >= 0):
            raise ValueError(f"interval={interval!r} is no time: use seconds, 0 or more")
        if isinstance(steps, int) and steps < 1:
            raise ValueError(f"steps={steps!r} saves nothing: use 1 or more, or a list of steps")
        self._directory = os.fspath(directory)
        self._layout = layout
        self._steps = range(1, steps + 1) if isinstance(steps, int) else steps
        self._interval = interval
        self._keep = keep
        self._shards = shards
        self._shard_bytes = shard_bytes
        self._kept: list[int] = []
        self.committed: dict[str, float] = {}

    async def run(self) -> None:
        """Save every step, with the interval in between."""
        for number, step in enumerate(self._steps):
            if number:
                await asyncio.sleep(self._interval)
            await self.save(step)

    async def save(self, step: int) -> str:
        """
        Save one checkpoint and delete what is no longer kept.

        Returns:
            The checkpoint's path: the directory as given plus the name.
        """
        path = ""
        for operation in operations(
            step,
            self._layout,
            earlier=self._kept,
            keep=self._keep,
            shards=self._shards,
            shard_bytes=self._shard_bytes,
        ):
            if operation.finishes is not None:
                path = os.path.join(self._directory, operation.finishes)
                self.committed[path] = asyncio.get_running_loop().time()
            await _uncut(self._apply(operation))
        self._kept = [*(kept for kept in self._kept if kept != step), step]
        if self._keep is not None:
            del self._kept[: -self._keep]
        return path

    async def _apply(self, operation: Operation) -> None:
        """What `apply` does, without blocking the event loop."""
        import aiofiles.os

        path = os.path.join(self._directory, operation.path)
        match operation.action:
            case "mkdir":
                await aiofiles.os.makedirs(path, exist_ok=True)
            case "write" | "append":
                mode: Literal["wb", "ab"] = "wb" if operation.action == "write" else "ab"
                async with aiofiles.open(path, mode) as file:
                    await file.write(operation.content)
            case "rename":
                await aiofiles.os.rename(path, os.path.join(self._directory, operation.target))
            case "remove":
                with suppress(FileNotFoundError):
                    await aiofiles.os.remove(path)
            case "rmtree":
                await asyncio.to_thread(shutil.rmtree, path, ignore_errors=True)


async def _uncut(operation: Coroutine[Any, Any, None]) -> None:
    """Await it; who is cancelled waits for its end first."""
    # A thread goes on whoever is cancelled, and a file that it opens then nobody would close.
    doing = asyncio.create_task(operation)
    try:
        await asyncio.shield(doing)
    except asyncio.CancelledError:
        while not doing.done():
            with suppress(asyncio.CancelledError):
                await asyncio.wait([doing])
        raise
