"""
Which framework is recorded how.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from annotating import Rules


@dataclass(frozen=True)
class Recipe:
    """
    One trace to be recorded.

    Attributes:
        commands: Scripts of `tests/frameworks/writers` with their arguments.
        packages: Those whose versions are noted.
        ignore: Fits the paths that have nothing to do with checkpoints.
        more: Further lines of the head.
    """

    title: str
    layout: str
    commands: tuple[str, ...]
    packages: tuple[str, ...]
    evidence: str
    rules: Rules
    ignore: str = r"$^"
    more: dict[str, str] = field(default_factory=dict[str, str])

    def ignores(self, paths: tuple[str, ...]) -> bool:
        return any(re.match(self.ignore, path) for path in paths)


_TENSORFLOW = Rules(
    commit=r"rename \S+ checkpoint b'model_checkpoint_path: \"(?:[^\"]*/)?([^/\"]*-(\d+))\"",
    owner=r"([^/]*ckpt-\d+)\.(?:index|data)",
    keep=r"checkpoint.*",
    whole=r"(?:write|rename \S+) ([^/]*ckpt-(\d+))\.index ",
)

_TRAINER = Rules(
    commit=r"write (checkpoint-(\d+))/trainer_state\.json",
    owner=r"(checkpoint-\d+)(?:/|$)",
    keep=r".*/trainer_state\.json",
    keys=r"epoch|global_step|log_history|max_steps",
)

RECIPES = {
    "hf_trainer": Recipe(
        "Trainer, save_total_limit=1: two saves, then both again in a second process",
        "hf",
        ("hf_trainer.py {run} 2 1", "hf_trainer.py {run} 2 1"),
        ("transformers", "safetensors", "torch"),
        r"trainer_state\.json|model files",
        _TRAINER,
        ignore=r"runs|\.\./tmp",
    ),
    "hf_trainer_again": Recipe(
        "Trainer: a second process saves the same step in place",
        "hf",
        ("hf_trainer.py {run} 1 0", "hf_trainer.py {run} 1 0"),
        ("transformers", "safetensors", "torch"),
        r"trainer_state\.json|model files",
        _TRAINER,
        ignore=r"runs|\.\./tmp",
    ),
    "tf2_manager": Recipe(
        "tf.train.CheckpointManager, max_to_keep=2: three saves, then two by a second process",
        "tensorflow",
        ("tf2_manager.py {run} 3 2", "tf2_manager.py {run} 2 2"),
        ("tensorflow-cpu",),
        r"\.index|\.data-|'checkpoint'",
        _TENSORFLOW,
        ignore=r"\.\./tmp",
    ),
    "tf1_saver": Recipe(
        "tf.compat.v1.train.Saver, max_to_keep=2: three saves, and again by a second process",
        "tensorflow",
        ("tf1_saver.py {run} 3 2", "tf1_saver.py {run} 3 2"),
        ("tensorflow-cpu",),
        r"\.index|\.data-|'checkpoint'",
        _TENSORFLOW,
        ignore=r"\.\./tmp",
    ),
    "orbax_rename": Recipe(
        "CheckpointManager, max_to_keep=2, by rename: three saves",
        "orbax",
        ("orbax_manager.py {run} 3 2 ATOMIC_RENAME 0",),
        ("orbax-checkpoint", "jax"),
        r"commit_success\.txt|_CHECKPOINT_METADATA|vanishing",
        Rules(
            r"rename \S+\.orbax-checkpoint-tmp ((\d+))$", r"(\d+)(?:/|$)", r".*(success|METADATA).*"
        ),
        ignore=r"\.\./tmp",
    ),
    "orbax_commit_file": Recipe(
        "CheckpointManager, max_to_keep=2, with commit files: three saves",
        "orbax",
        ("orbax_manager.py {run} 3 2 COMMIT_FILE 0",),
        ("orbax-checkpoint", "jax"),
        r"commit_success\.txt|_CHECKPOINT_METADATA|vanishing|empty",
        Rules(
            r"(?:create|write) ((\d+))/commit_success.txt",
            r"(\d+)(?:/|$)",
            r"\d+/(commit|_CH).*",
            whole=r"write ((\d+))/_CHECKPOINT_METADATA .*\"commit_timestamp_nsecs\": \d",
        ),
        ignore=r"\.\./tmp",
    ),
}
