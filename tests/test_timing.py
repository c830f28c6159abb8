"""
"Timing" of the design, sentence by sentence, in virtual time on asyncio and on trio.
"""

from __future__ import annotations

import errno
import functools
import math
import os
from collections.abc import Awaitable, Callable, Generator
from pathlib import Path
from typing import Any, TypeVar

import anyio
import pytest
from steering import HeldWatcher, failing, missed, rest, run_status, save_at, virtual

from ckptstream import follow
from ckptstream._threads import Job
from ckptstream._watchers import Alarm
from ckptstream.testing import ManualWatcher, apply, operations, save

pytestmark = [pytest.mark.anyio, virtual]

T = TypeVar("T")


# The longest wait for one new checkpoint.


async def test_the_stream_ends_when_nothing_came_for_that_long(
    run: Path, watcher: ManualWatcher
) -> None:
    """
    `timeout` is in seconds on the event loop's own clock.
    """
    begin = anyio.current_time()

    assert [] == await rest(follow(run, timeout=10, watcher=watcher))
    assert 10 == pytest.approx(anyio.current_time() - begin)


@pytest.mark.parametrize("offset", [0.0, 0.1, 12345.6789])
@pytest.mark.parametrize("timeout", [0, 1e-9, 0.1, 0.3, 1 / 3, 7.7, 1e6 + 0.1])
async def test_it_is_never_early(
    run: Path, watcher: ManualWatcher, offset: float, timeout: float
) -> None:
    """
    The stream does not end before the deadline, not by a rounding error.
    """
    await anyio.sleep(offset)
    begin = anyio.current_time()

    # With a hundred thousand looks that trust no event, the longest one would take a while.
    with anyio.move_on_after(min(timeout, 300)):
        await rest(follow(run, timeout=timeout, watcher=watcher))

    assert min(begin + timeout, begin + 300) <= anyio.current_time()


@pytest.mark.parametrize("timeout", [0.1, 0.3, 1 / 3, 7.7])
async def test_timeout_fn_is_never_asked_early(
    run: Path, watcher: ManualWatcher, timeout: float
) -> None:
    """
    Neither at the first expiry nor at later ones.
    """
    asked = list[float]()

    def ended() -> bool:
        asked.append(anyio.current_time())
        return len(asked) == 20

    begin = anyio.current_time()
    await rest(follow(run, timeout=timeout, timeout_fn=ended, watcher=watcher))

    starts = [begin, *asked]
    assert [] == [at for last, at in zip(starts, asked, strict=False) if at < last + timeout]
    assert 20 * timeout == pytest.approx(asked[-1] - begin)


async def test_none_waits_for_ever(run: Path, watcher: ManualWatcher) -> None:
    """
    Without a timeout nothing expires.
    """
    with anyio.move_on_after(10_000) as patience:
        await anext(follow(run, watcher=watcher))

    assert patience.cancelled_caught


async def test_the_wait_starts_when_the_consumer_asks(run: Path, watcher: ManualWatcher) -> None:
    """
    Neither when the stream was made, nor while the last checkpoint is evaluated.
    """
    stream = follow(run, timeout=10, watcher=watcher)
    save(run, 1)
    await anyio.sleep(100)
    assert 1 == (await anext(stream)).step
    await anyio.sleep(100)
    begin = anyio.current_time()

    assert [] == await rest(stream)
    assert 10 == pytest.approx(anyio.current_time() - begin)


@pytest.mark.parametrize(
    ("asked", "expected"),
    [(0, 40), (20, 40), (30, 40), (100, 110)],
)
async def test_the_wait_starts_after_min_interval_secs(
    run: Path, watcher: ManualWatcher, asked: float, expected: float
) -> None:
    """
    The timeout does not run while nothing could be delivered.
    """
    save(run, 1)
    stream = follow(run, min_interval_secs=30, timeout=10, watcher=watcher)
    await anext(stream)
    delivered = anyio.current_time()
    await anyio.sleep(asked)

    assert [] == await rest(stream)
    assert expected == pytest.approx(anyio.current_time() - delivered)


async def test_the_wait_starts_anew_after_each_delivery(run: Path, watcher: ManualWatcher) -> None:
    """
    One checkpoint every 8 seconds keeps a timeout of 10 seconds from expiring.
    """
    begin = anyio.current_time()
    async with anyio.create_task_group() as group:
        group.start_soon(save_at, {8: 1, 16: 2, 24: 3, 35: 4}, run, watcher)

        assert [1, 2, 3] == await rest(follow(run, timeout=10, watcher=watcher))
        assert 34 == pytest.approx(anyio.current_time() - begin)


async def test_an_unfinished_checkpoint_does_not_prolong_the_wait(
    run: Path, watcher: ManualWatcher
) -> None:
    """
    Only a delivery does.
    """

    async def write_slowly() -> None:
        for operation in operations(1):
            await anyio.sleep(2)
            apply(operation, run)
            watcher.touch()

    begin = anyio.current_time()
    async with anyio.create_task_group() as group:
        group.start_soon(write_slowly)

        assert [] == await rest(follow(run, timeout=10, watcher=watcher))
        assert 10 == pytest.approx(anyio.current_time() - begin)


async def test_the_wait_starts_anew_after_each_go_on(run: Path, watcher: ManualWatcher) -> None:
    """
    When the answer is there: a slow `timeout_fn` is none of the wait.
    """
    asked = list[float]()

    async def ended() -> bool:
        asked.append(anyio.current_time() - begin)
        await anyio.sleep(5)
        return len(asked) == 3

    begin = anyio.current_time()

    assert [] == await rest(follow(run, timeout=10, timeout_fn=ended, watcher=watcher))
    assert pytest.approx([10, 25, 40]) == asked


async def test_the_deadline_survives_cancelled_calls(run: Path, watcher: ManualWatcher) -> None:
    """
    Whoever asks for a moment only, again and again, reaches the end at the same time.
    """
    stream = follow(run, timeout=10, watcher=watcher)
    begin = anyio.current_time()
    cancelled = list[bool]()

    async def ask_for_a_moment() -> None:
        while True:
            with anyio.move_on_after(3) as moment:
                await anext(stream)
            cancelled.append(moment.cancelled_caught)

    with pytest.raises(StopAsyncIteration):
        await ask_for_a_moment()

    assert [True] * 3 == cancelled
    assert 10 == pytest.approx(anyio.current_time() - begin)


async def test_a_deadline_that_passed_between_two_calls_ends_the_next(
    run: Path, watcher: ManualWatcher
) -> None:
    """
    The wait goes on while nobody is in a call; the last look is still taken.
    """
    stream = follow(run, timeout=10, watcher=watcher)
    with anyio.move_on_after(3):
        await anext(stream)
    await anyio.sleep(100)
    save(run, 1)
    begin = anyio.current_time()

    assert [1] == await rest(stream)
    assert begin == anyio.current_time()


async def test_the_deadline_survives_cancellation_during_min_interval(
    run: Path, watcher: ManualWatcher
) -> None:
    """
    It stands from the first call on, also if that came too early for a delivery.
    """
    save(run, 1)
    stream = follow(run, min_interval_secs=30, timeout=10, watcher=watcher)
    await anext(stream)
    delivered = anyio.current_time()
    for _ in range(7):
        with anyio.move_on_after(5):
            await anext(stream)

    assert [] == await rest(stream)
    assert 40 == pytest.approx(anyio.current_time() - delivered)


async def test_a_cancellation_at_the_very_deadline_loses_nothing(
    run: Path, watcher: ManualWatcher
) -> None:
    """
    Whichever of the two comes first.
    """
    stream = follow(run, timeout=10, watcher=watcher)
    found = list[int | None]()
    for _ in range(2):
        with anyio.move_on_after(10):
            async with anyio.create_task_group() as group:
                group.start_soon(save_at_end, run)
                async for checkpoint in stream:
                    found.append(checkpoint.step)

    assert [1] == found


async def save_at_end(run: Path) -> None:
    await anyio.sleep(9.99)
    save(run, 1)


async def test_no_scope_is_open_between_two_calls(run: Path, watcher: ManualWatcher) -> None:
    """
    The timeout cancels nothing of the consumer's, and any task may make the next call.
    """
    save(run, 1)
    stream = follow(run, timeout=10, watcher=watcher)
    await anext(stream)
    assert math.inf == anyio.current_effective_deadline()

    save(run, 2)
    found = list[int | None]()

    async def other() -> None:
        found.append((await anext(stream)).step)
        assert math.inf == anyio.current_effective_deadline()

    async with anyio.create_task_group() as group:
        group.start_soon(other)
        watcher.touch()
    await anyio.sleep(100)
    assert [2] == found
    assert [] == await rest(stream)


# The last look.


@pytest.mark.parametrize("ask", [None, lambda: True], ids=["no timeout_fn", "timeout_fn"])
async def test_what_no_event_told_of_is_found_by_the_last_look(
    run: Path, watcher: ManualWatcher, ask: Callable[[], bool] | None
) -> None:
    """
    Every expiry, with or without `timeout_fn`, ends only after one complete look.
    """

    async def commit() -> None:
        await anyio.sleep(9.999)
        save(run, 1)

    async with anyio.create_task_group() as group:
        group.start_soon(commit)

        assert [1] == await rest(follow(run, timeout=10, timeout_fn=ask, watcher=watcher))


async def test_what_is_committed_at_the_very_deadline_is_delivered(
    run: Path, watcher: ManualWatcher
) -> None:
    """
    The look begins at or after the deadline, and after `timeout_fn` has answered.
    """

    def ended() -> bool:
        save(run, 1)
        return True

    assert [1] == await rest(follow(run, timeout=10, timeout_fn=ended, watcher=watcher))


async def test_a_look_in_flight_since_before_the_deadline_does_not_count(run: Path) -> None:
    """
    It may have passed the checkpoint by.
    """
    watcher = HeldWatcher()
    found = list[int | None]()
    stream = follow(run, timeout=10, watcher=watcher)

    async def consume() -> None:
        found.extend(await rest(stream))

    async with anyio.create_task_group() as group:
        group.start_soon(consume)
        await anyio.sleep(9.9)
        assert (1, 1) == (watcher.looks, watcher.held)
        save(run, 1)
        await anyio.sleep(0.2)
        assert [] == found
        watcher.holds = False
        watcher.answer()

    assert [1] == found
    assert 2 <= watcher.looks


async def test_a_look_begun_in_the_instant_of_the_expiry_does_not_count(run: Path) -> None:
    """
    A clock may stand still while `timeout_fn` runs, as uvloop's does; the disk does not.
    """
    watcher = HeldWatcher()
    found = list[int | None]()

    def ended() -> bool:
        assert (1, 1) == (watcher.looks, watcher.held)
        save(run, 1)
        watcher.holds = False
        watcher.answer()
        return True

    async def consume() -> None:
        found.extend(await rest(follow(run, timeout=0, timeout_fn=ended, watcher=watcher)))

    async with anyio.create_task_group() as group:
        group.start_soon(consume)

    assert [1] == found


async def test_the_last_look_stands_outside_the_scope(run: Path) -> None:
    """
    However long it takes, the expired wait does not cancel it.
    """
    watcher = HeldWatcher()
    save(run, 1)
    found = list[int | None]()

    async def consume() -> None:
        found.extend(await rest(follow(run, timeout=0, watcher=watcher)))

    async with anyio.create_task_group() as group:
        group.start_soon(consume)
        while watcher.looks < 3 and not found:
            await anyio.sleep(0.5)
            watcher.answer()

    assert [1] == found


async def test_a_cancelled_last_look_is_taken_up_again(run: Path) -> None:
    """
    Its result is kept for the next call, which then ends as the first would have.
    """
    watcher = HeldWatcher()
    save(run, 1)
    stream = follow(run, timeout=0, watcher=watcher)
    with anyio.move_on_after(0.5):
        await anext(stream)
    assert (1, 1) == (watcher.looks, watcher.held)
    watcher.holds = False
    watcher.answer()

    assert [1] == await rest(stream)


async def test_storage_that_hangs_does_not_keep_the_stream_from_ending(run: Path) -> None:
    """
    Its run does not count for the last look.
    """
    watcher = HeldWatcher()
    watcher.hangs = True
    begin = anyio.current_time()

    assert [] == await rest(follow(run, timeout=10, watcher=watcher))
    assert anyio.current_time() - begin < 11


async def test_all_that_the_last_look_finds_comes_one_per_call(
    run: Path, watcher: ManualWatcher
) -> None:
    """
    Then the stream has ended for good, and nobody is asked again.
    """
    asked = list[int]()

    def ended() -> bool:
        asked.append(1)
        for step in (1, 2, 3):
            save(run, step)
        return True

    stream = follow(run, timeout=10, timeout_fn=ended, watcher=watcher)
    found = list[int | None]()
    for _ in range(3):
        found.append((await anext(stream)).step)
        await anyio.sleep(100)
    for _ in range(3):
        with pytest.raises(StopAsyncIteration):
            await anext(stream)
        save(run, 9)
        watcher.touch()

    assert ([1, 2, 3], [1]) == (found, asked)


async def test_what_comes_after_the_last_look_is_not_delivered(
    run: Path, watcher: ManualWatcher
) -> None:
    """
    Else a busy trainer would keep an expired stream alive.
    """
    for step in (1, 2):
        save(run, step)
    stream = follow(run, timeout=0, watcher=watcher)
    await anext(stream)
    save(run, 3)
    watcher.touch()

    assert [2] == await rest(stream)


async def test_what_the_last_look_found_and_is_gone_is_missed(
    run: Path, watcher: ManualWatcher
) -> None:
    """
    It is verified like any other before it is handed out.
    """
    for step in (1, 2, 3):
        save(run, step)
    stream = follow(run, timeout=0, watcher=watcher)
    await anext(stream)
    remove(run, 2)

    assert [3] == await rest(stream)
    assert [(2, True)] == missed(stream)


def remove(run: Path, step: int) -> None:
    for file in (run / f"checkpoint-{step}").iterdir():
        file.unlink()
    (run / f"checkpoint-{step}").rmdir()


async def test_min_interval_secs_holds_for_what_the_last_look_found(
    run: Path, watcher: ManualWatcher
) -> None:
    """
    The end is no reason to hurry.
    """
    for step in (1, 2):
        save(run, step)
    stream = follow(run, timeout=0, min_interval_secs=30, watcher=watcher)
    begin = anyio.current_time()

    assert [1, 2] == await rest(stream)
    assert 30 == pytest.approx(anyio.current_time() - begin)


async def test_timeout_0_is_the_last_look_alone(run: Path, watcher: ManualWatcher) -> None:
    """
    Two calls that nothing interrupts: what is there, and the end.
    """
    begin = anyio.current_time()

    assert [] == await rest(follow(run, timeout=0, watcher=watcher))
    save(run, 1)
    assert [1] == await rest(follow(run, timeout=0, watcher=watcher))
    assert begin == anyio.current_time()


async def test_timeout_0_includes_the_settle_interval(run: Path, watcher: ManualWatcher) -> None:
    """
    Where evidence needs two looks, one complete look is two.
    """
    save(run, 1, "ckpt_{step}.pt")
    begin = anyio.current_time()

    assert [1] == await rest(follow(run, layout="ckpt_{step}.pt", timeout=0, watcher=watcher))
    assert 1 == pytest.approx(anyio.current_time() - begin, abs=0.1)


async def test_a_clock_that_lags_does_not_shorten_the_settle_interval(run: Path) -> None:
    """
    That of uvloop stands still while a task is busy; on a busy machine each is behind at times.
    """

    class Lagging(ManualWatcher):
        ahead = 0.0  # seconds by which the look's clock is ahead of the event loop's

        def clock(self) -> float:
            return super().clock() + self.ahead

        def submit(self, job: Job[T], done: Callable[[], None], *, first: bool = False) -> None:
            super().submit(job, done, first=first)
            self.ahead = 0.5  # until it is merged

        async def wait(self, alarm: Alarm, *, brief: bool) -> None:
            self.ahead = 0.0
            await super().wait(alarm, brief=brief)

    save(run, 1, "ckpt_{step}.pt")

    watcher = Lagging()
    assert [1] == await rest(follow(run, layout="ckpt_{step}.pt", timeout=0, watcher=watcher))
    assert watcher.looks <= 4


async def test_a_run_that_cannot_be_read_for_a_moment_does_not_end_the_settle_interval(
    run: Path, watcher: ManualWatcher
) -> None:
    """
    What it finds after that is delivered, too.
    """
    save(run, 1, "ckpt_{step}.pt")
    stream = follow(run, layout="ckpt_{step}.pt", timeout=0, watcher=watcher)

    async def fail() -> None:
        await anyio.sleep(0.3)
        with failing("scandir", errno.EACCES, str(run)), failing("listdir", errno.EACCES, str(run)):
            watcher.touch()
            await anyio.sleep(0.1)

    async with anyio.create_task_group() as group:
        group.start_soon(fail)
        assert [1] == await rest(stream)


async def test_the_settle_interval_of_the_last_look_ends(run: Path, watcher: ManualWatcher) -> None:
    """
    A file that grows for ever is not waited for.
    """
    save(run, 1, "ckpt_{step}.pt")
    save(run, 2, "ckpt_{step}.pt")
    stream = follow(run, layout="ckpt_{step}.pt", timeout=0, watcher=watcher)

    async def grow() -> None:
        while True:
            with open(run / "ckpt_2.pt", "ab") as file:
                file.write(b"x")
            watcher.touch()
            await anyio.sleep(0.3)

    begin = anyio.current_time()
    async with anyio.create_task_group() as group:
        group.start_soon(grow)
        assert [1] == await rest(stream)
        group.cancel_scope.cancel()
    assert anyio.current_time() - begin < 2


async def test_a_directory_that_is_not_there_ends_like_an_empty_one(
    tmp_path: Path, watcher: ManualWatcher
) -> None:
    """
    The last look is complete when it has said so.
    """
    begin = anyio.current_time()

    assert [] == await rest(follow(tmp_path / "none", timeout=10, watcher=watcher))
    assert 10 == pytest.approx(anyio.current_time() - begin)


# timeout_fn.


async def coroutine_function() -> bool:
    await anyio.sleep(1)
    return True


async def with_argument(answer: bool) -> bool:
    await anyio.sleep(1)
    return answer


class AsyncCallable:
    async def __call__(self) -> bool:
        await anyio.sleep(1)
        return True

    async def method(self) -> bool:
        await anyio.sleep(1)
        return True


class Awaited:
    def __await__(self) -> Generator[Any, Any, bool]:
        return with_argument(True).__await__()


def plain() -> bool:
    return True


ASKED: dict[str, Callable[[], bool | Awaitable[bool]]] = {
    "plain function": plain,
    "lambda": lambda: True,
    "partial": functools.partial(bool, 1),
    "coroutine function": coroutine_function,
    "lambda that returns a coroutine": lambda: with_argument(True),
    "partial of a coroutine function": functools.partial(with_argument, True),
    "object with async __call__": AsyncCallable(),
    "async bound method": AsyncCallable().method,
    "any awaitable": Awaited,
}


@pytest.mark.parametrize("timeout_fn", ASKED.values(), ids=ASKED.keys())
async def test_timeout_fn_may_be_anything_that_returns_an_awaitable(
    run: Path, watcher: ManualWatcher, timeout_fn: Callable[[], bool | Awaitable[bool]]
) -> None:
    """
    It is asked without arguments, and True ends the stream.
    """
    begin = anyio.current_time()

    stream = follow(run, timeout=10, timeout_fn=timeout_fn, watcher=watcher)

    assert [] == await rest(stream)
    assert anyio.current_time() - begin in (pytest.approx(10), pytest.approx(11))
    assert "timeout_fn said that the training has ended" == stream.status().ended


async def test_timeout_fn_is_called_once_per_expiry(run: Path, watcher: ManualWatcher) -> None:
    """
    False waits anew, True ends; nobody asks in between.
    """
    answers = [False, False, True]
    asked = list[float]()

    def ended() -> bool:
        asked.append(anyio.current_time() - begin)
        return answers[len(asked) - 1]

    begin = anyio.current_time()
    async with anyio.create_task_group() as group:
        group.start_soon(save_at, {15: 1}, run, watcher)
        found = await rest(follow(run, timeout=10, timeout_fn=ended, watcher=watcher))

    assert [1] == found
    assert pytest.approx([10, 25, 35]) == asked


async def test_timeout_fn_is_not_asked_while_checkpoints_come(
    run: Path, watcher: ManualWatcher
) -> None:
    """
    A delivery is no expiry.
    """
    asked = list[int]()

    def ended() -> bool:
        asked.append(1)
        return True

    save(run, 1)
    stream = follow(run, timeout=10, timeout_fn=ended, watcher=watcher)
    await anext(stream)
    assert [] == asked


class OwnError(Exception):
    pass


@pytest.mark.parametrize("error", [OwnError("mine"), TimeoutError("mine"), OSError(5, "mine")])
@pytest.mark.parametrize("how", ["plain", "async"])
async def test_what_timeout_fn_raises_reaches_the_caller_unchanged(
    run: Path, watcher: ManualWatcher, error: Exception, how: str
) -> None:
    """
    The stream stays usable, and the wait starts anew; a `TimeoutError` of its own is no expiry.
    """
    asked = list[float]()

    def ended() -> bool:
        asked.append(anyio.current_time() - begin)
        if len(asked) < 3:
            raise error
        return True

    async def ended_later() -> bool:
        await anyio.sleep(0)
        return ended()

    begin = anyio.current_time()
    timeout_fn = ended if how == "plain" else ended_later
    stream = follow(run, timeout=10, timeout_fn=timeout_fn, watcher=watcher)
    for _ in range(2):
        with pytest.raises(type(error)) as caught:
            await anext(stream)
        assert error is caught.value
        assert stream.status().ended is None
    save(run, 1)
    watcher.touch()

    assert [1] == await rest(stream)
    assert pytest.approx([10, 20, 30]) == asked


async def test_a_timeout_around_timeout_fn_is_the_callers_own(
    run: Path, watcher: ManualWatcher
) -> None:
    """
    A cancelled `timeout_fn` has not answered: the next call asks it again.
    """
    asked = list[float]()

    async def ended() -> bool:
        asked.append(anyio.current_time() - begin)
        await anyio.sleep(0 if len(asked) == 2 else 100)
        return True

    begin = anyio.current_time()
    stream = follow(run, timeout=10, timeout_fn=ended, watcher=watcher)
    with anyio.move_on_after(15) as patience:
        await anext(stream)
    assert patience.cancelled_caught
    save(run, 1)

    assert [1] == await rest(stream)
    assert pytest.approx([10, 15]) == asked


async def test_an_inner_timeout_of_timeout_fn_is_not_the_expiry(
    run: Path, watcher: ManualWatcher
) -> None:
    """
    `anyio.fail_after` inside it fails for the caller, and ends nothing.
    """

    async def ended() -> bool:
        with anyio.fail_after(1):
            await anyio.sleep_forever()
        return True

    stream = follow(run, timeout=10, timeout_fn=ended, watcher=watcher)
    with pytest.raises(TimeoutError):
        await anext(stream)

    assert stream.status().ended is None


async def test_another_task_may_not_ask_while_timeout_fn_does(
    run: Path, watcher: ManualWatcher
) -> None:
    """
    The call of `timeout_fn` is part of `__anext__`.
    """

    async def ended() -> bool:
        with pytest.raises(anyio.BusyResourceError):
            await anext(stream)
        return True

    stream = follow(run, timeout=10, timeout_fn=ended, watcher=watcher)

    assert [] == await rest(stream)


async def test_a_stream_closed_while_timeout_fn_is_asked_has_ended(
    run: Path, watcher: ManualWatcher
) -> None:
    """
    Whatever the answer is.
    """

    async def ended() -> bool:
        await stream.aclose()
        save(run, 1)
        return False

    stream = follow(run, timeout=10, timeout_fn=ended, watcher=watcher)

    assert [] == await rest(stream)


# Errors of the storage.


@pytest.mark.parametrize(
    "error",
    [
        TimeoutError(errno.ETIMEDOUT, "Connection timed out"),
        OSError(errno.ESTALE, "Stale file handle"),
        OSError(errno.EIO, "Input/output error"),
        PermissionError(errno.EACCES, "Permission denied"),
    ],
    ids=lambda error: errno.errorcode[error.errno],
)
@pytest.mark.parametrize("function", ["listdir", "stat"])
async def test_an_error_of_the_storage_is_not_the_expiry(
    run: Path,
    watcher: ManualWatcher,
    monkeypatch: pytest.MonkeyPatch,
    error: OSError,
    function: str,
) -> None:
    """
    `ETIMEDOUT` is a `TimeoutError` too; it is waited out like any other fault.
    """
    save(run, 1)
    real = getattr(os, function)
    times = list[float]()

    def faulty(path: str, **how: object) -> object:
        if os.fspath(path) == str(run) and len(times) < 3:
            times.append(anyio.current_time() - begin)
            raise error
        return real(path, **how)

    begin = anyio.current_time()
    stream = follow(run, timeout=60, watcher=watcher)
    with monkeypatch.context() as patched:
        patched.setattr(os, function, faulty)
        assert 1 == (await anext(stream)).step

    assert pytest.approx([0, 1, 2]) == times
    assert stream.status().ended is None


async def test_a_timeout_of_somebody_else_is_not_the_expiry(
    run: Path, watcher: ManualWatcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    The scope is asked, not the type of the exception.
    """
    error = TimeoutError("somebody else's")

    async def faulty(*_: object, **__: object) -> None:
        raise error

    stream = follow(run, timeout=60, watcher=watcher)
    with monkeypatch.context() as patched:
        patched.setattr(watcher, "wait", faulty)
        with pytest.raises(TimeoutError) as caught:
            await anext(stream)
    assert error is caught.value
    save(run, 1)
    watcher.touch()

    assert 1 == (await anext(stream)).step


async def test_the_wait_expires_while_the_storage_fails(
    run: Path, watcher: ManualWatcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    Waiting out a fault is waiting for a checkpoint.
    """

    def faulty(path: str) -> list[str]:
        raise TimeoutError(errno.ETIMEDOUT, "Connection timed out", path)

    begin = anyio.current_time()
    stream = follow(run, timeout=60, watcher=watcher)
    with monkeypatch.context() as patched:
        patched.setattr(os, "listdir", faulty)
        assert [] == await rest(stream)

    assert 60 == pytest.approx(anyio.current_time() - begin)
    assert "timed out" in run_status(stream).waiting_for


# min_interval_secs.


@pytest.mark.parametrize(("evaluation", "expected"), [(0, 30), (20, 30), (30, 30), (50, 50)])
async def test_min_interval_secs_counts_from_the_last_delivery(
    run: Path, watcher: ManualWatcher, evaluation: float, expected: float
) -> None:
    """
    The time that the evaluation took is part of it.
    """
    save(run, 1)
    save(run, 2)
    stream = follow(run, min_interval_secs=30, watcher=watcher)
    await anext(stream)
    delivered = anyio.current_time()
    await anyio.sleep(evaluation)

    assert 2 == (await anext(stream)).step
    assert expected == pytest.approx(anyio.current_time() - delivered)
    assert delivered + 30 <= anyio.current_time()


async def test_min_interval_secs_does_not_delay_the_first(
    run: Path, watcher: ManualWatcher
) -> None:
    """
    There was no delivery before it.
    """
    save(run, 1)
    begin = anyio.current_time()
    await anext(follow(run, min_interval_secs=30, watcher=watcher))

    assert begin == anyio.current_time()


async def test_min_interval_secs_sleeps_cancellably(run: Path, watcher: ManualWatcher) -> None:
    """
    A cancelled call returns at once, and loses nothing.
    """
    save(run, 1)
    save(run, 2)
    stream = follow(run, min_interval_secs=30, watcher=watcher)
    await anext(stream)
    delivered = anyio.current_time()
    for _ in range(3):
        with anyio.move_on_after(5) as moment:
            await anext(stream)
        assert moment.cancelled_caught
    assert 15 == pytest.approx(anyio.current_time() - delivered)

    assert 2 == (await anext(stream)).step
    assert 30 == pytest.approx(anyio.current_time() - delivered)


async def test_a_checkpoint_is_verified_after_min_interval_secs(
    run: Path, watcher: ManualWatcher
) -> None:
    """
    What vanished during the interval is not handed out, even if no event said so.
    """
    save(run, 1)
    save(run, 2)
    stream = follow(run, min_interval_secs=30, timeout=60, watcher=watcher)
    await anext(stream)

    async def delete() -> None:
        await anyio.sleep(10)
        remove(run, 2)

    async with anyio.create_task_group() as group:
        group.start_soon(delete)
        assert [] == await rest(stream)

    assert [(2, True)] == missed(stream)


async def test_latest_only_gives_the_newest_after_min_interval_secs(
    run: Path, watcher: ManualWatcher
) -> None:
    """
    A caller that has to wait gets what is newest when the wait is over.
    """
    save(run, 1)
    stream = follow(run, min_interval_secs=30, latest_only=True, watcher=watcher)
    await anext(stream)
    async with anyio.create_task_group() as group:
        group.start_soon(save_at, {5: 2, 25: 3}, run, watcher)
        assert 3 == (await anext(stream)).step


# Polling.


async def test_polling_looks_at_its_interval(run: Path) -> None:
    """
    Where no event comes, a checkpoint waits for the next look at most, which may be a bit early.
    """
    watcher = ManualWatcher(events=False)
    stream = follow(run, poll_interval=3, watcher=watcher)

    async def commit() -> None:
        await anyio.sleep(4)
        save(run, 1)

    begin = anyio.current_time()
    async with anyio.create_task_group() as group:
        group.start_soon(commit)
        assert 1 == (await anext(stream)).step

    assert 6 == pytest.approx(anyio.current_time() - begin, rel=0.05)


async def test_a_rewritten_older_checkpoint_is_found_without_an_event(
    run: Path, watcher: ManualWatcher
) -> None:
    """
    By the look that trusts nothing, every two minutes or so.
    """
    for step in range(1, 8):
        save(run, step)
    stream = follow(run, timeout=300, watcher=watcher)
    for _ in range(7):
        await anext(stream)
    save(run, 1)
    begin = anyio.current_time()

    assert 1 == (await anext(stream)).step
    assert 100 < anyio.current_time() - begin < 140


async def test_wake_looks_now(run: Path, watcher: ManualWatcher) -> None:
    """
    Rather than at the next event or poll.
    """
    stream = follow(run, watcher=watcher)

    async def commit() -> None:
        await anyio.sleep(4)
        save(run, 1)
        await anyio.sleep(1)
        stream.wake()

    begin = anyio.current_time()
    async with anyio.create_task_group() as group:
        group.start_soon(commit)
        assert 1 == (await anext(stream)).step

    assert 5 == pytest.approx(anyio.current_time() - begin)


async def test_a_directory_that_vanishes_while_files_settle_is_not_looked_at_in_a_loop(
    run: Path, watcher: ManualWatcher
) -> None:
    """
    What was to settle is forgotten with the directory, and found again with it.
    """
    layout = "ckpt_{step}.pt"
    save(run, 1, layout)
    stream = follow(run, layout=layout, timeout=60, watcher=watcher)
    away = run.with_name("away")

    async def vanish() -> None:
        await watcher.waiting()
        run.rename(away)
        await anyio.sleep(30)
        assert watcher.looks < 10
        away.rename(run)
        watcher.touch()

    async with anyio.create_task_group() as group:
        group.start_soon(vanish)
        assert 1 == (await anext(stream)).step
