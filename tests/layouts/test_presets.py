"""Every preset: its commit point, what is missing before, and what must never be new."""

from __future__ import annotations

import re
import shutil
from itertools import permutations
from pathlib import Path

import pytest
from evidence import ORDERS, Run, in_order, remove_one_by_one, write
from hypothesis import given
from hypothesis import strategies as st
from saves import SAVES, Save

from ckptstream.layouts import Auto, BuiltInLayout, pointer_layouts, resolve
from ckptstream.layouts._auto import BUILT_IN
from ckptstream.layouts._presets import PRESETS

LAYOUTS = {layout.name: layout for layout in (*BUILT_IN, *PRESETS)}

each_save = pytest.mark.parametrize("save", SAVES, ids=str)


def test_every_preset_has_a_save() -> None:
    """
    A new preset comes with its order of operations.
    """
    assert {preset.name for preset in PRESETS} == {save.layout for save in SAVES}


@each_save
def test_commit_point(tmp_path: Path, save: Save) -> None:
    """
    What is missing is named after each operation; nothing is after the last.
    """
    run = Run(tmp_path, resolve(save.layout))
    found = [
        (missing, run.judge(save.name, settled=True).missing) for missing in save.play(tmp_path)
    ]
    verdict = run.judge(save.name, settled=True)

    assert [expected for expected, _ in found] == [missing for _, missing in found]
    assert (save.layout, save.step, None) == verdict[:3]
    assert verdict.generation is not None


@each_save
def test_settles(tmp_path: Path, save: Save) -> None:
    """
    What only time proves is not finished at once; everything else is.
    """
    run = Run(tmp_path, resolve(save.layout))
    save.done(tmp_path)
    missing = run.judge(save.name).missing

    assert save.settles == (missing is not None)
    assert "waits until it" in (missing or "waits until it")


@pytest.mark.parametrize("order", ORDERS)
@each_save
def test_deletion_is_never_new(tmp_path: Path, save: Save, order: str) -> None:
    """
    Trap 2: deleted under its finished name, in whatever order, it is never another checkpoint.
    """
    run = Run(tmp_path, resolve(save.layout))
    save.done(tmp_path)
    entry = tmp_path / save.name
    members = [tmp_path / member for member in run.look(save.name).members]

    remove_one_by_one(run, save.name, in_order(order, entry) if entry.is_dir() else members)


@each_save
def test_saved_again_in_place(tmp_path: Path, save: Save) -> None:
    """
    Trap 1: what the last save left does not make the new one finished; the end of it does.
    """
    run = Run(tmp_path, resolve(save.layout))
    save.done(tmp_path)
    first = run.judge(save.name, settled=True).generation
    if save.layout == "nemo":
        write(tmp_path / f"{save.name}-unfinished", "")
    pointers = {layout.pointer for layout in pointer_layouts(run.layout)}
    for (path, *_), expected in zip(save.steps, save.play(tmp_path, start=2000), strict=True):
        verdict = run.judge(save.name)
        if path in pointers:
            continue  # It names the same as before, and is written when all the rest is there.
        assert verdict.missing or verdict.generation == first or expected is None
    if save.layout == "levanter":
        metadata = tmp_path / save.name / "metadata.json"
        write(metadata, metadata.read_text().replace("00:00", "00:01"))

    assert first != run.judge(save.name, settled=True).generation is not None


@each_save
def test_what_an_evaluator_adds(tmp_path: Path, save: Save) -> None:
    """
    A file that somebody adds to a finished checkpoint makes no other one of it.
    """
    for layout in (resolve(save.layout), Auto()):
        run = Run(tmp_path, layout)
        save.done(tmp_path)
        first = run.judge(save.name, settled=True)
        if (tmp_path / save.name).is_dir():
            for name in ("eval.json", "config.json", "README.md", "metadata.json.bak"):
                write(tmp_path / save.name / name, "{}", at=9000)
        shutil.copy(__file__, tmp_path / "eval.json")
        again = run.judge(save.name, settled=True)

        assert (None, first) == (again.missing, again)


@each_save
def test_auto(tmp_path: Path, save: Save) -> None:
    """
    `auto` is never earlier than the framework, finishes with it, and knows whose it is.
    """
    run = Run(tmp_path, Auto())
    for expected in save.play(tmp_path):
        verdict = run.judge(save.name, settled=True)
        assert expected is None or verdict.missing is not None, verdict
    verdict = run.judge(save.name, settled=True)

    assert (save.auto or save.layout, save.step, None) == verdict[:3]
    assert verdict.generation is not None


def collisions() -> list[tuple[Save, BuiltInLayout]]:
    """Each save with each other layout whose names look like its own."""
    others = ((save, LAYOUTS[name]) for save in SAVES for name in LAYOUTS if name != save.layout)
    return [(save, other) for save, other in others if other.match(save.name) is not None]


@pytest.mark.parametrize(
    ("save", "other"), collisions(), ids=lambda each: getattr(each, "name", str(each))
)
def test_two_layouts_that_may_be_meant(tmp_path: Path, save: Save, other: BuiltInLayout) -> None:
    """
    With each other layout of such names, in either order: not too early, and not never.
    """
    mine = LAYOUTS[save.layout]
    for number, layouts in enumerate(permutations((mine, other))):
        run = Run(tmp_path / str(number), Auto(layouts))
        run.root.mkdir()
        for expected in save.play(run.root):
            missing = run.judge(save.name, settled=True).missing
            recognised = mine.recognises(save.name, run.look(save.name))
            assert expected is None or missing is not None or not recognised, layouts
        if mine.recognises(save.name, run.look(save.name)):
            assert run.judge(save.name, settled=True).missing is None


digits = st.sampled_from("0123456789")


@pytest.mark.parametrize("layout", BUILT_IN, ids=lambda layout: layout.name)
@given(st.data())
def test_digits_do_not_matter(layout: BuiltInLayout, data: st.DataObject) -> None:
    """
    A layout that takes a name takes it with zeros for its digits, but for a suffix.
    """
    examples = {save.name for save in SAVES} | {"ckpt-5.index", "checkpoint_1e5", "5.pt", "a5.pth"}
    examples |= {"m-5_00000.weights.h5"}
    name = data.draw(st.sampled_from(sorted(examples)) | st.text("ab_-=.05steprank/"))
    drawn = (data.draw(digits) if letter.isdigit() else letter for letter in name[:-2])
    other = "".join(drawn) + name[-2:]
    zeros = re.sub(r"[0-9]", "0", name[:-2]) + name[-2:]

    assert layout.match(other) is None or layout.match(zeros) is not None
