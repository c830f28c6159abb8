"""Weights in safetensors, and what trains around them."""

from __future__ import annotations

from collections.abc import Iterator

from .._contents import content, json_bytes, weight_index, weight_names
from .._operation import Operation, Save, erase, grow

_INDEX = "model.safetensors.index.json"


def hugging_face(save: Save) -> Iterator[Operation]:
    """Hugging Face's `Trainer`: the final directory fills up, `trainer_state.json` comes last."""
    name = f"checkpoint-{save.step}"
    yield Operation("mkdir", name)
    yield from grow(f"{name}/config.json", json_bytes({"model_type": "simulated"}))
    yield from _persisted(name, save)
    for file in ("training_args.bin", "optimizer.pt", "scheduler.pt", "rng_state.pth"):
        yield from grow(f"{name}/{file}", content(file, save.step, 64))
    history: list[object] = []
    state = {"global_step": save.step, "epoch": float(save.step), "log_history": history}
    yield from grow(f"{name}/trainer_state.json", json_bytes(state), finishes=name)
    for step in save.dropped:
        yield from erase(f"checkpoint-{step}", "training_args.bin", *weight_names(save.shards))


def accelerate(save: Save) -> Iterator[Operation]:
    """
    Accelerate's `save_state`: what is dropped goes first, the random states come last.

    Nothing marks the end. It refuses a number that is there, so whoever saves one again has deleted
    it.
    """
    name = f"checkpoint_{save.step}"
    for step in save.dropped:
        yield from erase(f"checkpoint_{step}", *weight_names(save.shards))
    yield Operation("rmtree", name)
    yield Operation("mkdir", name)
    yield from _persisted(name, save)
    for file in ("optimizer.bin", "scheduler.bin"):
        yield from grow(f"{name}/{file}", content(file, save.step, 64))
    last = "random_states_0.pkl"
    yield from grow(f"{name}/{last}", content(last, save.step, 64), finishes=name)


def llamafactory(save: Save) -> Iterator[Operation]:
    """LLaMA-Factory's version 1: `metadata.json` first, last an empty `CHECKPOINT_COMPLETE`."""
    name = f"checkpoint-{save.step}"
    yield Operation("mkdir", name)
    metadata = json_bytes({"global_step": save.step, "epoch": 0})
    yield from grow(f"{name}/metadata.json", metadata)
    yield Operation("mkdir", f"{name}/model")
    yield from grow(f"{name}/model/config.json", json_bytes({"model_type": "simulated"}))
    yield from _growing(f"{name}/model", save)
    for file in ("optimizer/state_dict.pt", "dataloader/rank_0.pt"):
        yield Operation("mkdir", f"{name}/{file.partition('/')[0]}")
        yield from grow(f"{name}/{file}", content(file, save.step, 64))
    yield Operation("write", f"{name}/CHECKPOINT_COMPLETE", finishes=name)
    for step in save.dropped:
        yield from erase(f"checkpoint-{step}", "optimizer/state_dict.pt", "CHECKPOINT_COMPLETE")


def prime_rl(save: Save) -> Iterator[Operation]:
    """prime-rl's weights: the configuration after the weights, last an empty `STABLE`."""
    name = f"step_{save.step}"
    yield Operation("mkdir", name)
    yield from _growing(name, save)
    for file in ("config.json", "generation_config.json", "tokenizer.json"):
        yield from grow(f"{name}/{file}", json_bytes({"model_type": "simulated"}))
    yield Operation("write", f"{name}/STABLE", finishes=name)
    for step in save.dropped:
        yield from erase(f"step_{step}", "config.json", *weight_names(save.shards))


def save_pretrained(save: Save) -> Iterator[Operation]:
    """
    Transformers' `save_pretrained`, in a directory for each step.

    Each file of weights is renamed from a temporary one; last comes the index, if there are
    several.
    """
    name = f"step_{save.step}"
    yield Operation("mkdir", name)
    yield from grow(f"{name}/config.json", json_bytes({"model_type": "simulated"}))
    yield from _persisted(name, save, finishes=name)
    for step in save.dropped:
        yield from erase(f"step_{step}", *reversed(weight_names(save.shards)))


def _persisted(name: str, save: Save, finishes: str | None = None) -> Iterator[Operation]:
    """The weights as safetensors 0.8 writes them, under another name first; then the index."""
    files = weight_names(save.shards)
    for number, file in enumerate(files):
        temporary, final = f"{name}/.tmp{number:06}", f"{name}/{file}"
        yield from grow(temporary, content(file, save.step, save.shard_bytes))
        last = finishes if len(files) == 1 else None
        yield Operation("rename", temporary, target=final, finishes=last)
    if len(files) > 1:
        yield from grow(f"{name}/{_INDEX}", weight_index(files), finishes)


def _growing(name: str, save: Save) -> Iterator[Operation]:
    """The weights as safetensors before 0.8 writes them, in place; then the index."""
    files = weight_names(save.shards)
    for file in files:
        yield from grow(f"{name}/{file}", content(file, save.step, save.shard_bytes))
    if len(files) > 1:
        yield from grow(f"{name}/{_INDEX}", weight_index(files))
