"""What JAX programs write, but for Orbax's own."""

from __future__ import annotations

from .._described import Described
from .._orbax import Orbax
from .._proofs import Holds, Marker, Renamed
from .._signs import Signs

_MSGPACK_MAP = rb"[\x80-\x8f\xde\xdf]"

# A file, renamed when its arrays (`checkpoint_1_gda`) have been; or, by default, a directory that
# Orbax writes, without the level of items that its own manager has. Steps may be floats, negative,
# and `1e5`.
# Source: google/flax `flax/training/checkpoints.py` (`save_checkpoint`, `_save_commit`,
# `_checkpoint_path_step`).
FLAX = Described(
    name="flax",
    example="checkpoint_1000",
    regex=r"checkpoint_(?P<step>-?[0-9.]+(?:[eE][-+]?[0-9]+)?)",
    file=(Holds(""), Renamed()),
    directory=(Holds(r".+", "files"),),
    like=Orbax(),
    signs=Signs(
        "a file of msgpack, or manifest.ocdbt",
        own=(r"_METADATA|manifest\.ocdbt|_sharding",),
        head=_MSGPACK_MAP,
    ),
)

# A directory that is renamed, on Google's storage moved file by file; `checkpoint` is its last.
# Source: google-research/t5x `t5x/checkpoints.py` (`Checkpointer.save`),
# `t5x/checkpoints_utils.py` (`all_steps`).
T5X = Described(
    name="t5x",
    example="checkpoint_1000/checkpoint",
    regex=r"checkpoint_(?P<step>[0-9]+)",
    directory=(Marker("checkpoint"), Holds(r"(?:target|state)\..*", "target.*"), Renamed()),
    data=(r"(?:target|state)\..*/.+",),
    own=(r"checkpoint",),
    signs=Signs("target.*", own=(r"(?:target|state)\..*",), shared=(r"checkpoint",)),
)

# Orbax's, with `items` in each step.
# Source: AI-Hypercomputer/maxtext `src/maxtext/common/checkpointing.py`
# (`create_orbax_checkpoint_manager`).
MAXTEXT = Described(
    name="maxtext",
    example="1000/items",
    regex=r"(?P<step>[0-9]+)",
    directory=(Holds(r"items/.+", "items"),),
    like=Orbax(),
)

# The commit's callback writes `metadata.json`, which people edit to keep a checkpoint for good. An
# array's directory lies as deep as the array does in its tree.
# Source: stanford-crfm/levanter `src/levanter/checkpoint.py` (`save_checkpoint`, `_save_metadata`),
# `src/levanter/tensorstore_serialization.py` (`tree_serialize_leaves_tensorstore`).
LEVANTER = Described(
    name="levanter",
    example="step-1000/metadata.json",
    regex=r"step-(?P<step>[0-9]+)",
    directory=(Marker("metadata.json", step="step"), Holds(r".+/.+", "arrays")),
    data=(r"[^.].*/.+",),
    own=(r"metadata\.json",),
    stamp=("metadata.json", "timestamp"),
    signs=Signs("metadata.json", own=(r"metadata\.json",)),
)
