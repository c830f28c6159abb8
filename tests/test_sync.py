"""
The blocking twin: the same names for code without a loop, in whatever thread it runs.
"""

from __future__ import annotations

import asyncio
import gc
import inspect
import logging
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from typing import TypeVar

import anyio
import pytest

import ckptstream
from ckptstream import sync
from ckptstream.testing import save

T = TypeVar("T")
Place = Callable[[Callable[[], object]], object]

GUARD = 60.0  # seconds; only a test that hangs comes near


def started(call: Callable[[], T]) -> Future[T]:
    """
    Make a call in a thread of its own.
    """
    result = Future[T]()

    def work() -> None:
        try:
            result.set_result(call())
        except BaseException as error:
            result.set_exception(error)

    threading.Thread(target=work, daemon=True).start()
    return result


def spin(until: Callable[[], object]) -> None:
    deadline = time.monotonic() + GUARD
    while not until():
        assert time.monotonic() < deadline
        os.sched_yield()


def looked(stream: sync.CheckpointStream) -> None:
    """
    Return when the stream waits in its first call.
    """
    spin(lambda: stream.status().runs[0].last_look is not None)


def ours() -> set[str]:
    names = {thread.name for thread in threading.enumerate()}
    return {name for name in names if name.startswith(("ckptstream", "asyncio", "AnyIO"))}


@pytest.fixture(params=["here", "thread", "coroutine", "trio"])
def place(request: pytest.FixtureRequest) -> Place:
    """
    Where blocking code may find itself.
    """

    def call(function: Callable[[], object]) -> object:
        async def run() -> object:
            return function()

        if request.param == "here":
            return function()
        if request.param == "thread":
            return started(function).result(GUARD)
        return anyio.run(run, backend="trio" if request.param == "trio" else "asyncio")

    return call


# Iteration.


def test_every_call_works_anywhere(run: Path, place: Place) -> None:
    """
    In a script, in a thread, and in code that an event loop has called.
    """
    for step in (1, 2, 3):
        save(run, step)
    newest = str(run / "checkpoint-3")

    def work() -> tuple[object, ...]:
        return (
            [checkpoint.step for checkpoint in sync.follow(run, until_step=3)],
            list(sync.checkpoints_iterator(run, timeout=0)),
            sync.wait_for_new_checkpoint(run, timeout=GUARD),
            sync.latest_checkpoint(run),
        )

    assert ([1, 2, 3], [newest], newest, newest) == place(work)


def test_next_waits_for_what_is_not_there_yet(run: Path) -> None:
    """
    A blocked `next` returns what is saved meanwhile.
    """
    stream = sync.follow(run)
    waiting = started(lambda: next(stream))
    looked(stream)
    save(run, 7)

    assert 7 == waiting.result(GUARD).step


def test_timeout_of_zero_is_one_look(run: Path) -> None:
    """
    What is there, and the end.
    """
    save(run, 1)
    save(run, 2)

    assert [1, 2] == [checkpoint.step for checkpoint in sync.follow(run, timeout=0)]


def test_the_end_is_for_ever(run: Path) -> None:
    """
    An ended stream stays ended, whatever is saved later.
    """
    stream = sync.follow(run, timeout=0)
    for step in range(3):
        with pytest.raises(StopIteration):
            next(stream)
        save(run, step)

    assert "the timeout has expired" == stream.status().ended


def test_file_instead_of_a_directory(run: Path) -> None:
    """
    The same errors as in the async stream, at the same moment.
    """
    (run / "file").touch()
    stream = sync.follow(run / "file")
    with pytest.raises(NotADirectoryError, match="name the directory"):
        next(stream)
    with pytest.raises(NotADirectoryError):
        sync.latest_checkpoint(run / "file")


def test_break_leaves_no_thread(run: Path) -> None:
    """
    Leaving the loop in the middle leaves nothing at work.
    """
    save(run, 1)
    for checkpoint in sync.follow(run):
        assert 1 == checkpoint.step
        break
    spin(lambda: not ours())

    assert set() == ours()


def test_nothing_is_kept_until_the_collector_comes(run: Path) -> None:
    """
    Neither a descriptor nor a thread for each call that has returned.
    """
    save(run, 1)
    list(sync.follow(run, timeout=0))
    gc.collect()
    gc.disable()
    try:
        before = len(os.listdir("/proc/self/fd"))
        for _ in range(10):
            list(sync.follow(run, timeout=0))
            list(sync.follow(run, timeout=0.001))
            next(sync.follow(run))
        spin(lambda: not ours())
        assert before == len(os.listdir("/proc/self/fd"))
    finally:
        gc.enable()


def test_idle_stream_holds_nothing(run: Path) -> None:
    """
    Between two calls it has no descriptor and no thread, though it may be continued.
    """
    save(run, 1)
    stream = sync.follow(run)
    before = len(os.listdir("/proc/self/fd"))
    next(stream)
    spin(lambda: not ours())

    assert before == len(os.listdir("/proc/self/fd"))
    assert None is stream.status().ended


# timeout_fn.


@pytest.mark.parametrize("answer", [True, False])
def test_timeout_fn_runs_in_the_callers_thread(run: Path, answer: bool) -> None:
    """
    As in TensorFlow; it may block, and may touch what belongs to that thread.
    """
    asked = list[int]()

    def ended() -> bool:
        asked.append(threading.get_ident())
        return answer or len(asked) == 3

    assert [] == list(sync.follow(run, timeout=0.005, timeout_fn=ended))
    assert [threading.get_ident()] * (1 if answer else 3) == asked


def test_async_timeout_fn(run: Path) -> None:
    """
    It is awaited, in an event loop of its own.
    """
    answers = [True, False]

    async def ended() -> bool:
        await anyio.sleep(0)
        return answers.pop()

    assert [] == list(sync.follow(run, timeout=0.005, timeout_fn=ended))
    assert [] == answers


@pytest.mark.parametrize("error", [RuntimeError("no"), TimeoutError("no"), KeyError("no")], ids=str)
@pytest.mark.parametrize("awaits", [False, True])
def test_what_timeout_fn_raises(run: Path, error: Exception, awaits: bool) -> None:
    """
    It reaches the caller unchanged, and the stream stays usable.
    """

    errors = [error]

    def fail() -> bool:
        if errors:
            raise errors.pop()
        return False  # Where looks are slow, it is asked again.

    async def afail() -> bool:
        return fail()

    stream = sync.follow(run, timeout=0.01, timeout_fn=afail if awaits else fail)
    with pytest.raises(type(error)) as caught:
        next(stream)
    save(run, 7)

    assert error is caught.value
    assert 7 == next(stream).step


# Other threads.


def test_continued_in_another_thread(run: Path) -> None:
    """
    An idle stream belongs to nobody.
    """
    stream = sync.follow(run)
    found = list[int | None]()
    for step in range(4):
        save(run, step)
        found.append(started(lambda: next(stream)).result(GUARD).step)

    assert [0, 1, 2, 3] == found


def test_two_threads_at_once(run: Path) -> None:
    """
    The second one is refused and told what to do, and the first one does not notice.
    """
    stream = sync.follow(run)
    waiting = started(lambda: next(stream))
    looked(stream)
    with pytest.raises(anyio.BusyResourceError, match="or give each a stream of its own"):
        next(stream)
    save(run, 7)

    assert 7 == waiting.result(GUARD).step


def test_closed_from_another_thread(run: Path) -> None:
    """
    The thread that waits gets `StopIteration`.
    """
    stream = sync.follow(run)
    waiting = started(lambda: list(stream))
    looked(stream)
    stream.close()

    assert [] == waiting.result(GUARD)
    assert "it was closed" == stream.status().ended


def test_woken_from_another_thread(run: Path) -> None:
    """
    A stream that polls once an hour looks when it is told to.
    """
    stream = sync.follow(run, watcher="poll", poll_interval=3600)
    waiting = started(lambda: next(stream))
    looked(stream)
    save(run, 7)
    stream.wake()

    assert 7 == waiting.result(GUARD).step


def test_close_at_any_moment(run: Path) -> None:
    """
    While the other thread's call begins, waits or returns: it never hangs and never fails.
    """
    for number in range(150):
        stream = sync.follow(run, timeout=0.002 if number % 2 else None)
        waiting = started(partial(list[object], stream))
        for _ in range(number * 10):
            os.sched_yield()
        stream.status()
        stream.wake()
        stream.close()
        stream.close()
        assert [] == waiting.result(GUARD)


def test_close_and_with(run: Path) -> None:
    """
    Leaving the block closes the stream, also when it was never used.
    """
    save(run, 1)
    with sync.follow(run) as stream, sync.checkpoints_iterator(run) as paths:
        assert 1 == next(stream).step
    stream.close()

    assert [] == list(stream)
    assert [] == list(paths)
    assert "it was closed" == paths.status().ended


def test_exception_in_the_block(run: Path) -> None:
    """
    It leaves the block unchanged.
    """
    error = RuntimeError("no GPU")
    with pytest.raises(RuntimeError) as caught, sync.follow(run):
        raise error

    assert error is caught.value


def test_log_handler_that_asks_for_the_status(run: Path) -> None:
    """
    It is called in the event loop, and must not wait for that loop.
    """
    stream = sync.follow(run, timeout=0.01)
    heard = list[str]()

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            heard.append(str(stream.status()))
            stream.wake()

    logger, handler = logging.getLogger("ckptstream"), Handler()
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        list(stream)
    finally:
        logger.removeHandler(handler)
        logger.setLevel(logging.NOTSET)

    assert any("waiting for the first checkpoint" in status for status in heard)


def test_a_coroutine_that_blocks_does_not_disturb_its_own_loop(run: Path) -> None:
    """
    Both streams, the blocking one within the loop that runs the other.
    """
    save(run, 1)

    async def both() -> list[int | None]:
        stream = ckptstream.follow(run)
        steps = [(await anext(stream)).step, next(sync.follow(run)).step]
        save(run, 2)
        return [*steps, (await anext(stream)).step]

    assert [1, 1, 2] == asyncio.run(both())


# The same names.

FUNCTIONS = ["checkpoints_iterator", "follow", "latest_checkpoint", "wait_for_new_checkpoint"]


@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_same_signature(name: str) -> None:
    """
    Names, order, kinds, defaults and types are those of the async function.
    """
    blocking = inspect.signature(getattr(sync, name))
    waiting = inspect.signature(getattr(ckptstream, name))

    assert waiting == blocking
    assert repr(waiting) == repr(blocking)


def test_the_same_names() -> None:
    """
    Every function and stream of the package has its twin.
    """
    values = {"Checkpoint", "Missed", "PatternStatus", "RunStatus", "Status"}
    errors = {"CheckpointGone", "CursorError", "PinUnsupported", "UnknownLayout"}

    assert set(ckptstream.__all__) - values - errors <= set(sync.__all__)


def test_the_streams_have_the_same_methods() -> None:
    """
    Those that wait are named without the `a`.
    """

    def methods(cls: type) -> set[str]:
        return {name.removeprefix("a") for name in vars(cls) if not name.startswith("_")}

    assert methods(ckptstream.CheckpointStream) == methods(sync.CheckpointStream)


@pytest.mark.parametrize("name", ["follow", "checkpoints_iterator"])
def test_repr_tells_the_run(name: str) -> None:
    """
    And whether it has ended.
    """
    stream = getattr(sync, name)("runs/7b")
    before = repr(stream)
    stream.close()

    assert "'runs/7b'" in before
    assert "'runs/7b' (ended: it was closed)" in repr(stream)
