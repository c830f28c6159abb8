"""
The simulated trainer does what the frameworks do: a look after each of its operations.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from replaying import Book, Follower, be_patient, look_by_events, newcomers_view
from simulating import Saving, Simulated, SimulatedDisk, too_early, train, written, written_by
from steering import virtual, virtual_many

from ckptstream import UnknownLayout
from ckptstream.layouts import resolve
from ckptstream.testing import operations

SIMULATED = [
    Simulated("accelerate", "accelerate"),
    Simulated("accelerate", "accelerate", 3),
    Simulated("composer", "composer"),
    Simulated("composer", "composer_sharded", 2),
    Simulated("dcp", "dcp", 2),
    Simulated("deepspeed", "deepspeed", alike=False),
    Simulated("deepspeed", "deepspeed", 3),
    Simulated("fairseq", "fairseq"),
    Simulated("flax", "flax_orbax"),
    Simulated("hf", "hf_trainer"),
    Simulated("hf", "hf_trainer", 2),
    Simulated("keras", "keras_model"),
    Simulated("keras-backup", "keras_backup"),
    Simulated("keras-sharded", "keras_shards"),
    Simulated("keras-sharded", "keras_shards", 3),
    Simulated("levanter", "levanter"),
    Simulated("lightning", "lightning_copied"),
    Simulated("lightning", "lightning_fsdp", 2),
    Simulated("llamafactory-v1", "llamafactory_v1"),
    Simulated("maxtext", "maxtext"),
    Simulated("megatron", "megatron", 2, whole=r".*/metadata\.json"),
    Simulated("megatron-bridge", "megatron_bridge", 2, whole=r".*/run_config\.yaml"),
    Simulated("nemo", "nemo", 2),
    Simulated("olmo", "olmo"),
    Simulated("olmo", "olmo", 2),
    Simulated("olmo-core", "olmo_core", 2),
    Simulated("orbax", "orbax_rename"),
    Simulated("prime-rl", "prime_rl_weights", 2, whole=r".*\.index\.json"),
    Simulated("ray", "ray_v2", 2),
    Simulated("ray-v1", "ray_v1"),
    Simulated("safetensors", "save_pretrained", alike=False),
    Simulated("safetensors", "save_pretrained", 2),
    Simulated("sb3", "sb3_dqn", whole=r"[^/]*\.zip"),
    Simulated("t5x", "t5x"),
    Simulated("tensorflow", "tf2_manager", 2, whole=r"ckpt-[0-9]+\.index"),
    Simulated("torch", "torch_save"),
    Simulated("torchtitan", "torchtitan_dcp", 2),
    Simulated("verl", "verl", 2),
]

every_layout = pytest.mark.parametrize("simulated", SIMULATED, ids=str)


@pytest.fixture(params=["named", "auto"])
def book(request: pytest.FixtureRequest, simulated: Simulated, run: Path) -> Book:
    return Book(simulated.traced(), run, auto=request.param == "auto", explains=False)


async def follow_fast(book: Book, simulated: Simulated, saving: Saving = operations) -> None:
    """
    No time passes but where files have to settle after the end.
    """
    follower, disk = Follower(book, events=True), SimulatedDisk(book.run)
    await look_by_events(follower, disk, book, train(disk, book, simulated, saving))


@pytest.mark.anyio
@virtual
@every_layout
async def test_each_comes_once_when_it_is_finished(book: Book, simulated: Simulated) -> None:
    """
    Never before, never twice, and what was deleted never again; a step saved again comes again.
    """
    await follow_fast(book, simulated)


@pytest.mark.anyio
@virtual_many
@every_layout
async def test_a_trainer_that_claims_too_much_is_found_out(
    book: Book, simulated: Simulated
) -> None:
    """
    If it said one operation before the last that the checkpoint is finished, the test would fail.
    """
    with pytest.raises(AssertionError):
        await follow_fast(book, simulated, too_early)


@pytest.mark.anyio
@virtual_many
@every_layout
async def test_a_trainer_that_stalls(book: Book, simulated: Simulated) -> None:
    """
    After each operation so much time passes that everything settles; and a newcomer looks.
    """
    be_patient(book)
    follower = Follower(book, events=False)
    await follower.look()
    for operation in train(SimulatedDisk(book.run), book, simulated):
        await follower.stall()
        assert not book.due, f"{operation}: {book.due} did not come"
        book.check_reasons(follower.stream)
        found = await newcomers_view(book)
        # The pointer names no later step after the training went back to an earlier one.
        absent = set() if "pointer" in book.trace.head else book.finished() - found
        assert set() == absent, f"{operation}: {absent} did not come to a newcomer"
    follower.check_nothing_is_lost()


@pytest.mark.anyio
@virtual_many
@pytest.mark.parametrize("events", [True, False], ids=["events", "polling"])
@every_layout
async def test_saved_again_between_two_looks(
    book: Book, simulated: Simulated, events: bool
) -> None:
    """
    It comes once more, though nobody saw the half of it.
    """
    follower, disk = Follower(book, events=events), SimulatedDisk(book.run)
    await follower.look()
    for _ in range(2):
        for _ in train(disk, book, simulated, steps=[1]):
            pass
        follower.watcher.touch()
        await follower.look()
        await follower.stall()
        assert set() == book.due
    follower.check_nothing_is_lost()


@pytest.mark.parametrize("simulated", [each for each in SIMULATED if each.alike], ids=str)
def test_the_order_is_the_frameworks(simulated: Simulated) -> None:
    """
    What both write they finish in the same order, and the same file is the last.
    """
    real = written(simulated.traced())
    run = written_by(operations(1, simulated.layout, shards=simulated.shards))
    both = set(real) & set(run)

    assert [name for name in real if name in both] == [name for name in run if name in both]
    assert real[-1] == run[-1]


def test_every_layout_has_an_order() -> None:
    """
    A new preset fails here until the simulated trainer can write it.
    """
    with pytest.raises(UnknownLayout) as layouts:
        resolve("none")
    with pytest.raises(UnknownLayout) as orders:
        list(operations(1, "none"))

    assert set(layouts.value.known) - {"auto"} == set(orders.value.known)
    assert {simulated.layout for simulated in SIMULATED} == set(orders.value.known)
