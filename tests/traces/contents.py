"""
What stands in the files of a trace: real formats, small, described by a few words.

    bytes 64                        that many bytes, none of them zero
    text "100\\n"                    a JSON string; $RUN stands for the directory that is followed
    json {"global_step": 1}         a JSON value
    zip data:32 policy.pth:zip      an archive's members; `:zip` is itself an archive
    zip64 a/data.pkl:32             the same with the records that `torch.save` always writes
    tar data.pt:64                  an archive's members, and the zeros at its end
    safetensors 64, hdf5 96, sstable 64, pickle 64, msgpack 64
                                    a file of that format, with so many bytes of data
"""

from __future__ import annotations

import io
import json
import re
import struct
import tarfile
import zipfile
from collections.abc import Callable
from functools import lru_cache

RUN = "$RUN"
BULK = 64  # bytes that stand for a file's data
MEMBER = 24  # and for that of a member of an archive
WORDS = 200  # characters up to which a text is kept as it is

_SSTABLE = struct.pack("<Q", 0xDB4775248B80FB57)
_HDF5 = b"\x89HDF\r\n\x1a\n"
_SUPERBLOCK = 56
_STORAGE = re.compile(r".*/data/[1-9]|.*/\.data/")  # one of torch's tensors is enough
_END = struct.Struct("<4s4H2LH")
_END_64 = struct.Struct("<4sQ2H2L4Q")


def build(description: str, run: str = RUN) -> bytes:
    """
    The bytes that a description stands for.
    """
    return _build(description).replace(RUN.encode(), run.encode())


@lru_cache(maxsize=1000)
def _build(description: str) -> bytes:
    kind, _, rest = description.partition(" ")
    if kind in {"text", "json"}:
        value = json.loads(rest)
        return (value if kind == "text" else json.dumps(value)).encode()
    return _BUILDERS[kind](rest)


def _bytes(rest: str) -> bytes:
    size = int(rest)
    return (bytes(range(0xF0, 0x100)) * (size // 16 + 1))[:size]


def _pickle(rest: str) -> bytes:
    return b"\x80\x04" + _bytes(rest) + b"."


def _msgpack(rest: str) -> bytes:
    return b"\x81" + _bytes(rest)


def _sstable(rest: str) -> bytes:
    return _bytes(rest) + _SSTABLE


def _safetensors(rest: str) -> bytes:
    size = int(rest)
    tensor = {"dtype": "U8", "shape": [size], "data_offsets": [0, size]}
    header = json.dumps({"weight": tensor}).encode()
    return struct.pack("<Q", len(header)) + header + _bytes(rest)


def _hdf5(rest: str) -> bytes:
    """
    A superblock of version 0 with addresses of eight bytes; the third is the file's end.
    """
    head = _HDF5 + bytes([0, 0, 0, 0, 0, 8, 8, 0]) + bytes(8)
    size = len(head) + 32 + int(rest)
    return head + struct.pack("<4Q", 0, 2**64 - 1, size, 2**64 - 1) + _bytes(rest)


def _zip(rest: str) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for member in rest.split():
            name, _, size = member.rpartition(":")
            content = _zip64("archive/data.pkl:24") if size == "zip" else _bytes(size)
            archive.writestr(zipfile.ZipInfo(name), content)
    return file.getvalue()


def _zip64(rest: str) -> bytes:
    """
    Two records more before the end, as PKWARE APPNOTE.TXT 4.3.14 and 4.3.15 have them.
    """
    plain = _zip(rest)
    body, end = plain[: -_END.size], plain[-_END.size :]
    *_, entries, length, offset, _ = _END.unpack(end)
    record = _END_64.pack(
        b"PK\x06\x06", _END_64.size - 12, 45, 45, 0, 0, entries, entries, length, offset
    )
    locator = struct.pack("<4sLQL", b"PK\x06\x07", 0, len(body), 1)
    return body + record + locator + end


def _tar(rest: str) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        for member in rest.split():
            name, _, size = member.rpartition(":")
            info = tarfile.TarInfo(name)
            info.size = int(size)
            archive.addfile(info, io.BytesIO(_bytes(size)))
    return file.getvalue()


_BUILDERS: dict[str, Callable[[str], bytes]] = {
    "bytes": _bytes,
    "hdf5": _hdf5,
    "msgpack": _msgpack,
    "pickle": _pickle,
    "safetensors": _safetensors,
    "sstable": _sstable,
    "tar": _tar,
    "zip": _zip,
    "zip64": _zip64,
}


def describe(content: bytes, *, keep: bool, keys: str = r".*") -> str:
    """
    The description of what a framework wrote.

    Args:
        content: All of the file.
        keep: Whether it matters, and is kept however long it is.
        keys: Fits the keys that are kept of a JSON object.
    """
    if content.startswith(b"PK\x03\x04"):
        return _describe_zip(content)
    if content.startswith(_HDF5):
        return f"hdf5 {len(content) - _SUPERBLOCK if keep else BULK}"
    if content.endswith(_SSTABLE):
        return f"sstable {BULK}"
    if content[8:10] == b'{"' and int.from_bytes(content[:8], "little") < len(content):
        return f"safetensors {BULK}"
    if content.startswith(b"\x80") and content.endswith(b"."):
        return f"pickle {BULK}"
    if content[:1] in {b"\x81", b"\x82", b"\x83"}:
        return f"msgpack {BULK}"
    return _describe_text(content, keep, keys) or f"bytes {min(BULK, len(content))}"


def _describe_text(content: bytes, keep: bool, keys: str) -> str | None:
    try:
        text = content.decode()
    except UnicodeDecodeError:
        return None
    if "\0" in text:
        return None
    try:
        value = json.loads(text)
    except ValueError:
        short = keep or len(text) <= WORDS
        return f"text {json.dumps(text)}" if short else None
    if not isinstance(value, dict):
        return f"text {json.dumps(text)}" if keep else None
    kept = {key: item for key, item in value.items() if re.fullmatch(keys, key)}
    return f"json {json.dumps(kept if keep or len(text) <= WORDS else {})}"


def _describe_zip(content: bytes) -> str:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = [info for info in archive.infolist() if not _STORAGE.match(info.filename)]
        words = [f"{info.filename}:{_size(archive, info)}" for info in members]
    kind = "zip64" if b"PK\x06\x07" in content[-42:] else "zip"
    return " ".join([kind, *words])


def _size(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> str:
    nested = archive.read(info).startswith(b"PK\x03\x04")
    return "zip" if nested else str(min(MEMBER, info.file_size))
