"""What trains in parallel: a file for each rank, and a pointer when all have written."""

from __future__ import annotations

from collections.abc import Iterator

from .._contents import content, dcp_metadata, json_bytes
from .._operation import Operation, Save, erase, grow, point
from ._torch import rank_files, rank_names

_TRACKER = "latest_checkpointed_iteration.txt"


def deepspeed(save: Save) -> Iterator[Operation]:
    """
    DeepSpeed's ZeRO 1: the first rank writes `latest`, and only then waits for the others.

    So the other ranks' files come last, if there are several shards. It never deletes; what is
    dropped somebody else deletes.
    """
    name, last = f"global_step{save.step}", save.shards - 1
    data = content("optim_states.pt", save.step, save.shard_bytes)
    half = len(data) // 2
    ranks = [f"{name}/zero_pp_rank_{r}_mp_rank_00_optim_states.pt" for r in range(save.shards)]
    model = f"{name}/mp_rank_00_model_states.pt"
    yield Operation("mkdir", name)
    yield from grow(model, content(model, save.step, save.shard_bytes))
    if last:
        yield Operation("write", ranks[last], data[:half])
    yield from grow(ranks[0], data)
    yield from grow("zero_to_fp32.py", b"import torch\n")
    yield from point("latest", name, finishes=None if last else name)
    for rank in ranks[1:last]:
        yield from grow(rank, data)
    if last:
        yield Operation("append", ranks[last], data[half:], finishes=name)
    for step in save.dropped:
        yield from erase(f"global_step{step}", "mp_rank_00_model_states.pt")


def megatron(save: Save) -> Iterator[Operation]:
    """Megatron-LM: all ranks' files, `metadata.json`, then the tracker; after that it deletes."""
    name = _iteration(save.step)
    yield from _torch_dist(name, save)
    yield from point(_TRACKER, str(save.step), finishes=name)
    for step in save.dropped:
        yield from erase(_iteration(step), ".metadata", "__0_0.distcp")


def megatron_bridge(save: Save) -> Iterator[Operation]:
    """Megatron-Bridge: after the tracker comes `run_config.yaml`, and then the tokenizer."""
    name = _iteration(save.step)
    yield from _torch_dist(name, save)
    state = content("train_state.pt", save.step, 64)
    yield from grow(f"{name}/train_state.pt", state)
    yield from grow("latest_train_state.pt", state)
    yield from point(_TRACKER, str(save.step))
    yield from grow(f"{name}/run_config.yaml", b"train:\n  train_iters: 100\n", finishes=name)
    yield from grow(f"{name}/tokenizer.json", b"{}")
    for step in save.dropped:
        yield from erase(_iteration(step), ".metadata", "__0_0.distcp")


def nemo(save: Save) -> Iterator[Operation]:
    """NeMo 2: a file beside the directory says "not yet", before a save and before a deletion."""
    name = _nemo_name(save.step)
    yield Operation("mkdir", "")
    yield Operation("write", f"{name}-unfinished")
    yield from _torch_dist(f"{name}/weights", save)
    yield Operation("mkdir", f"{name}/context")
    yield from grow(f"{name}/context/io.json", b"{}")
    yield from grow(f"{name}/context/model.yaml", b"config: {}\n")
    yield Operation("remove", f"{name}-unfinished", finishes=name)
    for step in save.dropped:
        old = _nemo_name(step)
        yield Operation("write", f"{old}-unfinished")
        yield from erase(old, "weights/metadata.json", "weights/__0_0.distcp")
        yield Operation("remove", f"{old}-unfinished")


def verl(save: Save) -> Iterator[Operation]:
    """
    PPO with verl: the actor, `data.pt`, then the tracker.

    The workers delete what is dropped before that, while the tracker may still name it; its
    `data.pt` stays for ever.
    """
    name, world = f"global_step_{save.step}", save.shards
    actor = f"{name}/actor"
    yield Operation("mkdir", actor)
    for kind in ("model", "optim", "extra_state"):
        for rank in range(world):
            file = f"{actor}/{kind}_world_size_{world}_rank_{rank}.pt"
            yield from grow(file, content(file, save.step, save.shard_bytes))
    yield from grow(f"{actor}/fsdp_config.json", json_bytes({"world_size": world}))
    yield Operation("mkdir", f"{actor}/huggingface")
    yield from grow(f"{actor}/huggingface/config.json", b"{}")
    for step in save.dropped:
        yield from erase(f"global_step_{step}/actor", "huggingface/config.json")
    yield from grow(f"{name}/data.pt", content("data.pt", save.step, 64))
    yield from point(_TRACKER, str(save.step), finishes=name)


def _torch_dist(directory: str, save: Save) -> Iterator[Operation]:
    """Megatron-Core's `torch_dist`, in which `metadata.json` is the last."""
    yield Operation("mkdir", directory)
    yield from rank_files(directory, save)
    yield from grow(f"{directory}/.metadata", dcp_metadata(save.step, rank_names(save)))
    yield from grow(f"{directory}/common.pt", content("common.pt", save.step, 64))
    backend = {"sharded_backend": "torch_dist", "sharded_backend_version": 1}
    yield from grow(f"{directory}/metadata.json", json_bytes(backend))


def _iteration(step: int) -> str:
    return f"iter_{step:07}"


def _nemo_name(step: int) -> str:
    return f"model--val_loss=0.50-epoch=0-step={step}"
