"""Whether the end of a file is there, from a few bytes at both of its ends."""

from __future__ import annotations

import re
import struct
from typing import cast

from .._model import FileStat
from ._files import read_json
from ._protocol import Evidence

_ZIP_SUFFIXES = (".pt", ".pth", ".ckpt", ".zip", ".npz", ".keras")
_LOCAL_FILE = b"PK\x03\x04"
_END = struct.Struct("<4s4H2LH")
_LOCATOR = struct.Struct("<4sLQL")
_END_64 = struct.Struct("<4sQ2H2L4Q")
_SHORT_TAIL = _END.size + _LOCATOR.size + _END_64.size
_ZIP_TAIL = _SHORT_TAIL + 0xFFFF

_HDF5 = b"\x89HDF\r\n\x1a\n"

_MAX_HEADER = 100_000_000  # safetensors' own limit
_MAX_READ = 4 * 2**20


def unfinished_file(
    path: str, stat: FileStat, evidence: Evidence, members: tuple[str, ...] = ()
) -> str | None:
    """
    What a file lacks by its own format, in words; None if nothing, or the format is not known.

    Cheap, and no proof: a file of the full size may still hold zeros in between. The format
    comes from the first bytes, as `.ckpt` alone says little; safetensors has none of its own.

    Args:
        path: The file.
        stat: Its size.
        evidence: What can be asked.
        members: What a zip archive must contain.
    """
    if stat.size == 0:
        return "empty"
    if path.lower().endswith(".safetensors"):
        return _safetensors(path, stat, evidence)
    head = evidence.head(path, 64) or b""
    if _LOCAL_FILE.startswith(head[:4]):
        return _zip(path, stat, evidence) or _lacking_member(path, evidence, members)
    if head.startswith(_HDF5):
        return _hdf5(head, stat.size)
    if path.lower().endswith(".tar"):
        return _tar(path, stat, evidence)
    if path.lower().endswith(_ZIP_SUFFIXES) and not any(head):
        return "not written yet"
    return None


def _zip(path: str, stat: FileStat, evidence: Evidence) -> str | None:
    # Nearly no archive has a comment: its end is in the last bytes.
    short = _unfinished_zip(evidence.tail(path, _SHORT_TAIL) or b"", stat.size)
    if short is None or stat.size <= _SHORT_TAIL:
        return short
    return _unfinished_zip(evidence.tail(path, _ZIP_TAIL) or b"", stat.size)


def _lacking_member(path: str, evidence: Evidence, members: tuple[str, ...]) -> str | None:
    """The first name that the end of the archive's directory does not hold."""
    tail = evidence.tail(path, _ZIP_TAIL) or b"" if members else b""
    for name in members:
        if not re.search(rb"PK\x01\x02.{42}%b" % re.escape(name.encode()), tail, re.DOTALL):
            return f"no {name} in the zip archive"
    return None


def _unfinished_zip(tail: bytes, size: int) -> str | None:
    """
    Whether the archive's directory ends where its end record begins.

    Offsets count from the start of the file: if the archive is cut off behind a member that is
    itself an archive, the end record found is the inner one's, whose offsets do not fit.

    Source: PKWARE APPNOTE.TXT 4.3.14 to 4.3.16; `torch.save` always writes the ZIP64 records.
    """
    end = _end_of_archive(tail)
    if end is None:
        return "no end of the zip archive"
    *_, length, offset, _ = _END.unpack_from(tail, end)
    start = size - len(tail)
    if offset + length == start + end or _zip64(tail, start, end - _LOCATOR.size):
        return None
    return "the zip archive's directory does not fit"


def _end_of_archive(tail: bytes) -> int | None:
    end = tail.rfind(b"PK\x05\x06")
    while end >= 0:
        comment = tail[end + _END.size - 2 : end + _END.size]
        if end + _END.size + int.from_bytes(comment, "little") == len(tail) and len(comment) == 2:
            return end
        end = tail.rfind(b"PK\x05\x06", 0, end)
    return None


def _zip64(tail: bytes, start: int, locator: int) -> bool:
    if locator < 0 or not tail.startswith(b"PK\x06\x07", locator):
        return False
    record: int = _LOCATOR.unpack_from(tail, locator)[2]
    position = record - start
    if not 0 <= position <= locator - _END_64.size:
        return False
    signature, rest, *_, length, offset = _END_64.unpack_from(tail, position)
    ends = (position + 12 + rest, offset + length)  # 12: what the record does not count of itself
    return signature == b"PK\x06\x06" and ends == (locator, record)


def _tar(path: str, stat: FileStat, evidence: Evidence) -> str | None:
    """
    Whether two blocks of zeros end the archive.

    Source: POSIX.1-2017, pax, ustar Interchange Format; Python's `tarfile` writes them on closing.
    """
    if (evidence.head(path, 512) or b"")[257:262] not in {b"", b"ustar"}:
        return None
    end = evidence.tail(path, 1024) or b""
    whole = len(end) == 1024 and not any(end) and stat.size % 512 == 0 and stat.size > 1024
    return None if whole else "no end of the tar archive"


def _hdf5(head: bytes, size: int) -> str | None:
    """
    Whether the file is as long as its superblock says.

    Source: HDF5 File Format Specification 3.0, II.A; the end-of-file address stands third in
    versions 0 (from byte 24) and 1 (from byte 28), as in 2 and 3 (from byte 12).
    """
    version = head[8] if len(head) > 8 else -1
    start, width_at = {0: (24, 13), 1: (28, 13), 2: (12, 9), 3: (12, 9)}.get(version, (0, 0))
    if not start:
        return None
    width = head[width_at] if len(head) > width_at else 0
    end = head[start + 2 * width : start + 3 * width]
    if len(end) == width and int.from_bytes(end, "little") == size:
        return None
    return "not as long as its HDF5 superblock says"


def _safetensors(path: str, stat: FileStat, evidence: Evidence) -> str | None:
    """
    Whether the file ends where its last tensor ends.

    Source: the format section of huggingface/safetensors' README; `safetensors/src/tensor.rs`.
    """
    length = int.from_bytes(evidence.head(path, 8) or b"", "little")
    if not 0 < length <= min(_MAX_HEADER, stat.size - 8):
        return "no safetensors header"
    if length > _MAX_READ:
        return None
    header = read_json((evidence.head(path, 8 + length) or b"")[8:])
    if header is None:
        return "no whole safetensors header"
    if stat.size != 8 + length + _end_of_tensors(header):
        return "not as long as its safetensors header says"
    return None


def _end_of_tensors(header: dict[str, object]) -> int:
    end = 0
    for tensor in header.values():
        if isinstance(tensor, dict):
            offsets = cast("dict[str, object]", tensor).get("data_offsets")
            if isinstance(offsets, list):
                end = max([end, *(o for o in cast("list[object]", offsets) if isinstance(o, int))])
    return end
