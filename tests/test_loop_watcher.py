"""
The streams of one event loop wait in one queue: one of them reads for all.
"""

from __future__ import annotations

import asyncio
import gc
import random
import weakref
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import anyio
import anyio.lowlevel
import pytest
from anyio.abc import TaskGroup
from observing import (
    NATIVE_LOOPS,
    SECONDS,
    Told,
    inodes,
    inotify_descriptors,
    linux,
    until,
    watched,
)

from ckptstream._threads import current_pool
from ckptstream._watchers import Alarm, LoopWatcher, Meaning, Subscription, current_watcher

pytestmark = [linux, pytest.mark.anyio]

CANCELLATIONS = 10_000


class Waiter(Told):
    """
    What a stream is to the watcher: told of its directory, it rings its alarm.
    """

    def __init__(self, watcher: LoopWatcher, directory: Path) -> None:
        super().__init__()
        directory.mkdir(exist_ok=True, parents=True)
        self.directory = directory
        self.alarm = Alarm()
        self.returned = 0
        self.made = 0
        self.brief = False
        self.sometimes_brief: Callable[[], bool] = lambda: False
        self._watcher = watcher
        subscription = watcher.subscribe(self)
        assert subscription is not None
        self.subscription: Subscription = subscription
        subscription.arm(str(directory), Meaning())

    def entry_changed(self, name: str, arrived: bool) -> None:
        super().entry_changed(name, arrived)
        self.alarm.ring()

    def all_changed(self) -> None:
        super().all_changed()
        self.alarm.ring()

    def touch(self) -> None:
        """
        One event in this waiter's directory.
        """
        self.made += 1
        (self.directory / f"entry-{self.made}").symlink_to("nowhere")

    async def wait(self) -> None:
        """
        As a stream does: what is there is read first, and then waited for.
        """
        self.alarm.reset()
        self._watcher.read()
        if not self.alarm.rung:
            self.brief = self.sometimes_brief()
            await self._watcher.wait(self.alarm, brief=self.brief)
        self.returned += 1

    async def wait_forever(self) -> None:
        while True:
            await self.wait()
            await anyio.lowlevel.checkpoint()


def waiters(watcher: LoopWatcher, directory: Path, number: int) -> list[Waiter]:
    return [Waiter(watcher, directory / f"run-{count}") for count in range(number)]


async def all_wait(watcher: LoopWatcher, number: int) -> None:
    await until(lambda: len(watcher._waiting) == number and watcher._reader is not None)


@asynccontextmanager
async def tasks() -> AsyncGenerator[TaskGroup]:
    """
    A task group that is cancelled at the end, and fails what takes too long.
    """
    with anyio.fail_after(SECONDS * 3):
        async with anyio.create_task_group() as group:
            yield group
            group.cancel_scope.cancel()


def assert_rest(watcher: LoopWatcher) -> None:
    """
    Nobody waits, and nobody is said to read.
    """
    assert ({}, None) == (watcher._waiting, watcher._reader)


async def test_one_watcher_for_each_loop() -> None:
    """
    The same one for all, as long as one of them holds it.
    """
    watcher = current_watcher()
    gone = weakref.ref(watcher)

    assert watcher is current_watcher()
    del watcher
    gc.collect()
    assert gone() is None


async def test_one_instance_for_all_and_the_right_one_wakes(tmp_path: Path) -> None:
    """
    Fifty wait, one inotify instance serves them, and each event wakes its own waiter alone.
    """
    before = inotify_descriptors()
    watcher = current_watcher()
    everyone = waiters(watcher, tmp_path, 50)
    assert 1 == len(inotify_descriptors() - before)

    async with tasks() as group:
        for waiter in everyone:
            group.start_soon(waiter.wait)
        await all_wait(watcher, 50)
        for count, waiter in enumerate(reversed(everyone), 1):
            waiter.touch()
            await until(lambda: waiter.returned)  # noqa: B023
            assert count == sum(other.returned for other in everyone)

    assert [[("entry-1", True)]] * 50 == [waiter.entries for waiter in everyone]
    assert_rest(watcher)


async def test_an_alarm_rung_before_returns_at_once(tmp_path: Path) -> None:
    """
    Nothing is awaited for what has happened already.
    """
    watcher = current_watcher()
    waiter = Waiter(watcher, tmp_path)
    waiter.alarm.ring()

    with anyio.fail_after(SECONDS):
        await watcher.wait(waiter.alarm, brief=False)

    assert_rest(watcher)


@pytest.mark.parametrize("who", ["reader", "other"])
async def test_ring_wakes_whoever_it_is(tmp_path: Path, who: str) -> None:
    """
    `wake()` and a finished look reach the one that reads as well as the others.
    """
    watcher = current_watcher()
    everyone = waiters(watcher, tmp_path, 3)

    async with tasks() as group:
        for waiter in everyone:
            group.start_soon(waiter.wait)
        await all_wait(watcher, 3)
        reads = [waiter.alarm is watcher._reader for waiter in everyone]
        chosen = everyone[reads.index(who == "reader")]
        chosen.alarm.ring()
        await until(lambda: chosen.returned)
        assert 1 == sum(waiter.returned for waiter in everyone)
        assert watcher._reader in watcher._waiting
        # And the descriptor is as good as before.
        rest = [waiter for waiter in everyone if waiter is not chosen]
        for waiter in rest:
            waiter.touch()
        await until(lambda: all(waiter.returned for waiter in rest))

    assert_rest(watcher)


async def test_a_cancelled_reader_hands_over(tmp_path: Path) -> None:
    """
    The next one reads, and what happened in that very moment is not lost.
    """
    watcher = current_watcher()
    everyone = waiters(watcher, tmp_path, 5)

    async with tasks() as group:
        scopes = dict[int, anyio.CancelScope]()

        async def wait(number: int) -> None:
            with anyio.CancelScope() as scopes[number]:
                await everyone[number].wait()

        for number in range(5):
            group.start_soon(wait, number)
        await all_wait(watcher, 5)
        readers = list[int]()
        for left in (4, 3, 2):
            reading = next(n for n, w in enumerate(everyone) if w.alarm is watcher._reader)
            readers.append(reading)
            others = {n for n, w in enumerate(everyone) if w.alarm in watcher._waiting}
            last = max(others - {reading})
            everyone[last].touch()
            everyone[reading].touch()
            scopes[reading].cancel()
            await until(lambda: everyone[last].returned)  # noqa: B023
            everyone[last].returned = 0
            group.start_soon(wait, last)
            await all_wait(watcher, left)

    assert 3 == len(set(readers))
    assert_rest(watcher)


async def test_the_reader_and_its_successor_are_cancelled_in_one_tick(tmp_path: Path) -> None:
    """
    The job is passed on twice, to somebody who is still there.
    """
    watcher = current_watcher()
    everyone = waiters(watcher, tmp_path, 4)

    async with tasks() as group:
        scopes = dict[int, anyio.CancelScope]()

        async def wait(number: int) -> None:
            with anyio.CancelScope() as scopes[number]:
                await everyone[number].wait()

        for number in range(4):
            group.start_soon(wait, number)
        await all_wait(watcher, 4)
        order = [
            next(n for n, w in enumerate(everyone) if w.alarm is alarm)
            for alarm in watcher._waiting
        ]
        assert everyone[order[0]].alarm is watcher._reader
        for number in order[:3]:
            scopes[number].cancel()
        everyone[order[3]].touch()
        await until(lambda: everyone[order[3]].returned)

    assert [0, 0, 0, 1] == [everyone[number].returned for number in order]
    assert_rest(watcher)


async def test_a_promoted_reader_that_has_rung_passes_the_job_on(tmp_path: Path) -> None:
    """
    The reader goes, its successor rings in the same tick: the third one reads.
    """
    watcher = current_watcher()
    everyone = waiters(watcher, tmp_path, 3)

    async with tasks() as group:
        for waiter in everyone:
            group.start_soon(waiter.wait)
        await all_wait(watcher, 3)
        alarms = list(watcher._waiting)
        alarms[0].ring()
        alarms[1].ring()
        third = next(waiter for waiter in everyone if waiter.alarm is alarms[2])
        third.touch()
        await until(lambda: third.returned)

    assert [1, 1, 1] == [waiter.returned for waiter in everyone]
    assert_rest(watcher)


async def test_two_in_one_directory_and_one_leaves(tmp_path: Path) -> None:
    """
    The kernel has one watch for both; the other one still notices.
    """
    watcher = current_watcher()
    one, two = Waiter(watcher, tmp_path), Waiter(watcher, tmp_path)
    assert watcher._inotify is not None
    assert watcher._inotify.fd is not None

    one.subscription.keep(lambda path, meaning: False)
    async with tasks() as group:
        group.start_soon(two.wait)
        await all_wait(watcher, 1)
        two.touch()
        await until(lambda: two.returned)
    assert inodes(tmp_path) == watched(watcher._inotify.fd)
    two.subscription.keep(lambda path, meaning: False)

    assert ([], [("entry-1", True)], []) == (
        one.entries,
        two.entries,
        watched(watcher._inotify.fd),
    )


async def test_a_brief_wait_reads_only_if_it_must(tmp_path: Path) -> None:
    """
    It leaves the descriptor alone, but takes over from a reader that goes.
    """
    watcher = current_watcher()
    brief, reader = Waiter(watcher, tmp_path / "brief"), Waiter(watcher, tmp_path / "reader")
    brief.sometimes_brief = lambda: True

    async with tasks() as group:
        group.start_soon(brief.wait)
        await until(lambda: watcher._waiting)
        assert watcher._reader is None
        group.start_soon(reader.wait)
        await until(lambda: watcher._reader is reader.alarm)
        reader.touch()
        await until(lambda: reader.returned)
        brief.touch()
        await until(lambda: brief.returned)

    assert_rest(watcher)


async def test_without_a_watch_nobody_reads_but_all_can_be_rung(tmp_path: Path) -> None:
    """
    Streams that poll wait for their alarm alone.
    """
    watcher = LoopWatcher(current_pool())
    alarms = [Alarm(), Alarm()]

    async with tasks() as group:
        for alarm in alarms:
            group.start_soon(partial(watcher.wait, alarm, brief=False))
        await until(lambda: 2 == len(watcher._waiting))
        assert watcher._reader is None
        alarms[1].ring()
        await until(lambda: [alarms[0]] == list(watcher._waiting))
        alarms[0].ring()
        await until(lambda: not watcher._waiting)


class Storm:
    """
    Waits that are cancelled, rung and fed at random; at the end no event is missing.
    """

    def __init__(self, directory: Path) -> None:
        self.dice = random.Random(20240607)
        self.watcher = current_watcher()
        self.everyone = waiters(self.watcher, directory, 12)
        for waiter in self.everyone[1:]:
            waiter.sometimes_brief = lambda: self.dice.random() < 0.2
        self.cancelled = 0
        self.handovers = 0

    def victims(self) -> list[Waiter]:
        """
        Some of those that wait: the reader and its successors more often than not.
        """
        waiting = [
            next(waiter for waiter in self.everyone if waiter.alarm is alarm)
            for alarm in self.watcher._waiting
        ]
        waiting.sort(key=lambda waiter: waiter.alarm is not self.watcher._reader)
        first = self.dice.randint(0, 4)
        chosen = waiting[:first]
        chosen += [waiter for waiter in waiting[first:] if self.dice.random() < 0.3]
        self.handovers += bool(first and waiting)
        self.dice.shuffle(chosen)
        return chosen

    def disturb(self) -> None:
        """
        What may happen in the same tick.
        """
        for waiter in self.everyone:
            chance = self.dice.random()
            if chance < 0.03:
                waiter.touch()
            elif chance < 0.1:
                waiter.alarm.ring()

    async def pause(self) -> None:
        for _ in range(self.dice.randint(1, 3)):
            await anyio.lowlevel.checkpoint()

    def assert_one_reads(self) -> None:
        """
        If anybody waits for more than a moment, somebody reads.
        """
        waiting = [waiter for waiter in self.everyone if waiter.alarm in self.watcher._waiting]
        assert self.watcher._reader or all(waiter.brief for waiter in waiting)
        assert self.watcher._reader is None or self.watcher._reader in self.watcher._waiting

    async def calm(self) -> None:
        """
        Every event that was made has been told, once.
        """
        await until(lambda: all(len(w.entries) == w.made for w in self.everyone))
        for waiter in self.everyone:
            waiter.touch()
        await until(lambda: all(len(w.entries) == w.made for w in self.everyone))
        expected = [[(f"entry-{n}", True) for n in range(1, w.made + 1)] for w in self.everyone]
        assert expected == [waiter.entries for waiter in self.everyone]
        assert (True, True) == (self.cancelled >= CANCELLATIONS, self.handovers > 1000)


async def test_ten_thousand_scopes_are_cancelled(tmp_path: Path) -> None:
    """
    In any order, together with rings and events: somebody always reads, nothing is lost.
    """
    storm = Storm(tmp_path)
    scopes = dict[Waiter, anyio.CancelScope]()

    async def live(waiter: Waiter) -> None:
        while True:
            with anyio.CancelScope() as scopes[waiter]:
                await waiter.wait_forever()
            storm.cancelled += 1

    async with tasks() as group:
        for waiter in storm.everyone:
            group.start_soon(live, waiter)
        await all_wait(storm.watcher, len(storm.everyone))
        while storm.cancelled < CANCELLATIONS:
            before = storm.dice.random() < 0.5
            if before:
                storm.disturb()
            for waiter in storm.victims():
                scopes[waiter].cancel()
            if not before:
                storm.disturb()
            await storm.pause()
            storm.assert_one_reads()
        await storm.calm()
    assert_rest(storm.watcher)


@NATIVE_LOOPS
async def test_ten_thousand_tasks_are_cancelled(tmp_path: Path) -> None:
    """
    The same with asyncio's own `task.cancel()`.
    """
    storm = Storm(tmp_path)
    lives = dict[Waiter, asyncio.Task[None]]()

    def start(waiter: Waiter) -> None:
        lives[waiter] = asyncio.create_task(waiter.wait_forever())

    with anyio.fail_after(SECONDS * 3):
        for waiter in storm.everyone:
            start(waiter)
        await all_wait(storm.watcher, len(storm.everyone))
        while storm.cancelled < CANCELLATIONS:
            before = storm.dice.random() < 0.5
            if before:
                storm.disturb()
            for waiter in storm.victims():
                assert lives[waiter].cancel()
            if not before:
                storm.disturb()
            await storm.pause()
            storm.assert_one_reads()
            for waiter, task in lives.items():
                if task.done():
                    assert task.cancelled()
                    storm.cancelled += 1
                    start(waiter)
        await storm.calm()
        for task in lives.values():
            task.cancel()
        await asyncio.wait(lives.values())
    assert_rest(storm.watcher)
