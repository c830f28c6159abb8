"""The order in which training frameworks write, replace and delete their checkpoints."""

from __future__ import annotations

import io
import json
import os
import pickle
import struct
import time
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from .._errors import UnknownLayout

ZIPPED = (".bin", ".ckpt", ".keras", ".pt", ".pth", ".zip")


@dataclass(frozen=True, slots=True)
class Operation:
    """
    One thing that a framework does to the disk while it saves.

    Attributes:
        action: `"write"` creates or empties the file first; `"remove"` and `"rmtree"` forgive what
            is not there.
        path: Relative to the run's directory.
        content: What is written or appended.
        target: What *path* is renamed to, relative to the run's directory.
        finishes: The name of the checkpoint that is finished from here on, or None.
    """

    action: Literal["mkdir", "write", "append", "rename", "remove", "rmtree"]
    path: str
    content: bytes = b""
    target: str = ""
    finishes: str | None = None


@dataclass(frozen=True, slots=True)
class _Save:
    step: int
    earlier: tuple[int, ...]
    dropped: tuple[int, ...]
    shards: int
    shard_bytes: int


def operations(
    step: int,
    layout: str = "hf",
    *,
    earlier: Sequence[int] = (),
    keep: int | None = None,
    shards: int = 1,
    shard_bytes: int = 4096,
) -> Iterator[Operation]:
    """
    What a framework does to the disk to save one checkpoint, in its own order.

    A file that grows under its final name takes two operations, so that a test can stop between
    any two and find there what a crash, or a look at a bad moment, would find.

    Args:
        step: The checkpoint's number.
        layout: `"hf"`, `"orbax"`, `"tensorflow"`, or a template: `"ckpt_{step}.pt"`,
            `"step_{step}/DONE"`.
        earlier: The steps saved before and not deleted yet, the oldest first.
        keep: How many checkpoints are left after this one is saved; None keeps all.
        shards: In how many files the weights are.
        shard_bytes: The size of each of them, without its header.

    Raises:
        ValueError: If an argument makes no sense.
    """
    check(layout, step, keep, shards, shard_bytes)
    others = tuple(other for other in earlier if other != step)
    dropped = others[: max(0, len(others) + 1 - keep)] if keep is not None else ()
    save = _Save(step, others, dropped, shards, shard_bytes)
    built_in = _BUILT_IN.get(layout)
    return built_in(save) if built_in is not None else _template(layout, save)


def check(layout: str, step: int, keep: int | None, shards: int, shard_bytes: int) -> None:
    if layout not in _BUILT_IN and "{step}" not in layout.partition("/")[0]:
        raise UnknownLayout(layout, tuple(_BUILT_IN))
    if step < 0:
        raise ValueError(f"step={step!r} is no step: use 0 or more")
    for name, number in {"keep": keep, "shards": shards, "shard_bytes": shard_bytes}.items():
        if number is not None and number < 1:
            raise ValueError(f"{name}={number!r} is too few: use 1 or more")


def _hugging_face(save: _Save) -> Iterator[Operation]:
    """Hugging Face's `Trainer`: the final directory fills up, `trainer_state.json` comes last."""
    name = f"checkpoint-{save.step}"
    yield Operation("mkdir", name)
    yield from _grow(f"{name}/config.json", _json({"model_type": "simulated"}))
    weights = _weight_names(save.shards)
    for number, file in enumerate(weights):
        content = _content(file, save.step, save.shard_bytes)
        yield from _grow(f"{name}/.tmp{number:06}", content)
        yield Operation("rename", f"{name}/.tmp{number:06}", target=f"{name}/{file}")
    if save.shards > 1:
        content = _json({"metadata": {}, "weight_map": {_tensor(file): file for file in weights}})
        yield from _grow(f"{name}/model.safetensors.index.json", content)
    for file in ("training_args.bin", "optimizer.pt", "scheduler.pt", "rng_state.pth"):
        yield from _grow(f"{name}/{file}", _content(file, save.step, 64))
    state = _json({"global_step": save.step, "epoch": float(save.step), "log_history": []})
    yield from _grow(f"{name}/trainer_state.json", state, finishes=name)
    for step in save.dropped:
        yield Operation("remove", f"checkpoint-{step}/training_args.bin")
        yield from (Operation("remove", f"checkpoint-{step}/{file}") for file in weights)
        yield Operation("rmtree", f"checkpoint-{step}")


def _orbax(save: _Save) -> Iterator[Operation]:
    """Orbax on a POSIX filesystem: everything in a temporary directory, then one rename."""
    name, temporary = str(save.step), f"{save.step}.orbax-checkpoint-tmp"
    item = f"{temporary}/default.orbax-checkpoint-tmp"
    stamps: dict[str, int | None] = {"init_timestamp_nsecs": time.time_ns()}
    metadata = f"{temporary}/_CHECKPOINT_METADATA"
    yield Operation("rmtree", name)  # force=True deletes first: for a while there is nothing
    yield Operation("mkdir", temporary)
    yield from _grow(metadata, _json({**stamps, "commit_timestamp_nsecs": None}))
    yield Operation("mkdir", f"{item}/ocdbt.process_0/d")
    for shard in range(save.shards):
        content = _content("", save.step, save.shard_bytes)
        yield from _grow(f"{item}/ocdbt.process_0/d/{save.step:08x}{shard:08x}", content)
    yield from _grow(f"{item}/ocdbt.process_0/manifest.ocdbt.__lock", b"manifest")
    locked = f"{item}/ocdbt.process_0/manifest.ocdbt"
    yield Operation("rename", f"{locked}.__lock", target=locked)
    yield from _grow(f"{item}/_METADATA", _json({"tree_metadata": {}, "use_zarr3": False}))
    yield Operation("mkdir", f"{item}/d")
    yield from _grow(f"{item}/d/{save.step:016x}", _content("", save.step, 64))
    yield from _grow(f"{item}/manifest.ocdbt", b"manifest")
    yield Operation("write", f"{item}/commit_success.txt", b"Checkpoint commit was successful")
    yield Operation("rename", item, target=f"{temporary}/default")
    stamps["commit_timestamp_nsecs"] = time.time_ns()
    yield from _grow(metadata, _json(stamps))
    yield Operation("write", f"{temporary}/commit_success.txt", b"Checkpoint commit was successful")
    yield Operation("rename", temporary, target=name, finishes=name)
    for step in save.dropped:
        yield Operation("remove", f"{step}/_CHECKPOINT_METADATA")
        yield Operation("remove", f"{step}/commit_success.txt")
        yield Operation("rmtree", str(step))


def _tensorflow(save: _Save) -> Iterator[Operation]:
    """TensorFlow 2's `CheckpointManager`: the state file names it last, and names the deleted."""
    name, shards = f"ckpt-{save.step}", save.shards
    data = [f"data-{shard:05}-of-{shards:05}" for shard in range(shards)]
    yield Operation("mkdir", f"{name}_temp")
    for shard, file in enumerate(data):
        part = f"{name}_temp/part-{shard:05}-of-{shards:05}.data-00000-of-00001"
        temporary = f"{part}.tempstate{save.step:020}"
        yield from _grow(temporary, _content("", save.step, save.shard_bytes))
        yield Operation("rename", temporary, target=part)
        yield Operation("rename", part, target=f"{name}.{file}")
    index = f"{name}_temp/part-00000-of-{shards:05}.index"
    table = _content("", save.step, 64) + bytes(40) + struct.pack("<Q", 0xDB4775248B80FB57)
    yield from _grow(f"{index}.tempstate{save.step:020}", table)
    yield Operation("rename", f"{index}.tempstate{save.step:020}", target=index)
    yield from _grow(f"{name}.index", table)
    yield Operation("remove", index)
    yield Operation("rmtree", f"{name}_temp")
    yield from _state([*save.earlier, save.step], finishes=name)
    for step in save.dropped:
        yield Operation("remove", f"ckpt-{step}.index")
        yield from (Operation("remove", f"ckpt-{step}.{file}") for file in data)
    yield from _state([*save.earlier[len(save.dropped) :], save.step])


def _state(steps: Sequence[int], finishes: str | None = None) -> Iterator[Operation]:
    """TensorFlow's pointer to the latest checkpoint, and to all that it still keeps."""
    paths = [f'model_checkpoint_path: "ckpt-{steps[-1]}"']
    paths += [f'all_model_checkpoint_paths: "ckpt-{step}"' for step in steps]
    times = [f"all_model_checkpoint_timestamps: {time.time()}" for _ in steps]
    temporary = f"checkpoint.tmp{time.time_ns():032x}"
    yield from _grow(temporary, "\n".join([*paths, *times, ""]).encode())
    yield Operation("rename", temporary, target="checkpoint", finishes=finishes)


def _template(template: str, save: _Save) -> Iterator[Operation]:
    """A program of one's own: one file, or a directory with a marker that is written last."""
    entry, _, marker = template.partition("/")
    name = entry.replace("{step}", str(save.step))
    yield Operation("mkdir", "")
    if not marker:
        yield from _grow(name, _content(name, save.step, save.shard_bytes), finishes=name)
    else:
        marker = f"{name}/{marker}".replace("{step}", str(save.step))
        yield Operation("mkdir", os.path.dirname(marker))
        for file in _weight_names(save.shards):
            yield from _grow(f"{name}/{file}", _content(file, save.step, save.shard_bytes))
        yield Operation("write", marker, finishes=name)
    for step in save.dropped:
        old = entry.replace("{step}", str(step))
        yield Operation("rmtree" if marker else "remove", old)


_BUILT_IN: dict[str, Callable[[_Save], Iterator[Operation]]] = {
    "hf": _hugging_face,
    "orbax": _orbax,
    "tensorflow": _tensorflow,
}


def _grow(path: str, content: bytes, finishes: str | None = None) -> Iterator[Operation]:
    half = len(content) // 2
    yield Operation("write", path, content[:half])
    yield Operation("append", path, content[half:], finishes=finishes)


def _weight_names(shards: int) -> list[str]:
    if shards == 1:
        return ["model.safetensors"]
    return [f"model-{shard:05}-of-{shards:05}.safetensors" for shard in range(1, shards + 1)]


def _content(name: str, step: int, size: int) -> bytes:
    """*size* bytes that tell the step, in the file format that the name promises."""
    body = (f"{step} ".encode() * size)[:size]
    if name.endswith(".safetensors"):
        tensor = {"dtype": "U8", "shape": [size], "data_offsets": [0, size]}
        header = _json({_tensor(name): tensor})
        return struct.pack("<Q", len(header)) + header + body
    if not name.endswith(ZIPPED):
        return body
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(zipfile.ZipInfo("archive/data.pkl"), pickle.dumps({"step": step}))
        archive.writestr(zipfile.ZipInfo("archive/data/0"), body)
    return file.getvalue()


def _tensor(file: str) -> str:
    return f"{os.path.basename(file).removesuffix('.safetensors')}.weight"


def _json(value: object) -> bytes:
    return json.dumps(value).encode()
