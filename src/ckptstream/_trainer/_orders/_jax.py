"""What JAX programs write."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import datetime

from .._contents import content, json_bytes, msgpack_map
from .._operation import Operation, Save, erase, grow

_COMMITTED = b"Checkpoint commit was successful"
_METADATA = "_CHECKPOINT_METADATA"
_TEMPORARY = ".orbax-checkpoint-tmp"


def orbax(save: Save) -> Iterator[Operation]:
    """Orbax on a POSIX filesystem: everything in a temporary directory, then one rename."""
    yield from _renamed(save, "", "default")


def maxtext(save: Save) -> Iterator[Operation]:
    """MaxText: Orbax's order, with an item called `items`."""
    yield from _renamed(save, "", "items")


def flax(save: Save) -> Iterator[Operation]:
    """Flax's `save_checkpoint` as it is by default: Orbax's order, without items; then a rename."""
    yield from _renamed(save, "checkpoint_", "")


def t5x(save: Save) -> Iterator[Operation]:
    """
    T5X: the arrays, then the file `checkpoint`, in a temporary directory; then one rename.

    It skips a step that is there, so whoever saves one again has deleted it.
    """
    name = f"checkpoint_{save.step}"
    temporary = f"{name}.tmp-{int(time.time())}"
    array = f"{temporary}/target.encoder.kernel"
    yield Operation("rmtree", name)
    yield Operation("mkdir", array)
    yield from grow(f"{array}/.zarray", json_bytes({"chunks": [save.shard_bytes]}))
    for shard in range(save.shards):
        yield from grow(f"{array}/{shard}", content("", save.step, save.shard_bytes))
    yield from grow(f"{temporary}/checkpoint", msgpack_map(save.step, 64))
    yield Operation("rename", temporary, target=name, finishes=name)
    for step in save.dropped:
        yield from erase(f"checkpoint_{step}", "target.encoder.kernel/0", "checkpoint")


def levanter(save: Save) -> Iterator[Operation]:
    """Levanter: the arrays in place, then `metadata.json` with the time of the commit."""
    name = f"step-{save.step}"
    array = f"{name}/model/weight"
    yield Operation("mkdir", array)
    yield from grow(f"{array}/zarr.json", json_bytes({"zarr_format": 3}))
    for shard in range(save.shards):
        yield from grow(f"{array}/c{shard}", content("", save.step, save.shard_bytes))
    now = datetime.now().isoformat()
    metadata = json_bytes({"step": save.step, "timestamp": now, "is_temporary": False})
    yield from grow(f"{name}/metadata.json", metadata, finishes=name)
    for step in save.dropped:
        yield from erase(f"step-{step}", "model/weight/c0")


def _renamed(save: Save, prefix: str, item: str) -> Iterator[Operation]:
    name = f"{prefix}{save.step}"
    temporary = f"{name}{_TEMPORARY}"
    handler = "orbax.checkpoint._src.handlers.standard_checkpoint_handler.StandardCheckpointHandler"
    stamps = {
        "item_handlers": {item: handler} if item else handler,
        "init_timestamp_nsecs": time.time_ns(),
        "commit_timestamp_nsecs": None,
    }
    uncommitted = json_bytes(stamps)
    yield Operation("rmtree", name)  # What is saved again goes first: for a while there is nothing.
    yield Operation("rmtree", temporary)
    yield Operation("mkdir", temporary)
    yield from grow(f"{temporary}/{_METADATA}", uncommitted)
    if item:
        unfinished = f"{temporary}/{item}{_TEMPORARY}"
        yield from _arrays(unfinished, save)
        yield Operation("write", f"{unfinished}/commit_success.txt", _COMMITTED)
        yield Operation("rename", unfinished, target=f"{temporary}/{item}")
    else:
        yield from _arrays(temporary, save)
    stamps["commit_timestamp_nsecs"] = time.time_ns()
    yield from grow(f"{temporary}/{_METADATA}", json_bytes(stamps))
    yield Operation("write", f"{temporary}/commit_success.txt", _COMMITTED)
    yield Operation("rename", temporary, target=name, finishes=name)
    for step in save.dropped:
        yield from erase(f"{prefix}{step}", _METADATA, "commit_success.txt")


def _arrays(directory: str, save: Save) -> Iterator[Operation]:
    """What tensorstore writes: one process's part, then all of it."""
    part = f"{directory}/ocdbt.process_0"
    yield Operation("mkdir", f"{part}/d")
    for shard in range(save.shards):
        data = content("", save.step, save.shard_bytes)
        yield from grow(f"{part}/d/{save.step:08x}{shard:08x}", data)
    yield from _locked(f"{part}/manifest.ocdbt")
    tree: dict[str, object] = {"tree_metadata": {}, "use_ocdbt": True, "use_zarr3": False}
    yield from grow(f"{directory}/_METADATA", json_bytes(tree))
    yield Operation("mkdir", f"{directory}/d")
    yield from grow(f"{directory}/d/{save.step:016x}", content("", save.step, 64))
    yield from _locked(f"{directory}/manifest.ocdbt")


def _locked(path: str) -> Iterator[Operation]:
    yield from grow(f"{path}.__lock", b"manifest")
    yield Operation("rename", f"{path}.__lock", target=path)
