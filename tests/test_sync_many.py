"""
The blocking twin over patterns and several directories.
"""

from __future__ import annotations

import os
import shutil
import threading
from pathlib import Path
from typing import Any

import pytest
from observing import SECONDS, inotify_descriptors, linux, wait_until
from sweeping import HOUR, LAYOUT, finish, named

from ckptstream import sync


def sweep_of(*paths: Path, **options: Any) -> sync.CheckpointStream:
    return sync.follow(*paths, layout=LAYOUT, **{"poll_interval": HOUR, **options})


def paths_of(shape: str, root: Path) -> list[Path]:
    return [root / "*"] if shape == "pattern" else [root / name for name in "abc"]


@pytest.mark.parametrize("shape", ["pattern", "directories"])
def test_timeout_0_is_one_complete_look(tmp_path: Path, shape: str) -> None:
    """
    All that is finished, of every run; then nothing is left open.
    """
    wanted = [("a", 1), ("b", 1), ("b", 2), ("c", 1)]
    finish(tmp_path, *wanted)
    stream = sweep_of(*paths_of(shape, tmp_path), timeout=0)

    assert wanted == sorted(named(tmp_path, stream))
    assert "the timeout has expired" == stream.status().ended


@pytest.mark.parametrize("shape", ["pattern", "directories"])
def test_what_happens_between_two_calls_is_found(tmp_path: Path, shape: str) -> None:
    """
    Idle it watches nothing; runs join, leave and come back all the same.
    """
    before = set() if not os.path.isdir("/proc/self/fd") else inotify_descriptors()
    stream = sweep_of(*paths_of(shape, tmp_path))
    got = list[tuple[str, int | None]]()
    for step in range(1, 5):
        finish(tmp_path, ("a", step), ("b", step), ("c", step))
        got += sorted(named(tmp_path, [next(stream) for _ in range(3)]))
        if os.path.isdir("/proc/self/fd"):
            # A look at another run may still be under way, in a thread.
            wait_until(lambda: before == inotify_descriptors())
        shutil.rmtree(tmp_path / "b")

    assert [(run, step) for step in range(1, 5) for run in "abc"] == got
    assert 0 == sum(run.missed_count for run in stream.status().runs)


@linux
def test_a_run_that_appears_while_it_waits(tmp_path: Path) -> None:
    """
    It joins by an event, in a call that is under way in another thread.
    """
    stream, got = sweep_of(tmp_path / "sweeps/*/ckpt"), list[tuple[str, int | None]]()
    finish(tmp_path, ("sweeps/x/ckpt", 1))
    got += named(tmp_path, [next(stream)])

    def work() -> None:
        got.extend(named(tmp_path, [next(stream)]))

    thread = threading.Thread(target=work)
    thread.start()
    wait_until(lambda: stream._engine._watcher is not None)
    finish(tmp_path, ("sweeps/y/ckpt", 1))
    thread.join(SECONDS)

    assert [("sweeps/x/ckpt", 1), ("sweeps/y/ckpt", 1)] == got


def test_until_step_of_several_directories(tmp_path: Path) -> None:
    """
    It ends when each has reached it.
    """
    finish(tmp_path, ("a", 1), ("a", 2), ("b", 2), ("b", 3), ("c", 1))
    stream = sweep_of(*paths_of("directories", tmp_path), until_step=2)
    got = [next(stream) for _ in range(4)]
    finish(tmp_path, ("c", 2))
    got += stream

    assert [("a", 1), ("a", 2), ("b", 2), ("c", 1), ("c", 2)] == sorted(named(tmp_path, got))
    assert "every run has reached until_step" == stream.status().ended


def test_closed_from_another_thread(tmp_path: Path) -> None:
    """
    A call that waits for the first match ends.
    """
    stream, ended = sweep_of(tmp_path / "*"), list[list[object]]()
    thread = threading.Thread(target=lambda: ended.append(list(stream)))
    thread.start()
    wait_until(lambda: stream.status().patterns[0].last_look is not None)
    stream.close()
    thread.join(SECONDS)

    assert ([[]], "it was closed") == (ended, stream.status().ended)
