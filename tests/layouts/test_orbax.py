"""Orbax: renamed directories, commit files, stamps, and deletions that look like saves."""

import json
import os
import shutil
from pathlib import Path

import pytest
from evidence import ORDERS, Run, in_order, remove_one_by_one, replay, write
from hypothesis import given
from hypothesis import strategies as st

from ckptstream.layouts import Orbax
from ckptstream.layouts._names import is_temporary

STAMP = 1795373157473369736


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run(tmp_path, Orbax())


def metadata(stamp: object = STAMP, **more: object) -> str:
    """What Orbax 0.12.8 writes, in its order."""
    fields: dict[str, object] = {"item_handlers": {"default": "a.b.Handler"}, "metrics": {}}
    fields |= {"init_timestamp_nsecs": 1795373157404501080, "commit_timestamp_nsecs": stamp}
    return json.dumps(fields | {"custom_metadata": more})


def item(directory: Path) -> None:
    write(directory / "_METADATA", "{}")
    write(directory / "manifest.ocdbt", b"m" * 113)
    write(directory / "d/fab418", b"d" * 210)
    write(directory / "ocdbt.process_0/manifest.ocdbt", b"m" * 166)
    write(directory / "ocdbt.process_0/d/f79a63", b"d" * 172)


def save(directory: Path, stamp: object = STAMP, marker: bool = True) -> None:
    """As Orbax 0.12.8 leaves it; without the marker as 0.12.2 does."""
    item(directory / "default")
    if marker:
        write(directory / "default/commit_success.txt", "successful")
        write(directory / "commit_success.txt", "successful")
    write(directory / "_CHECKPOINT_METADATA", metadata(stamp))


def save_like_old_versions(directory: Path) -> None:
    """No metadata of the step at all."""
    item(directory / "default")
    write(directory / "default/checkpoint", b"c" * 50)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("5", ("5", 5)),
        ("00000005", ("00000005", 5)),
        ("checkpoint_5", ("checkpoint_5", 5)),
        ("my_run_12", ("my_run_12", 12)),
        ("9" * 250, ("9" * 250, int("9" * 250))),
        ("checkpoint-5", None),
        ("_5", None),
        ("5_", None),
        ("\u0665", None),
        ("5\n", None),
        ("5.orbax-checkpoint-tmp", None),
        ("5.orbax-checkpoint-tmp-1795373157", None),
        ("tmp_step_5", None),
        ("checkpoint_5.tmp-17", None),
        (".tmp_5", None),
        ("_SNAPSHOTS", None),
        ("metadata", None),
    ],
)
def test_match(name: str, expected: object) -> None:
    """
    A number, with or without a prefix, is a step; a temporary name is none.
    """
    assert expected == Orbax().match(name)


@pytest.mark.parametrize(
    "name",
    [
        "5.orbax-checkpoint-tmp",
        "5.orbax-checkpoint-tmp-17",
        "5.partial_save",
        "5.pending_17_abc",
        "5._recovery_17",
        "_SNAPSHOTS",
        "ckpt-5_temp",
        "ckpt-5.index.tempstate17",
        "checkpoint_tmp",
        "checkpoint_tmp_gda",
        "tmp-checkpoint-5",
        ".tmpAbC123",
        "tmp_step-5",
        "step5-tmp",
        "step=5-unfinished",
        "checkpoint_5.tmp-17",
        "checkpoint5.pt.tmp",
        ".nfs0001",
    ],
)
def test_temporary(name: str) -> None:
    """
    Every framework's names for what is not finished are known.
    """
    assert is_temporary(name)


@pytest.mark.parametrize("name", ["5", "temp_5", "my_tmp_5", "tmpfs", "a_SNAPSHOTS", "ckpt-5"])
def test_not_temporary(name: str) -> None:
    """
    Names that only resemble those are kept.
    """
    assert not is_temporary(name)


def test_atomic_rename_in_its_own_order(run: Run) -> None:
    """
    Orbax 0.12.8 has finished when the directory gets its final name.
    """
    temporary = run.root / "1.orbax-checkpoint-tmp"
    default = temporary / "default.orbax-checkpoint-tmp"

    replay(
        run,
        "1",
        [
            temporary.mkdir,
            lambda: write(temporary / "_CHECKPOINT_METADATA", metadata(None)),
            lambda: item(default),
            lambda: write(default / "commit_success.txt", "successful"),
            lambda: default.rename(temporary / "default"),
            lambda: write(temporary / "_CHECKPOINT_METADATA", metadata()),
            lambda: write(temporary / "commit_success.txt", "successful"),
            lambda: temporary.rename(run.root / "1"),
            lambda: write(run.root / "1/eval.json", "{}"),
        ],
        commit=8,
    )


def test_commit_file_in_its_own_order(run: Run) -> None:
    """
    In `COMMIT_FILE` mode the step's own marker comes last.
    """
    step = run.root / "1"

    replay(
        run,
        "1",
        [
            step.mkdir,
            lambda: write(step / "_CHECKPOINT_METADATA", metadata(None)),
            (step / "default").mkdir,
            lambda: item(step / "default"),
            lambda: write(step / "default/commit_success.txt", "successful"),
            lambda: write(step / "_CHECKPOINT_METADATA", ""),
            lambda: write(step / "_CHECKPOINT_METADATA", metadata()),
            lambda: write(step / "commit_success.txt", "successful"),
            lambda: write(step / "eval.json", "{}"),
        ],
        commit=8,
    )


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("version", ["0.12.8", "0.12.2", "old", "no stamp"])
def test_removal(run: Run, version: str, order: str) -> None:
    """
    A checkpoint that is being deleted never looks like a new one, in whatever order it goes.
    """
    step = run.root / "7"
    if version == "old":
        save_like_old_versions(step)
    else:
        save(step, None if version == "no stamp" else STAMP, marker=version != "0.12.2")

    remove_one_by_one(run, "7", in_order(order, step))


def test_removal_looks_like_removal(run: Run) -> None:
    """
    When a parallel deletion has taken the stamp first, status says so.
    """
    save(run.root / "7")
    run.judge("7")
    (run.root / "7/_CHECKPOINT_METADATA").unlink()

    assert "its files are vanishing: it is being deleted" == run.judge("7").missing


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (metadata(None), "no commit stamp in _CHECKPOINT_METADATA"),
        (metadata("17"), "no commit stamp in _CHECKPOINT_METADATA"),
        (metadata(True), "no commit stamp in _CHECKPOINT_METADATA"),
        (metadata(1.5), "no commit stamp in _CHECKPOINT_METADATA"),
        ("", "no commit stamp in _CHECKPOINT_METADATA"),
        (metadata()[:-1], "no commit stamp in _CHECKPOINT_METADATA"),
        ("[1]", "no commit stamp in _CHECKPOINT_METADATA"),
        ("[" * 60000, "no commit stamp in _CHECKPOINT_METADATA"),
        (metadata(), None),
        (metadata(notes="x" * 100_000), None),
        (metadata(notes="x" * 100_000)[:-2], "no commit stamp in _CHECKPOINT_METADATA"),
    ],
)
def test_stamp(run: Run, content: str, expected: str | None) -> None:
    """
    The metadata is there from the start; only its stamp is a commit.
    """
    write(run.root / "5/_CHECKPOINT_METADATA", content)
    write(run.root / "5/default/_METADATA")

    assert expected == run.judge("5", settled=True).missing


def test_stamp_after_an_unfinished_look(run: Run) -> None:
    """
    A directory that filled up under its final name is finished by the marker alone.
    """
    save(run.root / "5", None, marker=False)
    run.judge("5")
    save(run.root / "5", marker=False)
    assert "no commit_success.txt" == run.judge("5", settled=True).missing

    save(run.root / "5")
    assert run.judge("5").missing is None


def test_stamp_where_a_rename_copies(tmp_path: Path) -> None:
    """
    On a mounted bucket the metadata may be copied before the data.
    """
    run = Run(tmp_path, Orbax(), rename_is_atomic=False)
    save(tmp_path / "5", marker=False)
    assert run.judge("5").missing == "no commit_success.txt: waits until its files have settled"

    run.unfinished.clear()
    assert run.judge("5", settled=True).missing is None


def test_old_versions_settle(run: Run) -> None:
    """
    Without a marker or metadata a renamed directory is finished once it has settled.
    """
    (run.root / "5").mkdir()
    assert "empty" == run.judge("5", settled=True).missing

    save_like_old_versions(run.root / "5")
    assert "waits until its files have settled" == run.judge("5").missing
    assert run.judge("5", settled=True).missing is None


def test_old_versions_where_a_rename_copies(tmp_path: Path) -> None:
    """
    Without an atomic rename, and without a marker, nothing proves the end.
    """
    run = Run(tmp_path, Orbax(), rename_is_atomic=False)
    save_like_old_versions(tmp_path / "5")

    assert "no commit_success.txt" == run.judge("5", settled=True).missing


def test_only_directories(run: Run) -> None:
    """
    A file with a number for a name is no checkpoint.
    """
    write(run.root / "5")

    assert "not a directory" == run.judge("5", settled=True).missing
    assert not Orbax().recognises("5", run.look("5"))


def test_generation_is_the_stamp(run: Run) -> None:
    """
    The stamp is the generation: a touched file changes nothing, another commit does.
    """
    save(run.root / "5")
    os.utime(run.root / "5/_CHECKPOINT_METADATA", (1, 1))
    assert STAMP == run.judge("5").generation

    shutil.rmtree(run.root / "5")
    save(run.root / "5", STAMP + 1)
    verdict = run.judge("5")
    assert (None, STAMP + 1) == (verdict.missing, verdict.generation)


@pytest.mark.parametrize("where", ["", "default/", "unheard/of/"])
def test_generation_without_a_stamp(run: Run, where: str) -> None:
    """
    What an evaluator adds to an old checkpoint does not make it new.
    """
    name = "data.bin" if where == "unheard/of/" else "_METADATA"
    own = write(run.root / f"5/{where}{name}", b"w" * 100)
    first = run.judge("5", settled=True).generation
    write(run.root / "5/eval.json", "{}")
    write(run.root / "5/a/eval.json", "{}")
    assert first == run.judge("5").generation is not None

    os.utime(own, (1, 1))
    assert first != run.judge("5").generation


def test_generation_of_nothing(run: Run) -> None:
    """
    An empty directory has no generation.
    """
    (run.root / "5").mkdir()

    assert run.judge("5").generation is None
    assert run.judge("6").generation is None


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("5/_CHECKPOINT_METADATA", True),
        ("5/commit_success.txt", True),
        ("5/_METADATA", True),
        ("5/_sharding", True),
        ("5/manifest.ocdbt", True),
        ("5/orbax.checkpoint", True),
        ("5/default/_METADATA", True),
        ("5/state/manifest.ocdbt", True),
        ("5/checkpoint", False),
        ("5/model.safetensors", False),
        ("5/100/_METADATA", False),
        ("5/step_100/_METADATA", False),
        ("5/100.orbax-checkpoint-tmp/_METADATA", False),
        ("5/a/b/_METADATA", False),
    ],
)
def test_recognises(run: Run, path: str, expected: bool) -> None:
    """
    Orbax's own files tell, but not those of checkpoints in a run called `seed_5`.
    """
    write(run.root / path)

    assert expected == Orbax().recognises("5", run.look("5"))


@given(content=st.binary() | st.text().map(lambda text: metadata(text)[: len(text) * 3].encode()))
def test_any_metadata(run: Run, content: bytes) -> None:
    """
    Whatever the metadata holds, there is an answer.
    """
    write(run.root / "5/_CHECKPOINT_METADATA", content)

    assert run.judge("5").missing


def test_str() -> None:
    """
    It shows an example.
    """
    assert ("orbax", "orbax: 1000/commit_success.txt") == (Orbax().name, str(Orbax()))
