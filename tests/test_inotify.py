"""
The inotify instance of an event loop: what it watches, for whom, and what it tells.
"""

from __future__ import annotations

import errno
import gc
import os
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from observing import SECONDS, Told, inodes, inotify_descriptors, linux, wait_until, watched

from ckptstream._watchers import Meaning

pytestmark = linux

if sys.platform == "linux":
    from inotify_simple import INotify

    from ckptstream._watchers._inotify import Inotify, Subscription

RUN = Meaning()


@pytest.fixture
def inotify(request: pytest.FixtureRequest) -> Iterator[Inotify]:
    """
    An instance; it is closed by a finalizer, so nobody may keep it afterwards.
    """
    yield Inotify()
    del request.node.funcargs["inotify"]
    gc.collect()


def subscribe(inotify: Inotify) -> tuple[Told, Subscription]:
    told = Told()
    return told, Subscription(inotify, told)


def descriptor(inotify: Inotify) -> int:
    assert inotify.fd is not None
    return inotify.fd


def read_all(inotify: Inotify, enough: Callable[[], object]) -> None:
    """
    Read until the listeners were told enough; the events are there already.
    """

    def told() -> object:
        inotify.read()
        return enough()

    wait_until(told)


def test_nothing_is_opened_before_the_first_watch(inotify: Inotify, run: Path) -> None:
    """
    A stream that polls costs no instance; the first watch opens the only one.
    """
    before = inotify_descriptors()
    inotify.read()
    _, subscription = subscribe(inotify)
    assert (None, before) == (inotify.fd, inotify_descriptors())

    subscription.arm(str(run), RUN)

    assert {inotify.fd} == inotify_descriptors() - before


def test_events_tell_names_and_what_arrived(inotify: Inotify, run: Path) -> None:
    """
    Created and moved in: arrived. Closed, moved away, deleted: changed.
    """
    outside = run.parent / "outside"
    outside.mkdir()
    told, subscription = subscribe(inotify)
    subscription.arm(str(run), RUN)

    (run / "made").mkdir()
    (run / "written").write_text("x")
    (outside / "moved").mkdir()
    (outside / "moved").rename(run / "came")
    (run / "made").rename(outside / "away")
    (run / "written").unlink()
    read_all(inotify, lambda: len(told.entries) >= 6)

    assert [
        ("made", True),
        ("written", True),
        ("written", False),
        ("came", True),
        ("made", False),
        ("written", False),
    ] == told.entries
    assert 0 == told.everything


def test_a_write_says_nothing_before_the_file_is_closed(inotify: Inotify, run: Path) -> None:
    """
    A model of many gigabytes is one event, not thousands.
    """
    told, subscription = subscribe(inotify)
    with (run / "model").open("wb") as file:
        subscription.arm(str(run), RUN)
        for _ in range(100):
            file.write(b"x")
            file.flush()
        inotify.read()
        assert [] == told.entries

    read_all(inotify, lambda: told.entries)

    assert [("model", False)] == told.entries


def test_names_that_are_not_utf_8_arrive_as_listdir_gives_them(inotify: Inotify, run: Path) -> None:
    """
    So that an event's name can be compared with a listing.
    """
    told, subscription = subscribe(inotify)
    subscription.arm(str(run), RUN)

    os.mkdir(os.fsencode(run) + b"/caf\xe9")
    read_all(inotify, lambda: told.entries)

    assert [(name, True) for name in os.listdir(run)] == told.entries


def test_what_a_directory_means_decides_what_is_told(inotify: Inotify, run: Path) -> None:
    """
    An entry's own directory speaks of the entry; a parent of one name alone.
    """
    inside, parent = run / "step_1", run.parent
    inside.mkdir()
    told, subscription = subscribe(inotify)
    subscription.arm(str(inside), Meaning(entry="step_1"))
    subscription.arm(str(parent), Meaning(only="other"))

    (inside / "DONE").touch()
    (parent / "foreign").mkdir()
    read_all(inotify, lambda: len(told.entries) >= 2)
    before = told.everything
    (parent / "other").mkdir()
    read_all(inotify, lambda: told.everything)

    assert [("step_1", False)] * 2 == told.entries
    assert (0, 1) == (before, told.everything)


def test_permissions_of_the_run_itself_may_change_everything(inotify: Inotify, run: Path) -> None:
    """
    It may have become readable: an event without a name.
    """
    told, subscription = subscribe(inotify)
    subscription.arm(str(run), RUN)

    run.chmod(0o700)
    read_all(inotify, lambda: told.everything)

    assert [] == told.entries


def test_one_directory_is_watched_once_however_it_is_reached(inotify: Inotify, run: Path) -> None:
    """
    Two paths to one inode are one watch for the kernel: both users are told.
    """
    link = run.parent / "link"
    link.symlink_to(run)
    (one, first), (two, second) = subscribe(inotify), subscribe(inotify)
    fresh = [first.arm(str(run), RUN), second.arm(str(link), RUN), first.arm(str(link), RUN)]

    (run / "new").mkdir()
    read_all(inotify, lambda: len(one.entries) >= 2 and two.entries)

    assert ([True] * 3, inodes(run)) == (fresh, watched(descriptor(inotify)))
    assert ([("new", True)] * 2, [("new", True)]) == (one.entries, two.entries)


def test_the_last_user_of_a_directory_removes_the_watch(inotify: Inotify, run: Path) -> None:
    """
    One of two users goes: the other is told as before. Both are gone: nothing is watched.
    """
    link = run.parent / "link"
    link.symlink_to(run)
    (one, first), (two, second) = subscribe(inotify), subscribe(inotify)
    first.arm(str(run), RUN)
    second.arm(str(link), RUN)

    first.keep(lambda path, meaning: False)
    (run / "new").mkdir()
    read_all(inotify, lambda: two.entries)
    between = watched(descriptor(inotify))
    second.keep(lambda path, meaning: False)

    assert ([], [("new", True)]) == (one.entries, two.entries)
    assert (inodes(run), []) == (between, watched(descriptor(inotify)))


def test_one_user_with_two_meanings_keeps_the_other(inotify: Inotify, run: Path) -> None:
    """
    A run whose parent is another run's directory drops one watch, not both.
    """
    told, subscription = subscribe(inotify)
    subscription.arm(str(run), RUN)
    subscription.arm(str(run), Meaning(only="link"))

    subscription.keep(lambda path, meaning: meaning == RUN)
    (run / "link").mkdir()
    read_all(inotify, lambda: told.entries)

    assert (0, [("link", True)]) == (told.everything, told.entries)
    assert (1, inodes(run)) == (subscription.watching, watched(descriptor(inotify)))


def test_arming_again_is_no_news_and_no_second_watch(inotify: Inotify, run: Path) -> None:
    """
    Every look arms again by path; only the first time is it fresh.
    """
    told, subscription = subscribe(inotify)

    fresh = [subscription.arm(str(run), RUN) for _ in range(5)]

    assert [True, False, False, False, False] == fresh
    assert inodes(run) == watched(descriptor(inotify))
    (run / "new").mkdir()
    read_all(inotify, lambda: told.entries)
    assert [("new", True)] == told.entries
    subscription.keep(lambda path, meaning: False)
    assert [] == watched(descriptor(inotify))


def test_a_replaced_directory_is_armed_again(inotify: Inotify, run: Path) -> None:
    """
    Renamed away, with another one in its place: the run is told, and the new one is watched.
    """
    told, subscription = subscribe(inotify)
    subscription.arm(str(run), RUN)
    old = run.parent / "old"
    run.rename(old)
    run.mkdir()
    read_all(inotify, lambda: told.everything)

    fresh = subscription.arm(str(run), RUN)
    (old / "lost").mkdir()
    (run / "new").mkdir()
    read_all(inotify, lambda: told.entries)

    assert (True, inodes(run)) == (fresh, watched(descriptor(inotify)))
    assert [("new", True)] == told.entries


def test_a_deleted_directory_is_told_and_armed_again(inotify: Inotify, run: Path) -> None:
    """
    The kernel drops the watch with the directory; nobody counts it any more.
    """
    told, subscription = subscribe(inotify)
    subscription.arm(str(run), RUN)
    run.rmdir()
    read_all(inotify, lambda: told.everything)
    run.mkdir()

    fresh = subscription.arm(str(run), RUN)
    (run / "new").mkdir()
    read_all(inotify, lambda: told.entries)

    assert (True, [("new", True)]) == (fresh, told.entries)
    assert inodes(run) == watched(descriptor(inotify))


def test_a_directory_that_goes_while_it_is_armed_is_looked_at_again(
    inotify: Inotify, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    IN_IGNORED is read before the watch is registered: it marks what registers there next.
    """
    real = INotify.add_watch

    def add_watch(self: INotify, path: str, mask: int) -> int:
        added = real(self, path, mask)
        if path == str(run):
            os.rmdir(path)
            inotify.read()
        return added

    _, subscription = subscribe(inotify)
    _, other = subscribe(inotify)
    monkeypatch.setattr(INotify, "add_watch", add_watch)

    subscription.arm(str(run), RUN)
    other.arm(str(run.parent), RUN)

    assert [True, False] == [subscription.disturbed, other.disturbed]


def test_a_watch_taken_over_while_it_is_removed_is_looked_at_again(
    inotify: Inotify, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    Its last user leaves while the next one arms; then the directory goes: the mark still counts.
    """
    real = INotify.add_watch
    _, leaving = subscribe(inotify)
    leaving.arm(str(run), RUN)
    # A later directory: the taken-over descriptor is not the newest one.
    _, later = subscribe(inotify)
    later.arm(str(run.parent), RUN)

    def add_watch(self: INotify, path: str, mask: int) -> int:
        added = real(self, path, mask)
        leaving.keep(lambda path, meaning: False)
        os.rmdir(path)
        inotify.read()
        return added

    _, subscription = subscribe(inotify)
    monkeypatch.setattr(INotify, "add_watch", add_watch)
    subscription.arm(str(run), RUN)

    assert [True, False] == [subscription.disturbed, later.disturbed]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EACCES])
def test_a_refused_watch_does_not_stay_counted(
    inotify: Inotify, run: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """
    The error is raised, and the watch that could not be renewed is given back.
    """
    told, subscription = subscribe(inotify)
    subscription.arm(str(run), RUN)

    def refuse(self: INotify, path: str, mask: int) -> int:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(INotify, "add_watch", refuse)
    with pytest.raises(OSError, match=os.strerror(number)):
        subscription.arm(str(run), RUN)

    assert (0, []) == (subscription.watching, watched(descriptor(inotify)))
    assert (0, []) == (told.everything, told.entries)


def test_who_leaves_while_another_is_refused_is_not_forgotten(
    inotify: Inotify, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    The removal is left to the thread that arms, which keeps its word when it fails, too.
    """
    _, leaving = subscribe(inotify)
    leaving.arm(str(run), RUN)
    _, arming = subscribe(inotify)

    def refuse(self: INotify, path: str, mask: int) -> int:
        leaving.keep(lambda path, meaning: False)
        assert inodes(run) == watched(descriptor(inotify))  # Not removed yet: the test is real.
        raise OSError(errno.ENOSPC, "no space")

    monkeypatch.setattr(INotify, "add_watch", refuse)
    with pytest.raises(OSError, match="no space"):
        arming.arm(str(run.parent), RUN)

    assert [] == watched(descriptor(inotify))


def test_a_failed_instance_is_tried_again(
    inotify: Inotify, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    Out of instances now is not out of instances for ever.
    """

    def refuse(**options: object) -> INotify:
        raise OSError(errno.EMFILE, "too many")

    _, subscription = subscribe(inotify)
    with monkeypatch.context() as patch:
        patch.setattr("inotify_simple.INotify", refuse)
        with pytest.raises(OSError, match="too many"):
            subscription.arm(str(run), RUN)
    assert inotify.fd is None

    assert subscription.arm(str(run), RUN)
    assert inodes(run) == watched(descriptor(inotify))


def test_a_dropped_user_leaves_its_watches(inotify: Inotify, run: Path) -> None:
    """
    A stream that is only dropped closes nothing itself, and still leaves no watch behind.
    """
    (one, first), (_, second) = subscribe(inotify), subscribe(inotify)
    (run / "inside").mkdir()
    first.arm(str(run), RUN)
    first.arm(str(run / "inside"), Meaning(entry="inside"))
    second.arm(str(run), RUN)

    del first, one
    gc.collect()

    assert inodes(run) == watched(descriptor(inotify))


def test_a_listener_that_has_gone_is_not_missed(inotify: Inotify, run: Path) -> None:
    """
    Listeners are held weakly: its events are dropped, the others' are not.
    """
    (one, first), (two, second) = subscribe(inotify), subscribe(inotify)
    first.arm(str(run), RUN)
    second.arm(str(run), RUN)
    gone = weakref.ref(one)

    del one
    (run / "new").mkdir()
    read_all(inotify, lambda: two.entries)

    assert (None, [("new", True)]) == (gone(), two.entries)


@pytest.mark.parametrize("lock", ["_tables", "_arming"])
def test_a_user_dropped_under_a_lock_does_not_lock_it_out(
    inotify: Inotify, run: Path, lock: str
) -> None:
    """
    The garbage collector runs anywhere, also in a thread that holds one of the locks.
    """
    (one, first), (_, second) = subscribe(inotify), subscribe(inotify)
    first.arm(str(run), RUN)
    second.arm(str(run.parent), RUN)
    holder = [first, one]
    del first, one

    def collect() -> None:
        with getattr(inotify, lock):
            holder.clear()
            gc.collect()

    thread = threading.Thread(target=collect, daemon=True)
    thread.start()
    thread.join(SECONDS)

    assert not thread.is_alive()
    second.arm(str(run.parent), RUN)  # Whoever comes by next does what could not be done there.
    assert inodes(run.parent) == watched(descriptor(inotify))


def test_the_instance_is_closed_with_its_last_user(run: Path) -> None:
    """
    By a finalizer, without a warning.
    """
    before = inotify_descriptors()
    inotify = Inotify()
    told, subscription = subscribe(inotify)
    subscription.arm(str(run), RUN)
    assert 1 == len(inotify_descriptors() - before)

    del inotify, subscription
    gc.collect()

    assert (before, 0) == (inotify_descriptors(), told.everything)


def test_at_most_64_kilobytes_are_read_at_once(
    inotify: Inotify, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    A flood of events does not hold the event loop; the rest comes next time.
    """
    told, subscription = subscribe(inotify)
    subscription.arm(str(run), RUN)
    for number in range(5000):
        (run / f"entry-{number}").mkdir()
    real, sizes = os.read, list[int]()

    def counted(file: int, size: int) -> bytes:
        data = real(file, size)
        sizes.append(len(data))
        return data

    monkeypatch.setattr(os, "read", counted)
    inotify.read()
    first = len(told.entries)
    read_all(inotify, lambda: len(told.entries) == 5000)

    assert 0 < first < 5000
    assert max(sizes) <= 65536
    assert [(f"entry-{number}", True) for number in range(5000)] == told.entries


def overflow(directory: Path) -> None:
    """
    More events than the kernel keeps: each name is created and deleted.
    """
    limit = int(Path("/proc/sys/fs/inotify/max_queued_events").read_text())
    for number in range(limit // 2 + 100):
        path = directory / f"flood-{number}"
        path.mkdir()
        path.rmdir()


def test_an_overflow_tells_everybody_once(inotify: Inotify, run: Path) -> None:
    """
    Nobody knows whose events were lost: all are told that anything may have changed.
    """
    (busy, first), (quiet, second) = subscribe(inotify), subscribe(inotify)
    (run / "quiet").mkdir()
    first.arm(str(run), RUN)
    first.arm(str(run.parent), Meaning(only="link"))
    second.arm(str(run / "quiet"), RUN)

    overflow(run)
    (run / "quiet" / "lost").mkdir()
    read_all(inotify, lambda: quiet.everything)

    assert (1, 1, []) == (busy.everything, quiet.everything, quiet.entries)


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_child_touches_nothing_of_its_parents(run: Path) -> None:
    """
    It reads no event, removes no watch and closes no descriptor.
    """
    inotify = Inotify()
    told, subscription = subscribe(inotify)
    subscription.arm(str(run), RUN)
    (run / "new").mkdir()
    before = descriptor(inotify)

    child = os.fork()
    if child == 0:
        failed = 1
        try:
            inotify.read()
            subscription.keep(lambda path, meaning: False)
            del subscription, inotify
            gc.collect()
            failed = 0 if not told.entries and before in inotify_descriptors() else 2
        finally:
            os._exit(failed)
    _, status = os.waitpid(child, 0)

    assert (0, inodes(run)) == (os.waitstatus_to_exitcode(status), watched(before))
    inotify.read()
    assert [("new", True)] == told.entries
