"""
One look at a run: what it lists, what it asks, what it watches, and what it takes for granted.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import anyio
import pytest
from observing import mark_done
from steering import virtual

from ckptstream import follow
from ckptstream._scan import Entry, Ground, Look, Request, Trouble, look
from ckptstream._scan._paths import turns
from ckptstream._stores import LocalLocation, Profile
from ckptstream._watchers import Meaning
from ckptstream.layouts import pointer_layouts, resolve
from ckptstream.testing import ManualWatcher, save

LAYOUT = "step_{step}/DONE"
LOCAL = Profile("ext4", events=True, rename=True, inodes=True, settle=1.0)
FUSE = Profile("fuse.x", events=False, rename=False, inodes=False, settle=5.0)


class Watches:
    """
    A subscription that remembers what is watched.
    """

    def __init__(self) -> None:
        self.disturbed = False
        self.places = dict[tuple[str, Meaning], int]()
        self.meanwhile: Callable[[str], None] = lambda path: None

    def arm(self, path: str, meaning: Meaning) -> bool:
        identity = os.stat(path).st_ino
        fresh = self.places.get((path, meaning)) != identity
        self.places[path, meaning] = identity
        self.meanwhile(path)
        return fresh

    def keep(self, wanted: Callable[[str, Meaning], bool]) -> None:
        self.places = {key: inode for key, inode in self.places.items() if wanted(*key)}

    def inside(self, run: Path) -> list[str]:
        """
        The watched directories in a run, in order.
        """
        paths = [path for path, meaning in self.places if meaning.entry is not None]
        return sorted(os.path.relpath(path, run) for path in paths)


@dataclass
class Looker:
    """
    What a stream remembers between looks, without a stream.
    """

    run: Path
    layout: str = LAYOUT
    subscription: Watches | None = None
    now: float = 0.0
    entries: dict[str, Entry] = field(default_factory=dict[str, Entry])
    newest: tuple[str, ...] = ()
    pointed: tuple[tuple[str, ...], ...] = ()
    ground: Ground | None = None
    recognised: tuple[str, ...] = ()
    alive: int = 0

    def look(
        self, *hints: str, arrived: bool = False, full: bool = False, thorough: bool = False
    ) -> Look:
        layout = resolve(self.layout)
        request = Request(
            location=LocalLocation(str(self.run)),
            layout=layout,
            pointers=pointer_layouts(layout),
            pointed=self.pointed,
            entries=self.entries,
            unfinished=[n for n, e in self.entries.items() if e.missing is not None],
            newest=self.newest,
            hints=dict.fromkeys(hints, arrived),
            full=full or thorough or self.ground is None,
            whole=False,
            thorough=thorough,
            ground=self.ground,
            subscription=self.subscription,
            why_poll="for the test",
            trust_any=False,
            clock=lambda: self.now,
            recognised=self.recognised,
        )
        found = look(request, self._alive)
        self.ground, self.pointed = found.ground, found.pointed
        self.recognised += tuple(layout for layout, _ in found.recognised)
        self.entries = {**self.entries, **found.changed}
        for name in found.gone:
            del self.entries[name]
        return found

    def _alive(self) -> None:
        self.alive += 1


@pytest.fixture(autouse=True)
def disk(monkeypatch: pytest.MonkeyPatch) -> Callable[[Profile], None]:
    """
    Every directory lies on a local disk, or on what a test says.
    """

    def lies_on(known: Profile) -> None:
        monkeypatch.setattr("ckptstream._stores._local.profile", lambda path: known)

    lies_on(LOCAL)
    return lies_on


class Calls:
    """
    The calls of `os` that looks make, counted.
    """

    NAMES = ("listdir", "stat", "lstat", "open", "readlink", "scandir")

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.made = list[tuple[str, str]]()
        for name in self.NAMES:
            monkeypatch.setattr(os, name, self._counted(name, getattr(os, name)))

    def _counted(self, name: str, real: Callable[..., object]) -> Callable[..., object]:
        def call(path: object, *arguments: object, **options: object) -> object:
            self.made.append((name, str(path)))
            return real(path, *arguments, **options)

        return call

    def listings(self, run: Path) -> int:
        return sum(call == ("listdir", str(run)) for call in self.made)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Iterator[Calls]:
    with monkeypatch.context() as patch:
        yield Calls(patch)


def test_the_first_look_lists(run: Path) -> None:
    """
    Finished and unfinished, with what is lacking, and nothing of what is foreign.
    """
    mark_done(run, 1)
    (run / "step_2").mkdir()
    (run / "notes.txt").touch()

    found = Looker(run).look()

    assert {"step_1": None, "step_2": "no DONE"} == {n: e.missing for n, e in found.changed.items()}
    assert ((), True, None) == (found.gone, found.full, found.trouble)


def test_by_what_a_layout_was_recognised_is_asked_once(run: Path) -> None:
    """
    However many of its checkpoints there are, and come.
    """
    looker = Looker(run, "auto")
    for step in (1, 2, 3):
        save(run, step)
    first = looker.look()
    save(run, 4)
    second = looker.look("checkpoint-4", arrived=True)

    assert ((("hf", "trainer_state.json"),), ()) == (first.recognised, second.recognised)


@pytest.mark.parametrize("others", [0, 500])
def test_a_hint_costs_the_same_however_many_others_lie_there(
    run: Path, calls: Calls, others: int
) -> None:
    """
    An event's name is followed; nothing is listed, nobody else is asked.
    """
    for number in range(others):
        mark_done(run, 1000 + number)
    looker = Looker(run, subscription=Watches())
    looker.look()
    looker.newest = ("step_1000",) if others else ()
    mark_done(run, 1)
    calls.made.clear()

    found = looker.look("step_1", arrived=True)

    assert (["step_1"], False) == (list(found.changed), found.full)
    assert 0 == calls.listings(run)
    asked = sorted({path for _, path in calls.made if path.startswith(f"{run}/")})
    assert [f"{run}/step_1", f"{run}/step_1/DONE"] == asked


def test_a_hint_that_is_gone_was_missed(run: Path) -> None:
    """
    Seen by an event, deleted before the look: it is told with its step.
    """
    looker = Looker(run, subscription=Watches())
    looker.look()

    seen = looker.look("step_7", arrived=True).vanished
    only_changed = looker.look("step_8", arrived=False).vanished
    listed = looker.look("step_9", arrived=True, full=True).vanished

    assert ((("step_7", 7),), (), (("step_9", 9),)) == (seen, only_changed, listed)


@pytest.mark.parametrize("trusted", [False, True])
def test_a_hint_of_a_member_counts_in_a_listing_too(run: Path, trusted: bool) -> None:
    """
    An event of `ckpt-1.index`, and the whole directory to be listed: `ckpt-1` is asked again.
    """
    save(run, 1, "tensorflow")
    looker = Looker(run, layout="tensorflow", subscription=Watches())
    for looker.now in (0.0, 5.0) if trusted else (0.0,):
        looker.look(full=True)
    assert looker.ground is not None
    assert trusted == looker.ground.trusted
    os.utime(run / "ckpt-1.index", ns=(7, 7))

    assert [] == list(looker.look(full=True).changed)
    assert ["ckpt-1"] == list(looker.look("ckpt-1.index", full=True).changed)


def test_foreign_hints_ask_nothing(run: Path, calls: Calls) -> None:
    """
    Log files, images and temporary names cost no question.
    """
    looker = Looker(run, subscription=Watches())
    looker.look()
    calls.made.clear()

    found = looker.look("events.out.tfevents", "step_x", arrived=True)

    assert ({}, (), ()) == (found.changed, found.gone, found.vanished)
    assert [] == [path for _, path in calls.made if path.startswith(f"{run}/")]


def test_an_unchanged_time_is_trusted_after_two_looks_two_seconds_apart(
    run: Path, calls: Calls
) -> None:
    """
    Not before: directory times are coarse.
    """
    mark_done(run, 1)
    looker = Looker(run)
    listed = list[int]()
    for looker.now in (0.0, 1.0, 1.999, 2.0, 2.5, 1000.0):
        calls.made.clear()
        looker.look(full=True)
        listed.append(calls.listings(run))

    assert [1, 1, 1, 1, 0, 0] == listed


def test_a_change_within_one_tick_of_the_clock_is_found(run: Path) -> None:
    """
    The directory's time does not show it, and the look before was in the same moment.
    """
    mark_done(run, 1)
    looker = Looker(run)
    looker.look(full=True)
    times = run.stat()
    mark_done(run, 2)
    os.utime(run, ns=(times.st_atime_ns, times.st_mtime_ns))

    looker.now = 1.9
    found = looker.look(full=True)

    assert ["step_2"] == list(found.changed)


def test_a_changed_time_takes_the_trust_away(run: Path, calls: Calls) -> None:
    """
    A new entry is found, and the two seconds begin anew.
    """
    looker = Looker(run)
    for looker.now in (0.0, 5.0, 6.0):
        looker.look(full=True)
    assert looker.ground is not None
    assert looker.ground.trusted
    mark_done(run, 1)

    found = looker.look(full=True)
    calls.made.clear()
    looker.now = 7.9
    looker.look(full=True)

    assert (["step_1"], 1) == (list(found.changed), calls.listings(run))


def test_a_trusted_directory_is_still_asked_for_what_is_unfinished(run: Path) -> None:
    """
    A marker does not change the time of the run's own directory.
    """
    (run / "step_1").mkdir()
    looker = Looker(run)
    for looker.now in (0.0, 5.0):
        looker.look(full=True)
    (run / "step_1" / "DONE").touch()

    found = looker.look(full=True)

    assert [None] == [entry.missing for entry in found.changed.values()]


def test_times_are_never_trusted_where_renames_are_not_atomic(
    run: Path, calls: Calls, disk: Callable[[Profile], None]
) -> None:
    """
    FUSE filesystems make directory times up.
    """
    disk(FUSE)
    looker = Looker(run)
    for looker.now in (0.0, 10.0, 20.0, 30.0):
        calls.made.clear()
        looker.look(full=True)
        assert 1 == calls.listings(run)


def test_a_thorough_look_finds_an_old_one_rewritten(run: Path) -> None:
    """
    No event, an unchanged directory time: the safety look asks everybody again.
    """
    mark_done(run, 1)
    looker = Looker(run)
    for looker.now in (0.0, 5.0, 6.0):
        looker.look(full=True)
    (run / "step_1" / "NEW").touch()
    (run / "step_1" / "NEW").replace(run / "step_1" / "DONE")

    ordinary, thorough = looker.look(full=True), looker.look(thorough=True)

    assert ([], ["step_1"]) == (list(ordinary.changed), list(thorough.changed))


def test_the_newest_are_asked_again_at_every_listing(run: Path) -> None:
    """
    They are those that are written again.
    """
    mark_done(run, 1)
    looker = Looker(run)
    looker.look()
    looker.newest = ("step_1",)
    (run / "step_1" / "NEW").touch()
    (run / "step_1" / "NEW").replace(run / "step_1" / "DONE")

    assert ["step_1"] == list(looker.look(full=True).changed)


@pytest.mark.parametrize("full", [True, False])
def test_entries_come_and_go(run: Path, full: bool) -> None:
    """
    By a listing or by hints: what is gone is told once, what comes back is new.
    """
    mark_done(run, 1)
    looker = Looker(run, subscription=Watches())
    looker.look()
    shutil.rmtree(run / "step_1")
    gone = [looker.look("step_1", full=full).gone, looker.look("step_1", full=full).gone]
    mark_done(run, 1)
    back = looker.look("step_1", arrived=True, full=full)

    assert ([("step_1",), ()], ["step_1"]) == (gone, list(back.changed))


def test_the_pointers_word_is_read_when_it_changes(run: Path) -> None:
    """
    An event of the state file makes what is unfinished be asked again.
    """
    save(run, 1, "tensorflow")
    state = (run / "checkpoint").read_bytes()
    (run / "checkpoint").unlink()
    looker = Looker(run, layout="tensorflow", subscription=Watches())
    before = looker.look()
    (run / "checkpoint").write_bytes(state)

    after = looker.look("checkpoint", arrived=True)

    assert ["not named by 'checkpoint' yet: waits until its files have settled"] == [
        entry.missing for entry in before.changed.values()
    ]
    assert ((), (("ckpt-1",),)) == (before.pointed, after.pointed)
    assert [None] == [entry.missing for entry in after.changed.values()]


def test_an_old_word_of_the_pointer_counts_for_its_generation_alone(run: Path) -> None:
    """
    Once named, always finished; written again under the same name, it is not named yet.
    """
    save(run, 1, "tensorflow")
    looker = Looker(run, layout="tensorflow")
    looker.look()
    save(run, 2, "tensorflow")
    (run / "checkpoint").write_text('model_checkpoint_path: "ckpt-2"\n')
    looker.look(full=True)
    still = looker.entries["ckpt-1"].missing
    index = run / "ckpt-1.index"
    (run / "copy").write_bytes(index.read_bytes())
    (run / "copy").replace(index)

    looker.look("ckpt-1.index", full=True)

    assert None is still
    assert looker.entries["ckpt-1"].missing is not None


def test_it_watches_where_evidence_will_lie(run: Path) -> None:
    """
    An unfinished entry's own directory, until it is finished and no longer among the newest.
    """
    (run / "step_1").mkdir()
    mark_done(run, 2)
    watches = Watches()
    looker = Looker(run, subscription=watches)
    looker.look()
    unfinished = watches.inside(run)
    (run / "step_1" / "DONE").touch()
    looker.look("step_1")
    looker.newest = ("step_2",)
    looker.look("step_1", "step_2")

    assert (["step_1"], ["step_2"]) == (unfinished, watches.inside(run))
    assert (str(run), Meaning()) in watches.places


def test_what_is_finished_while_it_is_armed_is_seen(run: Path) -> None:
    """
    Watch first, then look: what changes in between is found by the same look.
    """
    (run / "step_1").mkdir()
    watches = Watches()

    def finish(path: str) -> None:
        if path.endswith("step_1"):
            (run / "step_1" / "DONE").touch()

    watches.meanwhile = finish
    found = Looker(run, subscription=watches).look()

    assert [None] == [entry.missing for entry in found.changed.values()]


def test_a_run_that_was_not_watched_before_is_listed(run: Path) -> None:
    """
    Even if only hints were asked for: another directory has taken its place.
    """
    mark_done(run, 1)
    looker = Looker(run, subscription=Watches())
    looker.look()
    run.rename(run.parent / "old")
    mark_done(run, 2)

    found = looker.look()

    assert (True, ["step_2"], ("step_1",)) == (found.full, list(found.changed), found.gone)


# The way to a run.


def test_a_plain_path_has_no_turns(run: Path) -> None:
    """
    Nothing on the way can move it; its own parents are watched by nobody.
    """
    assert [] == turns(os.path.realpath(run))


def test_the_first_gap_ends_the_way(tmp_path: Path) -> None:
    """
    Below it there is nothing to watch.
    """
    root = os.path.realpath(tmp_path)

    assert [(root, "a")] == turns(f"{root}/a/b/c")


def test_every_symlink_is_a_turn(tmp_path: Path) -> None:
    """
    Relative, absolute, nested, with dots, dangling.
    """
    root = os.path.realpath(tmp_path)
    for directory in ("a", "b/c", "b/run"):
        os.makedirs(f"{root}/{directory}")
    os.symlink("../b", f"{root}/a/relative")
    os.symlink(f"{root}/a/relative/c", f"{root}/absolute")
    os.symlink("nowhere/run", f"{root}/dangling")

    assert [(f"{root}/a", "relative")] == turns(f"{root}/a/relative/run")
    assert [(root, "absolute"), (f"{root}/a", "relative")] == turns(f"{root}/absolute")
    assert [(root, "dangling"), (root, "nowhere")] == turns(f"{root}/dangling")
    assert [(root, "absolute"), (f"{root}/a", "relative"), (f"{root}/b/c", "x")] == turns(
        f"{root}/absolute/x"
    )


def test_a_loop_of_symlinks_ends(tmp_path: Path) -> None:
    """
    As it does for the kernel, after forty.
    """
    root = os.path.realpath(tmp_path)
    os.symlink("pool", f"{root}/loop")
    os.symlink("loop", f"{root}/pool")

    found = turns(f"{root}/loop/run")

    assert {(root, "loop"), (root, "pool")} == set(found)
    assert len(found) <= 41


@pytest.mark.parametrize("path", ["run", "./run", "x/../run", "run/"])
def test_relative_paths_are_those_of_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    """
    However they are written.
    """
    monkeypatch.chdir(tmp_path)

    assert [(os.path.realpath(tmp_path), "run")] == turns(path)


def test_a_gap_is_watched_by_its_nearest_parent(tmp_path: Path) -> None:
    """
    And no longer once the run is there.
    """
    run, watches = tmp_path / "a" / "run", Watches()
    looker = Looker(run, subscription=watches)

    missing = looker.look()
    before = list(watches.places)
    run.mkdir(parents=True)
    there = looker.look()

    root = os.path.realpath(tmp_path)
    assert (Trouble.MISSING, None) == (missing.trouble, there.trouble)
    assert ("inotify", f"waits in {root!r}") == (missing.watcher, missing.reason)
    assert [(root, Meaning(only="a"))] == before
    assert [(str(run), Meaning())] == list(watches.places)


def test_a_gap_that_closes_while_it_is_watched_is_looked_at_again(tmp_path: Path) -> None:
    """
    The run appears between the question and the watch: no event will tell.
    """
    run, watches = tmp_path / "a" / "run", Watches()
    watches.meanwhile = lambda path: os.makedirs(run, exist_ok=True)

    assert Looker(run, subscription=watches).look().again


def test_a_gap_that_stays_is_not_looked_at_again(tmp_path: Path) -> None:
    """
    Otherwise a missing directory would keep a thread busy.
    """
    assert not Looker(tmp_path / "a", subscription=Watches()).look().again


def test_a_dangling_symlink_is_watched_at_both_ends(tmp_path: Path) -> None:
    """
    It may be turned, or what it names may appear.
    """
    root, watches = os.path.realpath(tmp_path), Watches()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "link").symlink_to("elsewhere/run")

    found = Looker(tmp_path / "link", subscription=watches).look()

    assert Trouble.MISSING is found.trouble
    assert {(root, Meaning(only="link")), (f"{root}/elsewhere", Meaning(only="run"))} == set(
        watches.places
    )


def test_a_working_directory_that_is_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    A relative path then leads nowhere, which is no reason to raise.
    """
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()

    found = Looker(Path("run"), subscription=Watches()).look()

    assert (Trouble.MISSING, "poll") == (found.trouble, found.watcher)


# The oddest directories.


def test_a_hundred_thousand_foreign_files(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    Nobody asks for any of them, and the thread gives signs of life.
    """
    names = [f"image-{number}.png" for number in range(100_000)]
    real, asked = os.listdir, list[str]()

    def listdir(path: str) -> list[str]:
        asked.append(path)
        return names if path == str(run) else real(path)

    monkeypatch.setattr(os, "listdir", listdir)
    looker = Looker(run)

    found = looker.look()

    assert found.foreign is not None
    assert (100_000, {}) == (found.foreign.total, found.changed)
    assert (True, True) == (looker.alive >= 100, len(asked) <= 101)


def test_a_step_of_two_hundred_and_fifty_digits(run: Path) -> None:
    """
    It is a number like any other.
    """
    step = int("7" * 250)
    (run / f"step_{step}").mkdir()
    (run / f"step_{step}" / "DONE").touch()

    assert [step] == [entry.step for entry in Looker(run).look().changed.values()]


def test_names_that_are_not_utf_8(run: Path) -> None:
    """
    A layout of the user's may name them; others pass them by.
    """
    name = os.fsdecode(b"caf\xe9_7")
    (run / name).mkdir()
    (run / name / "DONE").touch()
    layout = os.fsdecode(b"caf\xe9_{step}/DONE")

    found = Looker(run, layout=layout).look()

    assert [(name, 7, None)] == [(n, e.step, e.missing) for n, e in found.changed.items()]
    assert {} == Looker(run).look().changed


def test_a_fifo_named_like_the_pointer(run: Path) -> None:
    """
    The other checkpoints of the directory are looked at all the same, and nothing hangs.
    """
    os.mkfifo(run / "checkpoint")
    save(run, 7, "hf")

    found = Looker(run, layout="auto").look()

    assert (None, {"checkpoint-7": None}) == (
        found.trouble,
        {name: entry.missing for name, entry in found.changed.items()},
    )


def test_a_directory_that_cannot_be_read(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    It is neither empty nor gone.
    """
    mark_done(run, 1)
    looker = Looker(run)
    looker.look()

    def refuse(path: str) -> list[str]:
        raise PermissionError(13, "Permission denied", path)

    with monkeypatch.context() as patch:
        patch.setattr(os, "listdir", refuse)
        found = looker.look(full=True)

    assert (Trouble.UNREADABLE, f"Permission denied: {str(run)!r}") == (found.trouble, found.detail)
    assert ((), ["step_1"]) == (found.gone, list(looker.entries))


@virtual
@pytest.mark.anyio
async def test_a_safety_look_finds_what_no_event_told(run: Path) -> None:
    """
    Trusted events are trusted for two minutes at most, give or take a tenth.
    """
    watcher = ManualWatcher()
    stream = follow(run, layout="step_{step}/DONE", watcher=watcher)
    mark_done(run, 1)
    assert 1 == (await anext(stream)).step
    with anyio.move_on_after(1):
        await anext(stream)
    begin, looks = anyio.current_time(), watcher.looks
    mark_done(run, 2)  # Nobody is told.
    found = (await anext(stream)).step

    assert (2, True) == (found, 106 <= anyio.current_time() - begin <= 132)
    assert looks < watcher.looks
