"""
What users of asyncio do, who know nothing of anyio: its timeouts, its cancellation, its tasks.
"""

from __future__ import annotations

import asyncio
import builtins
import contextlib
import gc
import logging
import os
import random
import shutil
import sys
import threading
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import pytest

from ckptstream import CheckpointStream, checkpoints_iterator, follow, wait_for_new_checkpoint
from ckptstream.testing import ManualWatcher, save

T = TypeVar("T")

LAYOUT = "step_{step}/DONE"
GUARD = 60.0  # seconds; only a test that hangs comes near
ROUNDS = 2000

since_311 = pytest.mark.skipif(sys.version_info < (3, 11), reason="new in Python 3.11")
since_312 = pytest.mark.skipif(sys.version_info < (3, 12), reason="new in Python 3.12")


async def guarded(awaitable: Awaitable[T]) -> T:
    return await asyncio.wait_for(awaitable, GUARD)


async def spin(until: Callable[[], object]) -> None:
    """
    Let the event loop turn until something is so.
    """

    async def turn() -> None:
        while not until():
            await asyncio.sleep(0)

    await guarded(turn())


async def looked(stream: CheckpointStream) -> None:
    await spin(lambda: stream.status().runs[0].last_look is not None)


def asking(stream: CheckpointStream) -> asyncio.Task[int | None]:
    async def ask() -> int | None:
        return (await anext(stream)).step

    return asyncio.create_task(ask())


async def steps(stream: CheckpointStream) -> list[int | None]:
    return [checkpoint.step async for checkpoint in stream]


class Storage:
    """
    Lets a look hang in its listing until the test says otherwise.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.asked = threading.Event()
        self._answers = threading.Event()
        self._listdir = os.listdir
        monkeypatch.setattr("ckptstream._stores._local.os.listdir", self.listdir)

    def listdir(self, path: str) -> list[str]:
        self.asked.set()
        assert self._answers.wait(GUARD)
        return self._listdir(path)

    def answer(self) -> None:
        self._answers.set()


@pytest.fixture
def storage(monkeypatch: pytest.MonkeyPatch) -> Iterator[Storage]:
    hanging = Storage(monkeypatch)
    yield hanging
    hanging.answer()


# Loops.


async def core(run: Path) -> list[int | None]:
    """
    What exists, what comes, and the end.
    """
    stream = follow(run, until_step=3)
    save(run, 1)
    found = [(await anext(stream)).step]
    for step in (2, 3):
        waiter = asking(stream)
        await asyncio.sleep(0)
        save(run, step)
        found.append(await guarded(waiter))
    return found + await steps(stream)


def test_asyncio_run(run: Path) -> None:
    """
    A stream needs nothing but a running loop.
    """
    assert [1, 2, 3] == asyncio.run(core(run))


def test_asyncio_run_in_debug_mode(run: Path) -> None:
    """
    Debug mode finds no call from a wrong thread.
    """
    assert [1, 2, 3] == asyncio.run(core(run), debug=True)


def test_uvloop(run: Path) -> None:
    """
    uvloop is asyncio too.
    """
    uvloop = pytest.importorskip("uvloop")

    assert [1, 2, 3] == uvloop.run(core(run))


@pytest.mark.parametrize("debug", [False, True])
def test_one_stream_in_two_loops(run: Path, debug: bool) -> None:
    """
    An idle stream may be continued by the next `asyncio.run`.
    """
    stream = follow(run)
    save(run, 1)
    first = asyncio.run(guarded(anext(stream)), debug=debug)
    save(run, 2)
    second = asyncio.run(guarded(anext(stream)), debug=debug)

    assert [1, 2] == [first.step, second.step]


def test_loop_ends_while_the_stream_waits(run: Path, storage: Storage) -> None:
    """
    `asyncio.run` does not wait for storage that hangs, and the look's result is kept.
    """
    stream = follow(run)
    save(run, 1)

    async def give_up() -> None:
        waiter = asking(stream)
        await spin(storage.asked.is_set)
        waiter.cancel()

    asyncio.run(give_up())
    storage.answer()

    assert 1 == asyncio.run(guarded(anext(stream))).step


# Timeouts.


@since_311
@pytest.mark.asyncio
async def test_asyncio_timeout_loses_nothing(run: Path) -> None:
    """
    The checkpoint saved after `asyncio.timeout` gave up comes from the next call.
    """
    stream = follow(run)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.02):
            await anext(stream)
    save(run, 7)

    async with asyncio.timeout(GUARD):
        assert 7 == (await anext(stream)).step


@since_311
@pytest.mark.asyncio
async def test_asyncio_timeout_tells_the_streams_own_expiry_apart(run: Path) -> None:
    """
    `timeout=` ends the stream inside an `asyncio.timeout` that has not expired.
    """
    async with asyncio.timeout(GUARD) as scope:
        assert [] == await steps(follow(run, timeout=0.02))

    assert not scope.expired()


@since_311
@pytest.mark.asyncio
async def test_asyncio_timeout_that_has_expired_already(run: Path) -> None:
    """
    A finished checkpoint is there, but the caller has no time left.
    """
    stream = follow(run)
    save(run, 1)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(-1):
            await anext(stream)

    assert 1 == (await anext(stream)).step


@pytest.mark.asyncio
async def test_wait_for_loses_nothing(run: Path) -> None:
    """
    Neither does `asyncio.wait_for`, however often it gives up.
    """
    stream = follow(run)
    for _ in range(5):
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(anext(stream), 0.005)
    save(run, 7)

    assert 7 == (await asyncio.wait_for(anext(stream), GUARD)).step


@pytest.mark.asyncio
async def test_wait_for_tiny_times_gets_each_checkpoint_once(run: Path) -> None:
    """
    Whatever moment the time runs out at, each checkpoint comes once, in order.
    """
    stream = follow(run, layout=LAYOUT)
    for step in range(50):
        save(run, step, LAYOUT)
    found = list[int | None]()
    while len(found) < 50:
        with contextlib.suppress(asyncio.TimeoutError):
            found.append((await asyncio.wait_for(anext(stream), random.uniform(0, 0.004))).step)
        gc.collect(0)

    assert list(range(50)) == found


@pytest.mark.asyncio
async def test_wait_for_with_a_default(run: Path) -> None:
    """
    `anext(stream, None)` may be waited for as well.
    """
    stream = follow(run)
    with pytest.raises(asyncio.TimeoutError):
        await asyncio.wait_for(anext(stream, None), 0.01)
    await stream.aclose()

    assert None is await asyncio.wait_for(anext(stream, None), GUARD)


@pytest.mark.asyncio
async def test_wait_for_new_checkpoint_cancelled(run: Path) -> None:
    """
    A cancelled `wait_for_new_checkpoint` is simply called again.
    """
    with pytest.raises(asyncio.TimeoutError):
        await asyncio.wait_for(wait_for_new_checkpoint(run), 0.02)
    save(run, 3)

    assert str(run / "checkpoint-3") == await guarded(wait_for_new_checkpoint(run))


# Cancellation.


@pytest.mark.asyncio
async def test_cancelled_before_it_began(run: Path) -> None:
    """
    A task cancelled before its first step leaves the stream as it was.
    """
    stream = follow(run)
    save(run, 7)
    waiter = asking(stream)
    waiter.cancel()
    await asyncio.wait([waiter])

    assert waiter.cancelled()
    assert 7 == await guarded(asking(stream))


@pytest.mark.asyncio
async def test_cancelled_while_a_look_hangs(run: Path, storage: Storage) -> None:
    """
    The caller leaves at once, and the next one takes the same look's result.
    """
    stream = follow(run)
    save(run, 7)
    waiter = asking(stream)
    await spin(storage.asked.is_set)
    waiter.cancel()
    await guarded(asyncio.wait([waiter]))
    cancelled = waiter.cancelled()
    again = asking(stream)
    await asyncio.sleep(0)
    storage.answer()

    assert cancelled
    assert 7 == await guarded(again)


@pytest.mark.asyncio
async def test_cancelled_after_a_look(run: Path) -> None:
    """
    While the stream waits with nothing found, it leaves at once too.
    """
    stream = follow(run)
    waiter = asking(stream)
    await looked(stream)
    waiter.cancel()
    await guarded(asyncio.wait([waiter]))
    save(run, 7)

    assert waiter.cancelled()
    assert 7 == await guarded(asking(stream))


@pytest.mark.asyncio
async def test_cancelled_twice(run: Path) -> None:
    """
    A second `cancel` during the first does no harm.
    """
    stream = follow(run)
    waiter = asking(stream)
    await looked(stream)
    waiter.cancel()
    waiter.cancel()
    await guarded(asyncio.wait([waiter]))
    save(run, 7)

    assert waiter.cancelled()
    assert 7 == await guarded(asking(stream))


@pytest.mark.asyncio
async def test_cancelled_during_min_interval(run: Path) -> None:
    """
    The pause between two deliveries is cancelled like any other wait.
    """
    stream = follow(run, min_interval_secs=3600)
    save(run, 1)
    save(run, 2)
    await anext(stream)

    with pytest.raises(asyncio.TimeoutError):
        await asyncio.wait_for(anext(stream), 0.02)
    assert 1 == stream.status().runs[0].queued


@pytest.mark.asyncio
async def test_cancelled_while_timeout_fn_is_asked(run: Path) -> None:
    """
    No answer was given: the next call asks again.
    """
    asked, answers = list[str](), asyncio.Event()

    async def ended() -> bool:
        asked.append("is it over?")
        await answers.wait()
        return True

    stream = follow(run, timeout=0.01, timeout_fn=ended)
    waiter = asking(stream)
    await spin(lambda: asked)
    waiter.cancel()
    await guarded(asyncio.wait([waiter]))
    answers.set()
    save(run, 7)

    assert waiter.cancelled()
    assert 7 == await guarded(asking(stream))
    assert [] == await guarded(steps(stream))
    assert 2 == len(asked)


@pytest.mark.asyncio
async def test_cancelled_error_of_somebody_else_is_passed_on(run: Path) -> None:
    """
    `timeout_fn` that awaits a cancelled task raises what it raises.
    """
    other = asyncio.create_task(asyncio.sleep(GUARD))
    other.cancel()

    async def ended() -> bool:
        await other
        return True

    stream = follow(run, timeout=0, timeout_fn=ended)
    with pytest.raises(asyncio.CancelledError):
        await anext(stream)


@pytest.mark.asyncio
async def test_cancel_and_event_in_the_same_tick(run: Path) -> None:
    """
    A cancellation is never swallowed and a checkpoint never lost, in whatever order they come.
    """
    watcher, chance = ManualWatcher(), random.Random(4)
    stream = follow(run, layout=LAYOUT, watcher=watcher)
    for step in range(ROUNDS):
        waiter = asking(stream)
        await guarded(watcher.waiting())
        path = save(run, step, LAYOUT)
        event = partial(watcher.event, Path(path).name, arrived=True)
        actions: list[Callable[[], None]] = [watcher.touch, event]
        accepted = False
        for action in chance.choice([[0, 1], [1, 0], [2, 0], [0, 2], [1], [0, 1, 0]]):
            if action:
                actions[action - 1]()
            else:
                accepted |= waiter.cancel()
            for _ in range(chance.choice([0, 0, 0, 1, 2])):
                await asyncio.sleep(0)
        await guarded(asyncio.wait([waiter]))
        assert accepted == waiter.cancelled()
        assert step == (await guarded(asking(stream)) if accepted else waiter.result())
        shutil.rmtree(path)


@pytest.mark.asyncio
async def test_cancel_and_save_in_another_thread(run: Path) -> None:
    """
    The same with real events and looks in real threads, at random moments.
    """
    chance = random.Random(5)
    stream = follow(run, layout=LAYOUT)
    for step in range(ROUNDS // 10):
        waiter = asking(stream)
        saving = asyncio.create_task(asyncio.to_thread(save, run, step, LAYOUT))
        for _ in range(chance.randrange(60)):
            await asyncio.sleep(0)
        accepted = waiter.cancel()
        await asyncio.wait([waiter])
        path = await saving
        assert accepted == waiter.cancelled()
        assert step == (await guarded(asking(stream)) if accepted else waiter.result())
        shutil.rmtree(path)
    assert 0 == stream.status().runs[0].missed_count


@pytest.mark.skipif(
    sys.version_info < (3, 11), reason="asyncio makes one of two cancellations before Python 3.11"
)
@pytest.mark.asyncio
async def test_cancel_and_timeout_in_the_same_tick(run: Path) -> None:
    """
    A cancellation that comes as the stream's own timeout expires is not taken for it.
    """
    loop, chance = asyncio.get_running_loop(), random.Random(6)
    for _ in range(ROUNDS // 10):
        watcher = ManualWatcher()
        stream = follow(run, timeout=0.001, watcher=watcher)
        waiter = asyncio.create_task(steps(stream))
        accepted = list[bool]()

        def cancel(waiter: asyncio.Task[Any] = waiter, accepted: list[bool] = accepted) -> None:
            accepted.append(waiter.cancel())

        loop.call_later(0.001 + chance.uniform(-0.0003, 0.0003), cancel)
        await guarded(asyncio.wait([waiter]))
        await spin(partial(len, accepted))
        assert accepted == [waiter.cancelled()]


@pytest.mark.asyncio
async def test_shielded_call_goes_on(run: Path) -> None:
    """
    `asyncio.shield` lets one call outlive an impatient caller.
    """
    stream = follow(run)
    waiter = asking(stream)
    with pytest.raises(asyncio.TimeoutError):
        await asyncio.wait_for(asyncio.shield(waiter), 0.02)
    save(run, 7)

    assert 7 == await guarded(waiter)


# Tasks.


@since_311
@pytest.mark.asyncio
async def test_task_group_follows_three_runs(tmp_path: Path) -> None:
    """
    Three runs in one task group, each with its own stream.
    """
    runs = [tmp_path / name for name in "abc"]
    found = dict[str, list[int | None]]()

    async def evaluate(run: Path) -> None:
        found[run.name] = await steps(follow(run, until_step=2))

    async with asyncio.timeout(GUARD), asyncio.TaskGroup() as tasks:
        for run in runs:
            tasks.create_task(evaluate(run))
        await asyncio.sleep(0)
        for step in (1, 2):
            for run in runs:
                save(run, step)
                await asyncio.sleep(0)

    assert {"a": [1, 2], "b": [1, 2], "c": [1, 2]} == found


@since_311
@pytest.mark.asyncio
async def test_task_group_ends_the_others_when_one_fails(tmp_path: Path) -> None:
    """
    An evaluation that fails cancels its siblings' waits.
    """
    streams = [follow(tmp_path / name) for name in "ab"]

    async def fail() -> None:
        for stream in streams:
            await looked(stream)
        raise RuntimeError("no GPU")

    async def evaluate() -> None:
        async with asyncio.TaskGroup() as tasks:
            for stream in streams:
                tasks.create_task(steps(stream))
            tasks.create_task(fail())

    with pytest.raises(ExceptionGroup) as caught:  # noqa: F821  # new in Python 3.11
        await evaluate()

    assert "[RuntimeError('no GPU')]" == repr(list(caught.value.exceptions))
    assert [None, None] == [stream.status().ended for stream in streams]


@since_312
@pytest.mark.asyncio
async def test_eager_tasks(run: Path) -> None:
    """
    A task that begins before `create_task` returns waits like any other.
    """
    loop = asyncio.get_running_loop()
    loop.set_task_factory(getattr(asyncio, "eager_task_factory"))  # noqa: B009
    assert [1, 2, 3] == await core(run)
    stream = follow(run)
    await guarded(asking(stream))
    await asyncio.gather(*(asking(stream) for _ in range(1)))
    await guarded(asking(stream))
    waiter = asking(stream)
    waiter.cancel()
    await asyncio.wait([waiter])
    save(run, 4)

    assert waiter.cancelled()
    assert 4 == await guarded(asking(stream))


@pytest.mark.asyncio
async def test_inside_an_async_generator(run: Path) -> None:
    """
    A user's generator around a stream may be left in the middle, in another task.
    """

    async def numbers() -> AsyncGenerator[int | None]:
        async with follow(run) as stream:
            async for checkpoint in stream:
                yield checkpoint.step

    save(run, 1)
    generator = numbers()
    first = await guarded(asyncio.create_task(anext(generator)))
    save(run, 2)
    second = await guarded(asyncio.create_task(anext(generator)))
    await asyncio.create_task(generator.aclose())

    assert [1, 2] == [first, second]


@pytest.mark.asyncio
async def test_generator_is_cancelled_in_its_wait(run: Path) -> None:
    """
    Cancelling the consumer of such a generator ends the stream in it.
    """
    stream = follow(run)

    async def numbers() -> AsyncGenerator[int | None]:
        async with stream:
            async for checkpoint in stream:
                yield checkpoint.step

    async def consume() -> None:
        async for _ in numbers():
            pass

    consumer = asyncio.create_task(consume())
    await looked(stream)
    consumer.cancel()
    await guarded(asyncio.wait([consumer]))

    assert consumer.cancelled()
    assert "its block was left" == stream.status().ended


@pytest.mark.asyncio
async def test_exception_in_the_block(run: Path) -> None:
    """
    What the body raises leaves the block unchanged, and the stream has ended.
    """
    stream, error = follow(run), RuntimeError("no GPU")
    save(run, 1)

    async def evaluate() -> None:
        async with stream:
            async for _ in stream:
                raise error

    with pytest.raises(RuntimeError) as caught:
        await evaluate()

    assert error is caught.value
    assert None is error.__context__
    assert [] == await steps(stream)


@pytest.mark.asyncio
async def test_break_leaves_nothing_without_the_collector(run: Path) -> None:
    """
    No descriptor and no task outlive a stream that was merely dropped.
    """
    save(run, 1)

    async def take_one(**options: Any) -> None:
        async for _ in follow(run, **options):
            break
        async for _ in checkpoints_iterator(run):
            break

    await take_one()
    gc.collect()
    gc.disable()
    try:
        before, tasks = len(os.listdir("/proc/self/fd")), asyncio.all_tasks()
        for _ in range(10):
            await take_one()
            await take_one(watcher="poll")
            await steps(follow(run, timeout=0))
        assert before == len(os.listdir("/proc/self/fd"))
        assert tasks == asyncio.all_tasks()
    finally:
        gc.enable()


# The loop stays free.


@pytest.fixture
def callers(monkeypatch: pytest.MonkeyPatch) -> dict[int, set[str]]:
    """
    Which thread has asked the storage what.
    """
    threads = dict[int, set[str]]()

    def watch(module: Any, name: str) -> None:
        real = getattr(module, name)

        def call(*args: Any, **kwargs: Any) -> Any:
            threads.setdefault(threading.get_ident(), set()).add(name)
            return real(*args, **kwargs)

        monkeypatch.setattr(module, name, call)

    for name in ("listdir", "lstat", "open", "readlink", "scandir", "stat", "statvfs"):
        watch(os, name)
    watch(builtins, "open")
    return threads


@pytest.mark.parametrize("debug", [False, True])
@pytest.mark.asyncio
async def test_no_call_in_the_loop_touches_the_storage(
    run: Path, callers: dict[int, set[str]], caplog: pytest.LogCaptureFixture, debug: bool
) -> None:
    """
    Ten thousand entries, and every listing and every stat is made by another thread.
    """
    loop = asyncio.get_running_loop()
    loop.set_debug(debug)
    loop.slow_callback_duration = 0.05
    for number in range(10_000):
        (run / f"events.{number}").touch()
    for step in range(200):
        save(run, step)
    save(run.parent / "next", 200)
    callers.clear()
    gaps = [0.0]

    async def beat() -> None:
        last = loop.time()
        while True:
            await asyncio.sleep(0.001)
            now = loop.time()
            gaps.append(now - last)
            last = now

    heart = asyncio.create_task(beat())
    with caplog.at_level(logging.WARNING, "asyncio"):
        stream = follow(run, until_step=200)
        found = [(await anext(stream)).step for _ in range(200)]
        os.rename(run.parent / "next" / "checkpoint-200", run / "checkpoint-200")
        found += await guarded(steps(stream))
    heart.cancel()
    print(f"largest gap between two beats: {max(gaps) * 1000:.1f} ms")
    print(f"slow callbacks: {[record.getMessage()[:90] for record in caplog.records]}")

    assert list(range(201)) == found
    in_loop = callers.pop(threading.get_ident(), set())
    assert set() == in_loop - ({"open", "stat"} if debug else set())  # asyncio reads its source
    assert {"listdir", "stat"} <= set.union(*callers.values())
