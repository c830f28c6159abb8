"""Keras, OLMo, Ray and Stable-Baselines3."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta

from .._contents import content, json_bytes, pickled
from .._operation import Operation, Save, erase, grow, link
from ._torch import distributed

_FIRST_REPORT = datetime(2026, 1, 31, 12)


def keras(save: Save) -> Iterator[Operation]:
    """
    Keras 3's `ModelCheckpoint`: a zip archive that grows in place; its directory comes last.

    It never deletes; what is dropped somebody else deletes.
    """
    name = f"model-{save.step}.keras"
    yield Operation("mkdir", "")
    yield from grow(name, content(name, save.step, save.shard_bytes), finishes=name)
    for step in save.dropped:
        yield Operation("remove", f"model-{step}.keras")


def keras_backup(save: Save) -> Iterator[Operation]:
    """Keras 3's `BackupAndRestore`: the same two files for each step, the metadata last."""
    name = "latest.weights.h5"
    yield Operation("mkdir", "")
    yield from grow(name, content(name, save.step, save.shard_bytes))
    metadata = json_bytes({"epoch": save.step, "batch": 0})
    yield from grow("training_metadata.json", metadata, finishes=name)


def keras_sharded(save: Save) -> Iterator[Operation]:
    """
    Keras 3's `save_weights` in shards: after each of them the manifest, as far as it goes.

    It never deletes; what is dropped somebody else deletes, the manifest first.
    """
    name = f"model-{save.step}.weights.json"
    shards = [f"model-{save.step}_{shard:05}.weights.h5" for shard in range(save.shards)]
    last = save.shards - 1
    yield Operation("mkdir", "")
    for number, file in enumerate(shards):
        yield from grow(file, content(file, save.step, save.shard_bytes))
        # What is about to be written is in the size already.
        size = save.shard_bytes * min(number + 2, save.shards)
        weights = {f"/layers/dense_{n}/vars": [file] for n, file in enumerate(shards[: number + 1])}
        manifest = json_bytes({"metadata": {"total_size": size}, "weight_map": weights})
        yield from grow(name, manifest, finishes=name if number == last else None)
    for step in save.dropped:
        yield Operation("remove", f"model-{step}.weights.json")
        files = (f"model-{step}_{shard:05}.weights.h5" for shard in range(save.shards))
        yield from (Operation("remove", file) for file in files)


def olmo(save: Save) -> Iterator[Operation]:
    """
    OLMo: everything in a temporary directory, one rename, then the link to the latest.

    What is saved again is deleted first. One file is unsharded; several are the new style of
    sharding.
    """
    unsharded = "-unsharded" if save.shards == 1 else ""
    name = f"step{save.step}{unsharded}"
    temporary = f"{name}-tmp"
    yield Operation("rmtree", name)
    yield Operation("mkdir", temporary)
    if unsharded:
        for file in ("model.pt", "optim.pt", "train.pt"):
            yield from grow(f"{temporary}/{file}", content(file, save.step, save.shard_bytes))
    else:
        yield from distributed(f"{temporary}/model_and_optim", save)
        yield from _train(temporary, save)
    yield from grow(f"{temporary}/config.yaml", b"run_name: simulated\n")
    yield Operation("rename", temporary, target=name, finishes=name)
    yield from link(f"latest{unsharded}", name)
    for step in save.dropped:
        yield from erase(f"step{step}{unsharded}", "config.yaml")


def olmo_core(save: Save) -> Iterator[Operation]:
    """
    OLMo-core, not asynchronous: a rename, then `.metadata.json`, and then the configuration.

    What is saved again is deleted first. Of what is dropped `.metadata.json` goes before the rest.
    """
    name = f"step{save.step}"
    yield Operation("rmtree", name)
    yield from _train(f"{name}-tmp", save)
    yield from distributed(f"{name}-tmp/model_and_optim", save)
    yield Operation("rename", f"{name}-tmp", target=name)
    metadata = json_bytes({"version": "2.0", "ephemeral": False})
    yield from grow(f"{name}/.tmp-metadata", metadata)
    marker = f"{name}/.metadata.json"
    yield Operation("rename", f"{name}/.tmp-metadata", target=marker, finishes=name)
    yield from grow(f"{name}/config.json", b"{}")
    for step in save.dropped:
        yield from erase(f"step{step}", ".metadata.json", "config.json", "train/rank0.pt")


def ray(save: Save) -> Iterator[Operation]:
    """
    Ray Train's version 2: the workers copy, then the controller lists it in a JSON file.

    What is dropped is not listed any more, and deleted after that. The directory is called after
    the time of the report: here one second for each step.
    """
    name = _report(save.step)
    yield Operation("mkdir", name)
    yield from grow(f"{name}/model.pt", content("model.pt", save.step, save.shard_bytes))
    yield from grow(f"{name}/extra.json", json_bytes({"step": save.step}))
    for rank in range(1, save.shards):
        file = f"rank_{rank}.pt"
        yield from grow(f"{name}/{file}", content(file, save.step, save.shard_bytes))
    results = [{"checkpoint_dir_name": _report(step)} for step in save.kept]
    snapshot = {"checkpoint_results": results, "latest_checkpoint_result": results[-1]}
    pointer = "checkpoint_manager_snapshot.json"
    yield from grow(pointer, json_bytes(snapshot), finishes=name)
    for step in save.dropped:
        yield from erase(_report(step), "extra.json")


def ray_v1(save: Save) -> Iterator[Operation]:
    """Ray Train's version 1, and Tune: copied, and nothing says when that has ended."""
    name = f"checkpoint_{save.step:06}"
    yield Operation("mkdir", name)
    if not save.earlier:
        yield from grow("params.json", b"{}")
    for rank in range(save.shards):
        file = f"rank_{rank}.pt" if rank else "model.pt"
        yield from grow(f"{name}/{file}", content(file, save.step, save.shard_bytes))
    yield from grow(f"{name}/extra.json", json_bytes({"step": save.step}), finishes=name)
    yield Operation("append", "result.json", json_bytes({"training_iteration": save.step}) + b"\n")
    for step in save.dropped:
        yield from erase(f"checkpoint_{step:06}", "extra.json")


def stable_baselines(save: Save) -> Iterator[Operation]:
    """
    Stable-Baselines3's `CheckpointCallback`: the model, the replay buffer, the normalisation.

    It never deletes; what is dropped somebody else deletes.
    """
    name, buffer, normalisation = _steps(save.step)
    yield Operation("mkdir", "")
    yield from grow(name, content(name, save.step, save.shard_bytes))
    yield from grow(buffer, pickled(save.step))
    yield from grow(normalisation, pickled(save.step), finishes=name)
    for step in save.dropped:
        yield from (Operation("remove", file) for file in _steps(step))


def _train(directory: str, save: Save) -> Iterator[Operation]:
    """Each rank's state of the trainer."""
    yield Operation("mkdir", f"{directory}/train")
    for rank in range(save.shards):
        file = f"{directory}/train/rank{rank}.pt"
        yield from grow(file, content(file, save.step, 64))


def _report(step: int) -> str:
    return f"checkpoint_{_FIRST_REPORT + timedelta(seconds=step):%Y-%m-%d_%H-%M-%S.%f}"


def _steps(step: int) -> tuple[str, str, str]:
    kinds = ("", "_replay_buffer", "_vecnormalize")
    model, *rest = (f"rl_model{kind}_{step}_steps" for kind in kinds)
    return (f"{model}.zip", f"{rest[0]}.pkl", f"{rest[1]}.pkl")
