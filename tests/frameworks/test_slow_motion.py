"""
Each framework saves in slow motion; what the stream delivers is copied at once, and loads.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import anyio
import pytest

from .slow_motion import HERE, Saving, Shown, show

pytestmark = pytest.mark.frameworks

BACKENDS = ("asyncio", "trio")
TENSORFLOW_FILES = ("{name}.*",)
KERAS_FILES = ("{name}", "model-{step}_*.weights.h5")
SB3_FILES = ("{name}", "rl_model_*_{step}_steps.pkl")
SAVINGS = {
    "tensorflow": Saving(
        "tf2_manager.py {run} 4 2 300 again",
        "tensorflow",
        "tensorflow",
        (1, 2, 3, 4, 4.5),
        TENSORFLOW_FILES,
        waits=(4,),
    ),
    "tensorflow 1": Saving(
        "tf1_saver.py {run} 4 2 again",
        "tensorflow",
        "tensorflow_1",
        (1, 2, 3, 4, 4.5),
        TENSORFLOW_FILES,
        waits=(4,),
    ),
    "keras": Saving(
        "keras_callbacks.py {run} 4 model-{{epoch}}.keras again",
        "keras",
        "keras",
        (1, 2, 3, 4, 4.5),
        waits=(4,),
    ),
    "keras weights": Saving(
        "keras_callbacks.py {run} 4 model-{{epoch}}.weights.h5 again",
        "keras",
        "keras",
        (1, 2, 3, 4, 4.5),
        waits=(4,),
    ),
    "keras shards": Saving(
        "keras_shards.py {run} 4 model-{{step}}.weights.json again",
        "keras-sharded",
        "keras_shards",
        (1, 2, 3, 4, 4.5),
        KERAS_FILES,
        waits=(4,),
    ),
    "keras shards, one name": Saving(
        "keras_shards.py {run} 3 model.weights.json",
        "keras-sharded",
        "keras_shards",
        (1, 2, 3),
        ("model*",),
        waits=(1, 2, 3),
        numbered=False,
    ),
    "keras backup": Saving(
        "keras_callbacks.py {run} 3 backup",
        "keras-backup",
        "keras_backup",
        (1, 2, 3),
        ("{name}", "training_metadata.json"),
        waits=(1, 2, 3),
        numbered=False,
    ),
    "orbax, renamed": Saving(
        "orbax_manager.py {run} 4 2 ATOMIC_RENAME 0", "orbax", "orbax", (1, 2, 3, 4)
    ),
    "orbax, commit file": Saving(
        "orbax_manager.py {run} 4 2 COMMIT_FILE 0", "orbax", "orbax", (1, 2, 3, 4)
    ),
    "orbax, in the background": Saving(
        "orbax_manager.py {run} 4 2 COMMIT_FILE 1", "orbax", "orbax", (1, 2, 3, 4)
    ),
    "orbax, saved again": Saving(
        "orbax_checkpointer.py {run} 3", "orbax", "orbax_checkpointer", (1, 2, 3, 3.5), waits=(3,)
    ),
    "orbax, v1": Saving(
        "orbax_v1.py {run} 4 2", "orbax", "orbax_v1", (1, 2, 3, 4, 4.5), waits=(4,)
    ),
    "flax, msgpack": Saving(
        "flax_legacy.py {run} 4 2 msgpack", "flax", "flax", (1, 2, 3, 4, 4.5), waits=(4,)
    ),
    "flax, orbax": Saving(
        "flax_legacy.py {run} 4 2 orbax", "flax", "flax", (1, 2, 3, 4, 4.5), waits=(4,)
    ),
    "hugging face": Saving(
        "hf_trainer.py {run} 4 2 again", "hf", "hugging_face", (1, 2, 3, 4, 4.5), waits=(4,)
    ),
    "torch.save": Saving(
        "torch_save.py {run} 4 0", "torch", "torch_save", (1, 2, 3, 4, 4.5), waits=(4,)
    ),
    "dcp, two processes": Saving(
        "dcp.py {run} step_{{step}} 4 2", "dcp", "dcp", (1, 2, 3, 4, 4.5), waits=(4,)
    ),
    "torchtitan's names": Saving(
        "dcp.py {run} step-{{step}} 4 2", "torchtitan", "dcp", (1, 2, 3, 4, 4.5), waits=(4,)
    ),
    "lightning, renamed": Saving(
        "lightning_trainer.py {run} 3 -1 none", "lightning", "lightning", (2, 4, 6)
    ),
    "lightning, copied": Saving(
        "lightning_trainer.py {run} 3 -1 none", "lightning", "lightning", (2, 4, 6), elsewhere=True
    ),
    "accelerate": Saving(
        "accelerate_state.py {run}/.. 4 0", "accelerate", "accelerate", (0, 1, 2, 3)
    ),
    "stable-baselines3": Saving(
        "sb3_callback.py {run} 3 dqn again",
        "sb3",
        "stable_baselines3",
        (8, 16, 24, 24.5),
        SB3_FILES,
        waits=(3,),
    ),
}


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """
    What is preloaded: patching Python would not reach those that write in C++ and Rust.
    """
    compiler = shutil.which("cc")
    if not sys.platform.startswith("linux"):
        pytest.skip("slow motion is made with LD_PRELOAD, on Linux")
    if compiler is None:
        pytest.skip("slow motion needs a C compiler, cc")
    library = tmp_path_factory.mktemp("library") / "slow_motion.so"
    source = HERE / "slow_motion.c"
    subprocess.run([compiler, "-shared", "-fPIC", "-o", library, source, "-ldl"], check=True)
    return library


@pytest.fixture(scope="module", params=SAVINGS)
def shown(
    request: pytest.FixtureRequest, library: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Shown]:
    saving = SAVINGS[request.param]
    directory = tmp_path_factory.mktemp("slow")
    with tempfile.TemporaryDirectory(dir=elsewhere(directory, saving)) as temporary:
        # One of them for each framework: both take twice as long, and look with the same code.
        backend = BACKENDS[[*SAVINGS].index(request.param) % len(BACKENDS)]
        yield anyio.run(partial(show, saving, library, directory, Path(temporary)), backend=backend)


def elsewhere(directory: Path, saving: Saving) -> Path:
    """
    A directory for temporary files: on the same filesystem, or just not.
    """
    if not saving.elsewhere:
        return directory
    device = directory.stat().st_dev
    for place in (Path("/dev/shm"), Path("/tmp"), Path("/var/tmp"), Path.home()):
        if place.is_dir() and os.access(place, os.W_OK) and place.stat().st_dev != device:
            return place
    pytest.skip("there is no second filesystem for temporary files")


EACH_STREAM = pytest.mark.parametrize("told", [True, False], ids=["named", "auto"])


@EACH_STREAM
def test_each_save_comes_once_and_in_order(shown: Shown, told: bool) -> None:
    """
    Also one that is saved again, and nothing comes again while it is deleted.
    """
    seen = shown.seen[shown.saving.layout if told else "auto"]

    assert shown.saving.steps == [each.step for each in seen.checkpoints], seen.status
    assert len(seen.checkpoints) == len(set(seen.checkpoints))


@EACH_STREAM
def test_each_loads_and_holds_what_was_saved(shown: Shown, told: bool) -> None:
    """
    With the framework's own loader, in a process of its own.
    """
    layout = shown.saving.layout if told else "auto"

    assert [[value] for value in shown.saving.values] == shown.held(layout)


def test_auto_knows_the_framework(shown: Shown) -> None:
    """
    Whatever is there while the files grow.
    """
    assert {shown.saving.layout} == {each.layout for each in shown.seen["auto"].checkpoints}


def test_all_was_written_slowly(shown: Shown) -> None:
    """
    No framework writes past what is preloaded.
    """
    places = [line.partition(" ")[2] for line in shown.operations]

    for checkpoint in shown.seen["auto"].checkpoints:
        assert any(place.startswith(checkpoint.path) for place in places)
