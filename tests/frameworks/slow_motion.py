"""
Watch a framework that saves in slow motion, and copy what comes the moment it comes.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import anyio
from anyio.abc import Process

import ckptstream

from .following import command, running

HERE = Path(__file__).parent
SECONDS = 100
# Far less than what counts as settled: who pauses for longer is taken for one that has finished.
MICROSECONDS = 20_000


@dataclass(frozen=True)
class Saving:
    """
    How a framework is made to save, and what must come of it.

    Attributes:
        command: A script of `writers` with its arguments.
        layout: What the stream calls it.
        loader: What of `loading` loads it.
        values: What the checkpoints hold, in order; but for the fraction it is their step.
        files: What belongs to a checkpoint, beside each other.
        waits: After how many of them the writer waits for a line.
        elsewhere: Whether its temporary files are on another filesystem.
        numbered: Whether it has a step.
    """

    command: str
    layout: str
    loader: str
    values: tuple[float, ...]
    files: tuple[str, ...] = ("{name}",)
    waits: tuple[int, ...] = ()
    elsewhere: bool = False
    numbered: bool = True

    @property
    def steps(self) -> list[int | None]:
        return [int(value) if self.numbered else None for value in self.values]


@dataclass
class Seen:
    """
    What one stream delivers, and the copies of it.
    """

    copies: Path
    checkpoints: list[ckptstream.Checkpoint] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    status: str = ""
    news: anyio.Event = field(default_factory=anyio.Event)

    def copy(self, checkpoint: ckptstream.Checkpoint, files: tuple[str, ...]) -> None:
        source = Path(checkpoint.path)
        target = self.copies / str(len(self.paths))
        target.mkdir(parents=True)
        for pattern in files:
            for path in source.parent.glob(pattern.format(name=source.name, step=checkpoint.step)):
                copy = shutil.copytree if path.is_dir() else shutil.copyfile
                copy(path, target / path.name)
        self.checkpoints.append(checkpoint)
        self.paths.append(str(target / source.name))
        self.news.set()
        self.news = anyio.Event()

    async def has(self, number: int) -> None:
        while len(self.paths) < number:
            await self.news.wait()


@dataclass
class Shown:
    """
    What two streams have seen: one that was told the layout, and one that was not.
    """

    saving: Saving
    seen: dict[str, Seen]
    values: dict[str, list[float] | str] = field(default_factory=dict)
    operations: list[str] = field(default_factory=list)

    def held(self, layout: str) -> list[list[float] | str]:
        """
        The numbers in each of the copies, or why it did not load.
        """
        return [self.values[path] for path in self.seen[layout].paths]


async def show(saving: Saving, library: Path, directory: Path, temporary: Path) -> Shown:
    """
    Let the framework save, and load what came with the framework's own loader.
    """
    run, log = directory / "checkpoints", directory / "operations"
    layouts = [saving.layout, "auto"]
    shown = Shown(saving, {layout: Seen(directory / f"copies-{layout}") for layout in layouts})
    environment = slowly(library, run, log) | {"TMPDIR": str(temporary)}
    script, *options = shlex.split(saving.command.format(run=run))
    load = [sys.executable, str(HERE / "loading.py"), saving.loader]
    pipe = subprocess.PIPE
    with anyio.move_on_after(SECONDS):
        async with running(load, stdin=pipe, stdout=pipe) as loader:
            writer = [*command(script, run)[:2], *options]
            async with (
                running(writer, stdin=pipe, environment=environment) as process,
                anyio.create_task_group() as tasks,
            ):
                for layout, seen in shown.seen.items():
                    tasks.start_soon(watch, run, layout, saving, seen, process)
                await lead(process, saving, list(shown.seen.values()))
            shown.values = await values(
                loader, [path for seen in shown.seen.values() for path in seen.paths]
            )
    shown.operations = log.read_text().splitlines()
    return shown


def slowly(library: Path, below: Path, log: Path) -> dict[str, str]:
    return {
        **os.environ,
        "LD_PRELOAD": str(library),
        "SLOW_MOTION_BELOW": str(below),
        "SLOW_MOTION_LOG": str(log),
        "SLOW_MOTION_MICROSECONDS": str(MICROSECONDS),
    }


async def watch(run: Path, layout: str, saving: Saving, seen: Seen, writer: Process) -> None:
    """
    Until the writer has ended, and one look more.
    """

    def ended() -> bool:
        seen.status = str(stream.status())
        return writer.returncode is not None

    async with ckptstream.follow(run, layout=layout, timeout=2, timeout_fn=ended) as stream:
        async for checkpoint in stream:
            seen.copy(checkpoint, saving.files)


async def lead(writer: Process, saving: Saving, watchers: list[Seen]) -> None:
    """
    Let the writer go on when all have seen what it is about to write over.
    """
    assert writer.stdin is not None
    for number in saving.waits:
        for seen in watchers:
            await seen.has(number)
        await writer.stdin.send(b"\n")
    await writer.stdin.aclose()


async def values(loader: Process, paths: list[str]) -> dict[str, list[float] | str]:
    assert loader.stdin is not None
    assert loader.stdout is not None
    await loader.stdin.send("\n".join(paths).encode())
    await loader.stdin.aclose()
    answer = b"".join([part async for part in loader.stdout])
    found: dict[str, list[float] | str] = json.loads(answer.splitlines()[-1])
    return found
