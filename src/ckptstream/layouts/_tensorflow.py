"""TensorFlow's checkpoints."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from ._files import newer_than
from ._protocol import Evidence

_MEMBER = re.compile(r"(.+)\.(?:index|data-[0-9]{5,}-of-[0-9]{5,})", re.DOTALL)
_SHARD = re.compile(r"\.data-([0-9]{5,})-of-([0-9]{5,})")
_STEP = re.compile(r".*-([0-9]+)", re.DOTALL)
_SSTABLE_MAGIC = (0xDB4775248B80FB57).to_bytes(8, "little")

_PATH = re.compile(
    rb"(?m)^[ \t]*(all_)?model_checkpoint_paths?[ \t]*:[ \t]*"
    rb"(?:\"((?:[^\"\\\n]|\\.)*)\"|'((?:[^'\\\n]|\\.)*)')"
)
_ESCAPE = re.compile(rb"\\(?:([0-7]{1,3})|[xX]([0-9a-fA-F]{1,2})|(.))")
_ESCAPES = {
    b"n": b"\n",
    b"r": b"\r",
    b"t": b"\t",
    b"a": b"\a",
    b"b": b"\b",
    b"f": b"\f",
    b"v": b"\v",
}


@dataclass(frozen=True, slots=True)
class TensorFlow:
    """
    What `tf.train.CheckpointManager`, `tf.train.Checkpoint` and TF1's `Saver` write.

    A checkpoint is a prefix: `ckpt-5` means `ckpt-5.index` and `ckpt-5.data-00000-of-00001`. It is
    finished when the state file names it, or its files have settled: the data is renamed into
    place, but TF2 writes the `.index` in place, and what left the state file's list stays valid.

    Source: tensorflow/tensorflow `tensorflow/python/checkpoint/checkpoint_management.py`
    (`CheckpointManager.save`, `get_checkpoint_state`),
    `tensorflow/core/util/tensor_bundle/tensor_bundle.cc` (`BundleWriter`, `MergeBundles`) and
    `naming.cc`, `tensorflow/core/lib/io/format.h` (`kTableMagicNumber`).

    Args:
        state_file: The name of the state file (TensorFlow's `latest_filename`).
    """

    state_file: str = "checkpoint"

    def __str__(self) -> str:
        return "tensorflow: ckpt-1000.index"

    @property
    def name(self) -> str:
        """What `Checkpoint.layout` says."""
        return "tensorflow"

    @property
    def pointer(self) -> str:
        """The state file."""
        return self.state_file

    def match(self, name: str) -> tuple[str, int | None] | None:
        """The prefix, with the number after its last `-`; `*.tempstate*` names have none."""
        member = _MEMBER.fullmatch(name)
        if member is None:
            return None
        step = _STEP.fullmatch(member[1])
        return member[1], None if step is None else int(step[1])

    def missing(self, name: str, evidence: Evidence) -> str | None:
        """The `.index` and all its data, then the state file's word or settled files."""
        unfinished = _unfinished_index(name, evidence)
        if unfinished is not None:
            return unfinished
        index, data = f"{name}.index", _complete_data(name, evidence)
        if not data:
            return _lacking_shard(name, evidence)
        newer = newer_than(index, data, evidence)
        if (evidence.named and newer is None) or evidence.settled(index, *data):
            return None
        if newer is not None:
            return f"{newer} is newer than {index}: waits until it has settled"
        return f"not named by {self.state_file!r} yet: waits until its files have settled"

    def generation(self, name: str, evidence: Evidence) -> str | None:
        """The `.index` file's fingerprint."""
        return evidence.fingerprint(f"{name}.index")

    def recognises(self, name: str, evidence: Evidence) -> bool:
        """Whether there are data files, whose names nobody else uses."""
        return bool(_shards(name, evidence.members))

    def pointed(self, content: bytes) -> tuple[str, ...]:
        """
        The prefixes in the state file, `model_checkpoint_path` first, then the list backwards.

        Only the last part of a path counts: `Saver` writes absolute ones, and directories move.
        """
        latest: list[str] = []
        listed: list[str] = []
        for listing, double, single in _PATH.findall(content):
            path = os.fsdecode(_ESCAPE.sub(_unescape, double or single))
            (listed if listing else latest).append(path.rpartition("/")[2])
        names = dict.fromkeys(latest + listed[::-1])
        return tuple(name for name in names if name and "\0" not in name)


def _unescape(escape: re.Match[bytes]) -> bytes:
    octal, hexadecimal, character = escape.groups()
    if octal is not None:
        return bytes([int(octal, 8) & 0xFF])
    if hexadecimal is not None:
        return bytes([int(hexadecimal, 16)])
    return _ESCAPES.get(character, character)


def _shards(name: str, members: Collection[str]) -> Mapping[int, Mapping[int, str]]:
    """The data files by number of shards, then by shard: resaving can leave others behind."""
    shards: dict[int, dict[int, str]] = {}
    for member in members:
        shard = _SHARD.fullmatch(member, len(name)) if member.startswith(name) else None
        if shard is not None and int(shard[1]) < int(shard[2]):
            shards.setdefault(int(shard[2]), {})[int(shard[1])] = member
    return shards


def _complete_data(name: str, evidence: Evidence) -> list[str]:
    """The files of every set that has all its shards."""
    shards = _shards(name, evidence.members)
    sets = [list(files.values()) for count, files in shards.items() if len(files) == count]
    there = [files for files in sets if all(evidence.stat(file) is not None for file in files)]
    return [file for files in there for file in files]


def _unfinished_index(name: str, evidence: Evidence) -> str | None:
    index = f"{name}.index"
    stat = evidence.stat(index)
    if stat is None:
        return f"no {index}"
    if stat.size == 0:
        return f"{index} is empty"
    return None if evidence.tail(index, 8) == _SSTABLE_MAGIC else f"{index} is not whole"


def _lacking_shard(name: str, evidence: Evidence) -> str:
    for count, files in _shards(name, evidence.members).items():
        for shard in range(count):
            if shard not in files or evidence.stat(files[shard]) is None:
                return f"no {name}.data-{shard:05}-of-{count:05}"
    return f"no {name}.data-?????-of-?????"
