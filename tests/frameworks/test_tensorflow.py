"""
`tf.train.CheckpointManager` and TF1's `Saver`.
"""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import pytest

import ckptstream

from .following import follow, write

pytestmark = [pytest.mark.frameworks, pytest.mark.anyio]

ATTRIBUTE = ".ATTRIBUTES/VARIABLE_VALUE"


async def test_each_save_is_delivered_and_loads(tensorflow: ModuleType, tmp_path: Path) -> None:
    """
    What the manager saves holds its values the moment it comes.
    """

    def load(path: str) -> set[float]:
        reader = tensorflow.train.load_checkpoint(path)
        return {float(x) for name in "abc" for x in reader.get_tensor(f"{name}/{ATTRIBUTE}")}

    followed = await follow("tf2_manager.py", tmp_path / "run", 5, 0, until=5, load=load)

    assert [1, 2, 3, 4, 5] == followed.steps
    assert [{1.0}, {2.0}, {3.0}, {4.0}, {5.0}] == followed.values
    assert {"tensorflow"} == {checkpoint.layout for checkpoint in followed.checkpoints}


async def test_shards_are_all_there(tensorflow: ModuleType, tmp_path: Path) -> None:
    """
    A checkpoint in several data files comes once, with all of them.
    """

    def load(path: str) -> set[float]:
        reader = tensorflow.train.load_checkpoint(path)
        return {float(x) for name in "abc" for x in reader.get_tensor(f"{name}/{ATTRIBUTE}")}

    followed = await follow("tf2_manager.py", tmp_path, 4, 0, 300, until=4, load=load)

    assert 3 == len(list(tmp_path.glob("ckpt-1.data-*")))
    assert [1, 2, 3, 4] == followed.steps
    assert [{1.0}, {2.0}, {3.0}, {4.0}] == followed.values


@pytest.mark.parametrize("script", ["tf2_manager.py", "tf1_saver.py"])
async def test_what_retention_deletes_is_delivered_or_missed(script: str, tmp_path: Path) -> None:
    """
    With two kept, every save is accounted for once, and in order.
    """
    followed = await follow(script, tmp_path / "run", 8, 2, until=8)

    assert list(range(1, 9)) == followed.account(), (followed.steps, followed.missed)
    assert followed.steps == sorted(step for step in followed.steps if step is not None)
    assert 8 == followed.steps[-1]


async def test_saver_is_followed_and_loads(tensorflow: ModuleType, tmp_path: Path) -> None:
    """
    TF1's state file holds absolute paths.
    """

    def load(path: str) -> float:
        return float(tensorflow.train.load_checkpoint(path).get_tensor("w"))

    # Not `max_to_keep=0`: its state file names the newest alone. What no look found named must then
    # settle, and the end at step 4 would not wait for that.
    followed = await follow("tf1_saver.py", tmp_path, 4, 5, until=4, load=load)

    assert [1, 2, 3, 4] == followed.steps
    assert [1.0, 2.0, 3.0, 4.0] == followed.values


async def test_moved_directory_is_understood(tensorflow: ModuleType, tmp_path: Path) -> None:
    """
    Absolute paths in a state file that moved with its directory still mean the files beside it.
    """
    write("tf1_saver.py", tmp_path / "old", 3, 5)
    moved = (tmp_path / "old").rename(tmp_path / "new")

    checkpoints = [checkpoint async for checkpoint in ckptstream.follow(moved, timeout=0)]
    newest = await ckptstream.latest_checkpoint(str(moved))

    assert [1, 2, 3] == [checkpoint.step for checkpoint in checkpoints]
    assert str(moved / "model.ckpt-3") == newest
    assert 3.0 == float(tensorflow.train.load_checkpoint(newest).get_tensor("w"))


@pytest.mark.parametrize("script", ["tf2_manager.py", "tf1_saver.py"])
def test_sync_iterator_takes_the_place_of_tensorflows(
    script: str, tensorflow: ModuleType, tmp_path: Path
) -> None:
    """
    Both yield the newest path, as a string, and end after the timeout.
    """
    from ckptstream.sync import checkpoints_iterator

    write(script, tmp_path, 3, 2)
    theirs = list(tensorflow.train.checkpoints_iterator(str(tmp_path), timeout=1))

    ours = list(checkpoints_iterator(str(tmp_path), timeout=1))

    assert theirs == ours
    assert [True] == [isinstance(path, str) for path in ours]


@pytest.mark.parametrize(
    ("script", "newest"), [("tf2_manager.py", "ckpt-3"), ("tf1_saver.py", "model.ckpt-3")]
)
async def test_latest_checkpoint_is_tensorflows(
    script: str, newest: str, tensorflow: ModuleType, tmp_path: Path
) -> None:
    """
    The same path, spelt the same way; None where there is none.
    """
    write(script, tmp_path / "run", 3, 2)
    (tmp_path / "empty").mkdir()
    directories = [str(tmp_path / name) for name in ("run", "run/", "empty", "absent")]

    theirs = [tensorflow.train.latest_checkpoint(directory) for directory in directories]
    ours = [await ckptstream.latest_checkpoint(directory) for directory in directories]

    assert theirs == ours
    assert str(tmp_path / "run" / newest) == ours[0]
