"""Names of one's own: files, directories, markers, and what is refused."""

import io
import os
import pickle
import zipfile
from pathlib import Path

import pytest
from evidence import ORDERS, Run, in_order, remove_one_by_one, write
from hypothesis import given
from hypothesis import strategies as st

from ckptstream.layouts import Template


def archive() -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as file:
        file.writestr("archive/data.pkl", "x" * 500)
    return content.getvalue()


@pytest.mark.parametrize(
    ("pattern", "name", "expected"),
    [
        ("ckpt_{step}.pt", "ckpt_5.pt", 5),
        ("ckpt_{step}.pt", "ckpt_0005.pt", 5),
        ("ckpt_{step}.pt", "ckpt_5.pt.tmp", None),
        ("ckpt_{step}.pt", "ckpt_5xpt", None),
        ("ckpt_{step}.pt", "ckpt_.pt", None),
        ("a.b_{step}", "a.b_5", 5),
        ("a.b_{step}", "axb_5", None),
        ("ckpt_{step}.pt", "ckpt_-5.pt", None),
        ("ckpt_{step}.pt", "ckpt_\u0665.pt", None),
        ("ckpt_{step}.pt", "ckpt_5.pt\n", None),
        ("{step}", "12", 12),
        ("{step}", "9" * 250, int("9" * 250)),
        ("v2{step}", "v25", 5),
        ("a{{b}}_{step}", "a{b}_5", 5),
        ("epoch=1-step={step}.ckpt", "epoch=1-step=7.ckpt", 7),
        ("tmp_{step}", "tmp_5", 5),
        ("step_{step}/DONE", "step_5", 5),
        ("step_{step}/DONE", "DONE", None),
    ],
)
def test_match(pattern: str, name: str, expected: int | None) -> None:
    """
    The text around `{step}` is literal, also a name that would be temporary elsewhere.
    """
    match = Template(pattern).match(name)

    assert match == (None if expected is None else (name, expected))


@pytest.mark.parametrize(
    ("pattern", "remedy"),
    [
        ("", "write a name"),
        ("ckpt.pt", "{step} exactly once"),
        ("{{step}}", "{step} exactly once"),
        ("{step}_{step}", "{step} exactly once"),
        ("{step}/{step}", "{step} exactly once"),
        ("{epoch}", "write {step}"),
        ("{}", "write {step}"),
        ("{step}_{epoch}", "write {step}"),
        ("{step:07d}", "write {step}"),
        ("{step!r}", "write {step}"),
        ("{step.real}", "write {step}"),
        ("{step", "'{{' or '}}'"),
        ("step}_{step}", "'{{' or '}}'"),
        ("runs/{step}", "follow the directory 'runs' itself"),
        ("runs/{step}/DONE", "follow the directory 'runs' itself"),
        ("/runs_{step}", "write a name"),
        ("{step}/", "write a name"),
        ("{step}//DONE", "write a name"),
        ("./{step}", "write a name"),
        ("{step}/../DONE", "write a name"),
        ("*_{step}", "without '*'"),
        ("{step}/*.done", "without '*'"),
        ("{step}\0", "write a name"),
    ],
)
def test_refused(pattern: str, remedy: str) -> None:
    """
    A string that names no checkpoints is refused with a remedy.
    """
    with pytest.raises(ValueError, match="names no checkpoints") as error:
        Template(pattern)

    assert str(error.value).startswith(f"layout={pattern!r} ")
    assert remedy in str(error.value)


@given(st.text("{}step/*.:!_ é", max_size=12) | st.text())
def test_any_pattern(pattern: str) -> None:
    """
    Whatever the string is, it is a layout or a `ValueError`.
    """
    try:
        layout = Template(pattern)
    except ValueError:
        return
    assert pattern == layout.name
    assert layout == pickle.loads(pickle.dumps(layout))


@pytest.mark.parametrize("marker", ["DONE", ".metadata", "model/{{x}}/DONE"])
def test_marker(tmp_path: Path, marker: str) -> None:
    """
    A directory is finished when its marker is there.
    """
    run = Run(tmp_path, Template(f"step_{{step}}/{marker}"))
    path = marker.replace("{{", "{").replace("}}", "}")
    write(tmp_path / "step_5/model.pt", "half")
    assert f"no {path}" == run.judge("step_5", settled=True).missing

    write(tmp_path / "step_5" / path, "")
    assert run.judge("step_5").missing is None


def test_weights_are_no_marker(tmp_path: Path) -> None:
    """
    They are there from their first byte on: their end must be there, and they must have settled.
    """
    run = Run(tmp_path, Template("step_{step}/model.pt"))
    content = archive()
    path = write(tmp_path / "step_5/model.pt", content[:-30])
    assert "no end of the zip archive" == run.judge("step_5", settled=True).missing
    path.write_bytes(content)
    assert "waits until model.pt has settled" == run.judge("step_5").missing
    assert run.judge("step_5", settled=True).missing is None


def test_marker_needs_a_directory(tmp_path: Path) -> None:
    """
    A file with the directory's name has no marker.
    """
    run = Run(tmp_path, Template("step_{step}/DONE"))
    write(tmp_path / "step_5")

    assert "no DONE" == run.judge("step_5", settled=True).missing
    assert "not there" == run.judge("step_6").missing


def test_marker_is_the_generation(tmp_path: Path) -> None:
    """
    Only another marker makes a checkpoint new.
    """
    run = Run(tmp_path, Template("step_{step}/DONE"))
    marker = write(tmp_path / "step_5/DONE")
    first = run.judge("step_5").generation
    write(tmp_path / "step_5/eval.json")
    assert first == run.judge("step_5").generation is not None

    os.utime(marker, (1, 1))
    assert first != run.judge("step_5").generation


def test_marker_that_is_a_directory(tmp_path: Path) -> None:
    """
    A marker may be a directory, whose own times say nothing.
    """
    run = Run(tmp_path, Template("step_{step}/model"))
    write(tmp_path / "step_5/model/weights", b"w" * 99)
    first = run.judge("step_5")
    write(tmp_path / "step_5/model/eval.json")

    assert first.missing is None
    assert first.generation == run.judge("step_5").generation is not None


def test_file(tmp_path: Path) -> None:
    """
    A file is finished when its end is there and it has settled.
    """
    run = Run(tmp_path, Template("ckpt_{step}.pt"))
    write(tmp_path / "ckpt_5.pt", b"")
    assert "empty" == run.judge("ckpt_5.pt", settled=True).missing

    write(tmp_path / "ckpt_5.pt", archive()[:-1])
    assert "no end of the zip archive" == run.judge("ckpt_5.pt", settled=True).missing

    write(tmp_path / "ckpt_5.pt", archive())
    assert "waits until it has settled" == run.judge("ckpt_5.pt").missing
    assert run.judge("ckpt_5.pt", settled=True).missing is None


def test_file_is_the_generation(tmp_path: Path) -> None:
    """
    A file written again is new.
    """
    run = Run(tmp_path, Template("ckpt_{step}.bin"))
    write(tmp_path / "ckpt_5.bin")
    first = run.judge("ckpt_5.bin").generation
    os.utime(tmp_path / "ckpt_5.bin", (1, 1))

    assert None is not first != run.judge("ckpt_5.bin").generation


def test_directory(tmp_path: Path) -> None:
    """
    A directory without a marker is finished when it holds something and has settled.
    """
    run = Run(tmp_path, Template("step_{step}"))
    (tmp_path / "step_5").mkdir()
    write(tmp_path / "step_5/.nfs0001")
    assert "empty" == run.judge("step_5", settled=True).missing

    write(tmp_path / "step_5/a/weights", b"w" * 99)
    assert "waits until it has settled" == run.judge("step_5").missing
    assert run.judge("step_5", settled=True).missing is None


def test_directory_generation(tmp_path: Path) -> None:
    """
    What an evaluator adds changes nothing, the same weights saved again do.
    """
    run = Run(tmp_path, Template("step_{step}"))
    weights = write(tmp_path / "step_5/b/weights", b"w" * 99)
    write(tmp_path / "step_5/c/weights", b"w" * 99)
    first = run.judge("step_5", settled=True).generation
    write(tmp_path / "step_5/a/eval.json", "{}")
    assert first == run.judge("step_5").generation is not None

    os.utime(weights, (1, 1))
    verdict = run.judge("step_5", settled=True)
    assert verdict.missing is None
    assert first != verdict.generation


@pytest.mark.parametrize("order", ORDERS)
def test_removal(tmp_path: Path, order: str) -> None:
    """
    A directory that is being deleted never looks like a new checkpoint.
    """
    run = Run(tmp_path, Template("step_{step}"))
    for size, name in enumerate(("a", "b/weights", "c/d/e/f/weights", "z")):
        write(tmp_path / "step_5" / name, b"w" * (10 + size % 3))

    remove_one_by_one(run, "step_5", in_order(order, tmp_path / "step_5"))


def test_loop(tmp_path: Path) -> None:
    """
    Symbolic links that form a loop end somewhere.
    """
    run = Run(tmp_path, Template("step_{step}"))
    write(tmp_path / "step_5/weights")
    (tmp_path / "step_5/again").symlink_to(".")

    assert run.judge("step_5", settled=True).missing is None


def test_str() -> None:
    """
    It shows an example.
    """
    assert "step_1000/DONE" == str(Template("step_{step}/DONE"))
    assert "Template(pattern='{step}')" == repr(Template("{step}"))


@pytest.mark.parametrize("path", ["w", "model/w", "model/layers/0/w/0.0"])
def test_trap_5_what_comes_after_the_marker_however_deep(tmp_path: Path, path: str) -> None:
    """
    Trap 5: where there is no atomic rename it may be an upload that began with the marker.
    """
    write(tmp_path / "step_5/DONE", at=100)
    write(tmp_path / f"step_5/{path}", at=101)
    run = Run(tmp_path, Template("step_{step}/DONE"), rename_is_atomic=False)

    expected = f"{path} is newer than DONE: waits until it has settled"
    assert expected == run.judge("step_5").missing
    assert run.judge("step_5", settled=True).missing is None
