"""
Whose a pin is: a living process keeps its own, a dead one's is removed by the next.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
from pinning import checkpoint_in, files_of, left

import ckptstream
from ckptstream import Checkpoint, PinUnsupported
from ckptstream._pins import _claims, _subject
from ckptstream._pins._hold import DIRECTORY
from ckptstream._stores import Profile
from ckptstream.sync import pin

PROLOGUE = """if True:
    import os, sys
    import ckptstream, ckptstream.sync
    [ckpt] = ckptstream.sync.follow(sys.argv[1], layout="hf", timeout=0)
    def say(word):
        print(word, flush=True)
        sys.stdin.readline()
"""
HOLDS = """
    with ckptstream.sync.pin(ckpt) as pinned:
        say(pinned.run)
"""


@pytest.fixture
def ckpt(run: Path) -> Checkpoint:
    """
    Of the layout "hf": seven files in a directory.
    """
    return checkpoint_in(run)


class Other:
    """
    Another Python process; it says one line, and goes on when it is told.
    """

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process

    def hear(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def go_on(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


@contextmanager
def other_process(ckpt: Checkpoint, program: str = HOLDS) -> Iterator[Other]:
    command = [sys.executable, "-W", "error", "-c", PROLOGUE + program, ckpt.run]
    source = Path(ckptstream.__file__).parents[1]
    environment = {**os.environ, "PYTHONPATH": str(source)}
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    ) as process:
        try:
            yield Other(process)
        finally:
            process.kill()


def names(ckpt: Checkpoint) -> set[str]:
    """
    The pins that are there, by their directories' names.
    """
    return {name for name in left(Path(ckpt.run)) if not name.endswith(".lock")}


def owner(pinned: Checkpoint) -> str:
    """
    What the name of its owner's file begins with, which lies beside the pin.
    """
    return pinned.run.rpartition(".")[0]


def test_a_killed_processs_pin_is_removed_by_the_next(ckpt: Checkpoint, tmp_path: Path) -> None:
    """
    Whenever that is; until then it stays.
    """
    with other_process(ckpt) as other:
        dead = other.hear()
        other.kill()
    assert {os.path.basename(dead)} == names(ckpt)
    with pin(ckpt) as pinned:
        assert {os.path.basename(pinned.run)} == names(ckpt)
    assert ["run"] == os.listdir(tmp_path)


def test_one_killed_while_it_links(ckpt: Checkpoint, tmp_path: Path) -> None:
    """
    At each of the links; what there is of it is removed by the next.
    """
    killed = """
    link, count = os.link, 0
    def kill(source, target):
        global count
        count += 1
        if count == NUMBER:
            os.kill(os.getpid(), 9)
        link(source, target)
    os.link = kill
    with ckptstream.sync.pin(ckpt) as pinned:
        pass
    """
    for number in (1, 4, 7):
        with other_process(ckpt, killed.replace("NUMBER", str(number))) as other:
            other.process.wait()
        assert -signal.SIGKILL == other.process.returncode
        assert names(ckpt)
        with pin(ckpt) as pinned:
            assert {os.path.basename(pinned.run)} == names(ckpt)
        assert ["run"] == os.listdir(tmp_path)


@pytest.mark.parametrize("stopped", [False, True], ids=["at work", "stopped"])
def test_a_living_processs_pin_is_left_alone(ckpt: Checkpoint, stopped: bool) -> None:
    """
    Also that of one that does nothing, as a debugger leaves it.
    """
    with other_process(ckpt) as other:
        living = other.hear()
        if stopped:
            other.process.send_signal(signal.SIGSTOP)
        for _ in range(3):
            with pin(ckpt) as pinned:
                assert {os.path.basename(path) for path in (living, pinned.run)} == names(ckpt)
        assert 7 == len(os.listdir(os.path.join(living, "checkpoint-1")))
        other.process.send_signal(signal.SIGCONT)
        other.go_on()
        assert 0 == other.process.wait()

    assert [] == left(Path(ckpt.run))


def test_ones_own_pins_do_not_unlock_each_other(ckpt: Checkpoint) -> None:
    """
    A process loses a POSIX lock when it closes any descriptor of the file: none may be opened.
    """
    with pin(ckpt) as first, pin(ckpt) as second:
        with pin(ckpt):
            pass
        with other_process(ckpt) as other:
            third = other.hear()
            paths = {first.run, second.run, third}
            assert {os.path.basename(path) for path in paths} == names(ckpt)
            other.kill()


def test_a_forked_child_neither_releases_nor_collects(ckpt: Checkpoint) -> None:
    """
    It leaves its parent's block, pins, exits: the parent's pin stays.
    """
    program = """
    import warnings
    warnings.simplefilter("ignore")
    with ckptstream.sync.pin(ckpt) as pinned:
        child = os.fork()
    if not child:
        with ckptstream.sync.pin(ckpt):
            pass
        os._exit(0)
    say("released")
    """
    held = """
    import warnings
    warnings.simplefilter("ignore")
    with ckptstream.sync.pin(ckpt) as pinned:
        child = os.fork()
        if not child:
            with ckptstream.sync.pin(ckpt) as own:
                assert pinned.run != own.run
            sys.exit(0)
        _, status = os.waitpid(child, 0)
        assert status == 0, status
        say(pinned.run)
    """
    with other_process(ckpt, held) as other:
        parents = other.hear()
        assert 7 == len(os.listdir(os.path.join(parents, "checkpoint-1")))
        with pin(ckpt) as own:
            both = {os.path.basename(path) for path in (parents, own.run)}
            assert both == names(ckpt)
        other.go_on()
        assert 0 == other.process.wait()
    assert [] == left(Path(ckpt.run))
    with other_process(ckpt, program) as other:
        assert "released" == other.hear()
        other.go_on()
        assert 0 == other.process.wait()
    assert [] == left(Path(ckpt.run))


def test_a_forked_child_collects_its_dead_parents_pin(ckpt: Checkpoint) -> None:
    """
    The child inherits the lock file's descriptor, but no lock.
    """
    program = """
    import time, warnings
    warnings.simplefilter("ignore")
    parent = os.getpid()
    with ckptstream.sync.pin(ckpt) as pinned:
        if os.fork():
            os.kill(parent, 9)
        while os.getppid() == parent:
            time.sleep(0.001)
        with ckptstream.sync.pin(ckpt) as own:
            print(os.path.exists(pinned.run), os.path.exists(own.run), flush=True)
    """
    with other_process(ckpt, program) as other:
        assert "False True" == other.hear()
        assert other.process.stdout is not None
        assert "" == other.process.stdout.read()  # The child has ended.
    assert [] == left(Path(ckpt.run))


MANY = """
    link, failed = os.link, 0
    for _ in range(60):
        try:
            with ckptstream.sync.pin(ckpt) as pinned:
                assert 7 == len(os.listdir(pinned.path)), os.listdir(pinned.path)
        except FileNotFoundError as error:
            failed += 1
    print(failed, flush=True)
"""


def test_many_at_once_do_not_harm_each_other(ckpt: Checkpoint, tmp_path: Path) -> None:
    """
    In threads and processes that pin, collect and remove the directory under each other.
    """
    failures = list[BaseException]()

    def work() -> None:
        try:
            for _ in range(40):
                with pin(ckpt) as pinned:
                    assert 7 == len(files_of(pinned))
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work) for _ in range(3)]
    with other_process(ckpt, MANY) as first, other_process(ckpt, MANY) as second:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        heard = [other.hear() for other in (first, second)]

    assert ([], ["0", "0"]) == (failures, heard)
    assert ["run"] == os.listdir(tmp_path)


# What may come between two steps of a claim.


def attempts(monkeypatch: pytest.MonkeyPatch, disturb: Callable[[str], None]) -> list[str]:
    """
    Has *disturb* called with the path of the first lock file; the paths of all of them.
    """
    lockf, paths = fcntl.lockf, list[str]()

    def disturbed(descriptor: int, command: int) -> None:
        paths.append(os.readlink(f"/proc/self/fd/{descriptor}"))
        if len(paths) == 1:
            disturb(paths[0])
        lockf(descriptor, command)

    monkeypatch.setattr(fcntl, "lockf", disturbed)
    return paths


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
def test_a_collector_takes_the_file_before_it_is_locked(
    ckpt: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    Not locked yet, it looks like a dead one's: another is made.
    """
    paths = attempts(monkeypatch, os.unlink)
    with pin(ckpt) as pinned:
        assert f"{owner(pinned)}.lock" == paths[1]
        assert {os.path.basename(paths[1]), os.path.basename(pinned.run)} == set(
            left(tmp_path / "run")
        )

    assert 2 == len(paths)
    assert ["run"] == os.listdir(tmp_path)


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
def test_a_collector_holds_the_lock(
    ckpt: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    It will remove the file: another is made.
    """
    collects = """
    import fcntl
    file = open(sys.stdin.readline().strip(), "r+")
    fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    print("locked", flush=True)
    sys.stdin.readline()
    os.unlink(file.name)
    """
    with other_process(ckpt, collects) as other:

        def lock(path: str) -> None:
            assert other.process.stdin is not None
            other.process.stdin.write(f"{path}\n")
            other.process.stdin.flush()
            assert "locked" == other.hear()

        paths = attempts(monkeypatch, lock)
        with pin(ckpt) as pinned:
            assert f"{owner(pinned)}.lock" == paths[1]
        other.go_on()
        assert 0 == other.process.wait()

    assert 2 == len(paths)
    assert [] == left(tmp_path / "run")


def test_the_directory_is_removed_before_the_file_is_made(
    ckpt: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    By whoever released the last pin: it is made again.
    """
    mkdir, made = os.mkdir, list[str]()

    def remove(path: str, mode: int = 0o777) -> None:
        mkdir(path, mode)
        if os.path.basename(path) == DIRECTORY:
            made.append(path)
            if len(made) < 4:
                os.rmdir(path)

    monkeypatch.setattr(os, "mkdir", remove)
    with pin(ckpt):
        pass

    assert 4 == len(made)
    assert ["run"] == os.listdir(tmp_path)


def test_two_collectors_of_one_pin(
    ckpt: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    The second one finds nothing, at any of the steps of the first.
    """
    root, unlink = str(tmp_path / DIRECTORY), os.unlink
    with other_process(ckpt) as other:
        other.hear()
        other.kill()

    def collect_too(path: str, *, dir_fd: int | None = None) -> None:
        monkeypatch.setattr(os, "unlink", unlink)
        # as if it were another process
        monkeypatch.setattr(_claims, "_filesystems", {})
        _claims.collect(root, lambda: None)
        unlink(path, dir_fd=dir_fd)

    monkeypatch.setattr(os, "unlink", collect_too)
    _claims.collect(root, lambda: None)

    assert ["run"] == os.listdir(tmp_path)


def test_another_one_has_removed_a_part(ckpt: Checkpoint, tmp_path: Path) -> None:
    """
    Any file may vanish under the removal: the rest goes all the same.
    """
    unlink = os.unlink

    def remove_first(path: str, *, dir_fd: int | None = None) -> None:
        unlink(path, dir_fd=dir_fd)
        unlink(path, dir_fd=dir_fd)  # raises FileNotFoundError

    with pytest.MonkeyPatch.context() as monkeypatch, pin(ckpt):
        monkeypatch.setattr(os, "unlink", remove_first)

    assert ["run"] == os.listdir(tmp_path)


def test_what_is_no_pin_is_left_alone(ckpt: Checkpoint, tmp_path: Path) -> None:
    """
    Whoever keeps something there has it afterwards.
    """
    stranger = tmp_path / DIRECTORY / "stranger"
    stranger.mkdir(parents=True)
    with pin(ckpt):
        pass

    assert ["stranger"] == left(tmp_path / "run")


@pytest.mark.skipif(os.getuid() == 0, reason="root may do all")
def test_a_directory_that_is_not_ones_own(ckpt: Checkpoint, tmp_path: Path) -> None:
    """
    The kernel itself refuses.
    """
    tmp_path.chmod(0o555)
    try:
        with pytest.raises(PinUnsupported, match="may not write there"), pin(ckpt):
            pass
    finally:
        tmp_path.chmod(0o755)


# A process needs one descriptor for all of its pins.


def runs_in(tmp_path: Path, count: int) -> list[Checkpoint]:
    """
    Checkpoints of runs that do not lie side by side.
    """
    return [checkpoint_in(tmp_path / f"sweep-{number}" / "run") for number in range(count)]


def test_pins_share_one_descriptor(ckpt: Checkpoint, tmp_path: Path) -> None:
    """
    However many there are, and in however many directories: the owner's file has a link in each.
    """
    others = runs_in(tmp_path, 3)
    before = set(os.listdir("/proc/self/fd"))
    with contextlib.ExitStack() as stack:
        pins = [stack.enter_context(pin(each)) for each in (ckpt, ckpt, *others, *others)]
        opened = set(os.listdir("/proc/self/fd")) - before
        inodes = {os.stat(f"{owner(pinned)}.lock").st_ino for pinned in pins}

        assert 8 == len({pinned.path for pinned in pins})
        assert (1, 1) == (len(inodes), len(opened))

    assert before == set(os.listdir("/proc/self/fd"))
    assert ["run", "sweep-0", "sweep-1", "sweep-2"] == sorted(os.listdir(tmp_path))
    assert all(["run"] == os.listdir(Path(each.run).parent) for each in others)


def test_the_dead_one_had_pins_in_many_directories(tmp_path: Path) -> None:
    """
    The first one who comes to a directory removes what is there; threads do not hinder each other.
    """
    runs = runs_in(tmp_path, 4)
    program = """
    import contextlib
    with contextlib.ExitStack() as stack:
        for number in range(4):
            run = os.path.join(os.path.dirname(sys.argv[1]), "..", f"sweep-{number}", "run")
            [ckpt] = ckptstream.sync.follow(os.path.realpath(run), layout="hf", timeout=0)
            stack.enter_context(ckptstream.sync.pin(ckpt))
        say("pinned")
    """
    with other_process(runs[0], program) as other:
        assert "pinned" == other.hear()
        with pin(runs[0]) as own:
            assert {os.path.basename(own.run)} < names(runs[0])
        other.kill()
    assert all(2 == len(left(Path(each.run))) for each in runs)
    roots = [str(Path(each.run).parent / DIRECTORY) for each in runs]
    with ThreadPoolExecutor(len(roots)) as threads:
        list(threads.map(lambda root: _claims.collect(root, lambda: None), roots))

    assert all([] == left(Path(each.run)) for each in runs)


def test_collectors_in_two_directories_of_one_dead_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    Who comes to one of them removes what is there, though another process is at work in the other.
    """
    first, second = runs_in(tmp_path, 2)
    program = """
    other = os.path.realpath(os.path.join(sys.argv[1], "../../sweep-1/run"))
    with ckptstream.sync.pin(ckpt):
        [ckpt] = ckptstream.sync.follow(other, layout="hf", timeout=0)
        with ckptstream.sync.pin(ckpt):
            say("pinned")
    """
    with other_process(first, program) as dead:
        assert "pinned" == dead.hear()
        dead.kill()
    unlink, found = os.unlink, list[str]()

    def another_process_pins(path: str, *, dir_fd: int | None = None) -> None:
        monkeypatch.setattr(os, "unlink", unlink)
        with other_process(second) as living:
            living.hear()
            found.extend(left(Path(second.run)))
            living.go_on()
            living.process.wait()
        unlink(path, dir_fd=dir_fd)

    monkeypatch.setattr(os, "unlink", another_process_pins)
    _claims.collect(str(Path(first.run).parent / DIRECTORY), lambda: None)

    assert 2 == len(found)
    assert ([], []) == (left(Path(first.run)), left(Path(second.run)))


def pin_and_release(ckpt: Checkpoint) -> None:
    with pin(ckpt):
        pass


def test_no_pin_waits_until_others_are_removed(tmp_path: Path) -> None:
    """
    What a dead process has left in one directory does not hold up pins in another one.
    """
    first, second = runs_in(tmp_path, 2)
    with other_process(first) as dead:
        dead.hear()
        dead.kill()
    at_work, go_on = threading.Event(), threading.Event()

    def slow() -> None:
        at_work.set()
        go_on.wait(60)

    root = str(Path(first.run).parent / DIRECTORY)
    with ThreadPoolExecutor(2) as threads:
        collecting = threads.submit(_claims.collect, root, slow)
        try:
            assert at_work.wait(60)
            threads.submit(pin_and_release, second).result(20)
            assert not collecting.done()
        finally:
            go_on.set()

    assert ([], []) == (left(Path(first.run)), left(Path(second.run)))


def test_a_pin_stays_alive_after_the_directory_of_the_first_one_is_left(
    ckpt: Checkpoint, tmp_path: Path
) -> None:
    """
    In which its owner's file was made.
    """
    (other,) = runs_in(tmp_path, 1)
    with contextlib.ExitStack() as stack:
        with pin(ckpt):
            kept = stack.enter_context(pin(other))
        with other_process(other) as process:
            process.hear()
            process.kill()
        assert 7 == len(files_of(kept))
        with pin(ckpt) as again:
            assert os.path.samefile(f"{owner(again)}.lock", f"{owner(kept)}.lock")


def test_the_owners_file_is_deleted(ckpt: Checkpoint, tmp_path: Path) -> None:
    """
    By somebody who tidies up: the next pin has an owner with a file again.
    """
    with pin(ckpt) as first:
        os.unlink(f"{owner(first)}.lock")
        with pin(ckpt) as second, other_process(ckpt) as other:
            other.hear()
            assert 7 == len(files_of(second))
            assert os.path.exists(f"{owner(second)}.lock")

    with pin(ckpt):
        pass
    assert ["run"] == os.listdir(tmp_path)


def test_one_filesystem_mounted_at_two_places(
    ckpt: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    A link cannot lead from one to the other: there are two owners.
    """
    (other,) = runs_in(tmp_path, 1)
    link = os.link

    def refuse(source: str, target: str) -> None:
        if source.endswith(".lock"):
            raise OSError(errno.EXDEV, os.strerror(errno.EXDEV), source, None, target)
        link(source, target)

    monkeypatch.setattr(os, "link", refuse)
    with pin(ckpt) as first, pin(other) as second, pin(other) as third:
        assert not os.path.samefile(f"{owner(first)}.lock", f"{owner(second)}.lock")
        assert owner(second) == owner(third)

    assert ([], []) == (left(Path(ckpt.run)), left(Path(other.run)))


def test_a_filesystem_that_locks_paths(
    ckpt: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    As FUSE may do: each directory has a file of its own, since a link to it would not be locked.
    """
    fuse = Profile("fuse.sshfs", events=False, rename=False, inodes=True, settle=5.0)
    monkeypatch.setattr(_subject, "_profile", lambda run, device: fuse)
    (other,) = runs_in(tmp_path, 1)
    with pin(ckpt) as first, pin(other) as second, pin(other) as third:
        assert not os.path.samefile(f"{owner(first)}.lock", f"{owner(second)}.lock")
        assert owner(second) == owner(third)

    assert ([], []) == (left(Path(ckpt.run)), left(Path(other.run)))


def test_one_directory_at_two_paths(ckpt: Checkpoint, tmp_path: Path) -> None:
    """
    As a mount shows it: what was pinned by one of them is not taken for a remnant at the other.
    """
    (tmp_path / "mounted").symlink_to(".")
    other_path = str(tmp_path / "mounted" / DIRECTORY)
    with pin(ckpt) as pinned:
        _claims.collect(other_path, lambda: None)
        second = _claims.claim(other_path, linked_locks=True)
        second.release(lambda: None)
        assert 7 == len(files_of(pinned))
        assert os.path.exists(f"{owner(pinned)}.lock")

    assert [] == left(Path(ckpt.run))


def test_what_could_not_be_removed_while_another_pin_lives(ckpt: Checkpoint) -> None:
    """
    The next pin tries again, though its owner is alive.
    """
    rmdir = os.rmdir

    def refuse(path: str, *, dir_fd: int | None = None) -> None:
        if path == "checkpoint-1":
            raise OSError(errno.ENOTEMPTY, os.strerror(errno.ENOTEMPTY), path)
        rmdir(path, dir_fd=dir_fd)

    with pin(ckpt) as living:
        with pytest.MonkeyPatch.context() as monkeypatch, pin(ckpt) as stays:
            monkeypatch.setattr(os, "rmdir", refuse)
        assert os.path.exists(stays.run)
        with pin(ckpt):
            assert not os.path.exists(stays.run)
            assert 7 == len(files_of(living))

    assert [] == left(Path(ckpt.run))
