"""Which framework wrote it: one entry at a time, by its own evidence."""

from dataclasses import dataclass
from pathlib import Path

import pytest
from evidence import Run, write
from test_tensorflow import DATA, INDEX

from ckptstream.layouts import (
    Auto,
    Evidence,
    HuggingFace,
    Orbax,
    Template,
    TensorFlow,
    Verdict,
    judge,
    pointer_layouts,
    resolve,
)


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run(tmp_path, Auto())


def save_all(root: Path) -> None:
    write(root / "ckpt-3.data-00000-of-00001", DATA)
    write(root / "ckpt-3.index", INDEX)
    write(root / "checkpoint", 'model_checkpoint_path: "ckpt-3"\n')
    write(root / "checkpoint-4/model.safetensors", at=1)
    write(root / "checkpoint-4/trainer_state.json", '{"global_step": 4}')
    write(root / "5/_CHECKPOINT_METADATA", '{"commit_timestamp_nsecs": 17}')


@pytest.mark.parametrize(
    ("name", "layout", "step"),
    [("ckpt-3", "tensorflow", 3), ("checkpoint-4", "hf", 4), ("5", "orbax", 5)],
)
def test_each_by_its_own_evidence(run: Run, name: str, layout: str, step: int) -> None:
    """
    One directory may hold checkpoints of every framework.
    """
    save_all(run.root)
    verdict = run.judge(name)

    assert (layout, step, None) == verdict[:3]
    assert verdict.generation is not None


@pytest.mark.parametrize(
    ("name", "layout", "missing"),
    [
        ("ckpt-3", "tensorflow", "ckpt-3.index is empty"),
        ("checkpoint-4", "hf", "no model files"),
        ("5", "orbax", "no commit stamp in _CHECKPOINT_METADATA"),
    ],
)
def test_unfinished(run: Run, name: str, layout: str, missing: str) -> None:
    """
    What is missing comes from the layout that fits.
    """
    save_all(run.root)
    write(run.root / "ckpt-3.index", "")
    (run.root / "checkpoint-4/model.safetensors").unlink()
    write(run.root / "5/_CHECKPOINT_METADATA", "{}")
    verdict = run.judge(name)

    assert layout == verdict.layout
    assert missing == verdict.missing


@pytest.mark.parametrize(
    ("path", "name", "looked_for"),
    [
        ("checkpoint_1/notes.txt", "checkpoint_1", "commit_success.txt"),
        ("checkpoint_1/notes.txt", "checkpoint_1", "random_states_0.pkl (accelerate)"),
        ("images_2024/a/b.png", "images_2024", "manifest.ocdbt"),
        ("checkpoint-1/notes.txt", "checkpoint-1", "trainer_state.json"),
        ("words.index", "words", ".data-"),
    ],
)
def test_not_recognised(run: Run, path: str, name: str, looked_for: str) -> None:
    """
    A name alone is no checkpoint, and the answer says what would be one.
    """
    write(run.root / path)
    verdict = run.judge(name, settled=True)

    assert str(verdict.missing).startswith("not recognised: looked for ")
    assert looked_for in str(verdict.missing)
    assert verdict.generation is None


def test_not_there(run: Run) -> None:
    """
    A checkpoint that is gone fits no layout.
    """
    assert Verdict("auto", None, "not there", None) == run.judge("5")


@dataclass(frozen=True)
class Renamed:
    """Flax, say: any directory is finished, and a file called `flax` is its own."""

    name: str = "flax"

    def match(self, name: str) -> tuple[str, int | None] | None:
        return (name, None) if name.startswith("checkpoint_") else None

    def missing(self, name: str, evidence: Evidence) -> str | None:
        return None

    def generation(self, name: str, evidence: Evidence) -> str | None:
        return "flax"

    def recognises(self, name: str, evidence: Evidence) -> bool:
        return "flax" in evidence.list(name)


def test_all_that_fit_must_agree(tmp_path: Path) -> None:
    """
    While several layouts fit, an entry is finished when all of them say so.
    """
    run = Run(tmp_path, Auto((Renamed(), Orbax())))
    write(tmp_path / "checkpoint_1/flax")
    write(tmp_path / "checkpoint_1/_CHECKPOINT_METADATA", "{}")
    verdict, missing = run.judge("checkpoint_1"), "no commit stamp in _CHECKPOINT_METADATA"
    assert Verdict("flax", None, f"{missing} (orbax)", "flax") == verdict

    write(tmp_path / "checkpoint_1/commit_success.txt")
    assert Verdict("flax", None, None, "flax") == run.judge("checkpoint_1")

    (tmp_path / "checkpoint_1/flax").unlink()
    run.finished.clear()
    assert ("orbax", 1, None) == run.judge("checkpoint_1")[:3]


def test_only_layouts_that_fit_are_asked(run: Run) -> None:
    """
    A layout whose checkpoint has another name has no say.
    """
    save_all(run.root)
    look = run.look("ckpt-3")._replace(members=("ckpt-3.index", "ckpt-3.data-00000-of-00001", "6"))

    assert run.layout.missing("ckpt-3", look) is None


def test_auto_is_a_layout(run: Run) -> None:
    """
    Whoever takes a layout can take this one.
    """
    save_all(run.root)
    layout, look = Auto(), run.look("5")

    assert "auto" == layout.name
    assert str(layout).startswith("auto: tensorflow, hf, lightning, ")
    assert (None, 17) == (layout.missing("5", look), layout.generation("5", look))
    assert ("ckpt-3", 3) == layout.match("ckpt-3.index")
    assert ("checkpoint-3", 3) == layout.match("checkpoint-3")
    assert layout.match("notes") is None


def test_judge_of_one_layout(tmp_path: Path) -> None:
    """
    A single layout is taken at its word, and an unfinished checkpoint has a generation, too.
    """
    run = Run(tmp_path, HuggingFace())
    write(tmp_path / "checkpoint-5/trainer_state.json", '{"global_step": 5}')
    look = run.look("checkpoint-5")

    generation = look.fingerprint("checkpoint-5/trainer_state.json")
    assert Verdict("hf", 5, "no model files", generation) == judge(
        HuggingFace(), "checkpoint-5", look
    )


def test_pointer_layouts() -> None:
    """
    Only those that name a file have a pointer.
    """
    tensorflow = TensorFlow("latest")
    pointers = {layout.pointer for layout in pointer_layouts(Auto())}

    files = {"latest", "latest_checkpointed_iteration.txt", "checkpoint_manager_snapshot.json"}
    assert {"checkpoint", "latest-rank0.pt.symlink"} | files == pointers
    assert (tensorflow,) == pointer_layouts(tensorflow)
    assert (tensorflow,) == pointer_layouts(Auto((Orbax(), tensorflow)))
    assert () == pointer_layouts(Template("{step}"))
    assert () == pointer_layouts(resolve("dcp"))
