"""Small files in the frameworks' formats, whole enough for whoever looks at their ends."""

from __future__ import annotations

import io
import json
import os
import pickle
import struct
import zipfile
from collections.abc import Mapping, Sequence

_ZIPPED = (".bin", ".ckpt", ".distcp", ".pt", ".pth", "random_states_0.pkl")
_SSTABLE_END = bytes(40) + struct.pack("<Q", 0xDB4775248B80FB57)  # handles, then the magic number
_NOWHERE = 2**64 - 1


def content(name: str, step: int, size: int) -> bytes:
    """
    What stands in a file, in the format that its name promises.

    Args:
        name: Its name.
        step: The checkpoint's number, which the data tells again and again.
        size: How many bytes of data.
    """
    body = _body(step, size)
    if name.endswith(".safetensors"):
        tensor = {"dtype": "U8", "shape": [size], "data_offsets": [0, size]}
        header = json_bytes({tensor_name(name): tensor})
        return struct.pack("<Q", len(header)) + header + body
    if name.endswith(".keras"):
        weights = _hdf5(body)
        return _zip({"metadata.json": b"{}", "config.json": b"{}", "model.weights.h5": weights})
    if name.endswith(".h5"):
        return _hdf5(body)
    if name.endswith(".zip"):
        return _stable_baselines(step, body)
    if name.endswith(_ZIPPED):
        return _torch(step, body)
    return body


def json_bytes(value: object) -> bytes:
    """A JSON file's."""
    return json.dumps(value).encode()


def pickled(step: int) -> bytes:
    """A pickle's."""
    return pickle.dumps({"step": step})


def dcp_metadata(step: int, files: Sequence[str]) -> bytes:
    """What DCP's `.metadata` says of the data files."""
    stored = {f"weight.{rank}": {"relative_path": file} for rank, file in enumerate(files)}
    return pickle.dumps({"step": step, "storage_data": stored}, protocol=4)


def msgpack_map(step: int, size: int) -> bytes:
    """A map of one string to a binary, as msgpack writes it."""
    return b"\x81\xa4step\xc6" + struct.pack(">L", size) + _body(step, size)


def sstable(step: int) -> bytes:
    """TensorFlow's index, as far as its end goes."""
    return _body(step, 64) + _SSTABLE_END


def weight_names(shards: int) -> list[str]:
    """The files of `save_pretrained`."""
    if shards == 1:
        return ["model.safetensors"]
    return [f"model-{shard:05}-of-{shards:05}.safetensors" for shard in range(1, shards + 1)]


def weight_index(files: list[str]) -> bytes:
    """The index of them."""
    return json_bytes({"metadata": {}, "weight_map": {tensor_name(file): file for file in files}})


def tensor_name(file: str) -> str:
    """What the one tensor in a file is called."""
    return f"{os.path.basename(file).removesuffix('.safetensors')}.weight"


def _body(step: int, size: int) -> bytes:
    word = f"{step} ".encode()
    return (word * (size // len(word) + 1))[:size]


def _torch(step: int, body: bytes) -> bytes:
    return _zip({"archive/data.pkl": pickled(step), "archive/data/0": body})


def _stable_baselines(step: int, body: bytes) -> bytes:
    parameters = {"policy.pth": _torch(step, body), "policy.optimizer.pth": _torch(step, b"")}
    last = {"_stable_baselines3_version": b"2.9.2", "system_info.txt": b"simulated"}
    return _zip({"data": b"{}", "pytorch_variables.pth": _torch(step, b""), **parameters, **last})


def _zip(members: Mapping[str, bytes]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, data in members.items():
            archive.writestr(zipfile.ZipInfo(name), data)
    return file.getvalue()


def _hdf5(body: bytes) -> bytes:
    """A superblock of version 0 with addresses of eight bytes, of which the third is the end."""
    head = b"\x89HDF\r\n\x1a\n" + bytes([0, 0, 0, 0, 0, 8, 8, 0]) + bytes(8)
    size = len(head) + 32 + len(body)
    return head + struct.pack("<4Q", 0, _NOWHERE, size, _NOWHERE) + body
