"""
The one that reads for all is cancelled while 999 others wait: another one reads, nothing is lost.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import anyio
import anyio.lowlevel
import pytest
from observing import SECONDS, linux, mark_done, until
from sweeping import HOUR, LAYOUT
from test_loop_watcher import Waiter, all_wait, assert_rest, tasks, waiters

from ckptstream import CheckpointStream, follow
from ckptstream._watchers import Alarm, LoopWatcher, current_watcher

pytestmark = [linux, pytest.mark.anyio]

NUMBER = 1000


async def soon(condition: Callable[[], object]) -> None:
    """
    As `until`, but for what takes a few rounds of the event loop.
    """
    while not condition():
        await anyio.lowlevel.checkpoint()


def next_readers(watcher: LoopWatcher, number: int) -> list[Alarm]:
    """
    The reader, and those that would follow it if all before them went.
    """
    assert watcher._reader is not None
    others = [alarm for alarm in watcher._waiting if alarm is not watcher._reader]
    return [watcher._reader, *others[: number - 1]]


async def test_waiters_that_read_are_cancelled_among_a_thousand(tmp_path: Path) -> None:
    """
    Alone, or together with their successors in the same tick, before or after events came.
    """
    dice, watcher = random.Random(20240608), current_watcher()
    everyone = waiters(watcher, tmp_path, NUMBER)
    whose = {waiter.alarm: waiter for waiter in everyone}
    scopes = dict[Waiter, anyio.CancelScope]()
    cancelled, wanted, away = 0, 0, anyio.Event()

    async def live(waiter: Waiter) -> None:
        nonlocal cancelled
        while True:
            with anyio.CancelScope() as scopes[waiter]:
                await waiter.wait_forever()
            cancelled += 1
            await away.wait()

    async with tasks() as group:
        for waiter in everyone:
            group.start_soon(live, waiter)
        await all_wait(watcher, NUMBER)
        for _ in range(300):
            victims = [whose[alarm] for alarm in next_readers(watcher, dice.randint(1, 4))]
            told = [*dice.sample(everyone, 3), dice.choice(victims)]
            first = dice.random() < 0.5
            for waiter in told if first else []:
                waiter.touch()
            dice.shuffle(victims)
            wanted += len(victims)
            for waiter in victims:
                scopes[waiter].cancel()
            for waiter in [] if first else told:
                waiter.touch()
            await soon(lambda: all(len(w.entries) == w.made for w in told))  # noqa: B023
            await soon(lambda: cancelled == wanted)  # noqa: B023
            # Those that were cancelled come back only now: nobody but the others could have read.
            away.set()
            away = anyio.Event()
            await soon(lambda: len(watcher._waiting) == NUMBER and watcher._reader is not None)
        for waiter in everyone:
            waiter.touch()
        await until(lambda: all(len(w.entries) == w.made for w in everyone))

    expected = [[(f"entry-{n}", True) for n in range(1, w.made + 1)] for w in everyone]
    assert expected == [waiter.entries for waiter in everyone]
    assert cancelled > 500
    assert_rest(watcher)


async def test_streams_that_read_are_cancelled_among_a_thousand(tmp_path: Path) -> None:
    """
    The same with a stream in each task: each delivers, also those whose calls were cancelled.
    """
    dice = random.Random(20240609)
    runs = [tmp_path / f"run-{number}" for number in range(NUMBER)]
    streams = dict[Alarm, tuple[Path, CheckpointStream]]()
    got: dict[Path, list[int | None]] = {run: [] for run in runs}
    last = dict.fromkeys(runs, 1)
    scopes = dict[Alarm, anyio.CancelScope]()
    cancelled, wanted, away = 0, 0, anyio.Event()
    for run in runs:
        mark_done(run, 1)
        stream = follow(run, layout=LAYOUT, poll_interval=HOUR)
        streams[stream.engine._alarm] = run, stream

    async def read(alarm: Alarm) -> None:
        nonlocal cancelled
        run, stream = streams[alarm]
        while True:
            with anyio.CancelScope() as scopes[alarm]:
                async for checkpoint in stream:
                    got[run].append(checkpoint.step)
            cancelled += 1
            await away.wait()

    def save(alarm: Alarm) -> None:
        run, _ = streams[alarm]
        last[run] += 1
        mark_done(run, last[run])

    with anyio.fail_after(SECONDS * 2):
        async with anyio.create_task_group() as group:
            for alarm in streams:
                group.start_soon(read, alarm)
            await until(lambda: all(got.values()))
            watcher = current_watcher()
            await until(lambda: watcher._reader is not None)
            for _ in range(50):
                victims = next_readers(watcher, dice.randint(1, 3))
                told = [*dice.sample(list(streams), 2), dice.choice(victims)]
                first = dice.random() < 0.5
                for alarm in {*told} if first else ():
                    save(alarm)
                wanted += len(victims)
                for alarm in victims:
                    scopes[alarm].cancel()
                for alarm in () if first else {*told}:
                    save(alarm)
                others = [streams[alarm][0] for alarm in told if alarm not in victims]
                await until(lambda: all(got[run][-1] == last[run] for run in others))  # noqa: B023
                await until(lambda: cancelled == wanted)  # noqa: B023
                # Those that were cancelled come back only now, and have lost nothing.
                away.set()
                away = anyio.Event()
                await until(lambda: all(got[run][-1] == step for run, step in last.items()))
                await until(lambda: watcher._reader is not None)
            for alarm in streams:
                save(alarm)
            await until(lambda: all(got[run][-1] == step for run, step in last.items()))
            group.cancel_scope.cancel()

    assert {run: list(range(1, step + 1)) for run, step in last.items()} == got
