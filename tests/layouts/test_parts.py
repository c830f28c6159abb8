"""What layouts are composed of: pointers, ranks, markers, stamps; and input of any shape."""

from __future__ import annotations

import json
import os
import pickle
import time
from pathlib import Path

import pytest
from evidence import Look, Run, write
from hypothesis import given, settings
from hypothesis import strategies as st
from saves import FSDP, SAVES, SB3, TENSORS, TORCH, Save
from test_footers import archive

from ckptstream.layouts import Described, Evidence, PointerLayout, parts, resolve
from ckptstream.layouts._footers import unfinished_file
from ckptstream.layouts._stamps import read_stamp

JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.text() | st.integers() | st.floats(),
    lambda values: st.lists(values) | st.dictionaries(st.text(), values),
)
fuzz = settings(max_examples=25)

TAG = parts.Pointer("latest")
NUMBER = parts.Pointer("latest", number="iter_{:07d}", words=("release",))
PATH = parts.Pointer("latest", paths=True)
TRACKER = "latest_checkpointed_iteration.txt"
LISTED = parts.Pointer("latest", keys=(("new", "dir"), ("all", "dir")))


@pytest.mark.parametrize(
    ("pointer", "content", "expected"),
    [
        (TAG, b"global_step5", ("global_step5",)),
        (TAG, b"global_step5\n", ("global_step5",)),
        (TAG, b"", ()),
        (TAG, b"a\nb", ()),
        (TAG, b"../global_step5", ()),
        (TAG, b"/etc/passwd", ()),
        (TAG, b"..", ()),
        (TAG, b"a\0b", ()),
        (TAG, b"x" * 5000, ()),
        (TAG, b"caf\xe9", ("caf\udce9",)),
        (PATH, b"/somewhere/else/step5", ("step5",)),
        (PATH, b"step5/", ()),
        (PATH, b"a/..", ()),
        (NUMBER, b"5", ("iter_0000005",)),
        (NUMBER, b" 12345678 \n", ("iter_12345678",)),
        (NUMBER, b"release", ("release",)),
        (NUMBER, b"-5", ()),
        (NUMBER, b"5.0", ()),
        (NUMBER, "\u0665".encode(), ()),
        (NUMBER, b"9" * 300, ()),
        (LISTED, b'{"new": {"dir": "b"}, "all": [{"dir": "a"}, {"dir": "b"}]}', ("b", "a")),
        (LISTED, b'{"new": null, "all": [{"dir": "../x"}, {"dir": 5}, {}, "a", [[]]]}', ()),
        (LISTED, b"[]", ()),
        (LISTED, b'{"new"', ()),
        (LISTED, b"[" * 100_000, ()),
    ],
)
def test_pointer(pointer: parts.Pointer, content: bytes, expected: tuple[str, ...]) -> None:
    """
    Trap 4: what is empty, cut off, or leads out of the directory names nothing.
    """
    assert expected == pointer.names(content)


@given(
    st.sampled_from([TAG, NUMBER, PATH, LISTED]),
    st.binary()
    | st.text().map(str.encode)
    | JSON_VALUES.map(lambda value: json.dumps({"new": value, "all": [value]}).encode()),
)
@fuzz
def test_any_pointer(pointer: parts.Pointer, content: bytes) -> None:
    """
    Whatever a pointer holds, it names plain names in the directory.
    """
    for name in pointer.names(content):
        assert name == os.path.basename(name) not in {"", ".", ".."}
        assert "\0" not in name


POINTED = [save for save in SAVES if getattr(resolve(save.layout), "pointer", "")]


@pytest.mark.parametrize("save", POINTED, ids=str)
def test_any_pointer_of_a_preset(tmp_path: Path, save: Save) -> None:
    """
    A finished checkpoint stays one, whatever its pointer holds later.
    """
    layout = resolve(save.layout)
    assert isinstance(layout, PointerLayout)
    run, pointer = Run(tmp_path, layout), layout.pointer
    save.done(tmp_path)
    first = run.judge(save.name, settled=True)

    @given(content=st.binary())
    @fuzz
    def check(content: bytes) -> None:
        write(tmp_path / pointer, content, at=9000)
        assert first == run.judge(save.name, settled=True)

    check()


JSON_FILES = [
    (save, path)
    for save in SAVES
    for path in dict.fromkeys(path for path, _, _ in save.steps)
    if path.endswith((".json", ".yaml", ".metadata", "meta.pt")) and "tmp" not in path
]


@pytest.mark.parametrize(("save", "path"), JSON_FILES, ids=str)
def test_any_marker(tmp_path: Path, save: Save, path: str) -> None:
    """
    Whatever a marker, an index or a list holds, there is an answer.
    """
    run, target = Run(tmp_path, resolve(save.layout)), tmp_path / path
    save.done(tmp_path)

    @given(content=st.binary() | JSON_VALUES.map(lambda value: json.dumps(value).encode()))
    @fuzz
    def check(content: bytes) -> None:
        write(target, content)
        for settled in (False, True):
            assert run.judge(save.name, settled=settled).missing != ""

    check()


def test_gigabytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    However large the files are, little of them is read.
    """
    asked: list[int] = []

    def read(look: Look, path: str, size: int) -> bytes:
        asked.append(size)
        return b"{" * 99

    monkeypatch.setattr(Look, "head", read)
    monkeypatch.setattr(Look, "tail", read)
    for number, save in enumerate(SAVES):
        run = Run(tmp_path / str(number), resolve(save.layout))
        run.root.mkdir()
        save.done(run.root)
        run.judge(save.name, settled=True)

    assert asked
    assert max(asked) <= 32 * 2**20


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ("r0 r1 r2", None),
        ("r1 r2", "no r0"),
        ("r0 r2", "no r1"),
        ("r00 r02", "no r01"),
        ("of3_r0 of3_r1 of3_r2", None),
        ("of3_r0 of3_r1", "no of3_r2"),
        ("of99999999999_r0", "no of99999999999_r1"),
        ("m0_r0 m0_r1 m1_r0 m1_r1", None),
        ("m0_r0 m0_r1 m1_r0", "no m1_r1"),
        ("m0_r0 m0_r1 o0_r0", None),
        ("other", None),
        ("", None),
    ],
)
def test_ranks(tmp_path: Path, files: str, expected: str | None) -> None:
    """
    Trap 17: every rank's file is there, as far as names tell how many there are.
    """
    ranks = parts.Ranks(r"(?:of(?P<of>[0-9]+)_)?(?:[mo][0-9]+_)?r(?P<rank>[0-9]+)")
    layout = Described("x", "x", "x", directory=(ranks,))
    (tmp_path / "x").mkdir()
    for file in files.split():
        write(tmp_path / "x" / file)

    assert expected == Run(tmp_path, layout).judge("x").missing


def test_a_proof_of_ones_own(tmp_path: Path) -> None:
    """
    Anything that says what is lacking is a proof.
    """

    class Even:
        def lacking(self, subject: parts.Subject) -> str | None:
            return None if (subject.step or 0) % 2 == 0 else "odd"

    layout = Described("x", "x-2", r"x-(?P<step>[0-9]+)", directory=(Even(),), file=(Even(),))
    write(tmp_path / "x-3/a")
    write(tmp_path / "x-4")
    run = Run(tmp_path, layout)

    assert ("x", 3, "odd") == run.judge("x-3")[:3]
    assert ("x", 4, None) == run.judge("x-4")[:3]
    assert "x: x-2" == str(layout)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"at": "1970-01-01T00:00:01"}', 10**9),
        ('{"at": "1970-01-01T01:00:01.500000+01:00"}', 1_500_000_000),
        ('{"at": "yesterday"}', None),
        ('{"at": 5}', None),
        ("{}", None),
        ("[]", None),
        ("", None),
        ('{"at": "0001-01-01T00:00:00+23:59"}', -62135683140 * 10**9),
    ],
)
def test_stamp(tmp_path: Path, text: str, expected: int | None) -> None:
    """
    A date is so many nanoseconds; anything else is none.
    """
    write(tmp_path / "a.json", text)

    assert expected == read_stamp("a.json", "at", Look(tmp_path))


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (SB3, None),
        (archive(("data", b"{}"), ("policy.pth", TORCH)), "no _stable_baselines3_version in the"),
        (archive(("data", b"PK\1\2_stable_baselines3_version")), "no _stable_baselines3_version"),
        (SB3[: SB3.index(TORCH) + len(TORCH)], "the zip archive's directory does not fit"),
    ],
)
def test_trap_9_an_archive_in_an_archive(
    tmp_path: Path, content: bytes, expected: str | None
) -> None:
    """
    Trap 9: cut off behind a member that is an archive itself, it does not pass for a whole one.
    """
    write(tmp_path / "a.zip", content)
    look = Look(tmp_path)
    stat = look.stat("a.zip")
    assert stat is not None
    found = unfinished_file("a.zip", stat, look, ("_stable_baselines3_version",))

    assert (found or "").startswith(expected or "")
    assert (found is None) == (expected is None)


def test_trap_10_a_link_that_dangles_for_a_moment(tmp_path: Path) -> None:
    """
    Trap 10: Lightning's link is a checkpoint's other name, or leads nowhere; a copy counts.
    """
    run = Run(tmp_path, resolve("lightning"))
    write(tmp_path / "step=5.ckpt", TORCH)
    link = tmp_path / "last.ckpt"
    link.symlink_to("step=5.ckpt")
    assert ("auto", None, "a link to step=5.ckpt", None) == run.judge("last.ckpt", settled=True)

    (tmp_path / "step=5.ckpt").unlink()
    assert "a link that leads nowhere" == run.judge("last.ckpt", settled=True).missing

    link.unlink()
    assert "not there" == run.judge("last.ckpt", settled=True).missing

    write(tmp_path / "step=10.ckpt", TORCH)
    write(link, TORCH)
    assert ("lightning", None, None) == run.judge("last.ckpt", settled=True)[:3]


def test_trap_3_a_copy_that_grows(tmp_path: Path) -> None:
    """
    Trap 3: moved from another filesystem, a Lightning file grows under its own name.
    """
    run = Run(tmp_path, resolve("lightning"))
    for size in range(0, len(TORCH), 7):
        write(tmp_path / "step=5.ckpt", TORCH[:size])
        assert run.judge("step=5.ckpt", settled=True).missing

    write(tmp_path / "step=5.ckpt", TORCH)
    assert run.judge("step=5.ckpt", settled=True).missing is None


def test_trap_4_verl_deletes_before_the_tracker_moves(tmp_path: Path) -> None:
    """
    Trap 4: a gutted checkpoint that the tracker still names is not finished.
    """
    run = Run(tmp_path, resolve("verl"))
    write(tmp_path / "global_step_5/data.pt")
    write(tmp_path / "latest_checkpointed_iteration.txt", "5")

    assert "no actor" == run.judge("global_step_5", settled=True).missing


@pytest.mark.parametrize(
    ("layout", "older", "file", "pointer", "content"),
    [
        ("deepspeed", "global_step5", "mp_rank_00_model_states.pt", "latest", "global_step{}"),
        ("megatron", "iter_0000005", "metadata.json", "latest_checkpointed_iteration.txt", "{}"),
        ("verl", "global_step_5", "actor/a", "latest_checkpointed_iteration.txt", "{}"),
    ],
)
def test_trap_8_the_pointer_is_past_it_or_before_it(
    tmp_path: Path, layout: str, older: str, file: str, pointer: str, content: str
) -> None:
    """
    Trap 8: a later step in the pointer vouches for what has settled, an earlier one does not.
    """
    run = Run(tmp_path, resolve(layout))
    write(tmp_path / older / file, TORCH if file.endswith(".pt") else "{}", at=1000)
    write(tmp_path / pointer, content.format(20), at=1001)
    assert "waits until it has settled" == run.judge(older).missing
    assert run.judge(older, settled=True).missing is None

    write(tmp_path / pointer, content.format(3), at=999)
    run.finished.clear()
    assert f"not named by {pointer!r} yet" == run.judge(older, settled=True).missing


@pytest.mark.parametrize(
    ("added", "expected"),
    [
        ("actor/huggingface/model.safetensors", None),
        (f"actor/{FSDP(1)}", f"actor/{FSDP(1)} is newer than {TRACKER!r}, which names step 20"),
    ],
)
def test_trap_8_what_others_add_to_an_older_step(
    tmp_path: Path, added: str, expected: str | None
) -> None:
    """
    Trap 8: of what is newer than the pointer only the ranks' files show that a step is saved again.
    """
    run = Run(tmp_path, resolve("verl"))
    write(tmp_path / "global_step_5/actor" / FSDP(0), TORCH, at=1000)
    write(tmp_path / TRACKER, "20", at=1001)
    write(tmp_path / "global_step_5/actor" / FSDP(1), TORCH, at=1000)
    write(tmp_path / "global_step_5" / added, TORCH, at=1002)

    assert expected == run.judge("global_step_5", settled=True).missing


def test_a_marker_of_which_nothing_is_written_yet(tmp_path: Path) -> None:
    """
    Most are written in place, and begin with no content.
    """
    run = Run(tmp_path, resolve("torchtitan"))
    write(tmp_path / "step-5/__0_0.distcp", TORCH, at=1000)
    write(tmp_path / "step-5/.metadata", b"", at=1001)

    assert ".metadata is empty" in (run.judge("step-5", settled=True).missing or "")


def test_trap_5_an_upload_publishes_the_marker_first(tmp_path: Path) -> None:
    """
    Trap 5: `.metadata` sorts before the data: alone it proves nothing; while data comes one waits.
    """
    run = Run(tmp_path, resolve("dcp"))
    write(tmp_path / "step-5/.metadata", at=100)
    assert "no *.distcp, or no __0.metadata" == run.judge("step-5", settled=True).missing

    write(tmp_path / "step-5/__0_0.distcp", at=101)
    missing = str(run.judge("step-5").missing)
    assert "__0_0.distcp is newer than .metadata: waits until it has settled" in missing
    assert run.judge("step-5", settled=True).missing is None


@pytest.mark.parametrize("layout", ["levanter", "auto"])
@pytest.mark.parametrize("array", ["w", "layers/stacked/attn/q_proj/weight/c/0"])
def test_trap_1_however_deep_the_data_lies(tmp_path: Path, layout: str, array: str) -> None:
    """
    Trap 1: saved again in place, an array is newer than the last save's marker.
    """
    run = Run(tmp_path, resolve(layout))
    write(tmp_path / "step-5/metadata.json", b'{"step": 5}', at=101)
    write(tmp_path / f"step-5/model/{array}/zarr.json", at=100)
    assert run.judge("step-5").missing is None
    write(tmp_path / f"step-5/model/{array}/0", at=102)

    expected = f"model/{array}/0 is newer than metadata.json: waits until it has settled"
    newcomer = Run(tmp_path, resolve(layout))
    assert expected == newcomer.judge("step-5").missing
    assert newcomer.judge("step-5", settled=True).missing is None


@pytest.mark.parametrize("absent", ["model-00001-of-00002", "model-00002-of-00002"])
def test_trap_2_what_a_deletion_leaves_of_a_model(tmp_path: Path, absent: str) -> None:
    """
    Trap 2: LLaMA-Factory's shards lie one level below its marker, which may be deleted after them.
    """
    names = [f"model-0000{number}-of-00002" for number in (1, 2)]
    for name in names:
        write(tmp_path / f"checkpoint-5/model/{name}.safetensors", TENSORS, at=100)
    index = {"weight_map": {name: f"{name}.safetensors" for name in names}}
    write(tmp_path / "checkpoint-5/model/model.safetensors.index.json", json.dumps(index), at=100)
    for name, content in (("metadata.json", "{}"), ("CHECKPOINT_COMPLETE", "")):
        write(tmp_path / f"checkpoint-5/{name}", content, at=101)
    assert Run(tmp_path, resolve("auto")).judge("checkpoint-5").missing is None

    (tmp_path / f"checkpoint-5/model/{absent}.safetensors").unlink()

    newcomer = Run(tmp_path, resolve("auto"))
    assert f"no {absent}.safetensors" == newcomer.judge("checkpoint-5", settled=True).missing


def test_trap_5_llamafactorys_ranks_come_after_the_marker(tmp_path: Path) -> None:
    """
    Trap 5: with FSDP2 its model is DCP's, whose `.metadata` names the ranks' files.
    """
    run = Run(tmp_path, resolve("llamafactory-v1"), rename_is_atomic=False)
    write(tmp_path / "checkpoint-5/metadata.json", "{}", at=100)
    write(tmp_path / "checkpoint-5/CHECKPOINT_COMPLETE", "", at=100)
    files = ["__0_0.distcp", "__1_0.distcp"]
    write(tmp_path / "checkpoint-5/model/.metadata", pickle.dumps(files), at=100)
    write(tmp_path / "checkpoint-5/model/__0_0.distcp", at=100)
    assert "no model/__1_0.distcp" == run.judge("checkpoint-5", settled=True).missing

    write(tmp_path / "checkpoint-5/model/__1_0.distcp", at=100)
    assert run.judge("checkpoint-5").missing is None


@pytest.mark.parametrize("end", [".ckpt", ".ckpt-unfinished", "!"])
@pytest.mark.parametrize("name", ["--=", "--step=1", "--"])
def test_names_as_long_as_buckets_have_them(name: str, end: str) -> None:
    """
    Not each way to part a name is tried: NeMo's took a second for one of 1,024 characters.
    """
    began = time.process_time()
    resolve("auto").match(f"{name * 400}"[: 1024 - len(end)] + end)

    assert time.process_time() - began < 0.3


@pytest.mark.parametrize("digits", [20, 241, 5000])
def test_trap_5_metadata_names_what_can_be_no_file(tmp_path: Path, digits: int) -> None:
    """
    Trap 5: a name that is longer than any rank's is not asked for, and no crash.
    """
    run = Run(tmp_path, resolve("dcp"), rename_is_atomic=False)
    file = f"__{'1' * digits}_0.distcp"
    write(tmp_path / "step-5/__0_0.distcp", at=100)
    write(tmp_path / "step-5/.metadata", pickle.dumps(["__0_0.distcp", file]), at=101)

    missing = run.judge("step-5", settled=True).missing
    assert (f"no {file}" in str(missing)) is (missing is not None) is (digits == 20)


@pytest.mark.parametrize("layout", ["olmo", "t5x", "flax"])
def test_trap_6_where_renames_are_not_atomic(tmp_path: Path, layout: str) -> None:
    """
    Trap 6: a rename proves something where it is one; elsewhere the files must have settled.
    """
    save = next(save for save in SAVES if save.layout == layout)
    run = Run(tmp_path, resolve(layout), rename_is_atomic=False)
    save.done(tmp_path)

    assert "waits until it has settled" == run.judge(save.name).missing
    assert run.judge(save.name, settled=True).missing is None


@pytest.mark.parametrize(
    ("layout", "name", "expected"),
    [
        ("flax", "checkpoint_-5", -5),
        ("flax", "checkpoint_1e3", 1000),
        ("flax", "checkpoint_0.5", None),
        ("flax", "checkpoint_1e999", None),
        ("lightning", "epoch=1-val_loss=0.32.ckpt", None),
        ("lightning", "epoch=1-step=7-val_loss=0.32.ckpt", 7),
        ("fairseq", "checkpoint3.pt", None),
        ("fairseq", "checkpoint_3_70.pt", 70),
        ("keras", "model_v2.keras", None),
        ("keras", "w-05.weights.h5", 5),
        ("keras", "w-05-0.32.weights.h5", None),
        ("torch", "resnet50_weights.pth", None),
        ("torch", "ckpt_1000.pt", 1000),
        ("torch", "best.pt", None),
        ("ray", "checkpoint_2026-01-31_12-00-00.123456", None),
        ("nemo", "a--val=0.5-epoch=1-step=9-last", 9),
        ("composer", "ep1-ba70-rank3.pt", 70),
        ("sb3", "rl_model_64_steps.zip", 64),
        ("megatron", "iter_123456789", 123456789),
    ],
)
def test_trap_12_numbers_that_are_no_steps(layout: str, name: str, expected: int | None) -> None:
    """
    Trap 12: a step is a whole number where the framework counts steps, else there is none.
    """
    match = resolve(layout).match(name)

    assert match is not None
    assert expected == match[1]


@pytest.mark.parametrize(
    ("layout", "name"),
    [
        ("torchtitan", "tmp_step-10"),
        ("torchtitan", "step-10-backup"),
        ("dcp", "tmp_step-10"),
        ("flax", "checkpoint_tmp"),
        ("flax", "checkpoint_5_gda"),
        ("t5x", "checkpoint_5.tmp-1700000000"),
        ("olmo", "step10-tmp"),
        ("olmo-core", "step10-tmp"),
        ("fairseq", "checkpoint_last.pt"),
        ("fairseq", "checkpoint_best.pt"),
        ("fairseq", "checkpoint1.pt.tmp"),
        ("torch", "optimizer.pt"),
        ("torch", "checkpoint_last.pt"),
        ("torch", "latest-rank0.pt"),
        ("torch", "predictions.pt"),
        ("megatron", "iter_100"),
        ("megatron", "latest_train_state.pt"),
        ("keras-backup", "latest.weights.h5.bkp"),
        ("nemo", "a--val=0.5-epoch=1-step=9.ckpt"),
        ("sb3", "best_model.zip"),
        ("lightning", "last.ckpt\n.txt"),
        ("accelerate", "checkpoint_\u0665"),
    ],
)
def test_trap_20_names_of_what_is_no_checkpoint(layout: str, name: str) -> None:
    """
    Trap 20: what crashes leave behind, copies and links of other frameworks match nothing.
    """
    assert resolve(layout).match(name) is None


@pytest.mark.parametrize(
    ("name", "lead"),
    [
        ("a--val=0.5-step=9-unfinished", "a--val=0.5-step=9"),
        ("ep1-ba70-rank3.pt", "ep1-ba70-rank0.pt"),
        ("checkpoint_1_5-shard3.pt", "checkpoint_1_5.pt"),
        ("rl_model_replay_buffer_64_steps.pkl", "rl_model_64_steps.zip"),
        ("training_metadata.json", "latest.weights.h5"),
    ],
)
def test_names_that_belong_to_another(name: str, lead: str) -> None:
    """
    Several names are one checkpoint, called after the one that its users load.
    """
    matches = [resolve(save.layout).match(name) for save in SAVES]

    assert lead in {match[0] for match in matches if match is not None}


def test_trap_17_a_late_rank(tmp_path: Path) -> None:
    """
    Trap 17: what a framework does not need for its weights may come later, and changes nothing.
    """
    run = Run(tmp_path, resolve("accelerate"))
    save = next(save for save in SAVES if save.layout == "accelerate")
    save.done(tmp_path)
    first = run.judge(save.name, settled=True)
    write(tmp_path / save.name / "random_states_3.pkl")

    assert first == run.judge(save.name, settled=True)


def test_trap_19_no_permission_is_not_for_a_layout(tmp_path: Path) -> None:
    """
    Trap 19: what cannot be read is told as it is: neither unfinished nor corrupt.
    """

    class Forbidden(Look):
        def tail(self, path: str, size: int) -> bytes | None:
            raise PermissionError(13, "Permission denied", path)

    write(tmp_path / "model_5.pt", TORCH)
    evidence: Evidence = Forbidden(tmp_path, ("model_5.pt",))
    with pytest.raises(PermissionError):
        resolve("torch").missing("model_5.pt", evidence)


def test_trap_20_remains_do_not_block_newer_ones(tmp_path: Path) -> None:
    """
    Trap 20: what a crash left behind has its own reason, and what comes after it is finished.
    """
    run = Run(tmp_path, resolve("prime-rl"))
    write(tmp_path / "step_5/model.safetensors", TENSORS)
    write(tmp_path / "step_6/model.safetensors", TENSORS, at=1)
    write(tmp_path / "step_6/STABLE", "")

    assert "no STABLE, or no trainer/.metadata" == run.judge("step_5", settled=True).missing
    assert run.judge("step_6").missing is None
