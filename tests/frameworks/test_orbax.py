"""
Orbax's `CheckpointManager`, with both of its ways to commit.
"""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import pytest

import ckptstream

from .following import follow, write

pytestmark = [pytest.mark.frameworks, pytest.mark.anyio]

MODES = ["ATOMIC_RENAME", "COMMIT_FILE"]


@pytest.mark.parametrize("mode", MODES)
async def test_each_save_is_delivered_and_restores(
    mode: str, orbax: ModuleType, tmp_path: Path
) -> None:
    """
    What the manager saves holds its values the moment it comes.
    """

    def load(path: str) -> set[float]:
        with orbax.StandardCheckpointer() as checkpointer:
            return {float(x) for x in checkpointer.restore(Path(path) / "default")["w"]}

    followed = await follow("orbax_manager.py", tmp_path / "run", 5, 0, mode, 0, until=5, load=load)

    assert [1, 2, 3, 4, 5] == followed.steps
    assert [{1.0}, {2.0}, {3.0}, {4.0}, {5.0}] == followed.values
    assert {"orbax"} == {checkpoint.layout for checkpoint in followed.checkpoints}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("background", [0, 1])
async def test_what_retention_deletes_is_delivered_or_missed(
    mode: str, background: int, tmp_path: Path
) -> None:
    """
    With two kept, every save is accounted for once, and in order.
    """
    followed = await follow("orbax_manager.py", tmp_path / "run", 8, 2, mode, background, until=8)

    assert list(range(1, 9)) == followed.account(), (followed.steps, followed.missed)
    assert followed.steps == sorted(step for step in followed.steps if step is not None)
    assert 8 == followed.steps[-1]


async def test_newest_is_what_orbax_yields(orbax: ModuleType, tmp_path: Path) -> None:
    """
    Orbax's own iterator gives the newest step of a finished directory, as does `latest_only`.
    """
    write("orbax_manager.py", tmp_path, 3, 0, "ATOMIC_RENAME", 0)
    theirs = list(orbax.checkpoint_utils.checkpoints_iterator(tmp_path, timeout=1))

    stream = ckptstream.follow(tmp_path, latest_only=True, timeout=0)

    assert theirs == [checkpoint.step async for checkpoint in stream]
