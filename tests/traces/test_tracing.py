"""
Traces are read and written rightly, and their files are what they seem to be.
"""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import pytest
from annotating import Annotator, Rules
from contents import build, describe
from recording import Recording, calls
from tracing import Disk, read

from ckptstream.layouts import Auto, resolve
from ckptstream.layouts._presets import PRESETS

TRACES = sorted(Path(__file__).parent.glob("*.trace"))
README = Path(__file__).parents[2] / "README.md"
EACH = pytest.mark.parametrize("path", TRACES, ids=lambda path: path.stem)


@EACH
def test_a_trace_says_where_it_comes_from(path: Path) -> None:
    """
    What was recorded names packages, what was transcribed a source; no path leads elsewhere.
    """
    trace = read(path)

    assert 1 == len({"recorded", "transcribed"} & trace.head.keys())
    assert {"layout", "evidence"} <= trace.head.keys()
    assert [] == [line for line in trace.lines if any(p.startswith("/") for p in line.paths)]
    assert "commit" in {line.verb for line in trace.lines}


def test_every_framework_has_a_trace_and_a_row() -> None:
    """
    A framework is one constant, one trace and one row in the README.
    """
    layout = resolve("auto")
    assert isinstance(layout, Auto)
    names = {each.name for each in (*layout.layouts, *PRESETS)}
    rows = [line for line in README.read_text().splitlines() if line.startswith("| ")]

    assert names == {read(path).head["layout"] for path in TRACES}
    assert names == {name for name in names if any(f"`{name}`" in row for row in rows)}


@pytest.mark.parametrize(
    "description",
    [
        "bytes 64",
        'text "100\\n"',
        'json {"global_step": 1}',
        "zip data:24 policy.pth:zip",
        "zip64 a/data.pkl:24 a/version:2",
        *("safetensors 64", "hdf5 64", "sstable 64", "pickle 64", "msgpack 64"),
    ],
)
def test_contents_are_described_as_they_are_built(description: str) -> None:
    """
    What stands for a file is of its format.
    """
    assert description == describe(build(description), keep=True)


def test_archives_hold_their_members() -> None:
    """
    Python's own reader takes both kinds.
    """
    for kind in ("zip", "zip64"):
        with zipfile.ZipFile(io.BytesIO(build(f"{kind} a/data.pkl:24 b:zip"))) as archive:
            assert (["a/data.pkl", "b"], None) == (archive.namelist(), archive.testzip())


def test_lines_that_are_no_operations(tmp_path: Path) -> None:
    """
    A word too much is an error, with the line's number.
    """
    (tmp_path / "x.trace").write_text("layout: hf\n\nmkdir a b\n")

    with pytest.raises(ValueError, match="line 3: 'mkdir a b' is no operation"):
        read(tmp_path / "x.trace")


def test_writes_are_done_in_halves(tmp_path: Path) -> None:
    """
    Each half is a moment, each moment a second, and directories change with their names alone.
    """
    (tmp_path / "x.trace").write_text(
        "layout: x\ncreate a\nwrite a 1/2 bytes 8\nwrite a 2/2 bytes 8\n"
    )
    (tmp_path / "run").mkdir()
    disk, sizes, times = Disk(tmp_path / "run"), list[int](), set[float]()
    for line in read(tmp_path / "x.trace").lines:
        for _ in disk.do(line):
            sizes.append((disk.run / "a").stat().st_size)
            times.add((disk.run / "a").stat().st_mtime)

    assert [0, 2, 4, 6, 8] == sizes
    assert (5, 1_700_000_001) == (len(times), disk.run.stat().st_mtime)


def hexadecimal(text: str) -> str:
    return "".join(f"\\x{byte:02x}" for byte in text.encode())


def test_what_strace_saw_is_understood() -> None:
    """
    Two threads at once, a call that failed, another directory, and the same file written again.
    """
    a, b, there = (hexadecimal(path) for path in ("/s/run/a.tmp", "/s/run/a", "/else/x"))
    opened = f'openat(AT_FDCWD</>, "{a}", O_WRONLY|O_CREAT|O_TRUNC, 0666'
    log = f"""
1 mkdir("{hexadecimal("/s/run")}", 0777) = -1 EEXIST (File exists)
1 {opened} <unfinished ...>
2 openat(AT_FDCWD</>, "{there}", O_WRONLY|O_CREAT|O_TRUNC, 0666) = 4<{there}>
1 <... openat resumed>) = 3<{a}>
1 write(3<{a}>, "{hexadecimal("one ")}", 4) = 4
2 write(4<{there}>, "{hexadecimal("x")}", 1) = 1
1 write(3<{a}>, "{hexadecimal("two")}", 3) = 3
1 rename("{a}", "{b}") = 0
1 {opened}) = 3<{a}>
1 rename("{a}", "{b}") = 0
1 unlinkat(5<{hexadecimal("/s/run")}>, "{hexadecimal("a")}", 0) = 0
"""
    recording = Recording("/s/", "/s/run")
    for call in calls(log.splitlines()):
        recording.add(call)
    rules = Rules(commit=r"rename \S+ (a) ", owner=r"(a)$")

    assert [
        "create a.tmp",
        'write a.tmp text "one two"',
        "rename a.tmp a",
        "commit a -",
        "create a.tmp",
        "overwrite a",
        "rename a.tmp a",
        "commit a -",
        "delete a",
        "unlink a",
    ] == list(Annotator(rules, "/s/run").lines(recording.operations))
