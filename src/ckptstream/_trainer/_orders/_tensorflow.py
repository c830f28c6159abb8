"""TensorFlow."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

from .._contents import content, sstable
from .._operation import Operation, Save, grow


def checkpoint_manager(save: Save) -> Iterator[Operation]:
    """
    TensorFlow 2's `CheckpointManager`: the state file names it last, by a rename.

    What is dropped goes after that, and then the state file is written once more.
    """
    name, shards = f"ckpt-{save.step}", save.shards
    data = [f"data-{shard:05}-of-{shards:05}" for shard in range(shards)]
    yield Operation("mkdir", f"{name}_temp")
    for shard, file in enumerate(data):
        part = f"{name}_temp/part-{shard:05}-of-{shards:05}.data-00000-of-00001"
        temporary = f"{part}.tempstate{save.step:020}"
        yield from grow(temporary, content("", save.step, save.shard_bytes))
        yield Operation("rename", temporary, target=part)
        yield Operation("rename", part, target=f"{name}.{file}")
    index = f"{name}_temp/part-00000-of-{shards:05}.index"
    yield from grow(f"{index}.tempstate{save.step:020}", sstable(save.step))
    yield Operation("rename", f"{index}.tempstate{save.step:020}", target=index)
    yield from grow(f"{name}.index", sstable(save.step))
    yield Operation("remove", index)
    yield Operation("rmtree", f"{name}_temp")
    yield from _state([*save.earlier, save.step], finishes=name)
    for step in save.dropped:
        yield Operation("remove", f"ckpt-{step}.index")
        yield from (Operation("remove", f"ckpt-{step}.{file}") for file in data)
    yield from _state(save.kept)


def _state(steps: Sequence[int], finishes: str | None = None) -> Iterator[Operation]:
    """The pointer to the latest checkpoint, and to all that are still kept."""
    paths = [f'model_checkpoint_path: "ckpt-{steps[-1]}"']
    paths += [f'all_model_checkpoint_paths: "ckpt-{step}"' for step in steps]
    times = [f"all_model_checkpoint_timestamps: {time.time()}" for _ in steps]
    temporary = f"checkpoint.tmp{time.time_ns():032x}"
    yield from grow(temporary, "\n".join([*paths, *times, ""]).encode())
    yield Operation("rename", temporary, target="checkpoint", finishes=finishes)
