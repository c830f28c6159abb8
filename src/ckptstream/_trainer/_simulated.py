"""Do what a framework does to the disk: at once, or as an asyncio task."""

from __future__ import annotations

import asyncio
import math
import os
import shutil
from collections.abc import Coroutine, Iterable, Sequence
from contextlib import suppress
from importlib.util import find_spec
from itertools import islice
from typing import Any, Literal

from ._operation import Operation
from ._operations import Training, check, name_of, operations


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
        case "symlink":
            os.symlink(operation.target, path)
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
    crash_after: int | None = None,
) -> str:
    """
    Save one checkpoint, blocking; the arguments are those of `operations`, and one more.

    Args:
        directory: Where the checkpoint goes; created if need be.
        step: The checkpoint's number; one that is there is written again.
        layout: As `operations` has it.
        earlier: The steps saved before and not deleted yet, the oldest first.
        keep: How many checkpoints are left after this one is saved; None keeps all.
        shards: In how many files the weights are, where the framework can have several.
        shard_bytes: The size of each of them, without its header.
        crash_after: How many operations are done, so that the half is left; None does all.

    Returns:
        The checkpoint's path: the directory as given plus the name, which an unfinished one may
        not have yet.

    Raises:
        UnknownLayout: If the layout is not known.
        ValueError: If another argument makes no sense.
    """
    check(layout, crash_after=crash_after)
    saving = operations(
        step, layout, earlier=earlier, keep=keep, shards=shards, shard_bytes=shard_bytes
    )
    name = ""
    for operation in islice(saving, crash_after):
        apply(operation, directory)
        name = operation.finishes or name
    return os.path.join(directory, name or name_of(step, layout, shards))


class SimulatedTrainer:
    """
    An asyncio task that saves checkpoints as a training framework does, through `aiofiles`.

    Cancelled in the middle of a save it leaves a half-written checkpoint, as a real one would; what
    it is doing to the disk at that moment it does to the end, and keeps no file open.

    On trio, or to have it killed, use the process: `python -m ckptstream.testing`.

    Args:
        directory: Where the checkpoints go; created if need be.
        layout: The name of any built-in layout but `"auto"`, such as `"hf"` or `"megatron"`; or a
            template: `"ckpt_{step}.pt"`, `"step_{step}/DONE"`.
        steps: Which steps `run` saves; a number *n* means 1 to *n*. `[1, 2, 3, 2, 3]` goes back to
            step 2 after step 3; `[1, 2, 2]` writes step 2 again.
        interval: Seconds between two checkpoints.
        keep: How many checkpoints stay on disk; None keeps all.
        shards: In how many files the weights are, where the framework can have several.
        shard_bytes: The size of each of them, without its header.

    Attributes:
        committed: For each path saved, when the operation that finished it began, on the event
            loop's clock.

    Raises:
        ImportError: If `aiofiles` is not installed.
        UnknownLayout: If the layout is not known.
        ValueError: If another argument makes no sense.
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
        if isinstance(steps, int) and steps < 1:
            raise ValueError(f"steps={steps!r} saves nothing: use 1 or more, or a list of steps")
        self._training = Training(layout, keep=keep, shards=shards, shard_bytes=shard_bytes)
        self._directory = os.fspath(directory)
        self._steps = range(1, steps + 1) if isinstance(steps, int) else steps
        self._interval = checked_interval(interval)
        self.committed: dict[str, float] = {}

    async def run(self) -> None:
        """Save every step, with the interval in between."""
        for number, step in enumerate(self._steps):
            if number:
                await asyncio.sleep(self._interval)
            await self.save(step)

    async def save(self, step: int, *, crash_after: int | None = None) -> str:
        """
        Save one checkpoint and delete what is no longer kept.

        Args:
            step: Any number, also one that was saved before.
            crash_after: How many operations are done, so that the half is left; None does all.

        Returns:
            The checkpoint's path: the directory as given plus the name, which an unfinished one
            may not have yet.

        Raises:
            ValueError: If an argument makes no sense.
        """
        path = os.path.join(self._directory, self._training.name(step))
        for operation in self._training.save(step, crash_after):
            if operation.finishes is not None:
                self.committed[path] = asyncio.get_running_loop().time()
            await _uncut(self._apply(operation))
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
            case "symlink":
                await aiofiles.os.symlink(operation.target, path)
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


def checked_interval(interval: float) -> float:
    """The seconds, if they are some."""
    if not (math.isfinite(interval) and interval >= 0):
        raise ValueError(f"interval={interval!r} is no time: use seconds, 0 or more")
    return interval
