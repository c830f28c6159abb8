"""
What trains in parallel: a file for each rank, and a pointer when all have written.

After a rollback the steps above the pointer are finished ones that were given up, or halves that a
crash left: to who was not there they look alike, and are not finished. A step below it that is
written again waits until the pointer is newer; that DeepSpeed's `latest` named just that step
before shows only to who was there, since other ranks write after it.
"""

from __future__ import annotations

from .._described import Described
from .._pointed import Pointed
from .._pointers import Pointer
from .._proofs import Absent, AnyOf, Footers, Holds, Marker, Settled, Uploaded
from .._shards import Ranks, Stored
from .._signs import Signs
from ._torch import SHARDS

_TRACKER = "latest_checkpointed_iteration.txt"
_RANKS = r"(?:model|optim|extra_state)_world_size_(?P<of>[0-9]+)_rank_(?P<rank>[0-9]+)\.pt"
_RANK_FILES = r"(?:model|optim|extra_state)_world_size_[0-9]+_rank_[0-9]+\.pt"


def _tensors(directory: str) -> AnyOf:
    """What Megatron-Core's formats have: DCP's, `zarr`'s directory of each tensor, the oldest."""
    return AnyOf(
        (
            (
                Holds(rf"{directory}\.metadata", f"{directory}.metadata"),
                Holds(rf"{directory}{SHARDS}", f"{directory}*.distcp"),
                Stored(rf"{directory}\.metadata"),
            ),
            (Holds(rf"{directory}.+/\.zarray", "*/.zarray"),),
            (Holds(rf"{directory}mp_rank_[0-9_]+/.+\.pt", "mp_rank_*"),),
        )
    )


# The first rank writes its files, then `latest`, and only then waits for the other ranks: what
# `latest` names may lack their shards, or the ends of them.
# Source: deepspeedai/DeepSpeed `deepspeed/runtime/engine.py` (`save_checkpoint`, `_get_ckpt_name`,
# `_get_zero_ckpt_name`).
DEEPSPEED = Described(
    name="deepspeed",
    example="global_step1000",
    regex=r"global_step(?P<step>[0-9]+)",
    directory=(
        Holds(r".*model_states\.pt", "*_model_states.pt"),
        Ranks(r"mp_rank_(?P<rank>[0-9]+)_model_states\.pt"),
        Ranks(r"(?:bf16_)?zero_pp_rank_(?P<rank>[0-9]+)_mp_rank_[0-9]+_(?:model|optim)_states\.pt"),
        Pointed(later=True),
        Footers(),
        Settled(),
    ),
    data=(r".*_(?:model|optim)_states\.pt",),
    own=(r"mp_rank_00_model_states\.pt", r".*_(?:model|optim)_states\.pt"),
    pointer_file=Pointer("latest"),
    signs=Signs("mp_rank_* or zero_pp_rank_*", own=(r".*_(?:model|optim)_states\.pt",)),
)

# The tracker moves when every rank has written, and before the last checkpoint is deleted.
# Source: NVIDIA/Megatron-LM `megatron/training/checkpointing.py` (`get_checkpoint_name`,
# `save_checkpoint`, `read_metadata`), `megatron/core/dist_checkpointing/serialization.py` (`save`).
MEGATRON = Described(
    name="megatron",
    example="iter_0001000",
    regex=r"iter_(?P<step>[0-9]{7,})|release",
    directory=(
        AnyOf(
            (
                (Marker("metadata.json"),),
                (Marker(".metadata"),),
                (Holds(r"mp_rank_[0-9_]+/.+\.pt", "mp_rank_*"),),
            )
        ),
        Uploaded((_tensors(""),)),
        Ranks(r"mp_rank_(?P<rank>[0-9]+)(?:_[0-9]+)*"),
        Pointed(later=True, last=True),
    ),
    data=(SHARDS, r"mp_rank_[0-9_]+/.+\.pt"),
    own=(r"metadata\.json", r"\.metadata", r"mp_rank_[0-9_]+/.+\.pt"),
    pointer_file=Pointer(_TRACKER, number="iter_{:07d}", words=("release",)),
    signs=Signs(
        "*.distcp, .metadata or mp_rank_*",
        own=(r"\.metadata", r"mp_rank_[0-9_]+"),
        shared=(SHARDS, r"metadata\.json", r"common\.pt"),
    ),
)

# After the tracker this one writes `run_config.yaml`; before it, `train_state.pt`.
# Source: NVIDIA-NeMo/Megatron-Bridge `src/megatron/bridge/training/checkpointing.py`
# (`save_checkpoint`).
MEGATRON_BRIDGE = Described(
    name="megatron-bridge",
    example="iter_0001000/run_config.yaml",
    regex=r"iter_(?P<step>[0-9]{7,})",
    directory=(
        Marker("run_config.yaml"),
        Marker("train_state.pt", stale=True),
        Holds(r"\.metadata|__[0-9]+_[0-9]+\.distcp|mp_rank_[0-9_]+", "model files"),
        Uploaded((_tensors(""),)),
    ),
    data=(SHARDS, r"mp_rank_[0-9_]+/.+\.pt"),
    own=(r"run_config\.yaml",),
    pointer_file=Pointer(_TRACKER, number="iter_{:07d}"),
    signs=Signs("run_config.yaml or train_state.pt", own=(r"run_config\.yaml|train_state\.pt",)),
)

# Beside the weights lie configurations; with Megatron they are in directories of its own.
_VERL_MODEL = AnyOf(
    (
        (Holds(r"actor/model_world_size_.*", "actor/model_world_size_*"),),
        (Holds(r"model_world_size_.*"),),
        (Holds(r"actor/huggingface/.*\.(?:safetensors|bin)"),),
        (Holds(r"actor/(?!huggingface)[^.]+/.+"),),
    )
)

# The workers delete their part of the checkpoint before the last, while the tracker still names
# it; its `data.pt` stays for ever.
# Source: volcengine/verl `verl/trainer/ppo/ray_trainer.py` (`_save_checkpoint`),
# `verl/utils/checkpoint/{checkpoint_manager,fsdp_checkpoint_manager,checkpoint_handler}.py`.
VERL = Described(
    name="verl",
    example="global_step_1000/actor",
    regex=r"global_step_(?P<step>[0-9]+)",
    directory=(
        Holds(rf"(?:actor|{_RANK_FILES})", "actor"),
        AnyOf(((Holds(r"actor/.+", "actor"),), (Holds(_RANK_FILES),))),
        Ranks(rf"(?:actor|critic)/{_RANKS}"),
        Ranks(_RANKS),
        Uploaded((_VERL_MODEL,)),
        Pointed(later=True, last=True, written=(rf"(?:actor|critic)/{_RANK_FILES}", _RANK_FILES)),
    ),
    data=(rf"(?:actor|critic)/{_RANK_FILES}", _RANK_FILES, r"(?:actor|critic)/.+/.+"),
    own=(rf"actor/{_RANK_FILES}", _RANK_FILES, r"actor/.+/.+", r"actor/.+"),
    pointer_file=Pointer(_TRACKER, number="global_step_{}"),
    signs=Signs("actor", own=(r"actor|critic", _RANK_FILES), shared=(r"data\.pt",)),
)

# The one marker that says "not yet": a file beside the directory, there before the save and before
# the deletion. `…-last` may be a link.
# Source: NVIDIA/NeMo `nemo/lightning/pytorch/callbacks/model_checkpoint.py`
# (`set_checkpoint_unfinished_marker`, `remove_checkpoint_unfinished_marker`).
NEMO = Described(
    name="nemo",
    example="model--val_loss=0.1-epoch=1-step=1000",
    regex=r"(?!.*\.ckpt(?:-unfinished)?\Z)"  # first, or each way to part the name is tried
    r"(?P<stem>.+--(?:(?:.*[^A-Za-z])?step=(?P<step>[0-9]+)(?![0-9])|.*=).*?)"
    r"(?P<part>-unfinished)?",
    lead=r"\g<stem>",
    links=r".*-last",
    directory=(
        Absent("-unfinished"),
        AnyOf(((Marker("weights/metadata.json"),), (Marker("weights/.metadata"),))),
        Uploaded((_tensors("weights/"),)),
    ),
    data=(rf"weights/{SHARDS}",),
    own=(r"weights/metadata\.json", r"weights/\.metadata"),
    signs=Signs("weights", own=(r"weights",)),
)
