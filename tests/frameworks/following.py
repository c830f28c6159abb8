"""
Follow what a framework writes in another process.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio
from anyio.abc import Process

import ckptstream

WRITERS = Path(__file__).parent / "writers"
SECONDS = 120


@dataclass
class Followed:
    """
    What came, what each held when it came, and what was lost.
    """

    checkpoints: list[ckptstream.Checkpoint] = field(default_factory=list)
    values: list[Any] = field(default_factory=list)
    missed: list[int | None] = field(default_factory=list)

    @property
    def steps(self) -> list[int | None]:
        return [checkpoint.step for checkpoint in self.checkpoints]

    def account(self) -> list[int]:
        """
        Every step that came or is known to be lost; twice if it came twice.
        """
        return sorted(step for step in self.steps + self.missed if step is not None)


def command(script: str, directory: Path, *options: object) -> list[str]:
    return [sys.executable, str(WRITERS / script), str(directory), *map(str, options)]


def write(script: str, directory: Path, *options: object) -> None:
    """
    Let a framework write, and wait for it.
    """
    arguments = command(script, directory, *options)
    subprocess.run(arguments, check=True, timeout=SECONDS, stdin=subprocess.DEVNULL)


async def follow(
    script: str,
    directory: Path,
    *options: object,
    until: int,
    load: Callable[[str], Any] | None = None,
) -> Followed:
    """
    Follow a framework that begins to write now, and load each checkpoint as soon as it comes.
    """
    followed = Followed()
    async with (
        writer(script, directory, *options),
        ckptstream.follow(directory, until_step=until, timeout=SECONDS) as stream,
    ):
        async for checkpoint in stream:
            followed.checkpoints.append(checkpoint)
            if load is not None:
                value = await anyio.to_thread.run_sync(load, checkpoint.path)
                followed.values.append(value)
        (run,) = stream.status().runs
        followed.missed += [missed.step for missed in run.missed]
    return followed


@asynccontextmanager
async def writer(script: str, directory: Path, *options: object) -> AsyncIterator[None]:
    """
    A framework at work in a process of its own; if it fails, so does the block.
    """
    async with running(command(script, directory, *options)):
        yield


@asynccontextmanager
async def running(
    arguments: list[str],
    *,
    stdin: int = subprocess.DEVNULL,
    stdout: int | None = None,
    environment: dict[str, str] | None = None,
) -> AsyncIterator[Process]:
    """
    Another process; if it fails, so does the block.
    """
    async with anyio.create_task_group() as tasks:
        process = await anyio.open_process(
            arguments, stdin=stdin, stdout=stdout, stderr=None, env=environment
        )
        try:
            tasks.start_soon(succeed, process)
            yield process
        except BaseException:
            process.kill()
            raise


async def succeed(process: Process) -> None:
    code = await process.wait()
    assert 0 == code
