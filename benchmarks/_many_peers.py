"""
Ways to follow many runs, for `many_runs.py`, and what is measured in the process that does.

A program: its argument says what to measure, as JSON, and each line of its output is JSON as well.
"""

from __future__ import annotations

import asyncio
import gc
import importlib
import importlib.util
import json
import os
import struct
import sys
import threading
import time
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from typing import Any, Literal, NamedTuple, NoReturn

import anyio
from _common import threads, usage
from anyio.abc import TaskGroup
from inotify_simple import INotify

import ckptstream

_MOVED_TO = 0x80  # inotify(7)
_EVENT = struct.Struct("iIII")
_LOOKING = 120.0  # seconds until a first look is given up
PATIENCE = 30.0  # seconds until what was not delivered is given up
_SETTLED = 7.0  # seconds after the first look: idle threads have left, too
_RESTED = 3.0  # seconds after the first look: no directory is new any more


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


def _all_first(heard: Heard, count: int) -> float | None:
    return max(heard.first.values()) if len(heard.first) >= count else None


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
        try:
            return importlib.util.find_spec(self.needs) is not None
        except ModuleNotFoundError:  # a package above it
            return False


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


# What is measured of one of them.


async def _looked_at(looked: Looked) -> float:
    until = time.monotonic() + _LOOKING
    while time.monotonic() < until:
        began = time.monotonic()
        if (moment := looked()) is not None:
            return moment
        await anyio.sleep(max(0.1, 20 * (time.monotonic() - began)))
    give_up(f"has not looked at every run within {_LOOKING:.0f} s")


async def _at_rest() -> None:
    busy = 1.0
    while busy > 0.02:  # of a second
        before = time.process_time()
        await anyio.sleep(1)
        busy = time.process_time() - before


async def _idle(contender: Contender, tasks: TaskGroup, runs: list[str], spec: Any) -> None:
    # A first look at one run imports what is imported late, and hires the first threads.
    warm, before = Heard(), threads()
    async with anyio.create_task_group() as first:
        looked = contender.start(first, runs[-1:], warm) or partial(_all_first, warm, 1)
        await _looked_at(looked)
        first.cancel_scope.cancel()
    before += sum(thread.name == runs[-1] for thread in threading.enumerate())  # It goes on.
    empty, heard = usage(), Heard()
    looked = contender.start(tasks, runs[:-1], heard) or partial(_all_first, heard, len(runs) - 1)
    # To ask a stream for its status takes memory: ask afterwards.
    await (_at_rest() if contender.told else _looked_at(looked))
    await anyio.sleep(_SETTLED)
    began, cpu, most = time.monotonic(), time.process_time(), 0
    while time.monotonic() < began + spec["seconds"]:
        await anyio.sleep(min(4.0, max(0.0, began + spec["seconds"] - time.monotonic())))
        most = max(most, threads() - before)
    share = (time.process_time() - cpu) / (time.monotonic() - began)
    full = usage()
    if looked() is None:
        give_up("has not looked at every run")
    memory = (full.resident - empty.resident) / (len(runs) - 1)
    descriptors, inotify = full.descriptors, full.inotify
    say(cpu=share, threads=most, descriptors=descriptors, inotify=inotify, memory=memory)


async def _start(contender: Contender, tasks: TaskGroup, runs: list[str], spec: Any) -> None:
    heard, began = Heard(), time.monotonic()
    looked = contender.start(tasks, runs[:-1], heard) or partial(_all_first, heard, len(runs) - 1)
    say(seconds=await _looked_at(looked) - began)


class _Probe:
    """A task that sleeps 1 ms again and again: by how much it oversleeps, at most."""

    def __init__(self) -> None:
        self.late = self.queued = 0.0

    async def run(self) -> None:
        # proc_pid_schedstat(5): the second number is the time in line for a processor.
        line = os.open("/proc/thread-self/schedstat", os.O_RDONLY)
        while True:
            queued, due = int(os.pread(line, 64, 0).split()[1]), time.monotonic() + 0.001
            await anyio.sleep(0.001)
            if (late := time.monotonic() - due) > self.late:
                queued = int(os.pread(line, 64, 0).split()[1]) - queued
                self.late, self.queued = late, queued / 1e9


async def _rounds(contender: Contender, tasks: TaskGroup, runs: list[str], spec: Any) -> None:
    heard, probe = Heard(), _Probe()
    await _looked_at(
        contender.start(tasks, runs[:-1], heard) or partial(_all_first, heard, len(runs) - 1)
    )
    await anyio.sleep(_RESTED)
    if spec["probe"]:
        tasks.start_soon(probe.run)
    for _ in range(spec["rounds"]):
        heard.times.clear()
        gc.collect()
        await anyio.sleep(0.1)
        probe.late, cpu, until = 0.0, time.process_time(), time.monotonic() + spec["seconds"]
        say(ready=True)
        while len(heard.times) < spec["commits"] and time.monotonic() < until + PATIENCE:
            await anyio.sleep(0.25)
        late, queued = probe.late, probe.queued
        await anyio.sleep(0.25)  # What a delivery leaves to do is part of its cost.
        cpu = time.process_time() - cpu
        times = [[run, step, moment] for (run, step), moment in heard.times.items()]
        say(times=times, cpu=cpu, late=late, queued=queued)


def _write() -> None:
    """Be the second process: commit what each line of the input says, spread over its seconds."""
    for line in sys.stdin:
        order, times = json.loads(line), list[float]()
        moves, began = order["moves"], time.monotonic()
        for number, (source, target, *_) in enumerate(moves):
            time.sleep(max(0.0, began + order["seconds"] * number / len(moves) - time.monotonic()))
            times.append(time.monotonic())
            os.rename(source, target)
        say(times=times)


async def _measure(spec: Any) -> None:
    contender = CONTENDERS[spec["title"]]
    importlib.import_module(contender.needs)
    runs = [f"{spec['root']}/{number:05}" for number in range(spec["runs"] + 1)]
    measure = {"idle": _idle, "start": _start, "rounds": _rounds}[spec["measure"]]
    async with anyio.create_task_group() as tasks:
        await measure(contender, tasks, runs, spec)
        os._exit(0)  # Threads that never end would be waited for.


def main() -> None:
    """Measure, in a process of its own."""
    spec = json.loads(sys.argv[1])
    if spec["measure"] == "write":
        _write()
    else:
        backend = CONTENDERS[spec["title"]].backend
        options = {"use_uvloop": True} if backend == "uvloop" else {}
        backend = backend.replace("uvloop", "asyncio")
        anyio.run(_measure, spec, backend=backend, backend_options=options)


if __name__ == "__main__":
    main()
