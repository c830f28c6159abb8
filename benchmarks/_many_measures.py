"""What is measured of one way to follow many runs: a program, told what and answering in JSON."""

from __future__ import annotations

import gc
import importlib
import json
import os
import sys
import threading
import time
from functools import partial
from typing import Any

import anyio
from _common import threads, usage
from _many_peers import CONTENDERS, Contender, Heard, Looked, give_up, say
from anyio.abc import TaskGroup

_LOOKING = 300.0  # seconds until a first look is given up
PATIENCE = 30.0  # seconds until what was not delivered is given up
_SETTLED = 7.0  # seconds after the first look: idle threads have left, too
_RESTED = 3.0  # seconds after the first look: no directory is new any more


def _all_first(heard: Heard, count: int) -> float | None:
    return max(heard.first.values()) if len(heard.first) >= count else None


async def _looked_at(looked: Looked) -> float:
    until = time.monotonic() + _LOOKING
    while time.monotonic() < until:
        began = time.monotonic()
        if (moment := looked()) is not None:
            return moment
        await anyio.sleep(max(0.1, 20 * (time.monotonic() - began)))
    return give_up(f"has not looked at every run within {_LOOKING:.0f} s")


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
