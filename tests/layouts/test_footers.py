"""The ends of zip, safetensors and HDF5 files."""

import io
import json
import struct
import tarfile
import zipfile
from pathlib import Path

import pytest
from evidence import Look, write
from hypothesis import given
from hypothesis import strategies as st

from ckptstream.layouts._footers import unfinished_file


def answer(root: Path, name: str, content: bytes) -> str | None:
    write(root / name, content)
    look = Look(root)
    stat = look.stat(name)
    assert stat is not None
    return unfinished_file(name, stat, look)


def archive(*members: tuple[str, bytes], comment: bytes = b"") -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as file:
        for name, data in members:
            file.writestr(name, data)
        file.comment = comment
    return content.getvalue()


def as_torch_writes(content: bytes) -> bytes:
    """The same archive with the ZIP64 records that `torch.save` always adds."""
    fields = struct.unpack("<4s4H2LH", content[-22:])
    entries, length, offset = fields[4:7]
    record = struct.pack(
        "<4sQ2H2L4Q", b"PK\6\6", 44, 798, 45, 0, 0, entries, entries, length, offset
    )
    locator = struct.pack("<4sLQL", b"PK\6\7", 0, len(content) - 22, 1)
    return content[:-22] + record + locator + content[-22:]


def safetensors(*ends: object, data: int | None = None) -> bytes:
    tensors: dict[str, object] = {"__metadata__": {"format": "pt", "data_offsets": "9"}}
    tensors |= {str(end): {"dtype": "U8", "data_offsets": [0, end]} for end in ends}
    header = json.dumps(tensors).encode()
    numbers = [end for end in ends if isinstance(end, int)]
    return (
        struct.pack("<Q", len(header)) + header + b"\1" * (max(numbers) if data is None else data)
    )


def hdf5(version: int, end: int, size: int = 200) -> bytes:
    """A superblock as libhdf5 writes it, and as many bytes more as make *size*."""
    undefined = 2**64 - 1
    if version < 2:
        head = struct.pack("<8B", version, 0, 0, 0, 0, 8, 8, 0) + struct.pack("<2HL", 4, 16, 0)
        head += struct.pack("<2H", 32, 0) * version
        head += struct.pack("<4Q", 0, undefined, end, undefined)
    else:
        head = struct.pack("<4B4QL", version, 8, 8, 0, 0, undefined, end, 48, 0)
    return (b"\x89HDF\r\n\x1a\n" + head).ljust(size, b"\1")[:size]


ZIP = archive(("archive/data.pkl", b"x" * 300), ("archive/version", b"3\n"))


@pytest.mark.parametrize(
    "content",
    [
        ZIP,
        as_torch_writes(ZIP),
        archive(("a", b"x"), comment=b"PK\5\6" * 5 + b"c" * 60_000),
        archive(("a", b"x" * 200_000)),
        archive(("a.zip", ZIP)),
    ],
    ids=["plain", "torch", "comment", "large", "nested"],
)
def test_zip(tmp_path: Path, content: bytes) -> None:
    """
    A whole archive is accepted, and refused when any number of bytes is missing at its end.
    """
    assert answer(tmp_path, "a.pt", content) is None

    for size in {*range(4, len(content), 97), len(content) - 1, len(content) - 22}:
        assert answer(tmp_path, "a.pt", content[:size]), f"accepted {size} bytes"


@pytest.mark.parametrize("size", [1, 512, 9000, 20_000])
def test_tar(tmp_path: Path, size: int) -> None:
    """
    Two blocks of zeros end an archive; what grows, or has no member yet, has none.
    """
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        for name in ("a/model.pt", "b.json"):
            info = tarfile.TarInfo(name)
            info.size = size
            archive.addfile(info, io.BytesIO(b"w" * size))
    content = file.getvalue()
    assert answer(tmp_path, "a.tar", content) is None
    assert answer(tmp_path, "a.tar", b"no archive" * 100) is None
    end = -(-len(content.rstrip(b"\0")) // 512) * 512
    for cut in range(512, end + 1024, 512):
        assert "no end of the tar archive" == answer(tmp_path, "a.tar", content[:cut])


def test_zip_in_a_zip(tmp_path: Path) -> None:
    """
    An archive that is cut off behind a member that is an archive is refused.
    """
    outer = archive(("data", b"x"), ("policy.pth", ZIP), ("version", b"1"))
    cut = outer[: outer.index(ZIP) + len(ZIP)]

    assert zipfile.is_zipfile(io.BytesIO(cut))
    assert "the zip archive's directory does not fit" == answer(tmp_path, "a.zip", cut)


@pytest.mark.parametrize(
    ("at", "value"),
    [
        (-42, b"PK\6\1"),
        (-34, b"\xff" * 8),
        (-34, b"\0" * 8),
        (-98, b"PK\6\1"),
        (-94, b"\0"),
        (-50, b"\7"),
    ],
)
def test_zip64_that_does_not_fit(tmp_path: Path, at: int, value: bytes) -> None:
    """
    The ZIP64 records must lead to each other.
    """
    content = bytearray(as_torch_writes(ZIP))
    content[at : at + len(value)] = value

    assert "the zip archive's directory does not fit" == answer(tmp_path, "a.pt", bytes(content))


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("a.pt", b"", "empty"),
        ("a.bin", b"", "empty"),
        ("a.pt", b"\0" * 5000, "not written yet"),
        ("A.KERAS", b"\0" * 5000, "not written yet"),
        ("a.bin", b"\0" * 5000, None),
        ("a.pt", b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.", None),
        ("a.bin", b"PK\x03\x04", "no end of the zip archive"),
        ("a.msgpack", b"\x82\xa1a\x01", None),
    ],
)
def test_other_files(tmp_path: Path, name: str, content: bytes, expected: str | None) -> None:
    """
    An unknown format has no end to look for.
    """
    assert expected == answer(tmp_path, name, content)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (safetensors(8, 24, 16), None),
        (safetensors(0), None),
        (safetensors(24, data=23), "not as long as its safetensors header says"),
        (safetensors(24, data=25), "not as long as its safetensors header says"),
        (safetensors("x", None, data=0), None),
        (safetensors(24)[:60], "no safetensors header"),
        (safetensors(24)[:5], "no safetensors header"),
        (b"\0" * 500, "no safetensors header"),
        (struct.pack("<Q", 100_000_001) + b"{}", "no safetensors header"),
        (struct.pack("<Q", 4) + b"[{}]", "no whole safetensors header"),
        (struct.pack("<Q", 4) + b"\0\0\0\0rest", "no whole safetensors header"),
    ],
)
def test_safetensors(tmp_path: Path, content: bytes, expected: str | None) -> None:
    """
    A safetensors file ends where its last tensor ends.
    """
    assert expected == answer(tmp_path, "model.safetensors", content)


def test_safetensors_with_a_long_header(tmp_path: Path) -> None:
    """
    A header of more than 4 MiB is not read.
    """
    length = 5 * 2**20

    assert answer(tmp_path, "a.safetensors", struct.pack("<Q", length) + b"x" * length) is None


@pytest.mark.parametrize("version", [0, 1, 2, 3])
def test_hdf5(tmp_path: Path, version: int) -> None:
    """
    An HDF5 file is as long as its superblock says, neither shorter nor growing.
    """
    assert answer(tmp_path, "a.h5", hdf5(version, 200)) is None

    lacking = "not as long as its HDF5 superblock says"
    for content in (hdf5(version, 201), hdf5(version, 199), hdf5(version, 30, size=30)):
        assert lacking == answer(tmp_path, "a.h5", content)


def test_hdf5_as_written(tmp_path: Path) -> None:
    """
    The start of a file of 2128 bytes that h5py 3.14 wrote is understood.
    """
    head = bytes.fromhex(
        "894844460d0a1a0a020808000000000000000000ffffffffffffffff5008000000000000"
        "3000000000000000da26f434"
    )

    assert answer(tmp_path, "a.h5", head.ljust(2128, b"\1")) is None
    assert answer(tmp_path, "a.h5", head.ljust(2127, b"\1")) is not None


def test_hdf5_of_the_future(tmp_path: Path) -> None:
    """
    An unknown version says nothing.
    """
    assert answer(tmp_path, "a.h5", hdf5(0, 1).replace(b"\n\0", b"\n\x09", 1)) is None
    assert answer(tmp_path, "a.h5", b"\x89HDF\r\n\x1a\n") is None


@given(
    name=st.sampled_from(["a.pt", "a.safetensors", "a.h5"]),
    start=st.sampled_from([b"", b"PK\x03\x04", b"\x89HDF\r\n\x1a\n"]),
    middle=st.binary(),
    end=st.sampled_from([b"", b"PK\x05\x06" + b"\0" * 18, as_torch_writes(ZIP)[-98:]]),
)
def test_any_file(tmp_path: Path, name: str, start: bytes, middle: bytes, end: bytes) -> None:
    """
    Whatever a file holds, there is an answer.
    """
    lacking = answer(tmp_path, name, start + middle + end)

    assert lacking is None or lacking


@given(
    st.recursive(
        st.none() | st.integers() | st.text(),
        lambda values: (
            st.lists(values) | st.dictionaries(st.text() | st.just("data_offsets"), values)
        ),
    )
)
def test_any_safetensors_header(tmp_path: Path, value: object) -> None:
    """
    Whatever a header holds, there is an answer.
    """
    header = json.dumps(value).encode()
    lacking = answer(tmp_path, "a.safetensors", struct.pack("<Q", len(header)) + header)

    assert lacking is None or lacking


@given(st.data())
def test_any_change_at_the_end(tmp_path: Path, data: st.DataObject) -> None:
    """
    An archive with a changed byte in its end records, or cut off, does no harm.
    """
    content = bytearray(as_torch_writes(ZIP))
    at = data.draw(st.integers(len(content) - 98, len(content) - 1))
    content[at] = data.draw(st.integers(0, 255))
    size = data.draw(st.integers(1, len(content)))

    lacking = answer(tmp_path, "a.pt", bytes(content[:size]))
    assert lacking if size < len(content) else lacking is None or lacking
