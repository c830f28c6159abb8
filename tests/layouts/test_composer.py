"""
Composer in a bucket: in place of its link to the latest there is a file, which comes last.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from evidence import Run, write
from saves import TORCH

from ckptstream.layouts import resolve

LATEST = "latest-rank0.pt.symlink"
FILE = "ep0-ba10-rank0.pt"
NOT_NAMED = f"not named by {LATEST!r} yet"
SETTLES = "waits until it has settled"


@pytest.fixture(params=["composer", "auto"])
def run(request: pytest.FixtureRequest, tmp_path: Path) -> Run:
    return Run(tmp_path, resolve(request.param))


def upload(run: Run, step: int, *, at: int) -> str:
    """
    A directory of which `.metadata` is the last object.
    """
    name = f"ep0-ba{step}"
    write(run.root / name / "__0_0.distcp", TORCH, at=at)
    write(run.root / name / "__1_0.distcp", TORCH, at=at)
    write(run.root / name / ".metadata", at=at)
    return name


def point(run: Run, name: str, *, at: int) -> None:
    write(run.root / LATEST, f"my-run/checkpoints/{name}", at=at)


@pytest.mark.parametrize(
    ("named", "at", "expected"),
    [(FILE, 1001, None), (FILE, 999, SETTLES), ("ep0-ba5-rank0.pt", 1001, SETTLES)],
)
def test_a_file_that_is_named_need_not_settle(
    run: Run, named: str, at: int, expected: str | None
) -> None:
    """
    Unless it is newer: a mirror may have the new pointer and the old file.
    """
    write(run.root / FILE, TORCH, at=1000)
    point(run, named, at=at)

    assert expected == run.judge(FILE).missing
    assert run.judge(FILE, settled=True).missing is None


def test_a_file_that_is_written_again_has_to_settle(run: Run) -> None:
    """
    In the second in which the pointer named the last one.
    """
    write(run.root / FILE, TORCH, at=1000)
    point(run, FILE, at=1001)
    assert run.judge(FILE).missing is None

    write(run.root / FILE, TORCH, at=1001)
    assert SETTLES == run.judge(FILE).missing


def test_a_file_that_is_named_is_whole_all_the_same(run: Run) -> None:
    """
    A mirror need not keep the order.
    """
    write(run.root / FILE, TORCH[:-1], at=1000)
    point(run, FILE, at=1001)

    assert "no end of the zip archive" == run.judge(FILE, settled=True).missing


@pytest.mark.parametrize("content", ["ep0-ba9", "", "ep0-", "..", "ep0-ba10-rank0.pt"])
def test_a_directory_is_named_where_anything_is(run: Run, content: str) -> None:
    """
    However long it looks whole: more shards may be on their way.
    """
    name = upload(run, 10, at=1000)
    write(run.root / name / "__1_0.distcp", TORCH, at=1002)
    point(run, content, at=1001)
    assert NOT_NAMED == run.judge(name, settled=True).missing

    point(run, name, at=1003)
    assert run.judge(name, settled=True).missing is None


def test_a_directory_that_was_passed_over(run: Run) -> None:
    """
    Composer does not point to each: a later one vouches for it, if the pointer is not older.
    """
    name = upload(run, 10, at=1000)
    point(run, "ep0-ba20", at=1001)
    assert (SETTLES, None) == (run.judge(name).missing, run.judge(name, settled=True).missing)

    name = upload(run, 15, at=1002)
    expected = f"__0_0.distcp is newer than {LATEST!r}, which names step 20"
    assert expected == run.judge(name, settled=True).missing


def test_a_directory_without_a_pointer(run: Run) -> None:
    """
    Where nothing was uploaded `.metadata` is the last; a pointer that comes later changes nothing.
    """
    name = upload(run, 10, at=1000)
    assert run.judge(name).missing is None

    point(run, "ep0-ba5", at=1001)
    assert run.judge(name).missing is None


def test_a_directory_where_renames_are_not_atomic(run: Run) -> None:
    """
    It may be a bucket, of which the objects come in any order, unless Composer's link is there.
    """
    name = upload(run, 10, at=1000)
    bucket = Run(run.root, run.layout, rename_is_atomic=False)
    assert NOT_NAMED == bucket.judge(name, settled=True).missing

    (run.root / "latest-rank0.pt").symlink_to(name)
    assert SETTLES == bucket.judge(name).missing
    assert bucket.judge(name, settled=True).missing is None


def test_a_directory_in_a_bucket(run: Run) -> None:
    """
    The first one, too, is finished when it is named.
    """
    name = upload(run, 10, at=1000)
    bucket = Run(run.root, run.layout, rename_is_atomic=False)
    point(run, name, at=1001)

    assert bucket.judge(name).missing is None


@pytest.mark.parametrize("end", ["pt.lz4", "pt.zst", "pt.bz2", "tar.bz2", "tar.gz", "tgz"])
def test_compressed(run: Run, end: str) -> None:
    """
    By whatever program, also one with a number in its name.
    """
    name = f"ep0-ba10-rank0.{end}"
    write(run.root / name, b"compressed")

    assert (name, 10) == run.layout.match(f"ep0-ba10-rank1.{end}")
    assert ("composer", 10, None) == run.judge(name, settled=True)[:3]
