"""TensorFlow."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

from .._contents import content, sstable
from .._operation import Operation, Save, grow


def checkpoint_manager(save: Save) -> Iterator[Operation]:
    """
    TensorFlow 2's `CheckpointManager`: the state file names it last, by a rename.

    One that is saved again, and that the state file still lists, is finished with its index. Last
    goes what is dropped, and then the state file is written once more.
    """
    name, shards = f"ckpt-{save.step}", save.shards
    parts = [f"{name}_temp/part-{shard:05}-of-{shards:05}" for shard in range(shards)]
    data = [f"data-{shard:05}-of-{shards:05}" for shard in range(shards)]
    yield Operation("mkdir", f"{name}_temp")
    for part in parts:
        yield from _hidden(f"{part}.data-00000-of-00001", content("", save.step, save.shard_bytes))
        yield from _hidden(f"{part}.index", sstable(save.step))
    for part, file in zip(parts, data, strict=True):
        yield Operation("rename", f"{part}.data-00000-of-00001", target=f"{name}.{file}")
    yield from grow(f"{name}.index", sstable(save.step), finishes=name if save.again else None)
    yield from (Operation("remove", f"{part}.index") for part in parts)
    yield Operation("rmtree", f"{name}_temp")
    yield from _state([*save.earlier, save.step], finishes=None if save.again else name)
    for step in save.dropped:
        yield Operation("remove", f"ckpt-{step}.index")
        yield from (Operation("remove", f"ckpt-{step}.{file}") for file in data)
    yield from _state(save.kept)


def _hidden(path: str, data: bytes) -> Iterator[Operation]:
    temporary = f"{path}.tempstate{time.time_ns():020}"
    yield from grow(temporary, data)
    yield Operation("rename", temporary, target=path)


def _state(steps: Sequence[int], finishes: str | None = None) -> Iterator[Operation]:
    """The pointer to the latest checkpoint, and to all that are still kept."""
    paths = [f'model_checkpoint_path: "ckpt-{steps[-1]}"']
    paths += [f'all_model_checkpoint_paths: "ckpt-{step}"' for step in steps]
    times = [f"all_model_checkpoint_timestamps: {time.time()}" for _ in steps]
    temporary = f"checkpoint.tmp{time.time_ns():032x}"
    yield from grow(temporary, "\n".join([*paths, *times, ""]).encode())
    yield Operation("rename", temporary, target="checkpoint", finishes=finishes)
