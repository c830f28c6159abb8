"""Ways to follow many runs, for `many_runs.py`."""

from __future__ import annotations

import asyncio
import importlib
import json
import os
import struct
import threading
import time
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from typing import Literal, NamedTuple, NoReturn

import anyio
from _common import is_installed
from anyio.abc import TaskGroup
from inotify_simple import INotify

import ckptstream

_MOVED_TO = 0x80  # inotify(7)
_EVENT = struct.Struct("iIII")


class Heard:
    """When each run was first looked at, and when each checkpoint came, by its run and step."""

    def __init__(self) -> None:
        self.first = dict[str, float]()
        self.times = dict[tuple[str, int], float]()

    def deliver(self, run: str, step: int, now: float) -> None:
        """A checkpoint; *now* is taken at the first statement of the loop's body."""
        self.first.setdefault(run, now)
        self.times.setdefault((run, step), now)


Looked = Callable[[], float | None]  # when the last run was first looked at; None: not yet
Start = Callable[[TaskGroup, Sequence[str], Heard], Looked | None]  # None: `Heard.first` tells


def give_up(why: str) -> NoReturn:
    """Say that it cannot be measured, and end the process, whatever its threads do."""
    say(trouble=why)
    os._exit(0)


def say(**what: object) -> None:
    """One line for the parent."""
    print(json.dumps(what), flush=True)


class Contender(NamedTuple):
    """
    One way to follow many runs.

    Attributes:
        start: Begins to follow; returns at once.
        needs: The module that must be installed for it.
        kind: Whose checkpoints it understands.
        at_most: How many runs it is tried with.
        told: It is at rest until it is told; else it asks every second, or whenever it wants.
        backend: The event loop that it runs in.
    """

    start: Start
    needs: str = "anyio"
    kind: str = "hf"
    at_most: int = 1_000_000
    told: bool = False
    backend: str = "asyncio"

    @property
    def installed(self) -> bool:
        """Whether it can be measured here."""
        return is_installed(self.needs)


# ckptstream.


async def _follow(stream: ckptstream.CheckpointStream, heard: Heard) -> None:
    async for ckpt in stream:
        now = time.monotonic()
        heard.deliver(ckpt.run, ckpt.step or 0, now)


def _looked(streams: Sequence[ckptstream.CheckpointStream]) -> float | None:
    now = time.monotonic()
    looks = [run.last_look for stream in streams for run in stream.status().runs]
    seconds = [since for since in looks if since is not None]
    return now - min(seconds) if len(seconds) == len(looks) else None


def _one_stream(
    watcher: Literal["auto", "poll"], tasks: TaskGroup, runs: Sequence[str], heard: Heard
) -> Looked:
    stream = ckptstream.follow(*runs, skip_existing=True, watcher=watcher)
    tasks.start_soon(_follow, stream, heard)
    return partial(_looked, [stream])


def _stream_per_task(tasks: TaskGroup, runs: Sequence[str], heard: Heard) -> Looked:
    streams = [ckptstream.follow(run, skip_existing=True) for run in runs]
    for stream in streams:
        tasks.start_soon(_follow, stream, heard)
    return partial(_looked, streams)


# What a user would take instead.


def _task_per_run(
    follow: Callable[[str, Heard], Coroutine[object, object, None]],
    tasks: TaskGroup,
    runs: Sequence[str],
    heard: Heard,
) -> None:
    for run in runs:
        tasks.start_soon(follow, run, heard)


def _thread_per_run(
    follow: Callable[[str, Heard], None], _: TaskGroup, runs: Sequence[str], heard: Heard
) -> None:
    for run in runs:
        try:
            threading.Thread(name=run, target=follow, args=(run, heard), daemon=True).start()
        except RuntimeError as error:  # no more threads
            give_up(f"fails at run {len(heard.first) + 1:,}: {error}")


def _tensorflow(run: str, heard: Heard) -> None:
    for path in importlib.import_module("tensorflow").train.checkpoints_iterator(run):
        now = time.monotonic()
        heard.deliver(run, _step(path), now)


def _orbax(run: str, heard: Heard) -> None:
    utils = importlib.import_module("orbax.checkpoint.checkpoint_utils")
    for step in utils.checkpoints_iterator(run):
        now = time.monotonic()
        heard.deliver(run, step, now)


async def _ask(run: str, heard: Heard) -> None:
    directory, seen = anyio.Path(run), set[str]()
    while True:
        async for path in directory.iterdir():
            if path.name not in seen and await (path / "trainer_state.json").exists():
                now = time.monotonic()
                seen.add(path.name)
                heard.deliver(run, _step(path.name), now)
        await anyio.sleep(1)


async def _awatch(run: str, heard: Heard) -> None:
    changes = aiter(importlib.import_module("watchfiles").awatch(run))
    heard.first[run] = time.monotonic()  # It says nothing before the first change.
    try:
        async for batch in changes:
            now = time.monotonic()
            for path in {path for _, path in batch if os.path.dirname(path) == run}:
                heard.deliver(run, _step(path), now)
    except Exception as error:  # "Too many open files" is an OSError, or a RuntimeError of its own.
        del heard.first[run]
        give_up(f"fails at run {len(heard.first) + 1:,}: {error}")


# The floors.


async def _read_inotify(runs: Sequence[str], heard: Heard) -> None:
    inotify, watched = INotify(nonblocking=True), dict[int, str]()
    for run in runs:
        watched[inotify.add_watch(run, _MOVED_TO)] = run
        os.listdir(run)
        heard.first[run] = time.monotonic()

    def readable() -> None:
        data, end = os.read(inotify.fileno(), 65536), 0
        now = time.monotonic()
        while end < len(data):
            descriptor, _, _, length = _EVENT.unpack_from(data, end)
            begin = end + _EVENT.size
            end = begin + length
            heard.deliver(watched[descriptor], _step(data[begin:end].rstrip(b"\0").decode()), now)

    asyncio.get_running_loop().add_reader(inotify.fileno(), readable)
    try:
        await anyio.sleep_forever()
    finally:
        asyncio.get_running_loop().remove_reader(inotify.fileno())
        inotify.close()


def _inotify(tasks: TaskGroup, runs: Sequence[str], heard: Heard) -> None:
    tasks.start_soon(_read_inotify, runs, heard)


def _scan(runs: Sequence[str], heard: Heard) -> None:
    known = {run: set[str]() for run in runs}
    while True:
        began = time.monotonic()
        for run in runs:
            with os.scandir(run) as entries:
                names = {entry.name for entry in entries}
            now = time.monotonic()
            for name in names - known[run]:
                heard.deliver(run, _step(name), now)
            known[run] = names
        time.sleep(max(0.0, began + 1 - time.monotonic()))


def _scandir(_: TaskGroup, runs: Sequence[str], heard: Heard) -> None:
    threading.Thread(name=runs[0], target=_scan, args=(runs, heard), daemon=True).start()


async def _sleep(run: str, heard: Heard) -> None:
    heard.first[run] = time.monotonic()
    await anyio.sleep_forever()


def _step(name: str) -> int:
    return int(name.rpartition("-")[2])


ONE, EACH = "ckptstream, one stream", "ckptstream, a stream per task"
POLLING = "ckptstream, one stream, watcher='poll'"
ASLEEP, FLOOR, SCANDIR = "a task per run, asleep", "bare inotify loop", "bare os.scandir loop"
ASKING = "a task per run, anyio.Path"

CONTENDERS: dict[str, Contender] = {
    ASLEEP: Contender(partial(_task_per_run, _sleep), told=True),
    FLOOR: Contender(_inotify, told=True),
    ONE: Contender(partial(_one_stream, "auto"), told=True),
    EACH: Contender(_stream_per_task, told=True),
    SCANDIR: Contender(_scandir),
    POLLING: Contender(partial(_one_stream, "poll")),
    ASKING: Contender(partial(_task_per_run, _ask)),
    "a task per run, watchfiles.awatch": Contender(partial(_task_per_run, _awatch), "watchfiles"),
    "a thread per run, tf.train.checkpoints_iterator": Contender(
        partial(_thread_per_run, _tensorflow), "tensorflow", "tensorflow", at_most=1_000
    ),
    "a thread per run, orbax checkpoints_iterator": Contender(
        partial(_thread_per_run, _orbax), "orbax.checkpoint", "orbax", at_most=1_000
    ),
}
for _title in (ONE, EACH, POLLING):
    for _name in ("uvloop", "trio"):
        CONTENDERS[f"{_title}, {_name}"] = CONTENDERS[_title]._replace(needs=_name, backend=_name)
