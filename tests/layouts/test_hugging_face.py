"""Hugging Face: a directory that fills up, its last file, shards and stragglers."""

import json
import os
import pickle
from pathlib import Path

import pytest
from evidence import ORDERS, Look, Run, in_order, remove_one_by_one, replay, write
from hypothesis import given
from hypothesis import strategies as st

from ckptstream.layouts import HuggingFace

NAME = "checkpoint-5"


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run(tmp_path, HuggingFace())


def state(step: object = 5, **more: object) -> str:
    """What Trainer 5.23 writes: sorted keys, indented."""
    fields: dict[str, object] = {"best_global_step": 3, "epoch": 1.0, "global_step": step}
    return json.dumps(fields | {"log_history": [], "max_steps": 9} | more, indent=2) + "\n"


def save(directory: Path) -> None:
    for name in ("config.json", "tokenizer.json", "training_args.bin", "optimizer.pt"):
        write(directory / name, at=100)
    write(directory / "model.safetensors", b"w" * 999, at=100)
    write(directory / "rng_state.pth", at=100)
    write(directory / "trainer_state.json", state(), at=101)


def index(*shards: object) -> str:
    weights = {f"layer.{number}": shard for number, shard in enumerate(shards)}
    return json.dumps({"metadata": {"total_size": 1}, "weight_map": weights})


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (NAME, (NAME, 5)),
        ("checkpoint-0", ("checkpoint-0", 0)),
        (f"checkpoint-{'9' * 240}", (f"checkpoint-{'9' * 240}", int("9" * 240))),
        ("checkpoint-5-copy", None),
        ("tmp-checkpoint-5", None),
        ("checkpoint_5", None),
        ("checkpoint-", None),
        ("checkpoint-\u0665", None),
        ("checkpoint-5\n", None),
        ("last-checkpoint", None),
    ],
)
def test_match(name: str, expected: object) -> None:
    """
    Only `checkpoint-` and a number is a checkpoint.
    """
    assert expected == HuggingFace().match(name)


def test_trainer_in_its_own_order(run: Run) -> None:
    """
    Trainer has finished when `trainer_state.json` is whole.
    """
    directory = run.root / NAME

    replay(
        run,
        NAME,
        [
            directory.mkdir,
            lambda: write(directory / "config.json", "{}"),
            lambda: write(directory / ".tmpAbC123", b"w" * 10),
            lambda: (directory / ".tmpAbC123").rename(directory / "model.safetensors"),
            lambda: write(directory / "tokenizer.json", "{}"),
            lambda: write(directory / "training_args.bin"),
            lambda: write(directory / "optimizer.pt"),
            lambda: write(directory / "scheduler.pt"),
            lambda: write(directory / "rng_state.pth"),
            lambda: write(directory / "trainer_state.json", ""),
            lambda: write(directory / "trainer_state.json", state()[:60]),
            lambda: write(directory / "trainer_state.json", state()),
            lambda: write(directory / "rng_state_1.pth", at=9_000_000_000),
            lambda: write(directory / "eval.json", at=9_000_000_000),
        ],
        commit=12,
    )


@pytest.mark.parametrize("order", ORDERS)
def test_removal(run: Run, order: str) -> None:
    """
    A checkpoint that is being deleted never looks like a new one, in whatever order it goes.
    """
    directory = run.root / NAME
    save(directory)
    write(directory / "global_step5/mp_rank_00_model_states.pt", b"w" * 500)

    remove_one_by_one(run, NAME, in_order(order, directory))


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (None, "no trainer_state.json"),
        ("", "trainer_state.json is not whole"),
        (state()[:-3], "trainer_state.json is not whole"),
        ("[]", "trainer_state.json is not whole"),
        ("[" * 100_000, "trainer_state.json is not whole"),
        (state("5"), "trainer_state.json is not whole"),
        (state(4), "trainer_state.json is of step 4"),
        (state(True), "trainer_state.json is not whole"),
        (state(), None),
        (
            json.dumps({"log_history": ["x" * 5000], "a": {"global_step": 4}, "global_step": 5}),
            None,
        ),
        (state(log_history=["x" * 2_000_000]), None),
        (state(4, log_history=["x" * 2_000_000]), "trainer_state.json is of step 4"),
        (state(log_history=["x" * 2_000_000])[:-3], "trainer_state.json is not whole"),
        (state(log=["x" * 2_000_000, {}], z={"a": 1})[:-3], "trainer_state.json is not whole"),
    ],
)
def test_state(run: Run, content: str | None, expected: str | None) -> None:
    """
    The state must be whole and of this step, however long its log is.
    """
    write(run.root / NAME / "model.safetensors", at=1)
    if content is not None:
        write(run.root / NAME / "trainer_state.json", content)

    assert expected == run.judge(NAME).missing


@pytest.mark.parametrize(
    ("file", "expected"),
    [
        ("pytorch_model.bin", None),
        ("adapter_model.safetensors", None),
        ("tf_model.h5", None),
        ("global_step5/mp_rank_00_model_states.pt", None),
        ("pytorch_model_fsdp_0/__0_0.distcp", None),
        ("config.json", "no model files"),
        ("optimizer.bin", "no model files"),
        ("optimizer_0/__0_0.distcp", "no model files"),
        ("scheduler.pt", "no model files"),
        ("scaler.pt", "no model files"),
        ("rng_state_3.pth", "no model files"),
        ("training_args.bin", "no model files"),
        ("tokenizer.model", "no model files"),
        ("merges.txt", "no model files"),
        ("chat_template.jinja", "no model files"),
        ("README.md", "no model files"),
        (".tmpAbC123", "no model files"),
        (".nfs0001", "no model files"),
        ("latest", "no model files"),
    ],
)
def test_model(run: Run, file: str, expected: str | None) -> None:
    """
    Something besides Trainer's bookkeeping must be there.
    """
    write(run.root / NAME / file, at=1)
    write(run.root / NAME / "trainer_state.json", state())

    assert expected == run.judge(NAME).missing


def test_shards(run: Run) -> None:
    """
    Every shard that the index names must be there.
    """
    save(run.root / NAME)
    (run.root / NAME / "model.safetensors").unlink()
    write(run.root / NAME / "a.safetensors", at=1)
    write(run.root / NAME / "model.safetensors.index.json", index("a.safetensors", "b.safetensors"))
    assert "no b.safetensors" == run.judge(NAME).missing

    write(run.root / NAME / "b.safetensors", at=1)
    assert run.judge(NAME).missing is None


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("", "model.safetensors.index.json is not whole"),
        ("{", "model.safetensors.index.json is not whole"),
        ("{}", None),
        ('{"weight_map": []}', None),
        (index(None, 5, [], {}), None),
        (index("\0"), "no \0"),
    ],
)
def test_index(run: Run, content: str, expected: str | None) -> None:
    """
    An index that is no index asks for nothing, one that is cut off is waited for.
    """
    save(run.root / NAME)
    (run.root / NAME / "model.safetensors").rename(run.root / NAME / "a.safetensors")
    write(run.root / NAME / "model.safetensors.index.json", content)

    assert expected == run.judge(NAME).missing


def test_index_with_an_endless_name(run: Run) -> None:
    """
    What it asks for is said, but not at any length.
    """
    save(run.root / NAME)
    (run.root / NAME / "model.safetensors").rename(run.root / NAME / "a.safetensors")
    write(run.root / NAME / "model.safetensors.index.json", index("x" * 2**20))

    missing = str(run.judge(NAME).missing)
    assert missing.startswith("no xxx")
    assert len(missing) < 2000


def test_index_of_a_former_save(run: Run) -> None:
    """
    An index beside the model in one file is left over.
    """
    save(run.root / NAME)
    write(run.root / NAME / "model.safetensors.index.json", index("gone.safetensors"))

    assert run.judge(NAME).missing is None


def test_model_newer_than_the_state_must_settle(run: Run) -> None:
    """
    A checkpoint that is saved again still has the last save's state.
    """
    save(run.root / NAME)
    write(run.root / NAME / "model.safetensors", b"half", at=9_000_000_000)

    missing = "model.safetensors is newer than trainer_state.json: waits until it has settled"
    assert missing == run.judge(NAME).missing
    assert run.judge(NAME, settled=True).missing is None


@pytest.mark.parametrize(
    "file", ["pytorch_model_fsdp_0/__0_0.distcp", "global_step5/mp_rank_00_model_states.pt"]
)
def test_a_model_in_a_directory_newer_than_the_state_must_settle(run: Run, file: str) -> None:
    """
    Saved again, it is that directory's files that are new while the state is still the last save's.
    """
    save(run.root / NAME)
    write(run.root / NAME / file, b"half", at=9_000_000_000)

    missing = f"{file} is newer than trainer_state.json: waits until it has settled"
    assert missing == run.judge(NAME).missing
    assert run.judge(NAME, settled=True).missing is None


def test_a_directory_is_no_straggler(run: Run) -> None:
    """
    It is what lies in DeepSpeed's own directory that counts, not when that changed.
    """
    save(run.root / NAME)
    write(run.root / NAME / "global_step5/a.pt", at=100)
    os.utime(run.root / NAME / "global_step5", (9e9, 9e9))

    assert run.judge(NAME).missing is None


def test_trap_5_a_directory_comes_after_the_state(tmp_path: Path) -> None:
    """
    Trap 5: an upload in any order: FSDP's directory is whole when all is there that it names.
    """
    bucket = Run(tmp_path, HuggingFace(), rename_is_atomic=False)
    write(tmp_path / NAME / "trainer_state.json", state(), at=100)
    fsdp = tmp_path / NAME / "pytorch_model_fsdp_0"
    for number, (path, lacking) in enumerate(
        [
            ("__0_0.distcp", "no pytorch_model_fsdp_0/.metadata"),
            (".metadata", "no pytorch_model_fsdp_0/__1_0.distcp"),
            ("__1_0.distcp", None),
        ]
    ):
        content = pickle.dumps(["__0_0.distcp", "__1_0.distcp"]) if path == ".metadata" else b"x"
        write(fsdp / path, content, at=90 + number)
        assert lacking == bucket.judge(NAME, settled=True).missing
    assert "waits until pytorch_model_fsdp_0 has settled" == bucket.judge(NAME).missing


def test_trap_5_deepspeeds_ranks_come_after_the_state(tmp_path: Path) -> None:
    """
    Trap 5: of how many there are nothing tells but time; on a disk the state is the last.
    """
    bucket = Run(tmp_path, HuggingFace(), rename_is_atomic=False)
    write(tmp_path / NAME / "trainer_state.json", state(), at=100)
    write(tmp_path / NAME / "global_step5/zero_pp_rank_0_mp_rank_00_model_states.pt", at=90)

    assert "waits until global_step5 has settled" == bucket.judge(NAME).missing
    assert bucket.judge(NAME, settled=True).missing is None
    assert Run(tmp_path, HuggingFace()).judge(NAME).missing is None


def test_only_directories(run: Run) -> None:
    """
    A file with a checkpoint's name is none.
    """
    write(run.root / NAME)

    assert "not a directory" == run.judge(NAME).missing
    assert not HuggingFace().recognises(NAME, run.look(NAME))


def test_generation_is_the_state(run: Run) -> None:
    """
    What an evaluator adds changes nothing, the same step saved again does.
    """
    save(run.root / NAME)
    first = run.judge(NAME).generation
    write(run.root / NAME / "eval.json", "{}")
    write(run.root / NAME / "predictions.npz")
    assert first == run.judge(NAME).generation is not None

    write(run.root / NAME / "trainer_state.json", state(), at=9_000_000_000)
    assert first != run.judge(NAME).generation


@pytest.mark.parametrize(
    ("file", "expected"),
    [
        ("trainer_state.json", True),
        ("config.json", True),
        ("model.safetensors", True),
        ("notes.txt", False),
    ],
)
def test_recognises(run: Run, file: str, expected: bool) -> None:
    """
    The state, a config or a model in a directory of that name is Trainer's.
    """
    write(run.root / NAME / file)

    assert expected == HuggingFace().recognises(NAME, run.look(NAME))


def test_reads_little(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    Of a finished checkpoint only the state is read.
    """
    read: list[str] = []

    def content(look: Look, path: str) -> bytes:
        read.append(path)
        return Path(look.root, path).read_bytes()

    monkeypatch.setattr(Look, "_content", content)
    save(run.root / NAME)

    assert run.judge(NAME).missing is None
    assert {f"{NAME}/trainer_state.json"} == set(read)


@given(content=st.binary() | st.text().map(lambda text: f'{{"global_step": {text}}}'.encode()))
def test_any_state(run: Run, content: bytes) -> None:
    """
    Whatever the state holds, there is an answer.
    """
    write(run.root / NAME / "trainer_state.json", content)
    write(run.root / NAME / "model.safetensors")

    assert run.judge(NAME).step == 5


@given(
    content=st.binary()
    | st.recursive(
        st.none() | st.text() | st.integers() | st.floats(),
        lambda values: st.lists(values) | st.dictionaries(st.text(), values),
    ).map(lambda value: json.dumps({"weight_map": value}).encode())
)
def test_any_index(run: Run, content: bytes) -> None:
    """
    Whatever an index holds, there is an answer.
    """
    save(run.root / NAME)
    (run.root / NAME / "model.safetensors").replace(run.root / NAME / "a.safetensors")
    write(run.root / NAME / "model.safetensors.index.json", content)

    assert run.judge(NAME).step == 5


def test_str() -> None:
    """
    It shows an example.
    """
    layout = HuggingFace()

    assert ("hf", "hf: checkpoint-1000/trainer_state.json") == (layout.name, str(layout))


@pytest.mark.parametrize("weights", ["model.safetensors", "pytorch_model.bin"])
def test_weights_of_no_size(run: Run, tmp_path: Path, weights: str) -> None:
    """
    Trap 9: what a full disk leaves, or a copy that has just begun the file, is not a model.
    """
    save(tmp_path / NAME)
    write(tmp_path / NAME / weights, b"", at=100)
    assert f"{weights} is empty" == run.judge(NAME).missing
    write(tmp_path / NAME / weights, b"w", at=100)
    assert run.judge(NAME).missing is None
