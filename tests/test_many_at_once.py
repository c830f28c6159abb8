"""
Many runs, and a mount that hangs, event loops that come and go, threads, and processes that fork.
"""

from __future__ import annotations

import gc
import multiprocessing
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import pytest
from observing import (
    BACKENDS,
    EVERY_LOOP,
    SECONDS,
    Backend,
    inodes,
    inotify_descriptors,
    linux,
    look_threads,
    mark_done,
    until,
    wait_until,
    watched,
)
from sweeping import at_rest, finish, named, reading, sweep_of

from ckptstream import CheckpointStream

pytestmark = linux

SHAPES = pytest.mark.parametrize("shape", ["one", "tasks"])


def in_loop(backend: Backend, main: Callable[..., Any], *arguments: object) -> Any:
    """
    Run *main* in a new event loop.
    """
    return anyio.run(main, *arguments, backend=backend[0], backend_options=backend[1])


# One hung mount among many.

HUNG = """if True:
    import os, sys, threading, random, anyio, ckptstream
    from pathlib import Path
    import ckptstream._stores._local as local

    root, shape, backend, uvloop = Path(sys.argv[1]), *sys.argv[2:]
    asked = threading.Event()

    class Os:
        def __getattr__(self, name):
            return getattr(os, name)
        def listdir(self, path):
            if path.endswith("hung"):
                asked.set()
                threading.Event().wait()
            return os.listdir(path)

    local.os = Os()
    names = [f"run-{number}" for number in range(1000)]
    for name in names + ["hung"]:
        (root / name / "0").mkdir(parents=True)
        (root / name / "0" / "DONE").touch()
    got = dict.fromkeys(names, -1)
    options = {"layout": "{step}/DONE", "poll_interval": 3600}

    async def take(stream):
        async for checkpoint in stream:
            got[Path(checkpoint.run).name] = checkpoint.step

    async def until(condition):
        with anyio.fail_after(20):
            while not condition():
                await anyio.sleep(0.002)

    async def main():
        if shape == "one":
            streams = [ckptstream.follow(root / "*", **options)]
            retried = streams[0]
        else:
            streams = [ckptstream.follow(root / name, **options) for name in names]
            retried = ckptstream.follow(root / "hung", **options)
        dice = random.Random(7)
        healthy = streams if shape == "tasks" else []
        async with anyio.create_task_group() as group:
            for stream in healthy:
                group.start_soon(take, stream)
            for attempt in range(50):
                async with anyio.create_task_group() as attempts:
                    attempts.start_soon(take, retried)
                    await until(asked.is_set)
                    await until(lambda: min(got.values()) >= 0)
                    name = dice.choice(names)
                    step = got[name] + 1
                    (root / name / str(step)).mkdir()
                    (root / name / str(step) / "DONE").touch()
                    await until(lambda: got[name] == step)
                    attempts.cancel_scope.cancel()
            group.cancel_scope.cancel()
        print(sum(got.values()), retried.status().ended)

    anyio.run(main, backend=backend, backend_options={"use_uvloop": True} if uvloop else {})
"""


@SHAPES
@pytest.mark.parametrize("backend", BACKENDS)
def test_one_hung_directory_among_a_thousand(tmp_path: Path, backend: str, shape: str) -> None:
    """
    Cancelled and retried fifty times: the others are delivered each time, the process exits.
    """
    name, options = BACKENDS[backend]
    uvloop = "yes" if options else ""
    command = [sys.executable, "-W", "error", "-c", HUNG, str(tmp_path), shape, name, uvloop]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)

    assert ("50 None\n", 0) == (done.stdout, done.returncode)
    # It is named at most once, if that took longer than a second.
    expected = f"{tmp_path}/hung: the storage does not answer; other runs go on: check the mount\n"
    assert done.stderr in {"", expected}


# Two streams, many loops, threads and processes.


@pytest.mark.parametrize("closed", ["pattern", "directory"])
@pytest.mark.anyio
async def test_two_streams_on_one_directory_one_closed(tmp_path: Path, closed: str) -> None:
    """
    A pattern names it and somebody else follows it, too; the one that is left notices at once.
    """
    before = inotify_descriptors()
    finish(tmp_path, ("x", 1), ("y", 1))
    streams = {"pattern": sweep_of(tmp_path / "*"), "directory": sweep_of(tmp_path / "x")}
    other = streams.pop(closed)
    (left,) = streams.values()
    async with reading(left, tmp_path) as reader:
        await reader.until(("x", 1))
        async with reading(other, tmp_path) as others:
            await others.until(("x", 1))
            await other.aclose()
        (instance,) = inotify_descriptors() - before
        assert inodes(tmp_path / "x")[0] in watched(instance)
        finish(tmp_path, ("x", 2))
        await reader.until(("x", 2))


def test_two_hundred_loops_one_after_the_other(tmp_path: Path) -> None:
    """
    Of every kind, each with a stream over a pattern that is dropped, closed, cancelled or kept:
    no descriptor is left, no thread, no warning.
    """
    finish(tmp_path, ("x", 1), ("y", 1))
    kept, step = [sweep_of(tmp_path / "*")], 1

    async def main(how: int) -> set[str]:
        nonlocal step
        stream = kept[0] if how == 3 else sweep_of(tmp_path / "*")
        if how == 3:
            step += 1
            finish(tmp_path, ("x", step), ("y", step))
        with anyio.fail_after(SECONDS):
            got = [await anext(stream) for _ in range(2)]
        if how == 1:
            await stream.aclose()
        if how == 2:
            with anyio.move_on_after(0):
                await anext(stream)
        return {os.path.basename(item.run) for item in got}

    before, backends = inotify_descriptors(), list(BACKENDS.values())
    assert {"x", "y"} == {
        os.path.basename(item.run) for item in in_loop(backends[0], first_of_each, kept[0], 2)
    }
    for number in range(200):
        seen = in_loop(backends[number % 3], main, number % 4)
        assert seen <= {"x", "y"}
        assert seen == {"x", "y"} or number % 4 != 3
    kept.clear()
    gc.collect()

    assert (51, before) == (step, inotify_descriptors())
    wait_until(lambda: not look_threads())


async def first_of_each(stream: CheckpointStream, number: int) -> list[Any]:
    """
    The first few of a stream.
    """
    with anyio.fail_after(SECONDS):
        return [await anext(stream) for _ in range(number)]


@EVERY_LOOP
def test_a_pattern_goes_on_in_another_loop(backend: Backend, tmp_path: Path) -> None:
    """
    What joined, left, and was saved between the two is found.
    """
    stream = sweep_of(tmp_path / "*")
    got = list[tuple[str, int | None]]()
    for step in range(10):
        if step:
            (tmp_path / f"run-{step - 1}").rename(tmp_path / f".{step}")
        finish(tmp_path, (f"run-{step}", step), ("always", step))
        items = in_loop(backend, first_of_each, stream, 2)
        got += sorted(named(tmp_path, items))

    assert [(run, step) for step in range(10) for run in ("always", f"run-{step}")] == got


@EVERY_LOOP
def test_two_loops_in_two_threads_at_once(backend: Backend, tmp_path: Path) -> None:
    """
    They follow the same pattern, each with an instance of its own, while runs come.
    """
    before = inotify_descriptors()
    wanted = {(f"run-{number}", step) for number in range(20) for step in (1, 2, 3)}
    waiting, seen = threading.Barrier(3), list[set[tuple[str, int | None]]]()

    async def main() -> None:
        async with reading(sweep_of(tmp_path / "*"), tmp_path) as reader:
            waiting.wait(SECONDS)
            waiting.wait(SECONDS)
            await until(lambda: len(reader.got) >= len(wanted))
            await at_rest(reader.stream)
        seen.append({*reader.got})

    threads = [threading.Thread(target=in_loop, args=(backend, main)) for _ in range(2)]
    for thread in threads:
        thread.start()
    waiting.wait(SECONDS)
    instances = len(inotify_descriptors() - before)
    waiting.wait(SECONDS)
    finish(tmp_path, *sorted(wanted))
    for thread in threads:
        thread.join(SECONDS)

    assert (2, [wanted, wanted]) == (instances, seen)
    gc.collect()
    assert before == inotify_descriptors()


def child(root: Path, inherited: CheckpointStream, backend: Backend, results: Any) -> None:
    """
    In the forked child, in a thread of its own: a new stream, and the parent's one.
    """
    told = list[Any]()

    def work() -> None:
        for stream, number in ((sweep_of(root / "*"), 3), (inherited, 2)):
            told.append(sorted(named(root, in_loop(backend, first_of_each, stream, number))))

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(SECONDS)
    results.put(told)


@EVERY_LOOP
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_fork_after_the_watcher_was_opened(backend: Backend, tmp_path: Path) -> None:
    """
    The child follows the pattern anew and goes on with the parent's stream; so does the parent.
    """
    before = inotify_descriptors()
    finish(tmp_path, ("x", 1))
    stream = sweep_of(tmp_path / "*")

    async def main() -> tuple[Any, list[Any]]:
        await first_of_each(stream, 1)
        (instance,) = inotify_descriptors() - before
        mark_done(tmp_path / "y", 1)
        mark_done(tmp_path / "x", 2)
        context = multiprocessing.get_context("fork")
        results = context.SimpleQueue()
        process = context.Process(target=child, args=(tmp_path, stream, backend, results))
        process.start()
        process.join(SECONDS)
        assert 0 == process.exitcode
        assert inodes(tmp_path)[0] in watched(instance)
        return results.get(), await first_of_each(stream, 2)

    (anew, inherited), own = in_loop(backend, main)

    assert [("x", 1), ("x", 2), ("y", 1)] == anew
    assert [("x", 2), ("y", 1)] == inherited == sorted(named(tmp_path, own))
