"""
A pin that is cancelled anywhere leaves at once, and leaves nothing behind.
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import anyio.from_thread
import anyio.lowlevel
import pytest
from observing import NATIVE_LOOPS, SECONDS, until
from pinning import Suspended, at_link, checkpoint_in, files_of, left, no_pins_left

from ckptstream import Checkpoint, pin
from ckptstream._pins import Hold, _pin, take
from ckptstream._threads import HandOver

pytestmark = pytest.mark.anyio


@pytest.fixture
def ckpt(run: Path) -> Checkpoint:
    """
    Of the layout "hf": seven files in a directory.
    """
    return checkpoint_in(run)


def task_canceller() -> Callable[[], object]:
    """
    Cancels the task that runs now.
    """
    task = asyncio.current_task()
    assert task is not None
    return task.cancel


class Attempt:
    """
    One pin that is cancelled at its n-th suspension, on the way in or out.

    Attributes:
        inside: Whether the block was reached.
        reached: Whether there were so many suspensions.
        whole: Whether all the files were there in the block.
    """

    def __init__(self, ckpt: Checkpoint, number: int, leaving: bool) -> None:
        self._ckpt = ckpt
        self._number = number
        self._leaving = leaving
        self.inside = self.reached = self.whole = False

    async def run(self, cancel: Callable[[], object]) -> None:
        number = self._number
        manager = pin(self._ckpt)
        entering = Suspended(manager.__aenter__(), 0 if self._leaving else number, cancel)
        try:
            pinned = await entering
            self.inside = True
            self.whole = len(files_of(pinned)) == len(files_of(self._ckpt))
        finally:
            self.reached = entering.reached
            if self.inside:
                exiting = manager.__aexit__(None, None, None)
                leaving = Suspended(exiting, number if self._leaving else 0, cancel)
                try:
                    await leaving
                finally:
                    self.reached = self.reached or leaving.reached


@pytest.mark.parametrize("leaving", [False, True], ids=["entering", "leaving"])
async def test_cancelled_by_a_scope_at_the_nth_checkpoint(
    ckpt: Checkpoint, run: Path, leaving: bool
) -> None:
    """
    For all n: nothing is left, and the next pin is whole.
    """
    number = 1
    while True:
        attempt = Attempt(ckpt, number, leaving)
        with anyio.CancelScope() as scope:
            await attempt.run(scope.cancel)
        await no_pins_left(run)
        async with pin(ckpt) as pinned:
            assert 7 == len(files_of(pinned))
        assert attempt.whole == attempt.inside
        if not attempt.reached:
            break
        assert scope.cancelled_caught
        assert leaving == attempt.inside
        number += 1

    assert number > 1
    assert {1} == {os.stat(path).st_nlink for path in files_of(ckpt)}


@NATIVE_LOOPS
@pytest.mark.parametrize("leaving", [False, True], ids=["entering", "leaving"])
async def test_cancelled_natively_at_the_nth_checkpoint(
    ckpt: Checkpoint, run: Path, leaving: bool
) -> None:
    """
    The same by `task.cancel()`.
    """

    async def main(attempt: Attempt) -> None:
        await attempt.run(task_canceller())

    number = 1
    while True:
        attempt = Attempt(ckpt, number, leaving)
        task = asyncio.create_task(main(attempt))
        await asyncio.wait([task])
        await no_pins_left(run)
        if not attempt.reached:
            break
        assert task.cancelled()
        assert (leaving, leaving) == (attempt.inside, attempt.whole)
        number += 1

    assert number > 1
    assert {1} == {os.stat(path).st_nlink for path in files_of(ckpt)}


STEPS = 40


async def hold(ckpt: Checkpoint, seen: list[int]) -> None:
    async with pin(ckpt) as pinned:
        seen.append(len(files_of(pinned)))
        await anyio.sleep_forever()


async def test_cancelled_by_a_scope_after_any_number_of_steps(ckpt: Checkpoint, run: Path) -> None:
    """
    On the way in, in the block, or anywhere between, as it comes.
    """
    seen = list[int]()
    for count in range(STEPS):
        async with anyio.create_task_group() as group:
            group.start_soon(hold, ckpt, seen)
            for _ in range(count):
                await anyio.lowlevel.checkpoint()
            group.cancel_scope.cancel()
        await no_pins_left(run)

    assert {7} >= set(seen)


@NATIVE_LOOPS
async def test_cancelled_natively_after_any_number_of_steps(ckpt: Checkpoint, run: Path) -> None:
    """
    The same by `task.cancel()`.
    """
    seen = list[int]()
    for count in range(STEPS):
        task = asyncio.create_task(hold(ckpt, seen))
        for _ in range(count):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        await no_pins_left(run)

    assert {7} >= set(seen)


async def test_cancelled_before_it_began(
    ckpt: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    Nothing is begun then.
    """
    made = list[object]()
    monkeypatch.setattr(_pin, "Call", lambda *arguments: made.append(arguments))
    with anyio.CancelScope() as scope:
        scope.cancel()
        async with pin(ckpt):
            pass

    assert scope.cancelled_caught
    assert [] == made
    assert ["run"] == os.listdir(tmp_path)


@pytest.mark.parametrize("number", range(1, 8))
async def test_cancelled_at_the_nth_link(ckpt: Checkpoint, run: Path, number: int) -> None:
    """
    It leaves while the thread is in it; the thread makes no more links, and takes back the others.
    """
    reached, released = threading.Event(), threading.Event()

    def stop() -> None:
        reached.set()
        released.wait(SECONDS)

    with at_link(number, stop) as linked:
        async with anyio.create_task_group() as group:
            group.start_soon(hold, ckpt, [])
            await until(reached.is_set)
            group.cancel_scope.cancel()
        assert left(run)
        released.set()
        await no_pins_left(run)

    assert number == len(linked)
    assert {1} == {os.stat(path).st_nlink for path in files_of(ckpt)}


async def test_cancelled_when_the_thread_is_done(
    ckpt: Checkpoint, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    In the moment between the last link and the end of the wait the pin is nobody's: it goes, too.
    """
    token = anyio.lowlevel.current_token()
    scope = anyio.CancelScope()
    make = HandOver[Hold].run

    def make_and_cancel(taking: HandOver[Hold], alive: Callable[[], None]) -> Hold | None:
        made = make(taking, alive)
        assert made is not None
        anyio.from_thread.run_sync(scope.cancel, token=token)
        return made

    monkeypatch.setattr(HandOver, "run", make_and_cancel)
    with scope:
        async with pin(ckpt):
            raise AssertionError("it was cancelled")
    await no_pins_left(run)

    assert scope.cancelled_caught


async def test_cancelled_after_the_last_file(
    ckpt: Checkpoint, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    When the thread asks no more whether it is wanted: it takes all back before it ends.
    """
    finished, left_block = threading.Event(), threading.Event()

    def take_and_wait(*arguments: Any) -> object:
        made = take(*arguments)
        finished.set()
        left_block.wait(SECONDS)
        return made

    monkeypatch.setattr(_pin, "take", take_and_wait)
    async with anyio.create_task_group() as group:
        group.start_soon(hold, ckpt, [])
        await until(finished.is_set)
        group.cancel_scope.cancel()
    assert left(run)
    left_block.set()
    await no_pins_left(run)


@NATIVE_LOOPS
async def test_cancelled_natively_when_the_thread_is_done(ckpt: Checkpoint, run: Path) -> None:
    """
    The task is cancelled, and told that the thread is done, in the same step of the loop.
    """
    make = HandOver[Hold].run
    loop, blocked = asyncio.get_running_loop(), threading.Event()
    seen = list[int]()

    def make_and_block(taking: HandOver[Hold], alive: Callable[[], None]) -> Hold | None:
        made = make(taking, alive)
        # The loop stands still until the thread has said that it is done.
        loop.call_soon_threadsafe(blocked.wait, SECONDS)
        loop.call_soon_threadsafe(task.cancel)
        threading.Timer(0.05, blocked.set).start()
        return made

    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(HandOver, "run", make_and_block)
        task = asyncio.create_task(hold(ckpt, seen))
        await asyncio.wait([task])
    await no_pins_left(run)

    assert task.cancelled()


async def test_cancelled_while_the_storage_hangs_in_removing(
    ckpt: Checkpoint, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    It leaves after a second; the removal goes on.
    """
    reached, released = threading.Event(), threading.Event()
    unlink = os.unlink

    def hang(path: str, *, dir_fd: int | None = None) -> None:
        reached.set()
        released.wait(SECONDS)
        unlink(path, dir_fd=dir_fd)

    async def main() -> None:
        async with pin(ckpt):
            monkeypatch.setattr(os, "unlink", hang)

    async with anyio.create_task_group() as group:
        group.start_soon(main)
        await until(reached.is_set)
        began = time.monotonic()
        group.cancel_scope.cancel()
    took = time.monotonic() - began
    assert left(run)
    released.set()
    await no_pins_left(run)

    assert took > 0.9


async def test_cancelled_in_the_block(ckpt: Checkpoint, run: Path) -> None:
    """
    The removal is waited for: when the task has ended, nothing is left.
    """
    seen = list[int]()
    async with anyio.create_task_group() as group:
        group.start_soon(hold, ckpt, seen)
        await until(lambda: seen)
        assert left(run)
        group.cancel_scope.cancel()

    assert [] == left(run)
    assert ["run"] == os.listdir(run.parent)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_the_event_loop_ends_while_a_thread_links(
    ckpt: Checkpoint, run: Path, backend: str
) -> None:
    """
    The thread undoes its work without it.
    """
    released = threading.Event()

    async def main() -> None:
        with anyio.move_on_after(0.1):
            await hold(ckpt, [])

    with at_link(3, lambda: released.wait(SECONDS)):
        anyio.run(main, backend=backend)
        assert left(run)
        released.set()
        deadline = time.monotonic() + SECONDS
        while left(run):
            assert time.monotonic() < deadline
            time.sleep(0.002)

    assert ["run"] == os.listdir(run.parent)
