"""
Loads copies of checkpoints with a framework's own loader: python loading.py FRAMEWORK

Reads their paths, one a line, from standard input until its end, and answers with one JSON object:
for each path the numbers that it holds, which the writers make depend on the step, or the error.
"""

# mypy: disable-error-code="import-not-found, import-untyped, misc, no-untyped-call, unused-ignore"
from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

os.environ.setdefault("KERAS_BACKEND", "jax")


def tensorflow(path: Path) -> Iterable[Any]:
    import tensorflow as tf

    variables = {name: tf.Variable(tf.zeros(64)) for name in ("a", "b", "c")}
    tf.train.Checkpoint(**variables).restore(str(path)).assert_consumed()
    return (number for variable in variables.values() for number in variable.numpy())


def tensorflow_1(path: Path) -> Iterable[Any]:
    import tensorflow.compat.v1 as tf

    with tf.Graph().as_default(), tf.Session() as session:
        weight = tf.get_variable("w", [], use_resource=True)
        tf.train.Saver().restore(session, str(path))
        return [session.run(weight)]


def keras(path: Path) -> Iterable[Any]:
    import keras

    if path.suffix == ".keras":
        model = keras.saving.load_model(path)
    else:
        model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
        model.load_weights(path)
    return model.layers[-1].get_weights()[1]  # type: ignore[no-any-return]


def keras_shards(path: Path) -> Iterable[Any]:
    import keras

    layers = [keras.layers.Dense(100) for _ in range(3)]
    model = keras.Sequential([keras.Input((100,)), *layers])
    model.load_weights(path)
    return [number for layer in layers for number in layer.get_weights()[1]]


def keras_backup(path: Path) -> Iterable[Any]:
    metadata = json.loads((path.parent / "training_metadata.json").read_text())
    return [metadata["epoch"], *keras(path)]


def orbax(path: Path) -> Iterable[Any]:
    import orbax.checkpoint as ocp

    with ocp.CheckpointManager(path.parent) as manager:
        restored = manager.restore(int(path.name), args=ocp.args.StandardRestore())
    return restored["w"]  # type: ignore[no-any-return]


def orbax_checkpointer(path: Path) -> Iterable[Any]:
    import orbax.checkpoint as ocp

    with ocp.StandardCheckpointer() as checkpointer:
        return checkpointer.restore(path)["w"]  # type: ignore[no-any-return]


def orbax_v1(path: Path) -> Iterable[Any]:
    from orbax.checkpoint.experimental.v1 import training

    with training.Checkpointer(path.parent) as checkpointer:
        return checkpointer.load(int(path.name))["w"]  # type: ignore[no-any-return]


def flax(path: Path) -> Iterable[Any]:
    from flax.training.checkpoints import restore_checkpoint

    return restore_checkpoint(path, None)["w"]  # type: ignore[no-any-return]


def hugging_face(path: Path) -> Iterable[Any]:
    import torch
    from transformers import BertForSequenceClassification, TrainerState

    for name in ("optimizer.pt", "scheduler.pt", "rng_state.pth", "training_args.bin"):
        torch.load(path / name, weights_only=False)
    state = TrainerState.load_from_json(str(path / "trainer_state.json"))
    model = BertForSequenceClassification.from_pretrained(path)
    bias: list[float] = model.classifier.bias.tolist()
    assert {state.global_step} == {int(number) for number in bias}
    return bias


def torch_save(path: Path) -> Iterable[Any]:
    import torch

    return torch.load(path)["w"]  # type: ignore[no-any-return]


def dcp(path: Path) -> Iterable[Any]:
    import torch
    import torch.distributed.checkpoint as dcp

    state = {f"w{rank}": torch.zeros(64) for rank in range(2)}
    dcp.load(state, checkpoint_id=path, no_dist=True)
    return torch.cat(list(state.values())).tolist()  # type: ignore[no-any-return]


def lightning(path: Path) -> Iterable[Any]:
    import torch
    from lightning.pytorch import LightningModule

    class Model(LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.layer = torch.nn.Linear(2, 1)
            self.steps = torch.nn.Parameter(torch.zeros(()), requires_grad=False)

    return [Model.load_from_checkpoint(path, weights_only=False).steps]


def accelerate(path: Path) -> Iterable[Any]:
    import torch
    from accelerate import Accelerator

    accelerator = Accelerator(cpu=True)
    layer = torch.nn.Linear(2, 1)
    model, _ = accelerator.prepare(layer, torch.optim.SGD(layer.parameters(), 0.1))
    accelerator.load_state(str(path))
    return model.bias.tolist()  # type: ignore[no-any-return]


def stable_baselines3(path: Path) -> Iterable[Any]:
    from stable_baselines3 import DQN
    from stable_baselines3.common.env_util import make_vec_env
    from stable_baselines3.common.vec_env import VecNormalize

    prefix, _, rest = path.stem.partition("_model_")
    model = DQN.load(path)
    model.load_replay_buffer(path.with_name(f"{prefix}_model_replay_buffer_{rest}.pkl"))
    statistics = path.with_name(f"{prefix}_model_vecnormalize_{rest}.pkl")
    VecNormalize.load(str(statistics), make_vec_env("CartPole-v1"))
    *_, last = model.policy.parameters()
    return last.tolist()  # type: ignore[no-any-return]


LOADERS: dict[str, Callable[[Path], Iterable[Any]]] = {
    loader.__name__: loader
    for loader in (
        *(tensorflow, tensorflow_1, keras, keras_backup, keras_shards, orbax, orbax_checkpointer),
        *(orbax_v1, flax, hugging_face, torch_save, dcp, lightning, accelerate, stable_baselines3),
    )
}


def numbers(load: Callable[[Path], Iterable[Any]], path: str) -> list[float] | str:
    """
    What is held; or why it does not load, whatever the framework raises.
    """
    try:
        return sorted({float(number) for number in load(Path(path))})
    except BaseException as error:  # DCP's own is no Exception.
        return repr(error)


def main(framework: str) -> None:
    paths = sys.stdin.read().splitlines()
    print(json.dumps({path: numbers(LOADERS[framework], path) for path in paths}))


if __name__ == "__main__":
    main(sys.argv[1])
