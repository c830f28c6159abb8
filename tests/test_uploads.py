"""
Uploads: objects come one by one, each as a whole, in whatever order an uploader has them.

What can be told of an upload that publishes the marker first is in `UPLOADS`. Where nothing can be
told, the marker must be published last.
"""

from __future__ import annotations

import itertools
import json
import pickle
from random import Random

import anyio
import pytest
from buckets import Server, put
from hypothesis import given, settings
from hypothesis import strategies as st
from steering import VirtualLoop, run_status, virtual_many
from uploading import (
    ORDERS,
    Bucket,
    Follower,
    Found,
    Objects,
    Slow,
    Training,
    Upload,
    fits,
    ordered,
)

from ckptstream import UnknownLayout
from ckptstream._stores._bucket import SETTLE
from ckptstream._stream import _joining
from ckptstream.testing import operations

pytest.importorskip("obstore")

_TRAINERS = r"config\.json|training_args\.bin|optimizer\.pt|scheduler\.pt|rng_state\.pth"
_TOKENIZER = r"config\.json|generation_config\.json|tokenizer\.json"
_LINK = r"latest-rank0\.pt\.symlink"
_TRACKER = r"latest_checkpointed_iteration\.txt"
# Not needed to read it.
_ORBAX_OWN = r"(?:[a-z]+/)?ocdbt\.process_0/manifest\.ocdbt|[a-z]+/commit_success\.txt"
# The manifest is compressed: which data files it names is not known.
_ORBAX_DATA = r"(?:[a-z]+/)?_METADATA|(?:[a-z]+/)?ocdbt\.process_0/d/.*"


def _orbax(layout: str, shards: int = 1) -> Upload:
    return Upload(
        layout,
        shards,
        marker=r"commit_success\.txt",
        uncounted=_ORBAX_OWN,
        unproven=_ORBAX_DATA,
        settled=r"_CHECKPOINT_METADATA",  # Older releases write none.
    )


UPLOADS = [
    Upload("accelerate", marker=r"random_states_0\.pkl", settled=r"(?:optimizer|scheduler)\.bin"),
    Upload("accelerate", 3, r"random_states_0\.pkl", settled=r"(?:optimizer|scheduler)\.bin"),
    Upload("composer", marker=_LINK, settled=_LINK),
    Upload("composer", 2, _LINK),
    Upload("dcp", 2, r"\.metadata"),
    # How many ranks there are, no name says.
    Upload("deepspeed", 1, "latest", settled=r"zero_pp_rank_0.*|zero_to_fp32\.py"),
    Upload("deepspeed", 3, "latest", settled=r"zero_pp_rank_2.*|zero_to_fp32\.py"),
    Upload("fairseq", settled=r"checkpoint_last\.pt"),
    _orbax("flax"),
    Upload("hf", 1, r"trainer_state\.json", _TRAINERS),
    Upload("hf", 2, r"trainer_state\.json", _TRAINERS),
    Upload("keras"),
    Upload("keras-sharded", 2),
    Upload("keras-backup", 1, r"training_metadata\.json"),
    Upload("levanter", 2, r"metadata\.json", unproven=r"model/weight/.*"),
    Upload("lightning"),
    Upload("lightning", 2, r"meta\.pt|\.metadata"),
    Upload(
        "llamafactory-v1",
        marker="CHECKPOINT_COMPLETE",
        uncounted=r"model/config\.json",
        unproven=r"optimizer/state_dict\.pt|dataloader/rank_0\.pt",
    ),
    Upload(
        "llamafactory-v1",
        shards=2,
        marker="CHECKPOINT_COMPLETE",
        uncounted=r"model/config\.json",
        unproven=r"optimizer/state_dict\.pt|dataloader/rank_0\.pt",
    ),
    _orbax("maxtext"),
    Upload("megatron", 2, _TRACKER, r"common\.pt|metadata\.json"),
    Upload(
        "megatron-bridge",
        shards=2,
        auto=False,  # Before its own files are there it is Megatron-LM's.
        marker=r"run_config\.yaml|train_state\.pt",
        uncounted=rf"common\.pt|metadata\.json|tokenizer\.json|latest_train_state\.pt|{_TRACKER}",
    ),
    Upload(
        "nemo", 2, r"weights/metadata\.json", r"weights/(?:common\.pt|metadata\.json)|context/.*"
    ),
    Upload("olmo", marker=r"config\.yaml", settled=r"(?:optim|train)\.pt"),
    # A rank less is a rank that nobody knows of.
    Upload("olmo", 2, r"config\.yaml", settled=r"train/rank1\.pt"),
    Upload("olmo-core", 2, r"\.metadata\.json", r"config\.json", unproven=r"train/rank1\.pt"),
    _orbax("orbax"),
    _orbax("orbax", 2),
    Upload("prime-rl", 1, "STABLE", _TOKENIZER),
    Upload("prime-rl", 2, "STABLE", _TOKENIZER),
    # Workers copy what they like.
    Upload("ray", 2, r"checkpoint_manager_snapshot\.json", unproven=r"[a-z]+(_1)?\.(?:pt|json)"),
    Upload("ray-v1", 2, settled=r"[a-z]+(_1)?\.(?:pt|json)"),
    # Weights before `config.json` may be prime-rl's, for whose `STABLE` auto waits.
    Upload("safetensors", settled=r"config\.json", auto=False),
    Upload("safetensors", 2, settled=r"config\.json", auto=False),
    Upload("sb3", settled=r"rl_model_.*\.pkl"),
    Upload("t5x", 2, "checkpoint", settled=r"target\.encoder\.kernel/.*"),
    Upload("tensorflow", 2, "checkpoint", settled="checkpoint"),
    Upload("torch"),
    Upload("torchtitan", 2, r"\.metadata"),
    Upload(
        "verl",
        shards=2,
        marker=_TRACKER,
        uncounted=r"actor/fsdp_config\.json|actor/huggingface/.*|data\.pt",
        together=r"actor/(?:optim|extra_state)_.*",
    ),
]

_numbers = itertools.count()
every_upload = pytest.mark.parametrize("upload", UPLOADS, ids=str)


@pytest.fixture(autouse=True)
def looks_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    When it is told to: no look waits for more to come.
    """
    monkeypatch.setattr(_joining, "_FIRST", 0.0)


@pytest.fixture
def bucket() -> Bucket:
    return Bucket()


@pytest.fixture(params=["named", "auto"])
def layout(request: pytest.FixtureRequest, upload: Upload) -> str:
    """
    What the stream is told.
    """
    if request.param == "named":
        return upload.layout
    if not upload.auto:
        pytest.skip("auto waits for what is never uploaded")
    return "auto"


async def upload_all(
    follower: Follower, upload: Upload, name: str, objects: Objects, order: str, early: str
) -> list[Found]:
    """
    Upload them one by one; what comes until all has settled, of which none may come too early.

    Args:
        follower: Who looks after each of them.
        upload: Which layout it is.
        name: The checkpoint's.
        objects: In the framework's order.
        order: As `ordered` has it.
        early: Fits what need not be there.
    """
    found, rest = list[Found](), ordered(order, objects, upload, name)
    while rest:
        path = rest.pop(0)
        follower.bucket.put(path, objects[path])
        new = await follower.look()
        assert not new or fits(early, rest, name), f"{order}: {rest} were not there"
        found += new
    return found + await follower.wait()


# Any layout.


@pytest.mark.anyio
@virtual_many
@every_upload
async def test_it_comes_once_when_it_is_there(upload: Upload, layout: str) -> None:
    """
    In whatever order: without nothing but what nobody asks for, or nothing speaks of. Where the
    marker comes last, all is there that counts.
    """
    for order in ORDERS:
        training, follower = Training(upload.layout, upload.shards), Follower(layout, Bucket())
        in_order = order == "framework"
        early = upload.uncounted if in_order else upload.early
        for step in (1, 2):
            name, objects = training.save(step)
            found = await upload_all(follower, upload, name, objects, order, early)
            assert [(name, upload.step(step))] == found, order


@settings(max_examples=25)
@given(st.sampled_from(UPLOADS), st.booleans(), st.randoms(use_true_random=False))
def test_it_comes_once_in_any_order(upload: Upload, named: bool, random: Random) -> None:
    """
    The same at random.
    """

    async def run() -> None:
        layout = upload.layout if named or not upload.auto else "auto"
        training, follower = Training(upload.layout, upload.shards), Follower(layout, Bucket())
        for step in (1, 2):
            name, objects = training.save(step)
            shuffled = dict(random.sample(list(objects.items()), len(objects)))
            found = await upload_all(follower, upload, name, shuffled, "framework", upload.early)
            assert [(name, upload.step(step))] == found

    anyio.run(run, backend_options={"loop_factory": VirtualLoop})


@pytest.mark.anyio
@virtual_many
@every_upload
async def test_trap_5_the_marker_first_and_the_rest_in_other_seconds(
    upload: Upload, layout: str
) -> None:
    """
    Trap 5: what comes after the marker has a later time: it is waited for, though nothing names it.
    """
    name, objects = Training(upload.layout, upload.shards).save(1)
    for order, early in (("marker first", upload.uncounted), ("by name", upload.early)):
        follower = Follower(layout, Slow())
        found = await upload_all(follower, upload, name, objects, order, early)
        assert [(name, upload.step(1))] == found, order


@pytest.mark.anyio
@virtual_many
@every_upload
async def test_trap_5_a_marker_alone_is_none(bucket: Bucket, upload: Upload, layout: str) -> None:
    """
    Trap 5: without any of what it stands for it is never believed.
    """
    name, objects = Training(upload.layout, upload.shards).save(1)
    follower = Follower(layout, bucket)
    for path in objects:
        if upload.first(path, name):
            bucket.put(path, objects[path])

    assert [] == await follower.look() + await follower.wait()


@pytest.mark.anyio
@virtual_many
@every_upload
async def test_trap_5_what_a_manifest_asks_for_is_waited_for(upload: Upload) -> None:
    """
    Trap 5: with any single object absent it comes, at once or when it has settled, exactly if
    `UPLOADS` says so. An upload may take for ever.
    """
    name, objects = Training(upload.layout, upload.shards).save(1)
    for absent in objects:
        bucket = Bucket()
        follower = Follower(upload.layout, bucket)
        for path in objects.keys() - {absent}:
            bucket.put(path, objects[path])
        early = fits(f"{upload.uncounted}|{upload.unproven}", [absent], name)
        later = early or fits(upload.settled, [absent], name)

        at_once = await follower.look()
        found = at_once + await follower.wait()
        assert (early, later) == (bool(at_once), bool(found)), absent
        bucket.put(absent, objects[absent])
        found += await follower.look() + await follower.wait()
        assert {(name, upload.step(1))} == {*found}, absent


@pytest.mark.anyio
@virtual_many
@every_upload
async def test_saved_again_it_comes_again(upload: Upload, layout: str) -> None:
    """
    Under the same name, when all that counts has been written over.
    """
    training, follower = Training(upload.layout, upload.shards), Follower(layout, Slow())
    for _ in range(2):
        name, objects = training.save(1)
        # TensorFlow's pointer has named it before.
        early = f"{upload.uncounted}|{upload.settled}"
        found = await upload_all(follower, upload, name, objects, "framework", early)
        assert [(name, upload.step(1))] == found


@pytest.mark.anyio
@virtual_many
@every_upload
async def test_saved_again_in_another_order_it_comes_again(upload: Upload) -> None:
    """
    What of it came too early, nobody can tell: all of it was there before. But it comes.
    """
    for order in ORDERS[1:]:
        training = Training(upload.layout, upload.shards)
        follower = Follower(upload.layout, Slow())
        name, objects = training.save(1)
        await upload_all(follower, upload, name, objects, order, upload.early)

        _, objects = training.save(1)
        found = await upload_all(follower, upload, name, objects, order, ".*")

        assert {(name, upload.step(1))} == {*found}, order


def test_every_layout_can_be_uploaded() -> None:
    """
    A new one fails here until it is said what can be told of its uploads.
    """
    with pytest.raises(UnknownLayout) as orders:
        list(operations(1, "none"))

    assert {upload.layout for upload in UPLOADS} == set(orders.value.known)


# What each framework does.


@pytest.mark.anyio
@virtual_many
@pytest.mark.parametrize("layout", ["orbax", "auto"])
async def test_orbax_commits_with_a_file(bucket: Bucket, layout: str) -> None:
    """
    As it does on Google's storage: the step's own `commit_success.txt` is the last of all.
    """
    follower = Follower(layout, bucket)
    uncommitted = b'{"item_handlers": null, "commit_timestamp_nsecs": null}'
    named = uncommitted.replace(b"null", b'{"default": "x.StandardCheckpointHandler"}', 1)
    committed = named.replace(b"null", b"1700000000000000005")
    for path, content in (
        ("_CHECKPOINT_METADATA", uncommitted),
        ("default/ocdbt.process_0/d/5d", b"arrays"),
        ("default/ocdbt.process_0/manifest.ocdbt", b"manifest"),
        ("default/_METADATA", b'{"tree_metadata": {}, "use_ocdbt": true}'),
        ("_CHECKPOINT_METADATA", named),
        ("default/d/7a", b"nodes"),
        ("default/manifest.ocdbt", b"manifest"),
        ("default/commit_success.txt", b"committed"),
        ("_CHECKPOINT_METADATA", committed),
    ):
        bucket.put(f"100/{path}", content)
        assert [] == await follower.look() + await follower.wait(), path

    bucket.put("100/commit_success.txt", b"committed")

    assert [("100", 100)] == await follower.look() + await follower.wait()


@pytest.mark.anyio
@virtual_many
async def test_trap_5_orbax_names_its_items(bucket: Bucket) -> None:
    """
    Trap 5: `commit_success.txt` sorts before `state/`; the metadata says that there is one.
    """
    items = {
        "item_handlers": {"meta": "x.Json", "state": "x.Standard"},
        "commit_timestamp_nsecs": 5,
    }
    follower = Follower("orbax", bucket)
    bucket.put("100/_CHECKPOINT_METADATA", json.dumps(items).encode())
    bucket.put("100/commit_success.txt", b"")
    for path, lacking in (
        ("meta/commit_success.txt", "no state"),
        ("state/commit_success.txt", "no meta/*"),
        ("meta/metadata", "no state/*"),
        ("state/_METADATA", None),
    ):
        content = b'{"use_ocdbt": false}' if lacking is None else b"{}"
        assert [] == await follower.look() + await follower.wait()
        bucket.put(f"100/{path}", content)
        found = await follower.look() + await follower.wait()
        assert [("100", 100)] * (lacking is None) == found
        assert lacking is None or lacking in run_status(follower.stream).waiting_for


@pytest.mark.anyio
@virtual_many
async def test_trap_5_orbax_merges_what_its_processes_have_written(bucket: Bucket) -> None:
    """
    Trap 5: without the manifest of all of them nobody can read their parts.
    """
    follower = Follower("orbax", bucket)
    bucket.put("100/_CHECKPOINT_METADATA", b'{"commit_timestamp_nsecs": 5}')
    bucket.put("100/commit_success.txt", b"")
    bucket.put("100/default/ocdbt.process_0/d/5d", b"arrays")
    assert [] == await follower.look() + await follower.wait()
    assert "no default/manifest.ocdbt" in run_status(follower.stream).waiting_for

    bucket.put("100/default/d/7a", b"nodes")
    bucket.put("100/default/manifest.ocdbt", b"manifest")

    assert [("100", 100)] == await follower.look() + await follower.wait()


@pytest.mark.anyio
@virtual_many
@pytest.mark.parametrize(
    ("layout", "name"), [("dcp", "step_5"), ("torchtitan", "step-5"), ("composer", "ep0-ba5")]
)
@pytest.mark.parametrize("told", [True, False], ids=["named", "auto"])
async def test_trap_5_metadata_sorts_before_the_data(
    bucket: Bucket, layout: str, name: str, told: bool
) -> None:
    """
    Trap 5: `.metadata` names every rank's file, and none may be absent, whatever time passes.
    """
    files = {f"{rank}_0": {"relative_path": f"__{rank}_0.distcp"} for rank in (0, 1, 11)}
    follower = Follower(layout if told else "auto", bucket)
    if layout == "composer":
        bucket.put("latest-rank0.pt.symlink", name.encode())
    bucket.put(f"{name}/.metadata", pickle.dumps(files))
    for rank in (0, 11):
        bucket.put(f"{name}/__{rank}_0.distcp", b"data")
        assert [] == await follower.look() + await follower.wait()
    assert f"{name}: no __1_0.distcp" in run_status(follower.stream).waiting_for

    bucket.put(f"{name}/__1_0.distcp", b"data")

    assert [(name, 5)] == await follower.look() + await follower.wait()


@pytest.mark.anyio
@virtual_many
async def test_names_in_metadata_that_are_no_files_of_its_own(bucket: Bucket) -> None:
    """
    Parts of other strings, such as a path to another checkpoint, are not asked for.
    """
    follower = Follower("dcp", bucket)
    bucket.put("step_5/__0_0.distcp", b"data")
    bucket.put("step_5/.metadata", pickle.dumps(["__0_0.distcp", "../step_4/__7_0.distcp"]))

    assert [("step_5", 5)] == await follower.look()


@pytest.mark.anyio
@virtual_many
@pytest.mark.parametrize("layout", ["hf", "auto"])
async def test_trap_5_a_trainers_small_files_are_uploaded_faster(
    bucket: Bucket, layout: str
) -> None:
    """
    Trap 5: `aws s3 sync` uploads ten files at once, so that `trainer_state.json` comes before the
    weights; the names of shards say that there is an index, and the index names all of them.
    """
    name, objects = Training("hf", 2).save(5)
    follower = Follower(layout, bucket)
    for path in sorted(objects, key=lambda path: (len(objects[path]), path)):
        assert [] == await follower.look() + await follower.wait(), path
        bucket.put(path, objects[path])

    assert [(name, 5)] == await follower.look() + await follower.wait()


@pytest.mark.anyio
@virtual_many
@pytest.mark.parametrize("layout", ["lightning", "auto"])
async def test_lightning_uploads_each_as_one_object(bucket: Bucket, layout: str) -> None:
    """
    `last.ckpt` is the same checkpoint if an uploader has followed a link, and else its own.
    """
    follower = Follower(layout, bucket)
    contents = [Training("lightning").save(step)[1] for step in (1, 2)]
    (first, content), (second, other) = (next(iter(each.items())) for each in contents)
    bucket.put(first, content)
    bucket.now += 7
    bucket.copy(first, "last.ckpt")
    assert [(first, 1)] == await follower.look() + await follower.wait()
    bucket.put(second, other)
    bucket.put("last.ckpt", other)

    assert {(second, 2), ("last.ckpt", None)} == {*await follower.wait()}


@pytest.mark.anyio
@virtual_many
async def test_ray_lists_what_its_workers_have_copied(bucket: Bucket) -> None:
    """
    Version 2: what its JSON file names is there, at once; version 1 has none, so it must settle.
    """
    second, first = Follower("ray", bucket), Follower("ray-v1", bucket)
    older, newer = "checkpoint_2026-01-31_12-00-00.000000", "checkpoint_000001"
    for path in (f"{older}/model.pt", f"{newer}/model.pt"):
        bucket.put(path, b"weights")
    assert ([], []) == (await second.look() + await second.wait(), await first.look())

    result = {"checkpoint_dir_name": older}
    snapshot = {"checkpoint_results": [result], "latest_checkpoint_result": result}
    bucket.put("checkpoint_manager_snapshot.json", json.dumps(snapshot).encode())

    assert [(older, None)] == await second.look()
    assert [(newer, 1)] == await first.wait()


@pytest.mark.anyio
@virtual_many
async def test_trap_5_an_uploaders_own_marker(bucket: Bucket) -> None:
    """
    Trap 5: it must be the last; an older one than the data is believed when that has settled.
    """
    follower = Follower("step_{step}/_SUCCESS", bucket)
    bucket.put("step_1/model/weights.bin", b"weights")
    assert [] == await follower.look() + await follower.wait()
    bucket.put("step_1/_SUCCESS", b"")
    assert [("step_1", 1)] == await follower.look()

    bucket.put("step_2/_SUCCESS", b"")
    bucket.now += 1
    bucket.put("step_2/model/weights.bin", b"weights")
    assert [] == await follower.look()
    assert "model/weights.bin is newer than _SUCCESS" in run_status(follower.stream).waiting_for
    assert [("step_2", 2)] == await follower.wait()


@pytest.mark.anyio
@virtual_many
@pytest.mark.parametrize("layout", ["t5x", "olmo"])
async def test_trap_6_a_rename_is_a_copy_of_each_object(bucket: Bucket, layout: str) -> None:
    """
    Trap 6: what elsewhere is finished as soon as it has its name has to settle here.
    """
    name, objects = Training(layout, 2).save(1)
    follower = Follower(layout, bucket)
    for path in sorted(objects):
        bucket.put(path, objects[path])
        assert [] == await follower.look()
        await anyio.sleep(SETTLE - 1)
    assert [] == await follower.look()

    assert [(name, 1)] == await follower.wait()


@pytest.mark.anyio
@virtual_many
async def test_trap_6_orbax_renames_where_that_is_a_copy(bucket: Bucket) -> None:
    """
    Trap 6: on `s3://` Orbax renames, object by object: the commit stamp comes before the data, and
    without a marker all must have settled.
    """
    follower = Follower("orbax", bucket)
    bucket.put("100/_CHECKPOINT_METADATA", b'{"commit_timestamp_nsecs": 17}')
    for number in range(3):
        assert [] == await follower.look()
        await anyio.sleep(SETTLE / 2)
        bucket.put(f"100/default/d/{number}", b"data")
    bucket.put("100/default/manifest.ocdbt", b"manifest")
    assert [] == await follower.look()
    bucket.put("100/commit_success.txt", b"")

    assert [("100", 100)] == await follower.look() + await follower.wait()


# A real server's listings and ETags.


@pytest.mark.anyio
@virtual_many
@pytest.mark.parametrize("upload", {each.layout: each for each in UPLOADS}.values(), ids=str)
async def test_uploaded_to_s3(server: Server, upload: Upload) -> None:
    """
    Whole seconds, ETags that are hashes: it comes when the last object is there, and once.
    """
    place = f"uploads-{next(_numbers)}"
    server.make_bucket(place)
    store = server.store(place)
    follower = Follower(upload.layout, store)
    name, objects = Training(upload.layout, upload.shards).save(1)
    needed = [path for path in objects if not fits(upload.uncounted, [path], name)]
    last = needed[-1]
    for path in objects:
        if path != last:
            put(store, path, objects[path])
    assert [] == await follower.look()
    put(store, last, objects[last])

    assert [(name, upload.step(1))] == await follower.look() + await follower.wait()
