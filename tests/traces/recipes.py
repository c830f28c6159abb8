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
        temporary: Another filesystem for temporary files, where there is one.
        run: The name of the directory that is followed.
        notes: Comments below the title.
        more: Further lines of the head.
    """

    title: str
    layout: str
    commands: tuple[str, ...]
    packages: tuple[str, ...]
    evidence: str
    rules: Rules
    ignore: str = r"\.\./|runs(?:/|$)"
    temporary: str = ""
    run: str = "run"
    notes: tuple[str, ...] = ()
    more: dict[str, str] = field(default_factory=dict[str, str])

    def ignores(self, paths: tuple[str, ...]) -> bool:
        return any(re.match(self.ignore, path) for path in paths)


_TENSORFLOW = Rules(
    commit=r"rename \S+ checkpoint b'model_checkpoint_path: "
    r'"(?:[^"]*/)?([^/"]*-(?P<step>\d+))"',
    owner=r"([^/]*ckpt-\d+)\.(?:index|data)",
    keep=r"checkpoint.*",
    whole=r"(?:write|rename \S+) ([^/]*ckpt-(?P<step>\d+))\.index ",
)

_TRAINER = Rules(
    commit=r"write (checkpoint-(?P<step>\d+))/trainer_state\.json",
    owner=r"(checkpoint-\d+)(?:/|$)",
    keep=r".*/trainer_state\.json",
    keys=r"epoch|global_step|log_history|max_steps",
)

_ORBAX = Rules(
    commit=r"rename \S+\.orbax-checkpoint-tmp ([^/ ]*?(?P<step>\d+))(?: |$)",
    owner=r"((?:checkpoint_)?\d+)(?:/|$)",
    keep=r"[^/]+/(?:commit_success\.txt|_CHECKPOINT_METADATA)",
)
_LIGHTNING = Rules(
    commit=r"(?:rename \S+|write) (last\.ckpt|epoch=\d+-step=(?P<step>\d+)\.ckpt)",
    owner=r"(last\.ckpt|epoch=\d+-step=\d+\.ckpt)",
)
_SB3 = Rules(
    commit=r"write (rl_model)_vecnormalize_(?P<step>\d+)_steps\.pkl => \1_\2_steps.zip",
    owner=r"(rl_model_\d+_steps\.zip)",
    whole=r"write (rl_model_(?P<step>\d+)_steps\.zip)",
)
_NO_ORBAX = (
    "Refuses to save over the same step: CheckpointManager.save skips what is not later",
    "than the last one, and with force=True raises StepAlreadyExistsError.",
)
_NO_LIGHTNING = (
    "Refuses to save over the same step: ModelCheckpoint adds `-v1` to a name that is there",
    "(_get_metric_interpolated_filepath_name), unless enable_version_counter=False.",
)

RECIPES = {
    "hf_trainer": Recipe(
        "Trainer, save_total_limit=1: two saves, then both again in a second process",
        "hf",
        ("hf_trainer.py {run} 2 1", "hf_trainer.py {run} 2 1"),
        ("transformers", "safetensors", "torch"),
        r"trainer_state\.json|model files",
        _TRAINER,
    ),
    "hf_trainer_again": Recipe(
        "Trainer: a second process saves the same step in place",
        "hf",
        ("hf_trainer.py {run} 1 0", "hf_trainer.py {run} 1 0"),
        ("transformers", "safetensors", "torch"),
        r"trainer_state\.json|model files",
        _TRAINER,
    ),
    "tf2_manager": Recipe(
        "tf.train.CheckpointManager, max_to_keep=2: three saves, then two by a second process",
        "tensorflow",
        ("tf2_manager.py {run} 3 2", "tf2_manager.py {run} 2 2"),
        ("tensorflow-cpu",),
        r"\.index|\.data-|'checkpoint'",
        _TENSORFLOW,
    ),
    "tf1_saver": Recipe(
        "tf.compat.v1.train.Saver, max_to_keep=2: three saves, and again by a second process",
        "tensorflow",
        ("tf1_saver.py {run} 3 2", "tf1_saver.py {run} 3 2"),
        ("tensorflow-cpu",),
        r"\.index|\.data-|'checkpoint'",
        _TENSORFLOW,
    ),
    "orbax_rename": Recipe(
        "CheckpointManager, max_to_keep=2, by rename: three saves",
        "orbax",
        ("orbax_manager.py {run} 3 2 ATOMIC_RENAME 0",),
        ("orbax-checkpoint", "jax"),
        r"commit_success\.txt|_CHECKPOINT_METADATA|vanishing",
        _ORBAX,
        notes=_NO_ORBAX,
    ),
    "orbax_async": Recipe(
        "CheckpointManager, max_to_keep=2, by rename, in the background: three saves",
        "orbax",
        ("orbax_manager.py {run} 3 2 ATOMIC_RENAME 1",),
        ("orbax-checkpoint", "jax"),
        r"commit_success\.txt|_CHECKPOINT_METADATA|vanishing",
        _ORBAX,
        notes=_NO_ORBAX,
    ),
    "orbax_v1": Recipe(
        "v1's training.Checkpointer, LatestN(2): three saves in the background, the third again",
        "orbax",
        ("orbax_v1.py {run} 3 2",),
        ("orbax-checkpoint", "jax"),
        r"commit_success\.txt|_CHECKPOINT_METADATA|vanishing",
        _ORBAX,
    ),
    "orbax_commit_file": Recipe(
        "CheckpointManager, max_to_keep=2, with commit files: three saves",
        "orbax",
        ("orbax_manager.py {run} 3 2 COMMIT_FILE 0",),
        ("orbax-checkpoint", "jax"),
        r"commit_success\.txt|_CHECKPOINT_METADATA|vanishing|empty",
        Rules(
            commit=r"(?:create|write) ((?P<step>\d+))/commit_success.txt",
            owner=_ORBAX.owner,
            keep=_ORBAX.keep,
            whole=r'write ((?P<step>\d+))/_CHECKPOINT_METADATA .*"commit_timestamp_nsecs": \d',
        ),
        notes=_NO_ORBAX,
    ),
    "orbax_checkpointer": Recipe(
        "StandardCheckpointer, force=True: two saves, then the second step again",
        "orbax",
        ("orbax_checkpointer.py {run} 2",),
        ("orbax-checkpoint", "jax"),
        r"commit_success\.txt|_CHECKPOINT_METADATA|vanishing",
        _ORBAX,
    ),
    "flax_orbax": Recipe(
        "save_checkpoint with Orbax, keep=2: three saves, then the third step again",
        "flax",
        ("flax_legacy.py {run} 3 2 orbax",),
        ("flax", "orbax-checkpoint", "jax"),
        r"commit_success\.txt|_CHECKPOINT_METADATA|vanishing",
        _ORBAX,
    ),
    "flax_msgpack": Recipe(
        "save_checkpoint without Orbax, keep=2: three saves, then the third step again",
        "flax",
        ("flax_legacy.py {run} 3 2 msgpack",),
        ("flax", "jax"),
        r"flax|settled",
        Rules(r"rename checkpoint_tmp (checkpoint_(?P<step>\d+)) ", r"(checkpoint_\d+)(?:/|$)"),
    ),
    "keras_model": Recipe(
        "ModelCheckpoint, model-{epoch}.keras: three epochs, then two again by a second process",
        "keras",
        (
            "keras_callbacks.py {run} 3 model-{{epoch}}.keras",
            "keras_callbacks.py {run} 2 model-{{epoch}}.keras",
        ),
        ("keras", "jax"),
        r"zip|empty|settled",
        Rules(r"write (model-(?P<step>\d+)\.keras)", r"(model-\d+\.keras)"),
        more={"settles": "yes"},
    ),
    "keras_weights": Recipe(
        "ModelCheckpoint, model-{epoch}.weights.h5: two epochs, then again by a second process",
        "keras",
        ("keras_callbacks.py {run} 2 model-{{epoch}}.weights.h5",) * 2,
        ("keras", "h5py", "jax"),
        r"HDF5|empty|settled",
        Rules(r"write (model-(?P<step>\d+)\.weights\.h5)", r"(model-\d+\.weights\.h5)"),
        more={"settles": "yes"},
    ),
    "keras_shards": Recipe(
        "save_weights in three shards: two saves, then both again by a second process",
        "keras-sharded",
        ("keras_shards.py {run} 2 model-{{step}}.weights.json",) * 2,
        ("keras", "h5py", "jax"),
        r"weights\.json|not there, only|HDF5|empty|settled",
        Rules(
            r"write (model-(?P<step>\d+)\.weights\.json) .*_00002\.weights\.h5",
            r"(model-\d+)(?:_\d+\.weights\.h5|\.weights\.json) => \1.weights.json",
            keep=r".*\.weights\.(?:json|h5)",
        ),
        more={"settles": "yes"},
    ),
    "keras_backup": Recipe(
        "BackupAndRestore: two epochs, and what it deletes at the end",
        "keras-backup",
        ("keras_callbacks.py {run} 2 backup",),
        ("keras", "h5py", "jax"),
        r"training_metadata\.json|HDF5|empty",
        Rules(
            r"write training_metadata\.json => latest.weights.h5",
            r"(?:latest\.weights\.h5|training_metadata\.json) => latest.weights.h5",
            keep=r".*\.json",
        ),
        more={"overwritten": "old metadata beside new weights may have been copied, and settle"},
    ),
    "torch_save": Recipe(
        "torch.save: three saves of which two are kept, then the third again",
        "torch",
        ("torch_save.py {run} 3 2",),
        ("torch",),
        r"zip|empty|settled",
        Rules(r"write (ckpt_(?P<step>\d+)\.pt)", r"(ckpt_\d+\.pt)"),
        more={"settles": "yes"},
    ),
    "dcp": Recipe(
        "DCP with two processes: two saves of which one is kept, then the second again in place",
        "dcp",
        ("dcp.py {run} checkpoint_{{step}} 2 1",),
        ("torch",),
        r"\.metadata",
        Rules(
            r"rename \S+/\.metadata\.tmp (checkpoint_(?P<step>\d+))/\.metadata ",
            r"(checkpoint_\d+)(?:/|$)",
        ),
    ),
    "torchtitan_dcp": Recipe(
        "DCP with torchtitan's names: two saves of which one is kept, then the second again",
        "torchtitan",
        ("dcp.py {run} step-{{step}} 2 1",),
        ("torch",),
        r"\.metadata",
        Rules(r"rename \S+/\.metadata\.tmp (step-(?P<step>\d+))/\.metadata ", r"(step-\d+)(?:/|$)"),
    ),
    "lightning": Recipe(
        "ModelCheckpoint, save_top_k=1, save_last=True: three epochs",
        "lightning",
        ("lightning_trainer.py {run} 3 1 last",),
        ("lightning", "fsspec", "torch"),
        r"zip|empty|settled",
        _LIGHTNING,
        more={"settles": "yes"},
        ignore=r"\.\./(?!tmp)",
    ),
    "lightning_link": Recipe(
        'ModelCheckpoint, save_top_k=1, save_last="link": three epochs',
        "lightning",
        ("lightning_trainer.py {run} 3 1 link",),
        ("lightning", "fsspec", "torch"),
        r"zip|empty|settled|link|not there",
        _LIGHTNING,
        more={"settles": "yes"},
        ignore=r"\.\./(?!tmp)",
        notes=_NO_LIGHTNING,
    ),
    "lightning_copied": Recipe(
        "ModelCheckpoint with $TMPDIR on another filesystem: two epochs",
        "lightning",
        ("lightning_trainer.py {run} 2 -1 none",),
        ("lightning", "fsspec", "torch"),
        r"zip|empty|settled",
        Rules(
            commit=r"chmod 0644 (epoch=\d+-step=(?P<step>\d+)\.ckpt)",
            owner=_LIGHTNING.owner,
            whole=r"write (epoch=\d+-step=(?P<step>\d+)\.ckpt)",
        ),
        more={"settles": "yes"},
        temporary="/dev/shm",
        notes=_NO_LIGHTNING,
    ),
    "accelerate": Recipe(
        "save_state, total_limit=2: three saves, then one by a second process",
        "accelerate",
        ("accelerate_state.py {run}/.. 3 2", "accelerate_state.py {run}/.. 1 2"),
        ("accelerate", "safetensors", "torch"),
        r"random_states|settled",
        Rules(r"write (checkpoint_(?P<step>\d+))/random_states_0\.pkl", r"(checkpoint_\d+)(?:/|$)"),
        run="checkpoints",
        more={"settles": "yes"},
        notes=(
            "Refuses to save over the same step: save_state raises ValueError where there is one.",
        ),
    ),
    "sb3_ppo": Recipe(
        "CheckpointCallback with PPO and VecNormalize: two saves, and again by a second process",
        "sb3",
        ("sb3_callback.py {run} 2 ppo", "sb3_callback.py {run} 2 ppo"),
        ("stable-baselines3", "torch"),
        r"zip|empty|settled",
        _SB3,
        more={"settles": "yes"},
    ),
    "sb3_dqn": Recipe(
        "CheckpointCallback with DQN, a replay buffer and VecNormalize: two saves, and again",
        "sb3",
        ("sb3_callback.py {run} 2 dqn", "sb3_callback.py {run} 2 dqn"),
        ("stable-baselines3", "torch"),
        r"zip|empty|settled",
        _SB3,
        more={"settles": "yes"},
    ),
}
