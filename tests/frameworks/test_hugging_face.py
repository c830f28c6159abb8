"""
Hugging Face's `Trainer`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
from examples import script

import ckptstream

from .following import SECONDS, command, follow

pytestmark = pytest.mark.frameworks


@pytest.mark.anyio
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


@pytest.mark.anyio
async def test_what_rotation_deletes_is_delivered_or_missed(tmp_path: Path) -> None:
    """
    With `save_total_limit=2` every save is accounted for once, and in order.
    """
    followed = await follow("hf_trainer.py", tmp_path / "run", 6, 2, until=6)

    assert list(range(1, 7)) == followed.account(), (followed.steps, followed.missed)
    assert followed.steps == sorted(step for step in followed.steps if step is not None)
    assert 6 == followed.steps[-1]


def test_the_script_of_the_readme(tmp_path: Path) -> None:
    """
    It evaluates each checkpoint while they are written, and once; and ends when training has.
    """
    programs = tmp_path / "bin"
    programs.mkdir()
    for name, module in {"ckptstream": "-m ckptstream", "python": ""}.items():
        (programs / name).write_text(f'#!/bin/sh\nexec {sys.executable} {module} "$@"\n')
        (programs / name).chmod(0o755)
    evaluate = tmp_path / "evaluate.sh"
    evaluate.write_text(script("script").replace("--timeout 60", "--timeout 1"))
    environment = {
        "PATH": f"{programs}:{os.environ['PATH']}",
        "PYTHONPATH": str(Path(ckptstream.__file__).parents[1]),
    }
    run = tmp_path / "runs/7b"
    with (
        subprocess.Popen(command("hf_trainer.py", run, 3, 0)) as trainer,
        subprocess.Popen(
            ["bash", str(evaluate), "runs/7b"],
            cwd=tmp_path,
            env={**os.environ, **environment},
            stdout=subprocess.PIPE,
            text=True,
        ) as evaluator,
    ):
        assert 0 == trainer.wait(SECONDS)
        (run / "ENDED").touch()
        printed, _ = evaluator.communicate(timeout=SECONDS)

    assert 0 == evaluator.returncode
    *paths, first, second, third = printed.splitlines()
    assert 3 == len(paths)
    losses = [line.split() for line in (first, second, third)]
    assert ["1", "2", "3"] == [step for step, _ in losses]
    assert all(float(loss) > 0 for _, loss in losses)
