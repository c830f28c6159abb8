"""
Event loops that come and go, threads, forks, and streams that are simply dropped.
"""

from __future__ import annotations

import gc
import multiprocessing
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from observing import (
    BACKENDS,
    EVERY_LOOP,
    SECONDS,
    Backend,
    Blocked,
    inodes,
    inotify_descriptors,
    linux,
    look_threads,
    mark_done,
    until,
    wait_until,
    watched,
)
from sweeping import at_rest

from ckptstream import CheckpointStream, follow
from ckptstream._scan import Look
from ckptstream._threads import Job

LAYOUT = "step_{step}/DONE"


def in_loop(backend: Backend, main: Callable[..., Any], *arguments: object) -> Any:
    """
    Run *main* in a new event loop.
    """
    return anyio.run(main, *arguments, backend=backend[0], backend_options=backend[1])


def stream_of(run: Path, **options: Any) -> CheckpointStream:
    return follow(run, layout=LAYOUT, **options)


async def next_step(stream: CheckpointStream) -> int | None:
    with anyio.fail_after(SECONDS):
        return (await anext(stream)).step


def job_of(stream: CheckpointStream) -> Job[Look] | None:
    """
    The look in flight.
    """
    (run,) = stream.engine._following.roster.runs.values()
    return run.flight.job


async def settle_in(stream: CheckpointStream, run: Path) -> None:
    """
    Until a stream waits for events of its run.
    """
    mark_done(run, 0)
    assert 0 == await next_step(stream)
    assert "inotify" == stream.status().runs[0].watcher


@linux
@pytest.mark.anyio
async def test_all_streams_of_a_loop_share_one_instance(tmp_path: Path) -> None:
    """
    Two hundred streams wait: one inotify descriptor, two threads; each gets its own checkpoint.
    """
    before = inotify_descriptors()
    runs = [tmp_path / f"run-{number}" for number in range(200)]
    for run in runs:
        mark_done(run, 1)
    got = dict[Path, list[int | None]]()

    async def read(run: Path) -> None:
        got[run] = []
        async for checkpoint in stream_of(run, until_step=2):
            got[run].append(checkpoint.step)

    with anyio.fail_after(SECONDS):
        async with anyio.create_task_group() as group:
            for run in runs:
                group.start_soon(read, run)
            await until(lambda: all(len(got.get(run, [])) == 1 for run in runs))
            await until(
                lambda: set(inodes(*runs)) <= set(watched(*(inotify_descriptors() - before)))
            )
            descriptors, threads = inotify_descriptors() - before, look_threads()
            for run in runs:
                mark_done(run, 2)

    assert (1, True) == (len(descriptors), len(threads) <= 2)
    assert [[1, 2]] * 200 == [got[run] for run in runs]


@linux
@EVERY_LOOP
def test_two_hundred_loops_leave_nothing(backend: Backend, tmp_path: Path) -> None:
    """
    No descriptor, no thread, no warning: neither from a stream that was closed nor a dropped one.
    """
    mark_done(tmp_path, 7)

    async def dropped() -> int | None:
        async for checkpoint in stream_of(tmp_path):
            return checkpoint.step
        return None

    async def closed() -> int | None:
        async with stream_of(tmp_path) as stream:
            return await next_step(stream)

    async def cancelled() -> int | None:
        stream = stream_of(tmp_path)
        step = await next_step(stream)
        with anyio.move_on_after(0):
            await anext(stream)
        return step

    before = inotify_descriptors()
    mains = [dropped, closed, cancelled, dropped]
    steps = [in_loop(backend, mains[number % 4]) for number in range(200)]
    gc.collect()

    assert [7] * 200 == steps
    assert before == inotify_descriptors()
    wait_until(lambda: not look_threads())


@linux
def test_two_hundred_loops_warn_of_nothing(tmp_path: Path) -> None:
    """
    A process of its own, where every warning is an error and nobody collects it for us.
    """
    mark_done(tmp_path, 7)
    program = f"""if True:
        import anyio, asyncio, ckptstream, contextlib, gc, math, os, sys

        async def main():
            with contextlib.suppress(RuntimeError):  # trio
                asyncio.get_running_loop().slow_callback_duration = math.inf  # The machine is.
            async for checkpoint in ckptstream.follow({str(tmp_path)!r}, layout={LAYOUT!r}):
                break

        def descriptors():
            return len(os.listdir("/proc/self/fd"))

        for backend, options in {list(BACKENDS.values())!r}:
            anyio.run(main, backend=backend, backend_options=options)
            before = descriptors()
            for _ in range(200):
                anyio.run(main, backend=backend, backend_options=options)
            gc.collect()
            print(descriptors() - before)
    """
    command = [sys.executable, "-X", "dev", "-W", "error", "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)

    assert ("0\n0\n0\n", "", 0) == (done.stdout, done.stderr, done.returncode)


@linux
@EVERY_LOOP
def test_two_loops_in_two_threads_at_once(backend: Backend, tmp_path: Path) -> None:
    """
    They follow the same run, each with an instance of its own.
    """
    before = inotify_descriptors()
    waiting, seen = threading.Barrier(3), list[list[int | None]]()

    async def read() -> None:
        stream, steps = stream_of(tmp_path), list[int | None]()
        steps.append(await next_step(stream))
        waiting.wait(SECONDS)
        waiting.wait(SECONDS)
        for _ in range(50):
            steps.append(await next_step(stream))
        seen.append(steps)

    mark_done(tmp_path, 0)
    threads = [threading.Thread(target=in_loop, args=(backend, read)) for _ in range(2)]
    for thread in threads:
        thread.start()
    waiting.wait(SECONDS)
    instances = len(inotify_descriptors() - before)
    waiting.wait(SECONDS)
    for step in range(1, 51):
        mark_done(tmp_path, step)
    for thread in threads:
        thread.join(SECONDS)

    assert (2, [list(range(51))] * 2) == (instances, [sorted(steps, key=int) for steps in seen])  # type: ignore[arg-type]
    gc.collect()
    assert before == inotify_descriptors()


@linux
@pytest.mark.anyio
async def test_break_removes_the_watches_and_the_last_one_the_instance(tmp_path: Path) -> None:
    """
    What a dropped stream watched is given back; the others watch as before.
    """
    before = inotify_descriptors()
    runs = [tmp_path / name for name in "ab"]
    one, two = (stream_of(run) for run in runs)
    await settle_in(one, runs[0])
    await settle_in(two, runs[1])
    # The next look watches what has been delivered.
    for stream in (one, two):
        with anyio.move_on_after(0.05):
            await anext(stream)
    (instance,) = inotify_descriptors() - before
    both = watched(instance)

    del one, stream
    gc.collect()
    await until(lambda: not set(inodes(runs[0])) & set(watched(instance)))
    rest = watched(instance)
    mark_done(runs[1], 1)
    step = await next_step(two)
    two.wake()
    del two
    gc.collect()

    assert set(inodes(runs[0], runs[1])) <= set(both)
    assert set(inodes(runs[1])) <= set(rest)
    assert not set(inodes(runs[0], runs[0] / "step_0")) & set(rest)
    assert (1, before) == (step, inotify_descriptors())


@linux
@pytest.mark.anyio
async def test_closing_one_of_two_streams_on_a_directory(run: Path) -> None:
    """
    They share one watch of the kernel; the other one still notices, and at once.
    """
    before = inotify_descriptors()
    one, two = stream_of(run), stream_of(run)
    await settle_in(one, run)
    assert 0 == await next_step(two)

    await one.aclose()
    got = list[int | None]()

    async def read() -> None:
        got.append(await next_step(two))

    async with anyio.create_task_group() as group:
        group.start_soon(read)
        (instance,) = inotify_descriptors() - before
        await until(lambda: two.engine._watcher._waiting)  # type: ignore[union-attr]
        assert set(inodes(run)) <= set(watched(instance))
        mark_done(run, 1)

    assert [1] == got


@EVERY_LOOP
def test_a_stream_goes_on_in_another_loop(backend: Backend, run: Path) -> None:
    """
    Idle, it may wander; what came between the two is found.
    """
    stream, steps = stream_of(run), list[int | None]()
    for step in range(10):  # Each of trio's loops has a clock of its own.
        mark_done(run, step)
        steps.append(in_loop(backend, next_step, stream))

    assert list(range(10)) == steps


@EVERY_LOOP
def test_the_timeout_goes_on_in_another_loop(backend: Backend, run: Path) -> None:
    """
    What was waited in one loop counts in the next one, whatever its clock says.
    """
    stream = stream_of(run, timeout=1000)

    async def remaining() -> float | None:
        async with anyio.create_task_group() as group:
            group.start_soon(anext, stream)
            await at_rest(stream)
            group.cancel_scope.cancel()
        return stream.engine._remaining()

    left = [in_loop(backend, remaining) for _ in range(10)]

    assert [True] * 10 == [990 < seconds <= 1000 for seconds in left]
    assert sorted(left, reverse=True) == left


@EVERY_LOOP
def test_a_look_of_an_old_loop_is_taken_in_a_new_one(
    backend: Backend, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    The thread is still at it when the loop ends; the next loop asks the storage no second time.
    """
    mark_done(run, 1)
    blocked = Blocked(monkeypatch)
    blocked.hang(run)
    stream = stream_of(run)

    async def cancelled() -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(anext, stream)
            await until(lambda: blocked.asked)
            group.cancel_scope.cancel()

    async def taken() -> int | None:
        threading.Timer(0.01, blocked.release).start()
        return await next_step(stream)

    in_loop(backend, cancelled)
    job = job_of(stream)
    step = in_loop(backend, taken)

    assert job is not None
    assert (1, True, [str(run)]) == (step, job.done, blocked.asked)


@EVERY_LOOP
def test_a_look_that_never_began_is_made_in_the_next_loop(
    backend: Backend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    Both threads were busy when the loop ended, so nobody would ever make it.
    """
    blocked = Blocked(monkeypatch)
    busy, run = [tmp_path / "a", tmp_path / "b"], tmp_path / "c"
    blocked.hang(*busy)
    for path in (*busy, run):
        mark_done(path, 1)
    stream = stream_of(run)

    async def cancelled() -> None:
        async with anyio.create_task_group() as group:
            for path in busy:
                group.start_soon(anext, stream_of(path))
            await until(lambda: 2 == len(blocked.asked))
            group.start_soon(anext, stream)
            await until(lambda: job_of(stream))
            group.cancel_scope.cancel()

    in_loop(backend, cancelled)
    job = job_of(stream)
    assert job is not None
    assert not job.started
    gc.collect()

    assert 1 == in_loop(backend, next_step, stream)
    blocked.release()


def in_child(backend: Backend, stream: CheckpointStream) -> int | None:
    """
    In a thread of its own: the forked one is marked as being inside the parent's loop.
    """
    steps = list[int | None]()
    thread = threading.Thread(
        target=lambda: steps.append(in_loop(backend, next_step, stream)), daemon=True
    )
    thread.start()
    thread.join(SECONDS)
    return steps[0]


def child_follows(run: Path, backend: Backend, results: Any) -> None:
    """
    In the forked child: a stream of its own, in an event loop of its own.
    """
    inherited = inotify_descriptors()
    stream = stream_of(run)
    step = in_child(backend, stream)
    own = len(inotify_descriptors() - inherited)
    del stream
    gc.collect()
    results.put((step, len(inherited), own, inotify_descriptors() == inherited))


@linux
@EVERY_LOOP
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_fork_after_the_watcher_was_opened(backend: Backend, run: Path) -> None:
    """
    The child opens its own, and neither reads nor closes nor removes what is the parent's.
    """
    before = inotify_descriptors()
    stream = stream_of(run)

    async def main() -> tuple[object, int | None, bool]:
        await settle_in(stream, run)
        (instance,) = inotify_descriptors() - before
        context = multiprocessing.get_context("fork")
        results = context.SimpleQueue()
        mark_done(run, 1)  # Its event waits in the parent's queue while the child lives.
        child = context.Process(target=child_follows, args=(run, backend, results))
        child.start()
        child.join(SECONDS)
        assert 0 == child.exitcode
        assert inodes(run)[0] in watched(instance)
        return results.get(), await next_step(stream), instance in inotify_descriptors()

    told, step, still_open = in_loop(backend, main)

    assert (0, len(before) + 1, 1, True) == told
    assert (1, True) == (step, still_open)


def child_continues(stream: CheckpointStream, backend: Backend, results: Any) -> None:
    """
    In the forked child: the parent's own stream goes on in a new loop.
    """
    results.put(in_child(backend, stream))


@linux
@EVERY_LOOP
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_an_inherited_stream_goes_on_in_the_child_and_in_the_parent(
    backend: Backend, run: Path
) -> None:
    """
    Both get the next checkpoint: progress is copied, the instance is not shared.
    """
    stream = stream_of(run)
    before = inotify_descriptors()

    async def main() -> tuple[object, int | None]:
        await settle_in(stream, run)
        (instance,) = inotify_descriptors() - before
        mark_done(run, 1)
        context = multiprocessing.get_context("fork")
        results = context.SimpleQueue()
        child = context.Process(target=child_continues, args=(stream, backend, results))
        child.start()
        child.join(SECONDS)
        assert 0 == child.exitcode
        assert inodes(run)[0] in watched(instance)
        return results.get(), await next_step(stream)

    assert (1, 1) == in_loop(backend, main)


@EVERY_LOOP
def test_a_process_exits_at_once_while_a_look_hangs(backend: Backend, tmp_path: Path) -> None:
    """
    Neither the loop nor the interpreter waits for storage that does not answer.
    """
    program = f"""if True:
        import threading, anyio, ckptstream
        import ckptstream._stores._local as local

        asked = threading.Event()

        class Os:
            def __getattr__(self, name):
                return getattr(os, name)
            def listdir(self, path):
                asked.set()
                threading.Event().wait()

        os, local.os = local.os, Os()

        async def main():
            async with anyio.create_task_group() as group:
                group.start_soon(anext, ckptstream.follow({str(tmp_path)!r}))
                while not asked.is_set():
                    await anyio.sleep(0.001)
                group.cancel_scope.cancel()
            print("hangs")

        anyio.run(main, backend={backend[0]!r}, backend_options={backend[1]!r})
    """
    command = [sys.executable, "-W", "error", "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)

    assert ("hangs\n", "", 0) == (done.stdout, done.stderr, done.returncode)
