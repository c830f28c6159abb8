"""
What a look said before everything changed counts no more.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import anyio
import pytest
from observing import linux
from steering import HeldWatcher, drained, rest, virtual
from sweeping import came, finish, sweep_of

from ckptstream import follow
from ckptstream._stream._run import _FRESH
from ckptstream.testing import ManualWatcher, save

pytestmark = pytest.mark.anyio


@virtual
@pytest.mark.parametrize("change", ["a new one", "one deleted"])
async def test_a_run_that_left_and_came_back_during_a_look(tmp_path: Path, change: str) -> None:
    """
    The look saw the directory that was there before: it gives nothing, and harms nothing.
    """
    watcher = HeldWatcher()
    watcher.holds = False
    finish(tmp_path, ("r", 1), ("r", 2))
    stream = sweep_of(tmp_path / "*", watcher=watcher)
    assert [("r", 1), ("r", 2)] == await came(stream, watcher, tmp_path)
    (run,) = stream.engine._following.roster.runs.values()
    (pattern,) = stream.engine._following.roster.patterns

    if change == "a new one":
        finish(tmp_path, ("r", 9))
    else:
        shutil.rmtree(tmp_path / "r/step_2")
    watcher.holds = True
    run.all_changed()
    assert [] == await came(stream, watcher, tmp_path)
    watcher.holds = False
    shutil.rmtree(tmp_path / "r")
    pattern.all_changed()
    assert [] == await came(stream, watcher, tmp_path)
    left = stream.status().runs
    finish(tmp_path, ("r", 3))
    pattern.all_changed()
    assert [] == await came(stream, watcher, tmp_path)
    watcher.answer()

    assert [("r", 3)] == await came(stream, watcher, tmp_path)
    assert () == left


@linux
async def test_what_is_only_watched_is_not_verified(run: Path) -> None:
    """
    A queued checkpoint that loses its model is not handed out, whatever else was looked at.
    """
    for step in (1, 2, 3):
        save(run, step)
    stream = follow(run, layout="hf", timeout=0.1)
    assert 1 == (await anext(stream)).step
    (model,) = (run / "checkpoint-3").glob("*.safetensors")
    model.unlink()
    await anyio.sleep(2 * _FRESH)  # What was seen so lately would still count.

    assert [2] == await rest(stream)


@virtual
async def test_what_comes_after_until_step_is_not_missed(
    tmp_path: Path, watcher: ManualWatcher
) -> None:
    """
    Nobody asked for it: its trainer may delete it without a word.
    """
    finish(tmp_path, ("a", 10))
    stream = sweep_of(tmp_path / "a", tmp_path / "b", watcher=watcher, until_step=10)
    assert [("a", 10)] == await came(stream, watcher, tmp_path)
    finish(tmp_path, ("a", 20), ("a", 30))
    watcher.touch()
    assert [] == await came(stream, watcher, tmp_path)
    shutil.rmtree(tmp_path / "a/step_20")
    watcher.touch()
    await drained(stream, watcher)

    assert [0, 0] == [each.missed_count for each in stream.status().runs]
