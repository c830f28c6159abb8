"""
A pinned checkpoint stays whole whatever the trainer deletes, and leaves nothing behind.
"""

from __future__ import annotations

import errno
import fcntl
import fnmatch
import glob
import os
import pickle
import shutil
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path

import anyio
import pytest
from observing import SECONDS, look_threads, until
from pinning import at_link, checkpoint_in, contents, delete, files_of, left, no_pins_left

import ckptstream.sync
from ckptstream import Checkpoint, CheckpointGone, PinUnsupported, UnknownLayout, follow, pin
from ckptstream._pins._hold import DIRECTORY
from ckptstream.layouts import Evidence
from ckptstream.testing import save

pytestmark = pytest.mark.anyio

LAYOUTS = ["hf", "orbax", "tensorflow", "step_{step}/DONE"]


@pytest.fixture
def ckpt(run: Path) -> Checkpoint:
    """
    Of the layout "hf": seven files in a directory.
    """
    return checkpoint_in(run)


async def is_gone(checkpoint: Checkpoint) -> None:
    """
    It cannot be pinned.
    """
    with pytest.raises(CheckpointGone):
        async with pin(checkpoint):
            pass


# It stays.


@pytest.mark.parametrize("layout", [*LAYOUTS, "ckpt_{step}.pt"])
async def test_it_survives_its_deletion(run: Path, layout: str) -> None:
    """
    Directory, file or prefix: every file is there as it was, though the run itself is gone.
    """
    checkpoint = checkpoint_in(run, layout, shards=3 if layout in {"hf", "tensorflow"} else 1)
    before = contents(checkpoint)
    async with pin(checkpoint) as pinned:
        delete(checkpoint)
        shutil.rmtree(run)
        after = contents(pinned)

    assert before
    assert before == after


@pytest.mark.parametrize("layout", LAYOUTS)
async def test_it_is_the_same_checkpoint_at_another_path(run: Path, layout: str) -> None:
    """
    Step, layout and generation are kept; its run is not the run.
    """
    checkpoint = checkpoint_in(run, layout, step=7)
    async with pin(checkpoint) as pinned:
        assert isinstance(pinned, Checkpoint)
        kept = (pinned.step, pinned.layout, pinned.generation)
        assert (7, checkpoint.layout, checkpoint.generation) == kept
        assert os.path.join(pinned.run, os.path.basename(checkpoint.path)) == pinned.path
        assert run.parent / DIRECTORY == Path(pinned.run).parent
        again = [found async for found in follow(pinned.run, layout=layout, timeout=0)]

    assert [pinned] == again


async def test_nothing_is_copied(ckpt: Checkpoint) -> None:
    """
    Each file is the same one under another name.
    """
    async with pin(ckpt) as pinned:
        pairs = list(zip(files_of(ckpt), files_of(pinned), strict=True))

        assert all(os.path.samefile(*pair) for pair in pairs)
    assert 7 == len(pairs)


async def test_only_what_belongs_to_a_prefix_is_linked(run: Path) -> None:
    """
    Neither the state file nor another checkpoint, whose name begins alike.
    """
    save(run, 10, "tensorflow")
    checkpoint = checkpoint_in(run, "tensorflow", step=1, shards=2)
    async with pin(checkpoint) as pinned:
        names = sorted(os.listdir(pinned.run))

    data = [f"ckpt-1.data-0000{shard}-of-00002" for shard in range(2)]
    assert [*data, "ckpt-1.index"] == names


async def test_directories_at_any_depth(run: Path) -> None:
    """
    Also those that are empty, or hidden.
    """
    deep = run / "checkpoint-1" / "a" / ".b" / "c"
    deep.mkdir(parents=True)
    (deep / "weights").write_bytes(b"deep")
    (deep / "empty").mkdir()
    checkpoint = checkpoint_in(run)
    async with pin(checkpoint) as pinned:
        shutil.rmtree(run)
        below = Path(pinned.path) / "a" / ".b" / "c"

        assert b"deep" == (below / "weights").read_bytes()
        assert [] == list((below / "empty").iterdir())


# Symbolic links.


async def test_a_symbolic_link_to_a_file(ckpt: Checkpoint, tmp_path: Path) -> None:
    """
    The file is pinned, wherever it lies, and not the link.
    """
    (tmp_path / "blob").write_bytes(b"weights")
    os.symlink("../../blob", f"{ckpt.path}/linked.safetensors")
    async with pin(ckpt) as pinned:
        (tmp_path / "blob").unlink()
        delete(ckpt)

        assert b"weights" == Path(pinned.path, "linked.safetensors").read_bytes()


async def test_a_symbolic_link_to_a_directory(ckpt: Checkpoint, tmp_path: Path) -> None:
    """
    The files in it are pinned.
    """
    (tmp_path / "shared" / "below").mkdir(parents=True)
    (tmp_path / "shared" / "below" / "blob").write_bytes(b"weights")
    os.symlink(tmp_path / "shared", f"{ckpt.path}/shared")
    async with pin(ckpt) as pinned:
        shutil.rmtree(tmp_path / "shared")
        delete(ckpt)

        assert b"weights" == Path(pinned.path, "shared", "below", "blob").read_bytes()
    assert not Path(pinned.path).exists()


async def test_the_checkpoint_itself_is_a_symbolic_link(run: Path, tmp_path: Path) -> None:
    """
    What it leads to is pinned.
    """
    save(tmp_path / "elsewhere", 1)
    (run / "checkpoint-1").symlink_to(tmp_path / "elsewhere" / "checkpoint-1")
    [checkpoint] = ckptstream.sync.follow(run, layout="hf", timeout=0)
    async with pin(checkpoint) as pinned:
        shutil.rmtree(tmp_path / "elsewhere")

        assert 7 == len(files_of(pinned))


@pytest.mark.parametrize("target", ["no/such/file", "loop"])
async def test_a_symbolic_link_that_leads_nowhere(ckpt: Checkpoint, target: str) -> None:
    """
    It is there as it was.
    """
    os.symlink(target, f"{ckpt.path}/loop")
    async with pin(ckpt) as pinned:
        assert target == os.readlink(f"{pinned.path}/loop")


async def test_symbolic_links_that_lead_back(ckpt: Checkpoint) -> None:
    """
    Upwards, to itself, or two to each other: each ends.
    """
    a, b = Path(ckpt.path, "a"), Path(ckpt.path, "b")
    a.mkdir()
    b.mkdir()
    (a / "up").symlink_to("..")
    (a / "to-b").symlink_to("../b")
    (b / "to-a").symlink_to("../a")
    (b / "self").symlink_to(".")
    (a / "file").touch()
    async with pin(ckpt) as pinned:
        assert Path(pinned.path, "a", "file").is_file()
        assert Path(pinned.path, "b", "to-a", "file").is_file()
        assert Path(pinned.path, "a", "up").is_symlink()


async def test_the_run_is_a_symbolic_link(run: Path, tmp_path: Path) -> None:
    """
    The links lie beside what it leads to, for that is where the files are.
    """
    (tmp_path / "links").mkdir()
    (tmp_path / "links" / "current").symlink_to(run)
    checkpoint = checkpoint_in(tmp_path / "links" / "current")
    async with pin(checkpoint) as pinned:
        assert tmp_path / DIRECTORY == Path(pinned.run).parent
        assert ["current"] == os.listdir(tmp_path / "links")


# It goes.


async def test_nothing_is_left_when_the_block_ends(ckpt: Checkpoint, tmp_path: Path) -> None:
    """
    Not even the directory of the pins; and the checkpoint is what it was.
    """
    before = contents(ckpt)
    async with pin(ckpt):
        assert left(tmp_path / "run")

    assert ["run"] == os.listdir(tmp_path)
    assert before == contents(ckpt)
    assert {1} == {os.stat(path).st_nlink for path in files_of(ckpt)}


async def test_nothing_is_left_when_the_block_raises(ckpt: Checkpoint, tmp_path: Path) -> None:
    """
    The exception arrives unchanged.
    """
    error = ZeroDivisionError()
    with pytest.raises(ZeroDivisionError) as raised:
        async with pin(ckpt):
            raise error

    assert error is raised.value
    assert ["run"] == os.listdir(tmp_path)


async def test_what_a_reader_adds_goes_with_the_pin(ckpt: Checkpoint, tmp_path: Path) -> None:
    """
    An evaluator may leave files, directories and links in it.
    """
    async with pin(ckpt) as pinned:
        Path(pinned.path, "results").mkdir()
        Path(pinned.path, "results", "eval.json").touch()
        Path(pinned.path, "results", "model").symlink_to(ckpt.path)
        Path(pinned.run, "log").touch()
        delete(ckpt)

    assert ["run"] == os.listdir(tmp_path)


async def test_somebody_else_has_removed_it(
    ckpt: Checkpoint, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """
    There is nothing to complain of.
    """
    async with pin(ckpt):
        shutil.rmtree(tmp_path / DIRECTORY)

    assert [] == caplog.records
    assert ["run"] == os.listdir(tmp_path)


async def test_what_cannot_be_removed_is_left_to_the_next(
    ckpt: Checkpoint, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """
    On a network filesystem a file that is still open keeps its directory: said once, tried again.
    """
    rmdir = os.rmdir

    def refuse(path: str, *, dir_fd: int | None = None) -> None:
        if path == "checkpoint-1":
            raise OSError(errno.ENOTEMPTY, os.strerror(errno.ENOTEMPTY), path)
        rmdir(path, dir_fd=dir_fd)

    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(os, "rmdir", refuse)
        async with pin(ckpt) as pinned:
            pass
    [record] = [record for record in caplog.records if record.name.startswith("ckptstream")]
    name = os.path.basename(pinned.run)

    assert ("ckptstream.pins", "WARNING") == (record.name, record.levelname)
    assert f"{pinned.run}: cannot be removed, the next pin here tries again" in record.message
    assert [name, f"{name.rpartition('.')[0]}.lock"] == left(tmp_path / "run")
    async with pin(ckpt):
        assert not os.path.exists(pinned.run)
    assert ["run"] == os.listdir(tmp_path)


async def test_two_pins_of_one_checkpoint(ckpt: Checkpoint, tmp_path: Path) -> None:
    """
    Each is its own: releasing one leaves the other.
    """
    async with pin(ckpt) as first:
        async with pin(ckpt) as second:
            assert first != second
        delete(ckpt)
        assert 7 == len(files_of(first))

    assert ["run"] == os.listdir(tmp_path)


async def test_a_pin_of_a_pinned_checkpoint(ckpt: Checkpoint, tmp_path: Path) -> None:
    """
    A helper that pins what it is given may be given a pinned one.
    """
    async with pin(ckpt) as pinned, pin(pinned) as again:
        delete(pinned)
        assert 7 == len(files_of(again))

    assert ["run"] == os.listdir(tmp_path)


# Too late.


async def test_it_was_deleted_before(ckpt: Checkpoint, tmp_path: Path) -> None:
    """
    Nothing is made then.
    """
    delete(ckpt)
    with pytest.raises(CheckpointGone, match="it was deleted") as raised:
        async with pin(ckpt):
            pass

    assert (ckpt.path, errno.ENOENT) == (raised.value.path, raised.value.errno)
    assert repr(ckpt.path) in str(raised.value)
    assert isinstance(raised.value, FileNotFoundError)
    assert ["run"] == os.listdir(tmp_path)


@pytest.mark.parametrize("above", [0, 1])
async def test_its_run_was_deleted_before(tmp_path: Path, above: int) -> None:
    """
    Or even what the run lay in.
    """
    checkpoint = checkpoint_in(tmp_path / "sweep" / "run")
    shutil.rmtree([tmp_path / "sweep" / "run", tmp_path / "sweep"][above])
    with pytest.raises(CheckpointGone, match="its run's directory was deleted"):
        async with pin(checkpoint):
            pass


async def test_it_is_being_deleted(ckpt: Checkpoint, tmp_path: Path) -> None:
    """
    What proves it finished is gone: the message says what is missing.
    """
    os.unlink(f"{ckpt.path}/trainer_state.json")
    with pytest.raises(CheckpointGone, match=r"being deleted .* \(no trainer_state.json\)"):
        async with pin(ckpt):
            pass

    assert ["run"] == os.listdir(tmp_path)


@pytest.mark.parametrize("layout", LAYOUTS)
async def test_it_was_written_again_before(run: Path, tmp_path: Path, layout: str) -> None:
    """
    A finished checkpoint is there, but not the one that was delivered.
    """
    checkpoint = checkpoint_in(run, layout)
    delete(checkpoint)
    (tmp_path / "other").touch()  # so that no inode is used again
    again = checkpoint_in(run, layout)
    assert checkpoint != again
    with pytest.raises(CheckpointGone, match="it was written again: another generation is there"):
        async with pin(checkpoint):
            pass

    async with pin(again):
        pass
    assert ["other", "run"] == sorted(os.listdir(tmp_path))


@pytest.mark.parametrize("layout", LAYOUTS)
async def test_it_is_deleted_meanwhile(run: Path, tmp_path: Path, layout: str) -> None:
    """
    Before any of the links: what was linked by then is taken back.
    """
    counts = list[int]()
    for number in range(1, len(files_of(checkpoint_in(run, layout))) + 1):
        shutil.rmtree(run)
        checkpoint = checkpoint_in(run, layout)
        with at_link(number, partial(delete, checkpoint)) as linked:
            await is_gone(checkpoint)
        counts.append(len(linked))
        assert ["run"] == os.listdir(tmp_path)

    assert list(range(1, len(counts) + 1)) == counts


async def test_one_file_is_deleted_meanwhile(run: Path, tmp_path: Path) -> None:
    """
    Any of the files, before any of the links.
    """
    count = len(files_of(checkpoint_in(run)))
    for number in range(1, count + 1):
        for victim in range(count):
            shutil.rmtree(run)
            checkpoint = checkpoint_in(run)
            path = files_of(checkpoint)[victim]
            with at_link(number, partial(os.unlink, path)):
                await is_gone(checkpoint)
            assert ["run"] == os.listdir(tmp_path)


@pytest.mark.parametrize("layout", LAYOUTS)
async def test_it_is_written_again_meanwhile(run: Path, tmp_path: Path, layout: str) -> None:
    """
    Before any of the links: no pin holds files of two generations.
    """

    def rewrite() -> None:
        delete(checkpoint)
        save(run, 1, layout)

    for number in range(1, len(files_of(checkpoint_in(run, layout))) + 1):
        shutil.rmtree(run)
        checkpoint = checkpoint_in(run, layout)
        with at_link(number, rewrite):
            await is_gone(checkpoint)
        assert ["run"] == os.listdir(tmp_path)


async def test_one_file_is_replaced_meanwhile(ckpt: Checkpoint, tmp_path: Path) -> None:
    """
    Under the same name, while all that proves the generation stays.
    """

    def replace() -> None:
        Path(ckpt.path, ".other").write_bytes(b"other")
        os.replace(f"{ckpt.path}/.other", f"{ckpt.path}/optimizer.pt")

    with at_link(7, replace), pytest.raises(CheckpointGone, match=r"optimizer.pt' has vanished"):
        async with pin(ckpt):
            pass

    assert ["run"] == os.listdir(tmp_path)


async def test_a_shard_of_a_prefix_is_replaced_meanwhile(run: Path, tmp_path: Path) -> None:
    """
    The index, which tells the generation, is written after it.
    """
    checkpoint = checkpoint_in(run, "tensorflow")
    data = f"{checkpoint.path}.data-00000-of-00001"

    def replace() -> None:
        shutil.copy2(data, f"{data}.tempstate1")
        os.replace(f"{data}.tempstate1", data)

    with at_link(2, replace):
        await is_gone(checkpoint)

    assert ["run"] == os.listdir(tmp_path)


# Changes that do no harm.


async def test_a_file_is_added_meanwhile(ckpt: Checkpoint) -> None:
    """
    Before any of the links: a late rank's file is pinned with the others.
    """
    for number in range(1, 8):
        name = f"rng_state_{number}.pth"
        with at_link(number, Path(ckpt.path, name).touch):
            async with pin(ckpt) as pinned:
                assert sorted(os.listdir(ckpt.path)) == sorted(os.listdir(pinned.path))
                assert name in os.listdir(pinned.path)
        os.unlink(f"{ckpt.path}/{name}")


async def test_files_are_added_without_end(ckpt: Checkpoint, tmp_path: Path) -> None:
    """
    It gives up after three times.
    """
    link, count = os.link, 0

    def add_and_link(source: str, target: str) -> None:
        nonlocal count
        count += 1
        Path(ckpt.path, f"new-{count:03}").touch()
        link(source, target)

    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(os, "link", add_and_link)
        with pytest.raises(CheckpointGone, match="it keeps changing"):
            async with pin(ckpt):
                pass

    assert ["run"] == os.listdir(tmp_path)


async def test_a_temporary_file_vanishes_meanwhile(ckpt: Checkpoint) -> None:
    """
    An evaluator writes `eval.json` by way of another name.
    """
    for number in range(1, 9):
        temporary = Path(ckpt.path, ".tmp-eval.json")
        temporary.touch()
        with at_link(number, temporary.unlink):
            async with pin(ckpt) as pinned:
                assert set(os.listdir(ckpt.path)) <= set(os.listdir(pinned.path))


async def test_what_has_settled_need_not_settle_again(run: Path) -> None:
    """
    It was delivered as finished: pinning it does not wait.
    """
    checkpoint = checkpoint_in(run, "ckpt_{step}.pt")
    with anyio.fail_after(0.9):
        async with pin(checkpoint):
            pass


async def test_an_evaluators_result_makes_it_no_other(ckpt: Checkpoint) -> None:
    """
    What is added between delivery and pin is pinned as well.
    """
    Path(ckpt.path, "eval.json").touch()
    async with pin(ckpt) as pinned:
        assert Path(pinned.path, "eval.json").exists()


# Where there are no links.


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (errno.EXDEV, "on another filesystem"),
        (errno.EPERM, "fs.protected_hardlinks"),
        (errno.EMLINK, "as many links"),
        (errno.EROFS, "read-only"),
        (errno.EACCES, "may not write"),
        (errno.EOPNOTSUPP, "knows no hard links"),
        (errno.ENOSYS, "has no hard links"),
    ],
    ids=lambda value: errno.errorcode[value] if isinstance(value, int) else "",
)
@pytest.mark.parametrize("number", [1, 7])
async def test_links_are_not_supported(
    ckpt: Checkpoint, tmp_path: Path, code: int, words: str, number: int
) -> None:
    """
    The reason is said, and what to do; nothing is left.
    """

    def fail() -> None:
        raise OSError(code, os.strerror(code))

    with at_link(number, fail) as linked, pytest.raises(PinUnsupported, match=words) as raised:
        async with pin(ckpt):
            pass

    assert ckpt.path == raised.value.path
    for part in (repr(ckpt.path), repr(linked[-1]), os.strerror(code), "or copy it while"):
        assert part in str(raised.value)
    assert isinstance(raised.value.__cause__, OSError)
    assert ["run"] == os.listdir(tmp_path)


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EIO])
async def test_other_errors_are_raised_as_they_are(
    ckpt: Checkpoint, tmp_path: Path, code: int
) -> None:
    """
    A full disk is not a filesystem without links.
    """

    def fail() -> None:
        raise OSError(code, os.strerror(code))

    with at_link(3, fail), pytest.raises(OSError, match=os.strerror(code)) as raised:
        async with pin(ckpt):
            pass

    assert not isinstance(raised.value, PinUnsupported)
    assert code == raised.value.errno
    assert ["run"] == os.listdir(tmp_path)


@pytest.mark.parametrize("code", [errno.EACCES, errno.EROFS, errno.EPERM])
@pytest.mark.parametrize("function", ["mkdir", "open"])
async def test_nothing_may_be_made_beside_the_run(
    ckpt: Checkpoint, tmp_path: Path, code: int, function: str
) -> None:
    """
    The place is named.
    """
    original: Callable[..., object] = getattr(os, function)

    def refuse(path: str, *arguments: int, **keywords: int) -> object:
        if isinstance(path, str) and DIRECTORY in path:
            raise OSError(code, os.strerror(code), path)
        return original(path, *arguments, **keywords)

    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(os, function, refuse)
        with pytest.raises(PinUnsupported) as raised:
            async with pin(ckpt):
                pass

    assert repr(str(tmp_path / DIRECTORY)) in str(raised.value)
    assert ["run"] == os.listdir(tmp_path)


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.ENOSYS])
async def test_there_are_no_file_locks(
    ckpt: Checkpoint, tmp_path: Path, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    Without them nobody could tell whose a pin is.
    """

    def refuse(*arguments: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(fcntl, "lockf", refuse)
    with pytest.raises(PinUnsupported, match="file locks"):
        async with pin(ckpt):
            pass

    assert ["run"] == os.listdir(tmp_path)


async def test_a_file_on_another_filesystem(ckpt: Checkpoint, tmp_path: Path) -> None:
    """
    The kernel itself refuses.
    """
    here = tmp_path.stat().st_dev
    others = [p for p in map(Path, ("/dev/shm", "/tmp")) if p.is_dir() and p.stat().st_dev != here]
    if not others:
        pytest.skip("there is no second filesystem here")
    elsewhere = others[0] / f"ckptstream-test-{os.getpid()}"
    elsewhere.touch()
    try:
        Path(ckpt.path, "elsewhere").symlink_to(elsewhere)
        with pytest.raises(PinUnsupported, match="on another filesystem"):
            async with pin(ckpt):
                pass
    finally:
        elsewhere.unlink()

    assert ["run"] == os.listdir(tmp_path)


# Who sees it.


async def test_no_pattern_sees_it(ckpt: Checkpoint, tmp_path: Path) -> None:
    """
    Neither one for runs beside the run, nor one that goes deeper.
    """
    async with pin(ckpt):
        stream = follow(tmp_path / "*", tmp_path / "*/*", layout="hf", timeout=0)
        found = [checkpoint async for checkpoint in stream]

    assert [ckpt] == found


@pytest.mark.parametrize("pattern", ["*", "checkpoint-*", "*/checkpoint-*", "**/checkpoint-*"])
async def test_no_glob_sees_it(ckpt: Checkpoint, tmp_path: Path, pattern: str) -> None:
    """
    In the run's directory nothing is new at all, and above it what begins with a dot is hidden.
    """

    def seen() -> list[str]:
        above = glob.glob(pattern, root_dir=tmp_path, recursive=True)
        inside = fnmatch.filter(os.listdir(ckpt.run), pattern)
        return sorted([*above, *inside, *os.listdir(ckpt.run)])

    before = seen()
    async with pin(ckpt):
        assert before == seen()


# In an event loop.


async def test_the_event_loop_touches_no_storage(
    ckpt: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    Every call is made in a thread.
    """
    threads = set[int]()
    names = ["link", "listdir", "lstat", "mkdir", "open", "rmdir", "scandir", "stat", "unlink"]

    def watch(name: str) -> None:
        original: Callable[..., object] = getattr(os, name)

        def watched(*arguments: object, **keywords: object) -> object:
            threads.add(threading.get_ident())
            return original(*arguments, **keywords)

        monkeypatch.setattr(os, name, watched)

    for name in names:
        watch(name)
    async with pin(ckpt):
        pass

    assert threads
    assert threading.get_ident() not in threads


async def test_storage_that_hangs_does_not_stop_others(ckpt: Checkpoint, tmp_path: Path) -> None:
    """
    Threads that do not answer for a second are replaced.
    """
    other = checkpoint_in(tmp_path / "other")
    released = threading.Event()
    link = os.link

    def hang(source: str, target: str) -> None:
        if source.startswith(ckpt.path):
            released.wait()
        link(source, target)

    async def enter() -> None:
        async with pin(ckpt):
            pass

    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(os, "link", hang)
        async with anyio.create_task_group() as group:
            group.start_soon(enter)
            group.start_soon(enter)
            await until(lambda: len(left(tmp_path / "run")) == 3)
            with anyio.move_on_after(SECONDS) as scope:
                async with pin(other) as pinned:
                    assert 7 == len(files_of(pinned))
            released.set()
    assert not scope.cancelled_caught
    await no_pins_left(tmp_path / "run")


async def test_no_thread_is_at_work_in_the_block(ckpt: Checkpoint) -> None:
    """
    A pin that is held costs nothing.
    """
    async with pin(ckpt):
        assert len(look_threads()) <= 2


# Bad input.


async def test_it_is_used_once(ckpt: Checkpoint) -> None:
    """
    Entering it again would be another pin.
    """
    once, blocking = pin(ckpt), ckptstream.sync.pin(ckpt)
    async with once:
        with pytest.raises(RuntimeError, match=r"call pin\(\) again"):
            await once.__aenter__()
    with pytest.raises(RuntimeError, match=r"checkpoint-1.* was entered before"):
        await once.__aenter__()
    with blocking, pytest.raises(RuntimeError):
        blocking.__enter__()


@pytest.mark.parametrize("function", [pin, ckptstream.sync.pin], ids=["async", "sync"])
def test_bad_arguments(ckpt: Checkpoint, function: Callable[..., object]) -> None:
    """
    Refused at the call.
    """
    unknown = Checkpoint(ckpt.path, 1, ckpt.run, "mine", ckpt.generation)
    with pytest.raises(TypeError, match="ckpt='runs/checkpoint-1' is no Checkpoint"):
        function("runs/checkpoint-1")
    with pytest.raises(ValueError, match=r"ckpt.layout='mine' .* pin\(ckpt, layout=...\)"):
        function(unknown)
    with pytest.raises(UnknownLayout, match="hff"):
        function(ckpt, layout="hff")
    with pytest.raises(TypeError, match="is not a layout"):
        function(ckpt, layout=7)


class Mine:
    """
    A layout of a user's own: finished when it is there.
    """

    name = "mine"

    def match(self, name: str) -> tuple[str, int | None] | None:
        return (name, None) if name.endswith(".mine") else None

    def missing(self, name: str, evidence: Evidence) -> str | None:
        return None

    def generation(self, name: str, evidence: Evidence) -> int | str | None:
        return evidence.fingerprint(name)


async def test_a_layout_of_ones_own(run: Path) -> None:
    """
    It is given to the pin as it was to the stream.
    """
    (run / "a.mine").write_bytes(b"a")
    [checkpoint] = ckptstream.sync.follow(run, layout=Mine(), timeout=0)
    async with pin(checkpoint, layout=Mine()) as pinned:
        (run / "a.mine").unlink()
        assert b"a" == Path(pinned.path).read_bytes()
    with pytest.raises(CheckpointGone):
        async with pin(checkpoint, layout=Mine()):
            pass


def test_errors_can_be_pickled() -> None:
    """
    An evaluation may run in another process.
    """
    for error in (CheckpointGone("runs/1", "it was deleted"), PinUnsupported("runs/1", "no")):
        again = pickle.loads(pickle.dumps(error))
        assert (type(error), str(error), vars(error)) == (type(again), str(again), vars(again))


# Blocking code.


def test_the_blocking_twin(ckpt: Checkpoint, tmp_path: Path) -> None:
    """
    It keeps the same promises, in the caller's own thread.
    """
    before, threads = contents(ckpt), look_threads()
    with ckptstream.sync.pin(ckpt) as pinned:
        delete(ckpt)
        assert before == contents(pinned)
    assert ["run"] == os.listdir(tmp_path)
    with pytest.raises(CheckpointGone), ckptstream.sync.pin(ckpt):
        pass
    assert set() == set(look_threads()) - set(threads)


def test_the_blocking_twin_when_its_block_raises(ckpt: Checkpoint, tmp_path: Path) -> None:
    """
    Ctrl-C, for example.
    """
    with pytest.raises(KeyboardInterrupt), ckptstream.sync.pin(ckpt):
        raise KeyboardInterrupt

    assert ["run"] == os.listdir(tmp_path)


def test_the_blocking_twin_interrupted_while_it_links(ckpt: Checkpoint, tmp_path: Path) -> None:
    """
    Before any of the links.
    """

    def interrupt() -> None:
        raise KeyboardInterrupt

    for number in range(1, 8):
        blocking = ckptstream.sync.pin(ckpt)
        with at_link(number, interrupt), pytest.raises(KeyboardInterrupt), blocking:
            pass
        assert ["run"] == os.listdir(tmp_path)
