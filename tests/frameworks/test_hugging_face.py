"""
Hugging Face's `Trainer`.
"""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType

import pytest

from .following import follow

pytestmark = [pytest.mark.frameworks, pytest.mark.anyio]


async def test_each_save_is_delivered_and_loads(safetensors: ModuleType, tmp_path: Path) -> None:
    """
    Weights and state belong to the step, and are whole the moment it comes.
    """

    def load(path: str) -> tuple[int, set[float]]:
        state = json.loads((Path(path) / "trainer_state.json").read_text())
        weights = safetensors.load_file(Path(path) / "model.safetensors")
        return state["global_step"], {float(x) for x in weights["classifier.bias"]}

    followed = await follow("hf_trainer.py", tmp_path / "run", 4, 0, until=4, load=load)

    assert [1, 2, 3, 4] == followed.steps
    assert [(step, {float(step)}) for step in (1, 2, 3, 4)] == followed.values
    assert {"hf"} == {checkpoint.layout for checkpoint in followed.checkpoints}


async def test_what_rotation_deletes_is_delivered_or_missed(tmp_path: Path) -> None:
    """
    With `save_total_limit=2` every save is accounted for once, and in order.
    """
    followed = await follow("hf_trainer.py", tmp_path / "run", 6, 2, until=6)

    assert list(range(1, 7)) == followed.account(), (followed.steps, followed.missed)
    assert followed.steps == sorted(step for step in followed.steps if step is not None)
    assert 6 == followed.steps[-1]
