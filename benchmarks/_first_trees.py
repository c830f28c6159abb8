"""The runs that `first_look.py` looks at: ten thousand checkpoints of eight files, and one more."""

from __future__ import annotations

import itertools
import json
import os
import shutil
from collections.abc import Callable, Mapping
from typing import NamedTuple

_ZIP = b"PK\x05\x06" + bytes(18)  # the end of an archive without members: enough for a footer
_TORCH = b"PK\x03\x04" + bytes(26) + b"archive/data.pkl" + b"x" * 32
_INDEX = bytes(64) + (0xDB4775248B80FB57).to_bytes(8, "little")  # TensorFlow's, by its end

Files = Mapping[str, bytes]


class Kind(NamedTuple):
    """
    How one framework's checkpoints lie there.

    Attributes:
        layout: Whose.
        files: What a checkpoint consists of, by step, the last one last; paths from the run.
        moved: What is renamed into the run to commit one, by step, in order.
        pointer: The pointer's name and content, by the steps that are there.
    """

    layout: str
    files: Callable[[int], Files]
    moved: Callable[[int], tuple[str, ...]]
    pointer: Callable[[int], tuple[str, bytes]] | None = None


def _torch_file() -> bytes:
    """As `torch.save` begins and ends a file, with an archive's directory that fits."""
    offset = len(_TORCH)
    end = bytearray(_ZIP)
    end[16:20] = offset.to_bytes(4, "little")
    return _TORCH + bytes(end)


def _in(name: str, files: Files) -> Files:
    return {f"{name}/{file}": content for file, content in files.items()}


def _hugging_face(step: int) -> Files:
    header = b'{"a":{"dtype":"U8","shape":[8],"data_offsets":[0,8]}}'
    tensors = len(header).to_bytes(8, "little") + header + bytes(8)
    others = ("generation_config.json", "scheduler.pt", "rng_state.pth", "training_args.bin")
    state: dict[str, object] = {
        "best_metric": None,
        "epoch": 1.0,
        "global_step": step,
        "log_history": [],
    }
    return _in(
        f"checkpoint-{step}",
        {
            "config.json": b"{}",
            "model.safetensors": tensors,
            "optimizer.pt": _torch_file(),
            **dict.fromkeys(others, b"x"),
            "trainer_state.json": json.dumps(state, indent=2).encode() + b"\n",
        },
    )


def _distributed(name: str, last: Files) -> Files:
    shards = {f"__{rank}_0.distcp": b"x" * 64 for rank in range(8 - len(last))}
    return _in(name, {**shards, **last})


def _deepspeed(step: int) -> Files:
    ranks = {f"bf16_zero_pp_rank_{rank}_mp_rank_00_optim_states.pt" for rank in range(7)}
    files = ("mp_rank_00_model_states.pt", *sorted(ranks))
    return _in(f"global_step{step}", dict.fromkeys(files, _torch_file()))


def _megatron(step: int) -> Files:
    last = {"common.pt": _torch_file(), ".metadata": b"x", "metadata.json": b"{}"}
    return _distributed(f"iter_{step:07}", last)


def _orbax(step: int) -> Files:
    stamp = 1_700_000_000_000_000_000 + step
    times = {"init_timestamp_nsecs": stamp - 1, "commit_timestamp_nsecs": stamp}
    metadata = {"item_handlers": {"default": "StandardCheckpointHandler"}, "metrics": {}, **times}
    return _in(
        str(step),
        {
            "default/d/0123456789abcdef": b"x",
            "default/ocdbt.process_0/manifest.ocdbt": b"manifest",
            "default/array_metadatas/process_0": b"{}",
            "default/_METADATA": b"{}",
            "default/_sharding": b"{}",
            "default/manifest.ocdbt": b"manifest",
            "_CHECKPOINT_METADATA": json.dumps(metadata).encode(),
            "commit_success.txt": b"",
        },
    )


def _tensorflow(step: int) -> Files:
    shards = {f"ckpt-{step}.data-{shard:05}-of-00007": b"x" for shard in range(7)}
    return {**shards, f"ckpt-{step}.index": _INDEX}


def _state_file(step: int) -> tuple[str, bytes]:
    names = [f'model_checkpoint_path: "ckpt-{step}"']
    names += [f'all_model_checkpoint_paths: "ckpt-{other}"' for other in range(step - 4, step + 1)]
    return "checkpoint", "\n".join(names).encode() + b"\n"


KINDS: dict[str, Kind] = {
    "hf": Kind("hf", _hugging_face, lambda step: (f"checkpoint-{step}",)),
    "lightning, sharded": Kind(
        "lightning",
        lambda step: _distributed(f"step={step}.ckpt", {".metadata": b"x", "meta.pt": b"x"}),
        lambda step: (f"step={step}.ckpt",),
    ),
    "lightning, one file": Kind(
        "lightning",
        lambda step: {f"step={step}.ckpt": _torch_file()},
        lambda step: (f"step={step}.ckpt",),
    ),
    "dcp": Kind(
        "dcp",
        lambda step: _distributed(f"step_{step}", {".metadata": b"x"}),
        lambda step: (f"step_{step}",),
    ),
    "deepspeed": Kind(
        "deepspeed",
        _deepspeed,
        lambda step: (f"global_step{step}",),
        lambda step: ("latest", f"global_step{step}".encode()),
    ),
    "megatron": Kind(
        "megatron",
        _megatron,
        lambda step: (f"iter_{step:07}",),
        lambda step: ("latest_checkpointed_iteration.txt", b"%d" % step),
    ),
    "orbax": Kind("orbax", _orbax, lambda step: (str(step),)),
    "tensorflow": Kind(
        "tensorflow", _tensorflow, lambda step: tuple(_tensorflow(step)), _state_file
    ),
}


class Tree:
    """
    A run with *count* checkpoints, and the next ones beside it, to be moved in.

    Attributes:
        run: Its directory.
        count: How many checkpoints it holds.
    """

    def __init__(self, root: str, kind: Kind, count: int) -> None:
        self.run, self.count = os.path.join(root, "run"), count
        self._staging, self._kind = os.path.join(root, "staging"), kind
        os.makedirs(self.run)
        os.makedirs(self._staging)
        for step in range(1, count + 1):
            self._write(self.run, step)
        if kind.pointer is not None:
            _write(self.run, *kind.pointer(count))
        self._steps = itertools.count(count + 1)

    def prepare(self) -> Callable[[], int]:
        """Write the next checkpoint; what it returns commits it, and returns its step."""
        step = next(self._steps)
        self._write(self._staging, step)
        moves = list(self._kind.moved(step))
        if self._kind.pointer is not None:
            name, content = self._kind.pointer(step)
            _write(self._staging, name, content)
            moves.append(name)

        def commit() -> int:
            for name in moves:
                os.rename(f"{self._staging}/{name}", f"{self.run}/{name}")
            return step

        return commit

    def remove(self) -> None:
        """Delete all of it."""
        shutil.rmtree(self.run)
        shutil.rmtree(self._staging)

    def _write(self, root: str, step: int) -> None:
        for path, content in self._kind.files(step).items():
            _write(root, path, content)


def _write(root: str, path: str, content: bytes) -> None:
    where = os.path.join(root, path)
    try:
        file = os.open(where, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    except FileNotFoundError:
        os.makedirs(os.path.dirname(where))
        file = os.open(where, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    os.write(file, content)
    os.close(file)
