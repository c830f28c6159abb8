"""
Keras's weights in shards: the manifest is rewritten after each of them, and none is renamed.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from evidence import Run, write
from saves import HDF5

from ckptstream.layouts import Auto, resolve

NAME = "m-5.weights.json"


def shard(number: int) -> str:
    return f"m-5_{number:05}.weights.h5"


def manifest(root: Path, shards: Sequence[int], total: float, *, at: int) -> None:
    """
    As Keras writes it: a list of shards for each layer, of which a kernel and a bias may part.
    """
    weights = {f"/layers/dense_{number}/vars": [shard(number)] for number in shards}
    weights["/layers/last/vars"] = [shard(number) for number in shards[-2:]]
    content = {"metadata": {"total_size": total}, "weight_map": weights}
    write(root / NAME, json.dumps(content, indent=4), at=at)


@pytest.fixture(params=["keras-sharded", "auto"])
def sharded(request: pytest.FixtureRequest, tmp_path: Path) -> Run:
    """
    Three shards, and their manifest.
    """
    for number in range(3):
        write(tmp_path / shard(number), HDF5, at=1000 + number)
    manifest(tmp_path, range(3), 500, at=1003)
    return Run(tmp_path, resolve(request.param))


def test_all_shards_are_one_checkpoint(sharded: Run) -> None:
    """
    Which goes by the manifest's name, and its number by what stands before that of a shard.
    """
    assert ("keras-sharded", 5, None) == sharded.judge(NAME, settled=True)[:3]
    assert {*map(shard, range(3)), NAME} == set(sharded.look(NAME).members)
    assert (NAME, 5) == sharded.layout.match(shard(0))
    assert ("model.weights.json", None) == sharded.layout.match("model_00000.weights.h5")


def test_settled_and_no_renaming(sharded: Run) -> None:
    """
    The last manifest may be followed by nothing, or by a shard more.
    """
    assert "waits until it has settled" == sharded.judge(NAME).missing


@pytest.mark.parametrize("number", range(3))
def test_a_shard_that_is_gone(sharded: Run, number: int) -> None:
    """
    Whatever the manifest says.
    """
    (sharded.root / shard(number)).unlink()

    assert f"no {shard(number)}" == sharded.judge(NAME, settled=True).missing


@pytest.mark.parametrize("at", [1003, 2000])
def test_one_that_was_killed_between_two_shards(sharded: Run, at: int) -> None:
    """
    Its manifest names all that is there and whole, however long one waits.
    """
    manifest(sharded.root, range(3), 601, at=at)

    expected = f"{NAME} counts more than its shards hold"
    assert expected == sharded.judge(NAME, settled=True).missing


def test_one_that_was_killed_in_a_shard(sharded: Run) -> None:
    """
    What the manifest does not name yet is newer than it, though it may look whole.
    """
    write(sharded.root / shard(3), HDF5, at=1004)

    assert f"{shard(3)} is newer than {NAME}" == sharded.judge(NAME, settled=True).missing


def test_a_shard_that_is_cut_off(sharded: Run) -> None:
    """
    Though what is left is large enough.
    """
    write(sharded.root / shard(1), HDF5[:-1], at=1001)

    missing = sharded.judge(NAME, settled=True).missing
    assert missing is not None
    assert missing.startswith(f"{shard(1)}: ")


def test_shards_of_a_larger_save(sharded: Run) -> None:
    """
    What the manifest does not name any more is older than it, and does not matter.
    """
    write(sharded.root / shard(3), HDF5, at=999)

    assert sharded.judge(NAME, settled=True).missing is None


def test_shards_without_a_manifest(tmp_path: Path) -> None:
    """
    Who asked for shards gets none of them; who asked for files gets each, if no manifest is there.
    """
    for number in range(3):
        write(tmp_path / shard(number), HDF5)
    for layout in (Auto(), resolve("keras-sharded")):
        missing = Run(tmp_path, layout).judge(NAME, settled=True).missing
        expected = f"not there, only {shard(0)}: unless it is a shard, use layout='keras'"
        assert expected == missing
    keras = Run(tmp_path, resolve("keras"))
    assert keras.judge(shard(1), settled=True).missing is None

    manifest(tmp_path, range(3), 500, at=1003)
    expected = f"a shard of {NAME}: use layout='keras-sharded'"
    assert expected == keras.judge(shard(2), settled=True).missing


@pytest.mark.parametrize("name", ["m_10000.weights.h5", "m_0001.weights.h5", "m-00001.weights.h5"])
def test_what_is_no_shard(tmp_path: Path, name: str) -> None:
    """
    Nobody has ten thousand shards; a step has five digits more often.
    """
    write(tmp_path / name, HDF5)

    verdict = Run(tmp_path, Auto()).judge(name, settled=True)
    assert ("keras", None) == (verdict.layout, verdict.missing)


@pytest.mark.parametrize(
    "name", ["a\0b", "\ud800", "../m-5_00000.weights.h5", "/etc/passwd", "x" * 300, 7]
)
def test_a_manifest_that_names_no_shard(sharded: Run, name: object) -> None:
    """
    Only what lies beside it is asked for: no crash, and nothing outside counts.
    """
    write(sharded.root.parent / "m-5_00000.weights.h5", HDF5)
    write(sharded.root / NAME, json.dumps({"weight_map": {"a": name}}), at=1003)

    expected = f"no {name}" if isinstance(name, str) else "no shards"
    assert expected == sharded.judge(NAME, settled=True).missing
