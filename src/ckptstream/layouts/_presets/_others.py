"""Keras, OLMo, Ray and Stable-Baselines3."""

from __future__ import annotations

from .._described import Described
from .._pointed import Pointed
from .._pointers import Pointer
from .._proofs import AnyOf, Footers, Holds, Marker, Renamed, Settled
from .._shards import Manifest, NoShard
from .._signs import Signs
from ._torch import SHARDS, WHOLE_DCP

_HDF5 = rb"\x89HDF\r\n\x1a\n"

# Written in place, under a template of the user's; its number is an epoch, if there is one.
# Source: keras-team/keras `keras/src/callbacks/model_checkpoint.py` (`_save_model`),
# `keras/src/saving/saving_lib.py` (`save_model`).
KERAS = Described(
    name="keras",
    example="model_10.keras",
    regex=r"(?:[^0-9]*[-_.=])?(?P<step>[0-9]+)(?:[^0-9]*)\.(?:keras|h5)|.+\.(?:keras|h5)",
    file=(
        NoShard(r"(.+)_0[0-9]{4}\.weights\.h5", r"\1.weights.json", "keras-sharded"),
        Footers(),
        Settled(),
    ),
    signs=Signs("a zip archive or HDF5", head=rb"PK\x03\x04|" + _HDF5),
)

# Each shard in turn, and after each of them the manifest, in which that is the last one: so it does
# not say of itself that it is finished. A name such as `model_00010.weights.h5` may also be given
# to a file of its own: `auto` then waits for a manifest, and says so.
# Source: keras-team/keras `keras/src/saving/saving_lib.py` (`ShardedH5IOStore`).
KERAS_SHARDED = Described(
    name="keras-sharded",
    example="model_10.weights.json",
    regex=r"(?P<stem>(?:[^0-9]*[-_.=])?(?P<step>[0-9]+)[^0-9]*?|.+?)"
    r"(?:(?P<part>_0[0-9]{4}\.weights\.h5)|\.weights\.json)",
    lead=r"\g<stem>.weights.json",
    file=(
        Holds("", "unless it is a shard, use layout='keras'"),
        Manifest(),
        Footers(),
        Settled(),
    ),
    signs=Signs("a manifest or HDF5", head=rb"\s*\{\s*\"(?:metadata|weight_map)\"|" + _HDF5),
)

# Both files are written anew each time, first the weights.
# Source: keras-team/keras `keras/src/callbacks/backup_and_restore.py` (`_save_model`).
KERAS_BACKUP = Described(
    name="keras-backup",
    example="latest.weights.h5",
    regex=r"latest\.weights\.h5|(?P<part>training_metadata\.json)",
    lead=r"latest.weights.h5",
    file=(Holds(""), Footers(), Marker("training_metadata.json", beside=True)),
    signs=Signs("training_metadata.json", beside=("training_metadata.json",), head=_HDF5),
)

# Renamed from `step1000-tmp`; the link `latest` is moved after that.
# Source: allenai/OLMo `olmo/checkpoint.py` (`_temporary_wd`), `olmo/train.py` (`save_checkpoint`).
OLMO = Described(
    name="olmo",
    example="step1000-unsharded",
    regex=r"step(?P<step>[0-9]+)(?:-unsharded)?",
    directory=(
        Holds(r"config\.yaml"),
        Holds(r"model.*|train.*|optim.*", "model"),
        Renamed(),
    ),
    data=(r"(?:model|optim|train).*\.(?:pt|safetensors)", r"(?:model|optim|train).*/.+"),
    own=(r"config\.yaml",),
    pointer_file=Pointer("latest", paths=True),
    signs=Signs("config.yaml", own=(r"config\.yaml",)),
)

# In an asynchronous save the directory comes with `train` alone; `.metadata.json` is the last, and
# the first to be deleted.
# Source: allenai/OLMo-core `src/olmo_core/train/checkpoint.py` (`save`, `save_async`,
# `dir_is_checkpoint`).
OLMO_CORE = Described(
    name="olmo-core",
    example="step1000/.metadata.json",
    regex=r"step(?P<step>[0-9]+)",
    directory=(
        AnyOf(
            (
                (
                    Marker(".metadata.json"),
                    Holds(r"train/rank0\.pt", "train/rank0.pt"),
                    Marker("model_and_optim/.metadata"),
                ),
                WHOLE_DCP,
            )
        ),
    ),
    data=(SHARDS, rf"model_and_optim/{SHARDS}", r"train/rank[0-9]+\.pt"),
    own=(r"\.metadata\.json", r"\.metadata"),
    signs=Signs(
        ".metadata.json",
        own=(r"\.metadata\.json|\.metadata",),
        shared=(r"train|model_and_optim",),
        never=(r"config\.yaml",),
    ),
)

# The controller lists in a file what all workers have copied; what it drops it deletes after that.
# Source: ray-project/ray `python/ray/train/v2/_internal/execution/storage.py`
# (`persist_current_checkpoint`, `make_default_checkpoint_dir_name`),
# `python/ray/train/v2/_internal/execution/checkpoint/checkpoint_manager.py`.
RAY = Described(
    name="ray",
    example="checkpoint_2026-01-31_12-00-00.000000",
    regex=r"checkpoint_[0-9]{4}-[0-9]{2}-[0-9]{2}_[0-9]{2}-[0-9]{2}-[0-9]{2}\.[0-9]+",
    directory=(Pointed(), Holds(r".+", "files")),
    data=(r".+", r".+/.+"),
    pointer_file=Pointer(
        "checkpoint_manager_snapshot.json",
        keys=(
            ("latest_checkpoint_result", "checkpoint_dir_name"),
            ("checkpoint_results", "checkpoint_dir_name"),
        ),
    ),
    signs=Signs("files", own=(r".+",)),
)

# Copied, and nothing says when that has ended. The number counts reports.
# Source: ray-project/ray `python/ray/train/_internal/storage.py` (`_make_checkpoint_dir_name`).
RAY_V1 = Described(
    name="ray-v1",
    example="checkpoint_000010",
    regex=r"checkpoint_(?P<step>[0-9]{6})",
    directory=(Holds(r".+", "files"), Settled()),
    signs=Signs(
        "params.json or result.json beside it",
        beside=("params.json", "params.pkl", "result.json"),
    ),
)

# Written in place, the replay buffer and the normalisation after it. A zip archive that is cut off
# behind a member that is an archive itself looks whole, so the last members must be there.
# Source: DLR-RM/stable-baselines3 `stable_baselines3/common/callbacks.py` (`CheckpointCallback`),
# `stable_baselines3/common/save_util.py` (`save_to_zip_file`).
SB3 = Described(
    name="sb3",
    example="rl_model_1000_steps.zip",
    regex=r"(?P<stem>.+?)(?P<part>_(?:replay_buffer|vecnormalize))?"
    r"_(?P<step>[0-9]+)_steps\.(?(part)pkl|zip)",
    lead=r"\g<stem>_\g<step>_steps.zip",
    file=(Holds(""), Footers(members=("_stable_baselines3_version",)), Settled()),
    signs=Signs("a zip archive", head=rb"PK\x03\x04"),
)
