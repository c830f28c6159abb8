"""How each framework saves, in its own order, and what is missing after each operation."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from evidence import write
from test_footers import archive, as_torch_writes, hdf5, safetensors

TORCH = as_torch_writes(archive(("archive/data.pkl", b"x" * 40), ("archive/version", b"3")))
ZIP = archive(("metadata.json", b"{}"), ("model.weights.h5", b"x"))
SB3 = archive(("data", b"{}"), ("policy.pth", TORCH), ("_stable_baselines3_version", b"2"))
HDF5 = hdf5(0, 200)
TENSORS = safetensors(8)
INDEX = b'{"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "%s"}}'
INDEX %= b"model-00002-of-00002.safetensors"
MSGPACK = b"\x81\xa1a\x01"
MANIFEST = b'{"metadata": {"total_size": 300.0}, "weight_map": {"/layers/dense/vars": %s}}'
NO_MANIFEST = "not there, only w-5_00000.weights.h5: unless it is a shard, use layout='keras'"
NEWER_SHARD = "is newer than w-5.weights.json"
LONG = b"w" * 400  # larger than what an evaluator adds

Missing = str | None
Step = tuple[str, bytes | Path | None, Missing]


@dataclass(frozen=True)
class Save:
    """
    One save.

    Attributes:
        layout: Whose.
        name: What the checkpoint is called.
        steps: Pairs of an operation and what is missing after it, however long one waits. An
            operation is a path and its content; None deletes, a `Path` is what it is renamed from.
        settles: Whether only time proves it.
        auto: What `auto` calls it, if not by that name.
        step: Its number.
    """

    layout: str
    name: str
    steps: tuple[Step, ...]
    settles: bool = False
    auto: str = ""
    step: int | None = 5

    def __str__(self) -> str:
        return f"{self.layout}:{self.name}"

    def play(self, root: Path, start: int = 1000) -> Iterator[Missing]:
        """Do one operation after the other, a second apart, and yield what is missing then."""
        for second, (path, content, missing) in enumerate(self.steps, start):
            where = root / path
            if content is None:
                shutil.rmtree(where) if where.is_dir() else where.unlink()
            elif isinstance(content, Path):
                if where.is_dir():
                    shutil.rmtree(where)
                (root / content).replace(where)
            else:
                write(where, content, at=second)
            yield missing

    def done(self, root: Path, start: int = 1000) -> None:
        """Save."""
        for _ in self.play(root, start):
            pass


def _in(
    directory: str, *steps: tuple[str, bytes, Missing]
) -> tuple[tuple[str, bytes, Missing], ...]:
    return tuple((f"{directory}/{path}", content, missing) for path, content, missing in steps)


TITAN = "no .metadata, or no model.safetensors.index.json, or no metadata.pkl"
NO_MEGATRON = "no metadata.json, or no .metadata, or no mp_rank_*"
NOT_NAMED = "not named by 'latest' yet"
NO_TRACKER = "not named by 'latest_checkpointed_iteration.txt' yet"
ZERO = "zero_pp_rank_{}_mp_rank_00_optim_states.pt".format
FSDP = "model_world_size_2_rank_{}.pt".format
NEMO = "m--val=0.5-epoch=1-step=5"
RAY = "checkpoint_2026-01-31_12-00-00.123456"
RESULT = f'{{"checkpoint_dir_name": "{RAY}"}}'
RAY_JSON = f'{{"checkpoint_results": [{RESULT}], "latest_checkpoint_result": {RESULT}}}'
_NAME = "model.safetensors.index.json"
NO_INDEX = "no whole *.safetensors, or no *.index.json"
_HALF_ZIP = "no end of the zip archive"

SAVES = (
    Save(
        "lightning",
        "epoch=1-step=5.ckpt",
        (
            ("epoch=1-step=5.ckpt", b"", "empty"),
            ("epoch=1-step=5.ckpt", TORCH[:60], _HALF_ZIP),
            ("epoch=1-step=5.ckpt", TORCH, None),
        ),
        settles=True,
    ),
    Save(
        "lightning",
        "epoch=1-step=5-v1.ckpt",
        _in(
            "epoch=1-step=5-v1.ckpt",
            ("__0_0.distcp", LONG, "no meta.pt, or no latest"),
            (".metadata", b"x", "no meta.pt, or no latest"),
            ("meta.pt", b"x", None),
        ),
    ),
    Save(
        "lightning",
        "last.ckpt",
        _in(
            "last.ckpt",
            ("checkpoint/mp_rank_00_model_states.pt", LONG, "no meta.pt, or no latest"),
            (f"checkpoint/{ZERO(1)}", LONG, "no meta.pt, or no latest"),
            ("latest", b"checkpoint", f"no meta.pt, or no checkpoint/{ZERO(0)}"),
            (f"checkpoint/{ZERO(0)}", LONG, None),
        ),
        settles=True,
        step=None,
    ),
    Save(
        "torch",
        "model_5.pt",
        (
            ("model_5.pt", b"", "empty"),
            ("model_5.pt", TORCH[:-1], _HALF_ZIP),
            ("model_5.pt", TORCH, None),
        ),
        settles=True,
    ),
    Save(
        "dcp",
        "save_5",
        _in(
            "save_5",
            ("__0_0.distcp", LONG, "no .metadata, or no __0.metadata"),
            ("__1_0.distcp", LONG, "no .metadata, or no __0.metadata"),
            (".metadata.tmp", b"x", "no .metadata, or no __0.metadata"),
            (".metadata", b"x", None),
        ),
    ),
    Save(
        "dcp",
        "save_5",
        _in(
            "save_5",
            ("__0_0.distcp", LONG, "no .metadata, or no __0.metadata"),
            ("__1_0.distcp", LONG, "no .metadata, or no __0.metadata"),
            ("__1.metadata", b"x", "no .metadata, or no __0.metadata"),
            ("__0.metadata", b"x", None),
        ),
        settles=True,
    ),
    Save(
        "torchtitan",
        "step-5",
        _in(
            "step-5",
            (
                "__0_0.distcp",
                LONG,
                TITAN,
            ),
            (".metadata", b"x", None),
        ),
    ),
    Save(
        "torchtitan",
        "step-5",
        _in(
            "step-5",
            (
                "model-00001-of-00002.safetensors",
                TENSORS,
                TITAN,
            ),
            (
                "model-00002-of-00002.safetensors",
                TENSORS,
                TITAN,
            ),
            ("model.safetensors.index.json", INDEX, None),
        ),
    ),
    Save(
        "torchtitan",
        "step-5",
        (
            ("tmp_step-5/model_0.pt", TORCH, "not there"),
            ("tmp_step-5/metadata.pkl", b"x", "not there"),
            ("step-5", Path("tmp_step-5"), None),
        ),
    ),
    Save(
        "deepspeed",
        "global_step5",
        (
            ("global_step5/mp_rank_00_model_states.pt", TORCH, NOT_NAMED),
            (f"global_step5/{ZERO(1)}", TORCH, f"no {ZERO(0)}"),
            ("latest", b"", f"no {ZERO(0)}"),
            (f"global_step5/{ZERO(0)}", TORCH[:70], NOT_NAMED),
            ("latest", b"global_step5", f"{ZERO(0)}: {_HALF_ZIP}"),
            (f"global_step5/{ZERO(0)}", TORCH, None),
        ),
        settles=True,
    ),
    Save(
        "megatron",
        "iter_0000005",
        (
            (
                "iter_0000005/__0_0.distcp",
                LONG,
                NO_MEGATRON,
            ),
            ("iter_0000005/.metadata", b"x", NO_TRACKER),
            ("iter_0000005/metadata.json", b"{}", NO_TRACKER),
            ("latest_checkpointed_iteration.txt", b"", NO_TRACKER),
            ("latest_checkpointed_iteration.txt", b"5", None),
        ),
    ),
    Save(
        "megatron",
        "iter_0000005",
        (
            ("iter_0000005/mp_rank_01/model_optim_rng.pt", TORCH, "no mp_rank_00"),
            ("iter_0000005/mp_rank_00/model_optim_rng.pt", TORCH, NO_TRACKER),
            ("latest_checkpointed_iteration.txt", b"5\n", None),
        ),
    ),
    Save(
        "megatron",
        "release",
        (
            ("release/mp_rank_00/model_optim_rng.pt", TORCH, NO_TRACKER),
            ("latest_checkpointed_iteration.txt", b"release", None),
        ),
        step=None,
    ),
    Save(
        "megatron-bridge",
        "iter_0000005",
        (
            ("iter_0000005/__0_0.distcp", LONG, "no run_config.yaml"),
            ("iter_0000005/.metadata", b"x", "no run_config.yaml"),
            ("iter_0000005/metadata.json", b"{}", "no run_config.yaml"),
            ("iter_0000005/train_state.pt", TORCH, "no run_config.yaml"),
            ("latest_train_state.pt", TORCH, "no run_config.yaml"),
            ("latest_checkpointed_iteration.txt", b"5", "no run_config.yaml"),
            ("iter_0000005/run_config.yaml", b"a: ", "run_config.yaml is not whole"),
            ("iter_0000005/run_config.yaml", b"a: 1\n", None),
        ),
    ),
    Save(
        "verl",
        "global_step_5",
        (
            (f"global_step_5/actor/{FSDP(1)}", LONG, f"no actor/{FSDP(0)}"),
            (f"global_step_5/actor/{FSDP(0)}", LONG, NO_TRACKER),
            (f"global_step_5/critic/{FSDP(0)}", LONG, f"no critic/{FSDP(1)}"),
            (f"global_step_5/critic/{FSDP(1)}", LONG, NO_TRACKER),
            ("global_step_5/data.pt", b"x", NO_TRACKER),
            ("latest_checkpointed_iteration.txt", b"5", None),
        ),
    ),
    Save(
        "prime-rl",
        "step_5",
        _in(
            "step_5",
            ("model-00001-of-00002.safetensors", TENSORS, "no STABLE, or no trainer/.metadata"),
            ("model-00002-of-00002.safetensors", TENSORS, "no STABLE, or no trainer/.metadata"),
            ("model.safetensors.index.json", INDEX, "no STABLE, or no trainer/.metadata"),
            ("STABLE", b"", None),
        ),
    ),
    Save(
        "prime-rl",
        "step_5",
        _in(
            "step_5",
            ("trainer/__0_0.distcp", LONG, "no STABLE, or no trainer/.metadata"),
            ("trainer/.metadata", b"x", None),
        ),
    ),
    Save(
        "llamafactory-v1",
        "checkpoint-5",
        _in(
            "checkpoint-5",
            ("metadata.json", b'{"a": 1}', "no CHECKPOINT_COMPLETE"),
            ("model/model.safetensors", TENSORS, "no CHECKPOINT_COMPLETE"),
            ("dataloader/rank_0.pt", b"x", "no CHECKPOINT_COMPLETE"),
            ("CHECKPOINT_COMPLETE", b"", None),
        ),
    ),
    Save(
        "accelerate",
        "checkpoint_5",
        _in(
            "checkpoint_5",
            ("model.safetensors", TENSORS, "no random_states_0.pkl"),
            ("optimizer.bin", TORCH, "no random_states_0.pkl"),
            ("scheduler.bin", TORCH, "no random_states_0.pkl"),
            ("random_states_2.pkl", b"x", "no random_states_0.pkl"),
            ("random_states_0.pkl", b"x", "no random_states_1.pkl"),
            ("random_states_1.pkl", b"x", None),
        ),
        settles=True,
    ),
    Save(
        "nemo",
        NEMO,
        (
            (f"{NEMO}-unfinished", b"", f"not there, only {NEMO}-unfinished"),
            (f"{NEMO}/weights/__0_0.distcp", LONG, f"{NEMO}-unfinished is there"),
            (f"{NEMO}/weights/.metadata", b"x", f"{NEMO}-unfinished is there"),
            (f"{NEMO}/weights/metadata.json", b"{}", f"{NEMO}-unfinished is there"),
            (f"{NEMO}-unfinished", None, None),
        ),
    ),
    Save(
        "composer",
        "ep1-ba5-rank0.pt",
        (
            ("ep1-ba5-rank1.pt", TORCH, "not there, only ep1-ba5-rank1.pt"),
            ("ep1-ba5-rank0.pt", TORCH[:50], _HALF_ZIP),
            ("ep1-ba5-rank0.pt", TORCH, None),
        ),
        settles=True,
    ),
    Save(
        "composer",
        "ep1-ba5",
        _in("ep1-ba5", ("__0_0.distcp", LONG, "no .metadata"), (".metadata", b"x", None)),
    ),
    Save(
        "composer",
        "ep1-ba5",
        (
            ("latest-rank0.pt.symlink", b"my-run/ep1-ba4", "not there"),
            ("ep1-ba5/.metadata", b"x", "no *.distcp"),
            ("ep1-ba5/__0_0.distcp", LONG, "not named by 'latest-rank0.pt.symlink' yet"),
            ("latest-rank0.pt.symlink", b"my-run/ep1-ba5", None),
        ),
        settles=True,
    ),
    Save(
        "fairseq",
        "checkpoint_1_5.pt",
        (
            ("checkpoint_1_5.pt.tmp", TORCH, "not there"),
            ("checkpoint_1_5.pt", Path("checkpoint_1_5.pt.tmp"), None),
        ),
        settles=True,
    ),
    Save(
        "fairseq",
        "checkpoint_1_5.pt",
        (
            ("checkpoint_1_5-shard0.pt", TORCH, None),
            ("checkpoint_1_5-shard1.pt", TORCH[:99], f"checkpoint_1_5-shard1.pt: {_HALF_ZIP}"),
            ("checkpoint_1_5-shard1.pt", TORCH, None),
        ),
        settles=True,
    ),
    Save(
        "olmo",
        "step5-unsharded",
        (
            ("step5-unsharded-tmp/config.yaml", b"a: 1", "not there"),
            ("step5-unsharded-tmp/model.pt", TORCH, "not there"),
            ("step5-unsharded", Path("step5-unsharded-tmp"), None),
        ),
    ),
    Save(
        "olmo-core",
        "step5",
        (
            ("step5-tmp/train/rank0.pt", LONG, "not there"),
            ("step5", Path("step5-tmp"), "no .metadata.json, or no .metadata"),
            ("step5/model_and_optim/__0_0.distcp", LONG, "no .metadata.json, or no .metadata"),
            ("step5/model_and_optim/.metadata", b"x", "no .metadata.json, or no .metadata"),
            ("step5/.metadata.json", b"{}", None),
            ("step5/config.json", b"{}", None),
        ),
    ),
    Save(
        "keras",
        "model_5.keras",
        (
            ("model_5.keras", ZIP[:40], _HALF_ZIP),
            ("model_5.keras", ZIP, None),
        ),
        settles=True,
    ),
    Save(
        "keras",
        "w-5.weights.h5",
        (
            ("w-5.weights.h5", HDF5[:99], "not as long as its HDF5 superblock says"),
            ("w-5.weights.h5", HDF5, None),
        ),
        settles=True,
    ),
    Save(
        "keras-sharded",
        "w-5.weights.json",
        (
            ("w-5_00000.weights.h5", HDF5[:99], NO_MANIFEST),
            ("w-5_00000.weights.h5", HDF5, NO_MANIFEST),
            ("w-5.weights.json", MANIFEST[:30], "w-5.weights.json is not whole"),
            (
                "w-5.weights.json",
                MANIFEST % b'["w-5_00000.weights.h5"]',
                "w-5.weights.json counts more than its shards hold",
            ),
            ("w-5_00001.weights.h5", HDF5[:99], f"w-5_00001.weights.h5 {NEWER_SHARD}"),
            ("w-5_00001.weights.h5", HDF5, f"w-5_00001.weights.h5 {NEWER_SHARD}"),
            ("w-5.weights.json", MANIFEST % b"[]", "no shards"),
            (
                "w-5.weights.json",
                MANIFEST % b'["w-5_00000.weights.h5", "w-5_00001.weights.h5"]',
                None,
            ),
        ),
        settles=True,
    ),
    Save(
        "keras-backup",
        "latest.weights.h5",
        (
            ("latest.weights.h5", HDF5[:99], "not as long as its HDF5 superblock says"),
            ("latest.weights.h5", HDF5, "no training_metadata.json"),
            ("training_metadata.json", b"", "training_metadata.json: empty"),
            ("training_metadata.json", b'{"epoch": 5, "batch": 0}', None),
        ),
        step=None,
    ),
    Save(
        "t5x",
        "checkpoint_5",
        (
            ("checkpoint_5.tmp-17/target.a/0", LONG, "not there"),
            ("checkpoint_5.tmp-17/checkpoint", b"x", "not there"),
            ("checkpoint_5", Path("checkpoint_5.tmp-17"), None),
        ),
    ),
    Save(
        "flax",
        "checkpoint_5",
        (
            ("checkpoint_tmp", MSGPACK, "not there"),
            ("checkpoint_5", Path("checkpoint_tmp"), None),
        ),
    ),
    Save(
        "flax",
        "checkpoint_5",
        (
            ("checkpoint_5.orbax-checkpoint-tmp/_METADATA", b"{}", "not there"),
            ("checkpoint_5.orbax-checkpoint-tmp/d/0", LONG, "not there"),
            ("checkpoint_5", Path("checkpoint_5.orbax-checkpoint-tmp"), None),
        ),
        settles=True,
    ),
    Save(
        "maxtext",
        "5",
        _in(
            "5",
            ("_CHECKPOINT_METADATA", b"{}", "no commit stamp in _CHECKPOINT_METADATA"),
            ("items/d/0", LONG, "no commit stamp in _CHECKPOINT_METADATA"),
            ("commit_success.txt", b"x", None),
        ),
        auto="orbax",
    ),
    Save(
        "levanter",
        "step-5",
        _in(
            "step-5",
            ("model/a/0", LONG, "no metadata.json"),
            ("metadata.json", b'{"step": 5', "metadata.json is not whole"),
            (
                "metadata.json",
                b'{"step": 4, "timestamp": "2026-01-01T00:00"}',
                "metadata.json is of step 4",
            ),
            ("metadata.json", b'{"step": 5, "timestamp": "2026-01-01T00:00"}', None),
        ),
    ),
    Save(
        "ray",
        RAY,
        (
            (f"{RAY}/model.pt", LONG, "not named by 'checkpoint_manager_snapshot.json' yet"),
            (
                "checkpoint_manager_snapshot.json",
                b"{",
                "not named by 'checkpoint_manager_snapshot.json' yet",
            ),
            ("checkpoint_manager_snapshot.json", RAY_JSON.encode(), None),
        ),
        step=None,
    ),
    Save(
        "ray-v1",
        "checkpoint_000005",
        (
            ("params.json", b"{}", "not there"),
            ("checkpoint_000005/model.pt", LONG, None),
        ),
        settles=True,
    ),
    Save(
        "sb3",
        "rl_model_5_steps.zip",
        (
            ("rl_model_5_steps.zip", SB3[:60], _HALF_ZIP),
            ("rl_model_5_steps.zip", SB3, None),
            ("rl_model_vecnormalize_5_steps.pkl", b"", "rl_model_vecnormalize_5_steps.pkl: empty"),
            ("rl_model_vecnormalize_5_steps.pkl", b"x", None),
        ),
        settles=True,
    ),
    Save(
        "safetensors",
        "out-5",
        _in(
            "out-5",
            ("config.json", b"{}", "no *.safetensors"),
            ("model-00001-of-00002.safetensors", TENSORS, NO_INDEX),
            (
                "model.safetensors.index.json",
                INDEX[:9],
                "no whole *.safetensors, or model.safetensors.index.json is not whole",
            ),
            (
                "model.safetensors.index.json",
                INDEX,
                "no whole *.safetensors, or no model-00002-of-00002.safetensors",
            ),
            (
                "model-00002-of-00002.safetensors",
                TENSORS[:-1],
                "model-00002-of-00002.safetensors: not as long as its safetensors header says",
            ),
            ("model-00002-of-00002.safetensors", TENSORS, None),
        ),
        settles=True,
    ),
)
