"""
How long a cancelled wait for a checkpoint takes to return.

The clock starts right before the cancellation, and stops when the task that waited has finished
and the one that cancelled it runs again. Cancelled are: a wait for events; a wait for a look whose
listing takes 20 ms in its thread; a wait for a look whose listing never answers. Slow and hanging
listings are stubs around `os.listdir`, for the stream's directory alone; that each cancellation
fell while one was in its thread is counted, not assumed.

The floor is a task that waits for an event of the same event loop, cancelled in the same way.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib
import importlib.util
import logging
import os
import random
import sys
import tempfile
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine
from functools import partial
from typing import NamedTuple
from unittest import mock

import anyio
from _common import MILLISECOND, medians, show_goal, show_machine, show_table, spread

import ckptstream

_SLOW = 0.02  # seconds
_LIMIT = 5 * MILLISECOND

Wait = Callable[[], Coroutine[object, object, None]]


class Cancelled(NamedTuple):
    """
    One cancellation.

    Attributes:
        queued: How many of the seconds, at most, the event loop's thread stood in line for a
            processor that others had: what a busy machine adds.
        inside: Whether a thread was in the listing when the wait ended.
    """

    seconds: float
    queued: float
    inside: bool = False


class Clock:
    """Wall time, and how much of it this thread stood in line for a processor."""

    def __init__(self) -> None:
        self._queued = _queued()
        self._began = time.perf_counter()

    def stop(self) -> Cancelled:
        """What it says now."""
        ended = time.perf_counter()
        return Cancelled(ended - self._began, _queued() - self._queued)


def _queued() -> float:
    """From proc_pid_schedstat(5): time on a processor, time in line for one, time slices."""
    try:
        with open("/proc/thread-self/schedstat", "rb", buffering=0) as file:
            return int(file.read().split()[1]) / 1e9
    except OSError:
        return 0.0


Cancel = Callable[[Wait, float], Awaitable[Cancelled]]
Results = dict[tuple[str, str], list[list[Cancelled]]]


class Listing:
    """
    A directory whose listing is slow, or never answers.

    Attributes:
        inside: Whether a thread is in it.
        delay: Seconds that it takes; 0 for none, None for ever, until `release`.
    """

    def __init__(self, directory: str) -> None:
        self.directory = directory
        self.inside = False
        self.delay: float | None = 0.0
        self._released = threading.Event()
        self._list = os.listdir

    def __call__(self, path: str = ".") -> list[str]:
        """What `os.listdir` returns, in its time."""
        if os.fspath(path).rstrip("/") == self.directory and self.delay != 0.0:
            self.inside = True
            self._released.wait(self.delay)
            self.inside = False
        return self._list(path)

    def release(self) -> None:
        """Let the thread that hangs go."""
        self._released.set()


# Cancels a wait after some seconds; returns how long the wait took to end then.


async def _native(wait: Wait, after: float) -> Cancelled:
    task = asyncio.ensure_future(wait())
    await asyncio.sleep(after)
    clock = Clock()
    task.cancel()
    await asyncio.wait({task})
    return clock.stop()


async def _scope(wait: Wait, after: float) -> Cancelled:
    scope, finished = anyio.CancelScope(), anyio.Event()

    async def waiter() -> None:
        with scope:
            await wait()
        finished.set()

    async with anyio.create_task_group() as group:
        group.start_soon(waiter)
        await anyio.sleep(after)
        clock = Clock()
        scope.cancel()
        await finished.wait()
        result = clock.stop()
    return result  # noqa: RET504  # mypy: a task group may swallow


CANCELS: dict[str, tuple[Cancel, str]] = {
    "task.cancel(), asyncio": (_native, "asyncio"),
    "CancelScope.cancel(), asyncio": (_scope, "asyncio"),
    "CancelScope.cancel(), trio": (_scope, "trio"),
}
FLOOR, WATCHFILES = "anyio.Event.wait", "watchfiles.awatch"
EVENT, LOOK, HUNG = "ckptstream: an event", "ckptstream: a look", "ckptstream: a hung look"
OURS = (EVENT, LOOK, HUNG)
WHATS = (FLOOR, *OURS)


async def _cancel_bare(cancel: Cancel, times: int) -> list[Cancelled]:
    async def wait() -> None:
        await anyio.Event().wait()

    return [await cancel(wait, _moment()) for _ in range(times)]


async def _cancel_stream(cancel: Cancel, times: int, directory: str, what: str) -> list[Cancelled]:
    listing, results = Listing(directory), list[Cancelled]()
    stream, was_inside = ckptstream.follow(directory), False

    async def wait() -> None:
        nonlocal was_inside
        try:
            await anext(stream)
        finally:
            was_inside = listing.inside

    with mock.patch("os.listdir", listing):
        if what != HUNG:
            with anyio.move_on_after(0.1):
                await wait()  # The first look, and what it leads to.
        listing.delay = {EVENT: 0.0, LOOK: _SLOW, HUNG: None}[what]
        for count in range(times):
            if what == HUNG and count == times // 2:
                with anyio.move_on_after(1.1):
                    await wait()  # From now on it counts as hung.
            while what == LOOK and listing.inside:
                await anyio.sleep(0.001)
            if what == LOOK:
                os.utime(directory)  # An unchanged time would spare the listing.
                stream.wake()
            result = await cancel(wait, _moment())
            results.append(result._replace(inside=was_inside))
        listing.release()
        await stream.aclose()
    return results


async def _cancel_watchfiles(cancel: Cancel, times: int) -> list[Cancelled]:
    awatch = importlib.import_module("watchfiles").awatch
    with tempfile.TemporaryDirectory(prefix="ckptstream-cancel-") as directory:

        async def wait() -> None:
            await anext(awatch(directory))

        return [await cancel(wait, 0.3) for _ in range(times)]


def _moment() -> float:
    return random.uniform(0.002, 0.006)


def _measure(rounds: int, times: int) -> Results:
    results: Results = {(what, how): [] for what in WHATS for how in CANCELS}
    with tempfile.TemporaryDirectory(prefix="ckptstream-cancel-") as directory:
        for count in range(rounds):
            print(f"round {count + 1} of {rounds}", file=sys.stderr)
            for what, how in results:
                cancel, backend = CANCELS[how]
                function = partial(_cancel_bare, cancel, times)
                if what != FLOOR:
                    function = partial(_cancel_stream, cancel, times, directory, what)
                results[what, how].append(anyio.run(function, backend=backend))
    return results


def _measure_watchfiles(results: Results, times: int) -> None:
    if importlib.util.find_spec("watchfiles") is None:
        return
    for how, (cancel, backend) in CANCELS.items():
        print(f"{WATCHFILES}, {how}", file=sys.stderr)
        function = partial(_cancel_watchfiles, cancel, times)
        results[WATCHFILES, how] = [anyio.run(function, backend=backend)]


def _show(results: Results) -> None:
    rows = list[list[str]]()
    for (what, how), rounds in results.items():
        every = [cancelled for one in rounds for cancelled in one]
        middle = spread(medians([[cancelled.seconds for cancelled in one] for one in rounds]))
        inside = str(sum(cancelled.inside for cancelled in every))
        worst = (max(one.seconds for one in every), max(one.seconds - one.queued for one in every))
        shown = [f"{seconds / MILLISECOND:.3f}" for seconds in worst]
        rows.append([what, how, str(len(every)), inside, middle.show(MILLISECOND), *shown])
    if all(what != WATCHFILES for what, _ in results):
        rows.append([WATCHFILES, "not installed", *[""] * 5])
    title = "From cancelling to the end of the wait: median over the rounds' medians (min-max)"
    headers = ["waits for", "cancelled by", "times", "in a listing", "ms", "worst ms", "without*"]
    show_table(title, headers, rows)
    print("* worst without the time in line for a processor that other processes had\n")
    for (what, how), rounds in results.items():
        if what in OURS:
            worst_seconds = max(cancelled.seconds for one in rounds for cancelled in one)
            shown_worst = f"{worst_seconds / MILLISECOND:.3f} ms"
            goal = f"{what}, {how}: worst under 5 ms"
            show_goal(goal, shown_worst, worst_seconds < _LIMIT)


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description="time from cancelling a wait to its end")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--times", type=int, default=100, help="cancellations in each round")
    parser.add_argument("--watchfiles", type=int, default=2, help="cancellations of awatch")
    arguments = parser.parse_args()
    logging.getLogger("ckptstream").setLevel(logging.ERROR)  # It warns of the hanging listing.
    results = _measure(arguments.rounds, arguments.times)
    _measure_watchfiles(results, arguments.watchfiles)
    show_machine("anyio", "trio", "watchfiles")
    _show(results)


if __name__ == "__main__":
    main()
