"""
Filesystems by the kernel's own table, and the local store on the oddest files there are.
"""

from __future__ import annotations

import errno
import os
import socket
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from observing import SECONDS, linux

from ckptstream._stores import LocalStore, Profile, _mounts, mount, profile

Table = Callable[[str], None]

PLAIN = """\
22 1 259:1 / / rw,relatime shared:1 - ext4 /dev/root rw
23 22 0:21 / /proc rw - proc proc rw
30 22 0:30 / /data rw shared:9 master:2 propagate_from:1 - nfs4 server:/export rw,vers=4.2
31 30 0:31 / /data/scratch rw - xfs /dev/sdb rw
32 22 0:32 / /home rw - fuse.sshfs me@there: rw
"""


@pytest.fixture
def table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Table:
    """
    Sets what `/proc/self/mountinfo` says.
    """

    def opened(path: str, mode: str) -> object:
        assert "/proc/self/mountinfo" == path
        return open(tmp_path / "mountinfo", mode)

    def write(text: str) -> None:
        (tmp_path / "mountinfo").write_text(text)

    monkeypatch.setattr(_mounts, "open", opened, raising=False)
    return write


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/", ("/", "ext4")),
        ("/data", ("/data", "nfs4")),
        ("/data/run", ("/data", "nfs4")),
        ("/data/scratch/run", ("/data/scratch", "xfs")),
        ("/database/run", ("/", "ext4")),
        ("/data/scratchpad", ("/data", "nfs4")),
        ("/home/me/runs", ("/home", "fuse.sshfs")),
    ],
)
def test_mount_is_the_nearest_one_above(table: Table, path: str, expected: tuple[str, str]) -> None:
    """
    By whole parts of the path; optional fields of the table do not confuse it.
    """
    table(PLAIN)

    assert expected == mount(path)


def test_mount_points_are_escaped_in_octal(table: Table) -> None:
    """
    Blanks, tabs, line feeds, backslashes, and bytes that are no UTF-8.
    """
    escaped = r"/a\040b\011c\012d\134e\040\134040" + "\\377"
    table(f"22 1 8:1 / / rw - ext4 x rw\n23 22 0:9 / {escaped} rw - tmpfs tmpfs rw\n")

    point = os.fsdecode(b"/a b\tc\nd\\e \\040\xff")
    assert (point, "tmpfs") == mount(point + "/run")


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        # A second mount at the same point covers the first.
        (["30 22 0:1 / /data rw - nfs4 s rw", "31 30 0:2 / /data rw - ext4 s rw"], "ext4"),
        # The order of the lines proves nothing.
        (["31 30 0:2 / /data rw - ext4 s rw", "30 22 0:1 / /data rw - nfs4 s rw"], "ext4"),
        # automount(8): the trigger, and what it has mounted there.
        (["30 22 0:1 / /data rw - autofs m rw", "31 30 0:2 / /data/run rw - nfs4 s rw"], "nfs4"),
        # A mount above covers everything that was mounted below before.
        (["30 22 0:1 / /data/run rw - nfs4 s rw", "31 22 0:2 / /data rw - ext4 s rw"], "ext4"),
        # And what is then mounted on top of that counts again.
        (
            [
                "30 22 0:1 / /data/run rw - nfs4 s rw",
                "31 22 0:2 / /data rw - ext4 s rw",
                "32 31 0:3 / /data/run rw - xfs s rw",
            ],
            "xfs",
        ),
    ],
)
def test_covered_mounts_do_not_count(table: Table, lines: list[str], expected: str) -> None:
    """
    Only what a path really leads to.
    """
    table("\n".join(["22 1 8:1 / / rw - ext4 x rw", *lines]))

    assert expected == mount("/data/run/deep")[1]


def test_the_kernels_own_root_is_a_mount_too(table: Table) -> None:
    """
    An initramfs is its own parent in the table.
    """
    table("1 1 0:2 / / rw - rootfs rootfs rw\n30 1 0:1 / /data rw - nfs4 s rw\n")

    assert [("/", "rootfs"), ("/data", "nfs4")] == [mount("/run"), mount("/data/run")]


def test_without_a_table_nothing_is_known(table: Table, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    No `/proc`, or a path that no mount is above (as in a chroot): unknown, hence polled.
    """
    table("31 22 0:2 / /data rw - ext4 x rw\n")
    elsewhere = mount("/home/run")

    def missing(path: str, mode: str) -> object:
        raise FileNotFoundError(errno.ENOENT, "none", path)

    monkeypatch.setattr(_mounts, "open", missing)

    assert [("/", "unknown")] * 2 == [elsewhere, mount("/home/run")]


@linux
@pytest.mark.parametrize(
    ("kind", "events", "rename", "inodes", "linked_locks"),
    [
        ("ext4", True, True, True, True),
        ("tmpfs", True, True, True, True),
        ("overlay", True, True, False, True),
        ("nfs4", False, True, True, True),
        ("cifs", False, True, False, False),
        ("fuse.s3fs", False, False, False, False),
        ("fuseblk", False, False, False, False),
        ("newfs", False, False, False, False),
    ],
)
def test_profile_trusts_only_what_is_known(
    table: Table,
    tmp_path: Path,
    kind: str,
    events: bool,
    rename: bool,
    inodes: bool,
    linked_locks: bool,
) -> None:
    """
    Events of local filesystems, renames of those and network ones, nothing of FUSE and the rest.
    """
    table(f"22 1 8:1 / / rw - {kind} x rw\n")

    settle = 1.0 if events else 5.0
    expected = Profile(kind, events, rename, inodes, settle, linked_locks)
    assert expected == profile(str(tmp_path))


@linux
def test_profile_is_that_of_the_place_a_symlink_leads_to(table: Table, tmp_path: Path) -> None:
    """
    A local link into a network filesystem is no local directory.
    """
    real, link = tmp_path / "real", tmp_path / "link"
    real.mkdir()
    link.symlink_to(real)
    resolved = os.path.realpath(real)
    table(f"22 1 8:1 / / rw - ext4 x rw\n23 22 0:9 / {resolved} rw - nfs4 s rw\n")

    assert ["nfs4", "ext4"] == [profile(str(link)).filesystem, profile(str(tmp_path)).filesystem]


@linux
def test_the_real_table_is_understood(tmp_path: Path) -> None:
    """
    Every line of this machine's own, and every mount point is its own nearest, if not covered.
    """
    assert "unknown" != mount(str(tmp_path))[1]
    assert ("/proc", "proc") == mount("/proc/self")


# The local store.


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(str(tmp_path), inodes=True)


def in_time(call: Callable[[], object]) -> object:
    """
    What a call returns or raises, in a thread, for it may hang.
    """
    answers = list[object]()

    def run() -> None:
        try:
            answers.append(call())
        except OSError as error:
            answers.append(error.errno)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(SECONDS)
    assert 1 == len(answers), "it hangs"
    return answers[0]


def test_bytes_of_a_file(store: LocalStore, tmp_path: Path) -> None:
    """
    Its beginning and its end, or all of it if it is shorter.
    """
    (tmp_path / "file").write_bytes(b"0123456789")

    assert [b"012", b"0123456789"] == [store.read("file", 0, 3), store.read("file", 0, 99)]
    assert [b"789", b"0123456789"] == [store.read("file", -3, 3), store.read("file", -99, 99)]


def test_a_read_that_returns_less_is_continued(
    store: LocalStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    One `pread` may return less than was asked for, as on FUSE.
    """
    (tmp_path / "file").write_bytes(b"0123456789")
    real = os.pread
    monkeypatch.setattr(os, "pread", lambda file, size, at: real(file, min(size, 3), at))

    assert [b"01234567", b"23456789"] == [store.read("file", 0, 8), store.read("file", -8, 8)]


def test_a_file_is_closed_at_once(store: LocalStore, tmp_path: Path) -> None:
    """
    On NFS an open file makes the trainer's own deletion fail.
    """
    (tmp_path / "file").write_bytes(b"0123456789")
    (tmp_path / "directory").mkdir()
    before = os.listdir("/dev/fd")

    for path in ("file", "directory", "missing"):
        store.read(path, 0, 3)
        store.read(path, -3, 3)
        store.pointer(path, 3)

    assert len(before) == len(os.listdir("/dev/fd"))


def test_a_fifo_does_not_hang_the_look(store: LocalStore, tmp_path: Path) -> None:
    """
    It is there and has no bytes, whether somebody writes to it or not.
    """
    os.mkfifo(tmp_path / "fifo")

    def ask() -> list[object]:
        return [store.read("fifo", 0, 9), store.read("fifo", -9, 9), store.pointer("fifo", 9)]

    alone = in_time(ask)
    writer = os.open(tmp_path / "fifo", os.O_RDWR)
    try:
        os.write(writer, b"trap")
        assert [[None] * 3] * 2 == [alone, in_time(ask)]
    finally:
        os.close(writer)
    found = store.stat("fifo")
    assert found is not None
    assert not found.is_directory


def test_a_socket_has_no_bytes(store: LocalStore, tmp_path: Path) -> None:
    """
    It is no fault of the storage that one lies there.
    """
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "socket"))

        assert [None, None] == [store.read("socket", 0, 9), store.pointer("socket", 9)]


def test_a_directory_has_no_bytes(store: LocalStore, tmp_path: Path) -> None:
    """
    A directory where a file is looked for reads as no file, and a file lists as empty.
    """
    (tmp_path / "directory").mkdir()
    (tmp_path / "file").touch()

    assert [None] * 3 == [
        store.read("directory", 0, 9),
        store.read("directory", -9, 9),
        store.pointer("directory", 9),
    ]
    assert ((), None) == (store.list("file"), store.stat("file/below"))


@pytest.mark.parametrize("path", ["loop", "loop/below", "dangling", "missing", "x" * 300])
def test_a_name_that_leads_nowhere_is_not_there(
    store: LocalStore, tmp_path: Path, path: str
) -> None:
    """
    Loops of symlinks, dangling ones, names that are too long.
    """
    (tmp_path / "loop").symlink_to("pool")
    (tmp_path / "pool").symlink_to("loop")
    (tmp_path / "dangling").symlink_to("nowhere")

    assert (None, None, None, ()) == (
        store.stat(path),
        store.read(path, 0, 9),
        store.read(path, -9, 9),
        store.list(path),
    )


def test_a_pointer_is_a_links_target_or_a_files_bytes(store: LocalStore, tmp_path: Path) -> None:
    """
    Also where the link dangles: what it says is what counts.
    """
    (tmp_path / "link").symlink_to("checkpoint-7")
    (tmp_path / "file").write_bytes(b"checkpoint-8\n")

    assert [b"checkpoint-7", b"checkpoint-8\n", None] == [
        store.pointer(name, 99) for name in ("link", "file", "missing")
    ]


@linux
def test_names_that_are_not_utf_8(store: LocalStore, tmp_path: Path) -> None:
    """
    They are listed, asked and read like any other.
    """
    name = os.fsdecode(b"caf\xe9-\xff")
    (tmp_path / name).write_bytes(b"coffee")

    assert ((name,), b"coffee") == (store.list(""), store.read(name, 0, 9))
    found = store.stat(name)
    assert found is not None
    assert 6 == found.size


def test_inodes_that_cannot_be_trusted_are_left_out(tmp_path: Path) -> None:
    """
    Zero, so that nobody compares them.
    """
    file = tmp_path / "file"
    file.touch()

    stats = [LocalStore(str(tmp_path), inodes).stat("file") for inodes in (True, False)]

    assert [file.stat().st_ino, 0] == [stat.inode for stat in stats if stat is not None]


@pytest.mark.skipif(sys.platform == "win32" or os.geteuid() == 0, reason="root may read all")
def test_what_must_not_be_read_is_a_fault(store: LocalStore, tmp_path: Path) -> None:
    """
    Neither "not there" nor "empty".
    """
    (tmp_path / "file").write_bytes(b"secret")
    (tmp_path / "file").chmod(0)

    with pytest.raises(PermissionError):
        store.read("file", 0, 9)


@pytest.mark.parametrize("number", [errno.EACCES, errno.EIO, errno.ESTALE, errno.ETIMEDOUT])
def test_faults_of_the_storage_are_raised(
    store: LocalStore, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """
    From every method, unchanged.
    """

    def fail(*arguments: object) -> object:
        raise OSError(number, "fault")

    for function in ("listdir", "stat", "open", "readlink"):
        monkeypatch.setattr(os, function, fail)

    calls: list[Callable[[], object]] = [
        lambda: store.list(""),
        lambda: store.stat("x"),
        lambda: store.read("x", 0, 1),
        lambda: store.read("x", -1, 1),
        lambda: store.pointer("x", 1),
    ]
    for call in calls:
        with pytest.raises(OSError, match="fault") as raised:
            call()
        assert number == raised.value.errno
