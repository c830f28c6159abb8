"""TensorFlow: prefixes, the state file, and the order in which the files appear."""

import os
from pathlib import Path

import pytest
from evidence import Run, remove_one_by_one, replay, write
from hypothesis import given
from hypothesis import strategies as st

from ckptstream.layouts import TensorFlow

# What tf.compat.v1.train.Saver of TensorFlow 2.21 wrote for one variable of three floats.
INDEX = bytes.fromhex(
    "00000608011a02080100010f610801120412020803280c3586f3223d0000000001000000001f9b4f4b0000"
    "00000100000000c0f2a1b00001026200240000000001000000005a996b352908360e" + "00" * 36 + ""
    "57fb808b247547db"
)
DATA = b"\0" * 12


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run(tmp_path, TensorFlow())


def save(run: Run, name: str, shards: int = 1) -> None:
    for shard in range(shards):
        write(run.root / f"{name}.data-{shard:05}-of-{shards:05}", DATA)
    write(run.root / f"{name}.index", INDEX)


def point(run: Run, *names: str) -> None:
    lines = [f'model_checkpoint_path: "{names[-1]}"']
    lines += [f'all_model_checkpoint_paths: "{name}"' for name in names]
    write(run.root / "checkpoint", "\n".join(lines) + "\n")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("ckpt-5.index", ("ckpt-5", 5)),
        ("ckpt-5.data-00000-of-00001", ("ckpt-5", 5)),
        ("ckpt-5.data-100000-of-123456", ("ckpt-5", 5)),
        ("model.ckpt.index", ("model.ckpt", None)),
        ("model-a-12.index", ("model-a-12", 12)),
        ("-7.index", ("-7", 7)),
        ("epoch5.index", ("epoch5", None)),
        ("ckpt-\u0665.index", ("ckpt-\u0665", None)),
        ("ckpt-5.meta", None),
        ("ckpt-5", None),
        (".index", None),
        ("checkpoint", None),
        ("ckpt-5_temp", None),
        ("ckpt-5.index.tempstate123", None),
        ("ckpt-5.data-00000-of-00001.tempstate123", None),
        ("ckpt-5.data-0-of-1", None),
        ("ckpt-5.index\n", None),
    ],
)
def test_match(name: str, expected: object) -> None:
    """
    Only an `.index` or data file belongs to a checkpoint.
    """
    assert expected == TensorFlow().match(name)


def test_long_step() -> None:
    """
    A step as long as a name can be is a number.
    """
    step = "9" * 240

    assert (f"ckpt-{step}", int(step)) == TensorFlow().match(f"ckpt-{step}.index")


def test_manager_in_its_own_order(run: Run) -> None:
    """
    `CheckpointManager` has finished when the state file has its name.
    """
    root = run.root
    temporary = root / "ckpt-1_temp"
    data = "part-00000-of-00001.data-00000-of-00001"
    point(run, "ckpt-0")

    def rename(old: Path, new: Path) -> None:
        old.rename(new)

    replay(
        run,
        "ckpt-1",
        [
            temporary.mkdir,
            lambda: write(temporary / f"{data}.tempstate1", DATA),
            lambda: rename(temporary / f"{data}.tempstate1", temporary / data),
            lambda: write(temporary / "part-00000-of-00001.index.tempstate1", INDEX),
            lambda: rename(temporary / data, root / "ckpt-1.data-00000-of-00001"),
            lambda: write(root / "ckpt-1.index", b""),
            lambda: write(root / "ckpt-1.index", INDEX[:60]),
            lambda: write(root / "ckpt-1.index", INDEX),
            (temporary / "part-00000-of-00001.index.tempstate1").unlink,
            temporary.rmdir,
            lambda: write(root / "checkpoint.tmp0123", 'model_checkpoint_path: "ckpt-1"\n'),
            lambda: rename(root / "checkpoint.tmp0123", root / "checkpoint"),
            lambda: point(run, "ckpt-1", "ckpt-2"),
            lambda: write(root / "checkpoint", ""),
        ],
        commit=12,
    )


@pytest.mark.parametrize("backwards", [False, True])
def test_removal(run: Run, backwards: bool) -> None:
    """
    A checkpoint that is being deleted never looks like a new one.
    """
    save(run, "ckpt-1", shards=3)
    point(run, "ckpt-1")

    files = sorted(run.root.glob("ckpt-1.*"), reverse=backwards)
    remove_one_by_one(run, "ckpt-1", [run.root / "checkpoint", *files])


def test_without_a_state_file_it_must_settle(run: Run) -> None:
    """
    What `tf.train.Checkpoint.write` leaves is finished when it has settled.
    """
    save(run, "model.ckpt")

    assert "not named by 'checkpoint' yet" in str(run.judge("model.ckpt").missing)
    assert run.judge("model.ckpt", settled=True).missing is None


def test_named_once_is_enough_for_the_same_files(run: Run) -> None:
    """
    A checkpoint stays finished when it leaves the list, but a rewritten one is named anew.
    """
    save(run, "ckpt-1")
    point(run, "ckpt-1")
    assert run.judge("ckpt-1").missing is None

    point(run, "ckpt-2")
    assert run.judge("ckpt-1").missing is None

    os.utime(run.root / "ckpt-1.index", (9e9, 9e9))
    assert run.judge("ckpt-1").missing is not None


def test_data_newer_than_the_index_must_settle(run: Run) -> None:
    """
    While a prefix is saved again, its new data stands beside the old index.
    """
    save(run, "ckpt-1")
    point(run, "ckpt-1")
    write(run.root / "ckpt-1.data-00000-of-00001", DATA, at=9_000_000_000)

    assert "ckpt-1.data-00000-of-00001 is newer" in str(run.judge("ckpt-1").missing)
    assert run.judge("ckpt-1", settled=True).missing is None


@pytest.mark.parametrize(
    ("index", "expected"),
    [
        (None, "no ckpt-1.index"),
        (b"", "ckpt-1.index is empty"),
        (INDEX[:-1], "ckpt-1.index is not whole"),
        (b"\0" * len(INDEX), "ckpt-1.index is not whole"),
    ],
)
def test_index(run: Run, index: bytes | None, expected: str) -> None:
    """
    An index that is written in place counts when its last bytes are there.
    """
    save(run, "ckpt-1")
    point(run, "ckpt-1")
    path = run.root / "ckpt-1.index"
    path.unlink() if index is None else path.write_bytes(index)

    assert expected == run.judge("ckpt-1").missing


def test_shards(run: Run) -> None:
    """
    All shards of one set must be there, and shards of a former save do no harm.
    """
    save(run, "ckpt-1", shards=3)
    point(run, "ckpt-1")
    (run.root / "ckpt-1.data-00001-of-00003").unlink()
    assert "no ckpt-1.data-00001-of-00003" == run.judge("ckpt-1").missing

    save(run, "ckpt-1", shards=2)
    assert run.judge("ckpt-1", settled=True).missing is None


def test_shards_of_the_listing_must_be_there(run: Run) -> None:
    """
    A name in a stale listing is no proof.
    """
    save(run, "ckpt-1")
    point(run, "ckpt-1")
    look = run.look("ckpt-1")
    (run.root / "ckpt-1.data-00000-of-00001").unlink()

    assert "no ckpt-1.data-00000-of-00001" == TensorFlow().missing("ckpt-1", look)


def test_no_data(run: Run) -> None:
    """
    An index alone is no checkpoint.
    """
    write(run.root / "ckpt-1.index", INDEX)
    write(run.root / "ckpt-1.data-00001-of-00001", DATA)
    point(run, "ckpt-1")

    assert "no ckpt-1.data-?????-of-?????" == run.judge("ckpt-1").missing


def test_endless_shards(run: Run) -> None:
    """
    A silly number of shards costs nothing.
    """
    write(run.root / "ckpt-1.index", INDEX)
    write(run.root / f"ckpt-1.data-00000-of-{'9' * 200}", DATA)
    point(run, "ckpt-1")

    assert f"no ckpt-1.data-00001-of-{'9' * 200}" == run.judge("ckpt-1").missing


def test_generation_is_the_index(run: Run) -> None:
    """
    The shared state file changes with each save, the generation does not.
    """
    save(run, "ckpt-1")
    point(run, "ckpt-1")
    first = run.judge("ckpt-1").generation
    point(run, "ckpt-1", "ckpt-2")
    write(run.root / "ckpt-1.meta")
    assert first == run.judge("ckpt-1").generation

    write(run.root / "ckpt-1.index", INDEX, at=1)
    assert first != run.judge("ckpt-1").generation


def test_recognises(run: Run) -> None:
    """
    Data files are TensorFlow's, whatever there is of an index; an index alone is anybody's.
    """
    save(run, "ckpt-1")
    assert TensorFlow().recognises("ckpt-1", run.look("ckpt-1"))

    write(run.root / "ckpt-1.index", "")
    assert TensorFlow().recognises("ckpt-1", run.look("ckpt-1"))

    (run.root / "ckpt-1.data-00000-of-00001").unlink()
    write(run.root / "ckpt-1.index", INDEX)
    assert not TensorFlow().recognises("ckpt-1", run.look("ckpt-1"))


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b'model_checkpoint_path: "ckpt-3"\n', ("ckpt-3",)),
        (
            b'model_checkpoint_path: "ckpt-2"\nall_model_checkpoint_paths: "ckpt-1"\n'
            b'all_model_checkpoint_paths: "ckpt-3"\nall_model_checkpoint_paths: "ckpt-2"\n'
            b"all_model_checkpoint_timestamps: 1795373162.3340425\n",
            ("ckpt-2", "ckpt-3", "ckpt-1"),
        ),
        (b'model_checkpoint_path: "/gone/runs/model.ckpt-7"\n', ("model.ckpt-7",)),
        (b'model_checkpoint_path: "sub/ckpt-7"\r\n', ("ckpt-7",)),
        (b"  model_checkpoint_path : 'it\\'s'\n", ("it's",)),
        (b'model_checkpoint_path: "\\303\\251\\"\\\\x-1"\n', ('é"\\x-1',)),
        (b'model_checkpoint_path: "\\xc3\\xA9-1\\t"\n', ("é-1\t",)),
        ('model_checkpoint_path: "é-1"\n'.encode(), ("é-1",)),
        (b'model_checkpoint_path: "\\777-1"\n', ("\udcff-1",)),
        (b'model_checkpoint_path: "\\377-1"\n', ("\udcff-1",)),
        (b'model_checkpoint_path: "ckpt-3', ()),
        (b'model_checkpoint_path: "ckpt-3\\"\n', ()),
        (b'model_checkpoint_path: ""\nall_model_checkpoint_paths: "runs/"', ()),
        (b'model_checkpoint_path: "a\\000b"', ()),
        (b'# model_checkpoint_path: "ckpt-3"\n', ()),
        (b"", ()),
        (b"\0\xff\n\n", ()),
    ],
)
def test_pointed(content: bytes, expected: tuple[str, ...]) -> None:
    """
    Trap 18: names are unescaped, without their directories, and come latest first.
    """
    assert expected == TensorFlow().pointed(content)


@given(st.binary() | st.from_regex(rb'(all_)?model_checkpoint_paths?: "[^\n]*"\n?'))
def test_pointed_never_fails(content: bytes) -> None:
    """
    Whatever a state file holds, there are only names that could be in a directory.
    """
    for name in TensorFlow().pointed(content):
        assert name
        assert not {"/", "\0"} & set(name)


def test_state_file() -> None:
    """
    The state file can have another name.
    """
    assert "checkpoint" == TensorFlow().pointer
    assert "latest" == TensorFlow("latest").pointer
    assert "tensorflow" == TensorFlow().name
    assert "tensorflow: ckpt-1000.index" == str(TensorFlow())
