"""Weights in safetensors, and what trains around them."""

from __future__ import annotations

from .._described import Described
from .._proofs import AnyOf, Footers, Holds, Marker, Settled, Uploaded
from .._shards import Index, Ranks, Stored
from .._signs import Signs
from ._torch import NUMBERED, SHARDS

_WEIGHTS = r".*\.safetensors"
_WHOLE = r"(?!.*-[0-9]+-of-[0-9]+\.safetensors).*\.safetensors"
_INDEX = r".*\.safetensors\.index\.json"
_NO_MODEL = r"(?!optimizer|scheduler|rng|dataloader)"
_SAVED = r"\.(?:safetensors|pt|pth|bin|distcp)"

# The evaluator of prime-rl itself waits for an empty file `STABLE`; the trainer's own checkpoints
# are DCP's, one level below.
# Source: PrimeIntellect-ai/prime-rl `src/prime_rl/transports/weights/filesystem.py`,
# `src/prime_rl/trainer/ckpt.py`.
PRIME_RL = Described(
    name="prime-rl",
    example="step_1000/STABLE",
    regex=r"step_(?P<step>[0-9]+)",
    directory=(
        AnyOf(
            (
                (Marker("STABLE", empty=True), Holds(_WEIGHTS, "*.safetensors"), Index()),
                (
                    Marker("trainer/.metadata"),
                    Holds(rf"trainer/{SHARDS}", "trainer/*.distcp"),
                    Uploaded((Stored(r"trainer/\.metadata"),)),
                ),
            )
        ),
    ),
    data=(_WEIGHTS, rf"trainer/{SHARDS}"),
    own=(r"STABLE", r"trainer/\.metadata"),
    signs=Signs(
        "STABLE",
        own=(r"STABLE", r"trainer"),
        shared=(_WEIGHTS, r"model\.safetensors\.index\.json"),
        late=r"config\.json",  # which `save_pretrained` writes first
        never=(r"random_states_.*|optimizer\.bin",),
    ),
)

# `metadata.json` comes first and `CHECKPOINT_COMPLETE` last, after a barrier. In between come
# `model` and `optimizer`, as `save_pretrained` and `torch.save` write them or, with FSDP2, as DCP;
# with DeepSpeed what Accelerate saves. Version 0 writes what Hugging Face's Trainer does.
# Source: hiyouga/LLaMA-Factory `src/llamafactory/v1/core/utils/checkpoint.py`,
# `src/llamafactory/v1/plugins/trainer_plugins/distributed/{fsdp2,deepspeed}.py`
# (`save_checkpoint`).
LLAMAFACTORY = Described(
    name="llamafactory-v1",
    example="checkpoint-1000/CHECKPOINT_COMPLETE",
    regex=r"checkpoint-(?P<step>[0-9]+)",
    directory=(
        Marker("metadata.json", stale=True),
        Marker("CHECKPOINT_COMPLETE", empty=True),
        AnyOf(
            (
                (Holds(rf"{_NO_MODEL}[^.]+/.*{_SAVED}", "model files"),),
                (Holds(rf"{_NO_MODEL}.*{_SAVED}", "model files"),),
            )
        ),
        Index(),
        Index("model"),
        Uploaded((Stored(r"(?:model|optimizer)/\.metadata"),)),
    ),
    data=(r"metadata\.json", rf".*{_SAVED}", rf"[^.]+/.*{_SAVED}"),
    own=(r"CHECKPOINT_COMPLETE",),
    signs=Signs(
        "CHECKPOINT_COMPLETE",
        own=(r"CHECKPOINT_COMPLETE",),
        shared=(r"metadata\.json",),
        first=r"metadata\.json",
        never=(r"trainer_state\.json",),
    ),
)

# Nothing says that it is finished; each rank's random states come last but for custom objects. Its
# own number counts saves; many scripts call theirs `step_1000` and `epoch_1`.
# Source: huggingface/accelerate `src/accelerate/accelerator.py` (`save_state`),
# `src/accelerate/checkpointing.py` (`save_accelerator_state`).
ACCELERATE = Described(
    name="accelerate",
    example="checkpoint_3/random_states_0.pkl",
    regex=r"(?:checkpoint|step|epoch)_(?P<step>[0-9]+)",
    directory=(
        Marker("random_states_0.pkl"),
        Ranks(r"random_states_(?P<rank>[0-9]+)\.pkl"),
        Holds(r"(?:model|pytorch_model).*", "model files"),
        Index(),
        Footers(),
        Settled(),
    ),
    data=(
        r"(?:model|pytorch_model|optimizer|scheduler|sampler|scaler|dl_state_dict).*",
        r"(?:random_states|custom_checkpoint)_[0-9]+\.pkl",
        r"(?:pytorch_model|optimizer).*/.+",
    ),
    own=(r"random_states_0\.pkl",),
    signs=Signs(
        "random_states_0.pkl",
        own=(r"random_states_[0-9]+\.pkl",),
        shared=(r"(?:model|pytorch_model|optimizer).*", r"(?:scheduler|sampler|dl_state_dict).*"),
        never=(r"(?:adapter_)?config\.json|STABLE",),
    ),
)

# What `save_pretrained` leaves, and nothing else: one file, or shards and then their index, each as
# long as its header says.
# Source: huggingface/transformers `src/transformers/modeling_utils.py` (`save_pretrained`),
# huggingface/safetensors `safetensors/src/tensor.rs` (`serialize_to_file`).
SAFETENSORS = Described(
    name="safetensors",
    example="step_1000/model.safetensors",
    regex=NUMBERED,
    directory=(
        Holds(_WEIGHTS, "*.safetensors"),
        AnyOf(((Holds(_WHOLE, "whole *.safetensors"),), (Holds(_INDEX, "*.index.json"), Index()))),
        Ranks(r".*-(?P<rank>[0-9]+)-of-(?P<of>[0-9]+)\.safetensors", base=1),
        Footers(),
        Settled(),
    ),
    data=(_WEIGHTS, _INDEX),
    own=(r"model\.safetensors(?:\.index\.json)?", _WEIGHTS),
    signs=Signs("*.safetensors", shared=(_WEIGHTS,)),
)
