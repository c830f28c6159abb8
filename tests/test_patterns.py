"""
Which directories a pattern names: now and later, once each, and what it never names.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from observing import mark_done
from steering import HeldWatcher, drained
from sweeping import LAYOUT, came, finish, news, runs_of, sweep_of

from ckptstream import follow
from ckptstream.testing import ManualWatcher

pytestmark = pytest.mark.anyio

NEWLINE = "a\nb"
NOT_UTF8 = os.fsdecode(b"a\xff\xfe")


async def test_it_matches_now_and_later(tmp_path: Path, watcher: ManualWatcher) -> None:
    """
    Every directory that matches is a run: those that are there, and those that appear.
    """
    finish(tmp_path, ("sweeps/x/ckpt", 1), ("sweeps/y/ckpt", 1), ("sweeps/y/other", 9))
    stream = sweep_of(tmp_path / "sweeps/*/ckpt", watcher=watcher)
    now = await news(stream, watcher, tmp_path)
    finish(tmp_path, ("sweeps/z/ckpt", 1), ("sweeps/x/ckpt", 2))
    later = await news(stream, watcher, tmp_path)

    assert [("sweeps/x/ckpt", 1), ("sweeps/y/ckpt", 1)] == now
    assert [("sweeps/x/ckpt", 2), ("sweeps/z/ckpt", 1)] == later
    assert ["sweeps/x/ckpt", "sweeps/y/ckpt", "sweeps/z/ckpt"] == runs_of(stream, tmp_path)


@pytest.mark.parametrize(
    ("pattern", "names", "matches"),
    [
        ("*", "a b a/c", "a b"),
        ("a*", "a ab ba A", "a ab"),
        ("*a", "a ab ba", "a ba"),
        ("a*b*c", "abc a-b-c acb abcd abbc", "abc a-b-c abbc"),
        ("a*a", "a aa aba", "aa aba"),
        ("*-*", "a-b a -", "a-b -"),
        ("*/*", "a a/b c/d/e", "a/b c/d"),
        ("*/b/c", "a/b/c x/b x/c b/c", "a/b/c"),
        ("a*/b*/c", "a1/b1/c a1/b2/d a2/x/c x/b/c a/b/c", "a1/b1/c a/b/c"),
        ("*/x/*", "a/x/1 a/y/2 b/x/3", "a/x/1 b/x/3"),
        ("*", ".a a", "a"),
        ("*/*", "a/.b .a/b a/b", "a/b"),
        (".*", ".a a", ".a"),
        ("*/.b", "a/.b a/b", "a/.b"),
        ("[ab]*", "a1 [ab]1", "[ab]1"),
        ("a?*", "ab1 a?1", "a?1"),
        ("a.c*", "abc a.cd", "a.cd"),
        ("(a|b)+*", "a1 (a|b)+1", "(a|b)+1"),
        ("^a*$", "a ^a$", "^a$"),
        ("a\\*", "a\\b ab", "a\\b"),
        ("{step}*", "{step}1 11", "{step}1"),
        ("-*", "-rf a", "-rf"),
        ("ü*", "ü1 u1", "ü1"),
    ],
)
async def test_what_a_star_stands_for(
    tmp_path: Path, watcher: ManualWatcher, pattern: str, names: str, matches: str
) -> None:
    """
    Any characters of one name, but not a dot at its beginning; all other characters are plain.
    """
    for name in names.split():
        (tmp_path / name).mkdir(parents=True)
    for name in matches.split():
        mark_done(tmp_path / name, 1)
    stream = follow(f"{tmp_path}/{pattern}", layout=LAYOUT, watcher=watcher)

    assert sorted(matches.split()) == [name for name, _ in await news(stream, watcher, tmp_path)]
    assert sorted(matches.split()) == sorted(runs_of(stream, tmp_path))


@pytest.mark.parametrize("name", [NEWLINE, NOT_UTF8])
@pytest.mark.parametrize("pattern", ["a*", "*/c*", "*/c"])
async def test_any_name_matches(
    tmp_path: Path, watcher: ManualWatcher, name: str, pattern: str
) -> None:
    """
    With a newline, or with bytes that are no text; its rows can be printed.
    """
    run = name + pattern[1:].replace("*", "")
    mark_done(tmp_path / run, 1)
    stream = sweep_of(tmp_path / pattern, watcher=watcher)
    (checkpoint,) = await drained(stream, watcher)

    assert (str(tmp_path / run), str(tmp_path / run / "step_1")) == (
        checkpoint.run,
        checkpoint.path,
    )
    assert os.path.exists(checkpoint)
    text = str(stream.status()) + stream.status()._repr_html_()
    assert text == text.encode().decode()


async def test_what_is_no_directory_does_not_match(tmp_path: Path, watcher: ManualWatcher) -> None:
    """
    Files, links that lead to none or nowhere, and FIFOs are passed over; so is what is below.
    """
    (tmp_path / "file").touch()
    (tmp_path / "to-file").symlink_to("file")
    (tmp_path / "dangling").symlink_to("nowhere")
    (tmp_path / "circle").symlink_to("circle")
    os.mkfifo(tmp_path / "fifo")
    finish(tmp_path, ("real", 1))
    (tmp_path / "linked").symlink_to("real")
    flat = sweep_of(tmp_path / "*", watcher=watcher)
    deep = sweep_of(tmp_path / "*/step_*", watcher=watcher)
    await drained(deep, watcher)

    assert [("linked", 1), ("real", 1)] == await news(flat, watcher, tmp_path)
    assert ["linked/step_1", "real/step_1"] == runs_of(deep, tmp_path)


async def test_a_file_that_becomes_a_directory_matches_then(
    tmp_path: Path, watcher: ManualWatcher
) -> None:
    """
    And the other way round it is a run that has left.
    """
    (tmp_path / "x").touch()
    finish(tmp_path, ("y", 1))
    stream = sweep_of(tmp_path / "*", watcher=watcher)
    first = await news(stream, watcher, tmp_path)
    (tmp_path / "x").unlink()
    (tmp_path / "y").rename(tmp_path / ".y")
    (tmp_path / "y").touch()
    finish(tmp_path, ("x", 1))

    assert ([("y", 1)], [("x", 1)]) == (first, await news(stream, watcher, tmp_path))
    assert ["x"] == runs_of(stream, tmp_path)


async def test_a_match_replaced_by_a_file_before_its_first_look_raises_nothing(
    tmp_path: Path,
) -> None:
    """
    The user named no file: it is no run any more, and the others go on.
    """
    watcher = HeldWatcher()
    finish(tmp_path, ("x", 1), ("y", 1))
    stream = sweep_of(tmp_path / "*", watcher=watcher)
    assert [] == await came(stream, watcher, tmp_path)
    assert 1 == watcher.held
    (tmp_path / "x").rename(tmp_path / ".x")
    (tmp_path / "x").touch()
    watcher.holds = False
    watcher.answer()

    assert [("y", 1)] == await came(stream, watcher, tmp_path)
    assert ["y"] == runs_of(stream, tmp_path)


@pytest.mark.parametrize(
    ("pattern", "run"),
    [
        ("*/ckpt", "a/ckpt"),
        ("*/ckpt/", "a/ckpt"),
        ("*", "a"),
        ("*/", "a"),
        ("./*", "./a"),
        (".//*//ckpt", "./a/ckpt"),
        ("*/./ckpt", "a/ckpt"),
        (".up/../*", ".up/../a"),
        ("../here/*", "../here/a"),
    ],
)
async def test_relative_patterns(
    tmp_path: Path,
    watcher: ManualWatcher,
    monkeypatch: pytest.MonkeyPatch,
    pattern: str,
    run: str,
) -> None:
    """
    They are those of the working directory, and runs begin as the caller wrote it.
    """
    here = tmp_path / "here"
    (here / ".up").mkdir(parents=True)
    monkeypatch.chdir(here)
    mark_done(here / run, 1)
    stream = follow(pattern, layout=LAYOUT, watcher=watcher)
    (checkpoint,) = await drained(stream, watcher)
    (here / "a").rename(here / "b")
    watcher.touch()
    (renamed,) = await drained(stream, watcher)

    assert (run, os.path.join(run, "step_1")) == (checkpoint.run, checkpoint.path)
    assert re.sub("a(?=/ckpt$|$)", "b", run) == renamed.run
    assert os.path.exists(renamed)


async def test_absolute_patterns(tmp_path: Path, watcher: ManualWatcher) -> None:
    """
    Also from the root of all, and with a slash at the end.
    """
    finish(tmp_path, ("a/ckpt", 1))
    _, first, *others = str(tmp_path).split("/")
    for pattern in (f"{tmp_path}/*/ckpt/", "/".join(("", first[:-1] + "*", *others, "a", "ckpt"))):
        stream = follow(pattern, layout=LAYOUT, watcher=watcher)
        assert [("a/ckpt", 1)] == await came(stream, watcher, tmp_path)
        (tmp_path / "a").rename(tmp_path / "b")
        await news(stream, watcher, tmp_path)
        assert ["b/ckpt" for _ in "b" if pattern.endswith("/")] == runs_of(stream, tmp_path)
        (tmp_path / "b").rename(tmp_path / "a")


# Several that name the same.


async def test_what_several_name_is_one_run(tmp_path: Path, watcher: ManualWatcher) -> None:
    """
    Two patterns and a directory overlap: each checkpoint comes once, and each run has one row.
    """
    finish(tmp_path, ("ab", 1), ("ac", 1), ("xb", 1), ("xy", 1))
    stream = sweep_of(
        tmp_path / "a*", tmp_path / "*b", f"{tmp_path}/ab/", tmp_path / "xb", watcher=watcher
    )
    first = await news(stream, watcher, tmp_path)
    finish(tmp_path, ("ab", 2), ("ac", 2), ("xb", 2))

    assert [("ab", 1), ("ac", 1), ("xb", 1)] == first
    assert [("ab", 2), ("ac", 2), ("xb", 2)] == await news(stream, watcher, tmp_path)
    assert ["ab", "ac", "xb"] == sorted(runs_of(stream, tmp_path))


async def test_it_leaves_when_nothing_names_it(tmp_path: Path, watcher: ManualWatcher) -> None:
    """
    A directory that was named itself is waited for; one that two patterns name leaves once.
    """
    finish(tmp_path, ("ab", 1), ("ac", 1), ("xb", 1))
    stream = sweep_of(tmp_path / "a*", tmp_path / "*b", tmp_path / "xb", watcher=watcher)
    await drained(stream, watcher)
    for name in ("ab", "ac", "xb"):
        (tmp_path / name).rename(tmp_path / f".{name}")
    gone = await news(stream, watcher, tmp_path)
    rows = runs_of(stream, tmp_path)
    finish(tmp_path, ("ab", 2), ("ac", 2), ("xb", 2))

    assert ([], ["xb"]) == (gone, rows)
    assert [("ab", 2), ("ac", 2), ("xb", 2)] == await news(stream, watcher, tmp_path)
    assert ["ab", "ac", "xb"] == sorted(runs_of(stream, tmp_path))


@pytest.mark.parametrize("shared", ["a/ckpt", "b/ckpt"])
async def test_it_stays_while_one_of_two_patterns_names_it(
    tmp_path: Path, watcher: ManualWatcher, shared: str
) -> None:
    """
    They need not have the same root.
    """
    finish(tmp_path, ("a/ckpt", 1), ("b/ckpt", 1))
    stream = sweep_of(tmp_path / "*/ckpt", tmp_path / shared[:-4] / "*", watcher=watcher)
    first = await news(stream, watcher, tmp_path)
    (tmp_path / shared).rename(tmp_path / ".away")
    await news(stream, watcher, tmp_path)
    left = runs_of(stream, tmp_path)
    finish(tmp_path, (shared, 2))
    again = await news(stream, watcher, tmp_path)

    others = sorted({"a/ckpt", "b/ckpt"} - {shared})
    assert [("a/ckpt", 1), ("b/ckpt", 1)] == first
    assert (others, [(shared, 2)]) == (left, again)


async def test_it_stays_until_every_pattern_has_seen_it_go(
    tmp_path: Path, watcher: ManualWatcher
) -> None:
    """
    One of the two may have looked in the moment between two directories.
    """
    finish(tmp_path, ("ab", 1))
    stream = sweep_of(tmp_path / "a*", tmp_path / "*b", watcher=watcher)
    rows, states = list[list[str]](), list[list[str]]()
    await drained(stream, watcher)
    (tmp_path / "ab").rename(tmp_path / ".ab")
    for pattern in stream.engine._following.roster.patterns:
        pattern.all_changed()
        assert [] == await came(stream, watcher, tmp_path)
        rows.append(runs_of(stream, tmp_path))
        states.append([row.waiting_for for row in stream.status().patterns])

    assert [["ab"], []] == rows
    assert [["no directory matches", "1 run"], ["no directory matches"] * 2] == states


# Roots and matches that cannot be had.


async def test_a_root_that_is_a_file_raises(tmp_path: Path, watcher: ManualWatcher) -> None:
    """
    Nothing could ever match; the stream stays usable.
    """
    root = tmp_path / "sweeps"
    root.touch()
    stream = sweep_of(root / "*/ckpt", watcher=watcher)

    for _ in range(2):
        with pytest.raises(NotADirectoryError, match="name a directory before the first"):
            await anext(stream)
    root.unlink()
    finish(root, ("x/ckpt", 1))
    assert [("x/ckpt", 1)] == await came(stream, watcher, root)


async def test_a_root_that_becomes_a_file_is_waited_for(
    tmp_path: Path, watcher: ManualWatcher
) -> None:
    """
    It was a directory: whoever replaced it may put it back.
    """
    root = tmp_path / "sweeps"
    finish(root, ("x", 1))
    stream = sweep_of(root / "*", watcher=watcher)
    first = await news(stream, watcher, root)
    root.rename(tmp_path / "aside")
    root.touch()
    nothing = await news(stream, watcher, root)
    root.unlink()
    (tmp_path / "aside").rename(root)
    finish(root, ("x", 2))

    assert ([("x", 1)], []) == (first, nothing)
    assert [("x", 2)] == await news(stream, watcher, root)


async def test_a_root_that_is_missing_is_waited_for(tmp_path: Path, watcher: ManualWatcher) -> None:
    """
    At first, and for a while: what was delivered is not delivered again.
    """
    root = tmp_path / "a/sweeps"
    stream = sweep_of(root / "*", watcher=watcher)
    nothing = await news(stream, watcher, root)
    finish(root, ("x", 1))
    first = await news(stream, watcher, root)
    root.rename(tmp_path / "aside")
    away = await news(stream, watcher, root), runs_of(stream, root)
    (tmp_path / "aside").rename(root)
    finish(root, ("x", 2))

    assert ([], [("x", 1)], ([], [])) == (nothing, first, away)
    assert [("x", 2)] == await news(stream, watcher, root)


def refusing(
    monkeypatch: pytest.MonkeyPatch, function: str, path: Path, number: int
) -> Callable[[], None]:
    """
    Storage that answers nothing but an error for one path; call it to mend that.
    """
    real = getattr(os, function)

    def refuse(asked: str) -> object:
        if os.path.normpath(asked) == str(path):
            raise OSError(number, os.strerror(number), asked)
        return real(asked)

    class Os:
        def __getattr__(self, name: str) -> object:
            return refuse if name == function else getattr(os, name)

    monkeypatch.setattr("ckptstream._scan._directories.os", Os())
    return lambda: monkeypatch.setattr("ckptstream._scan._directories.os", os)


@pytest.mark.parametrize("number", [errno.EACCES, errno.EIO, errno.ESTALE])
async def test_a_root_that_cannot_be_read_for_a_while_loses_no_run(
    tmp_path: Path, watcher: ManualWatcher, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """
    Its runs have not gone; what is new in them is delivered meanwhile.
    """
    finish(tmp_path, ("x", 1))
    stream = sweep_of(tmp_path / "*", watcher=watcher)
    await drained(stream, watcher)
    mend = refusing(monkeypatch, "listdir", tmp_path, number)
    finish(tmp_path, ("x", 2), ("y", 1))
    meanwhile = await news(stream, watcher, tmp_path)
    (pattern,) = stream.status().patterns
    mend()

    assert [("x", 2)] == meanwhile
    assert os.strerror(number) in pattern.waiting_for
    assert [("y", 1)] == await news(stream, watcher, tmp_path)


async def test_skip_existing_waits_for_a_root_that_can_be_read(
    tmp_path: Path, watcher: ManualWatcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    The first look that succeeds is the baseline, as for a directory that was named.
    """
    finish(tmp_path, ("x", 1))
    stream = sweep_of(tmp_path / "*", skip_existing=True, watcher=watcher)
    mend = refusing(monkeypatch, "listdir", tmp_path, errno.EACCES)
    unreadable = await news(stream, watcher, tmp_path)
    mend()
    baseline = await news(stream, watcher, tmp_path)
    finish(tmp_path, ("x", 2), ("y", 1))

    assert ([], []) == (unreadable, baseline)
    assert [("x", 2), ("y", 1)] == await news(stream, watcher, tmp_path)


async def test_a_part_that_cannot_be_read_for_a_while_loses_no_run(
    tmp_path: Path, watcher: ManualWatcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    What cannot be told has not gone, and its queue is not missed.
    """
    finish(tmp_path, ("x/ckpt", 1), ("y/ckpt", 1))
    stream = sweep_of(tmp_path / "*/ckpt", watcher=watcher)
    await drained(stream, watcher)
    mend = refusing(monkeypatch, "stat", tmp_path / "x/ckpt", errno.EACCES)
    finish(tmp_path, ("y/ckpt", 2))
    meanwhile = await news(stream, watcher, tmp_path), runs_of(stream, tmp_path)
    mend()
    finish(tmp_path, ("x/ckpt", 2))

    assert ([("y/ckpt", 2)], ["x/ckpt", "y/ckpt"]) == meanwhile
    assert [("x/ckpt", 2)] == await news(stream, watcher, tmp_path)


async def test_a_part_that_cannot_be_read_hides_no_other(
    tmp_path: Path, watcher: ManualWatcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    Its neighbours below the same directory are found, at once and later.
    """
    finish(tmp_path, ("user/bad/ckpt", 1), ("user/good/ckpt", 1))
    stream = sweep_of(tmp_path / "*/*/ckpt", watcher=watcher)
    mend = refusing(monkeypatch, "stat", tmp_path / "user/bad/ckpt", errno.EACCES)
    first = await news(stream, watcher, tmp_path)
    finish(tmp_path, ("user/new/ckpt", 1))
    later = await news(stream, watcher, tmp_path)
    mend()

    assert ([("user/good/ckpt", 1)], [("user/new/ckpt", 1)]) == (first, later)
    assert [("user/bad/ckpt", 1)] == await news(stream, watcher, tmp_path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
async def test_a_match_without_permissions_is_a_run_that_says_so(
    tmp_path: Path, watcher: ManualWatcher
) -> None:
    """
    It is waited for, and the other one is delivered.
    """
    finish(tmp_path, ("x", 1), ("y", 1))
    (tmp_path / "x").chmod(0)
    stream = sweep_of(tmp_path / "*", watcher=watcher)
    first = await news(stream, watcher, tmp_path)
    said = stream.status().runs[0].waiting_for
    (tmp_path / "x").chmod(0o700)

    assert ([("y", 1)], True) == (first, "Permission denied" in said)
    assert [("x", 1)] == await news(stream, watcher, tmp_path)
