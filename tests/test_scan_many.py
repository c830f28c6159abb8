"""
Ten thousand checkpoints at once: what a look asks, what it watches, and what it tells meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from observing import mark_done
from test_scan import LOCAL, Looker, Watches

from ckptstream._stores import Profile, _local
from ckptstream.layouts import resolve

MANY = 200
TEMPLATE = "ckpt_{step}"  # directories that only time proves finished


@pytest.fixture(autouse=True)
def disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    Every directory lies on a local disk.
    """

    def local(directory: str) -> Profile:
        return LOCAL

    monkeypatch.setattr(_local, "profile", local)


def fill(run: Path, count: int = MANY) -> Path:
    """
    So many directories with a file each.
    """
    for step in range(count):
        (run / f"ckpt_{step}").mkdir()
        (run / f"ckpt_{step}/model.bin").write_text("x")
    return run


def test_what_only_has_to_settle_is_not_watched_at_first(run: Path) -> None:
    """
    The next look comes with time; what is unfinished even then is watched.
    """
    watches = Watches()
    looker = Looker(fill(run), TEMPLATE, subscription=watches)
    found = looker.look()
    assert (MANY, []) == (len(found.settling), watches.inside(run))

    looker.now = 2.0
    (run / "ckpt_7/model.bin").write_text("xx")
    found = looker.look(*found.settling)
    assert {"ckpt_7"} == set(found.settling)
    assert ["ckpt_7"] == watches.inside(run)


def test_of_many_that_have_settled_only_the_newest_are_watched(run: Path) -> None:
    """
    The look says that it has not watched them: the stream knows which are the newest.
    """
    watches = Watches()
    looker = Looker(fill(run), TEMPLATE, subscription=watches)
    names = looker.look().settling
    looker.now, looker.newest = 2.0, ("ckpt_3",)
    found = looker.look(*names)

    assert found.unwatched
    assert MANY == sum(entry.missing is None for entry in found.changed.values())
    assert ["ckpt_3"] == watches.inside(run)


def test_few_that_an_event_told_of_are_watched_at_once(run: Path) -> None:
    """
    Each may be the newest.
    """
    watches = Watches()
    looker = Looker(run, subscription=watches)
    looker.look()
    mark_done(run, 1)
    found = looker.look("step_1", arrived=True)

    assert not found.unwatched
    assert ["step_1"] == watches.inside(run)


def test_each_of_many_hints_is_a_sign_of_life(run: Path) -> None:
    """
    On a slow machine such a look takes seconds, and does not hang.
    """
    looker = Looker(fill(run), TEMPLATE)
    names = looker.look().settling
    looker.alive = 0
    for name in names:
        (run / name / "model.bin").unlink()
        (run / name).rmdir()
    found = looker.look(*names)

    assert MANY == len(found.gone)
    assert looker.alive >= MANY


def count(looked: list[str], match: Callable[[str], object]) -> Callable[[object, str], object]:
    """
    A method that remembers which names it was asked for.
    """

    def counted(layout: object, name: str) -> object:
        looked.append(name)
        return match(name)

    return counted


def test_a_listing_matches_only_new_names(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    What is known by its own name alone is known.
    """
    for step in range(MANY):
        mark_done(run, step)
    looker = Looker(run)
    looker.look()
    layout, looked = resolve(looker.layout), list[str]()
    monkeypatch.setattr(type(layout), "match", count(looked, layout.match))
    mark_done(run, 1000)
    found = looker.look(full=True)

    assert {"step_1000"} == found.changed.keys() == set(looked)


def test_a_listing_finds_what_is_gone_and_who_has_joined(run: Path) -> None:
    """
    Known by its own name, it may still get another member, or go.
    """
    for name in ("a-1.index", "a-1.data-00000-of-00001"):
        (run / name).write_text("x")
    looker = Looker(run, "tensorflow")
    looker.look()
    (run / "a-1.index").unlink()
    found = looker.look(full=True)
    assert ("a-1.data-00000-of-00001",) == found.changed["a-1"].members

    (run / "a-1.data-00000-of-00001").unlink()
    assert ("a-1",) == looker.look(full=True).gone
