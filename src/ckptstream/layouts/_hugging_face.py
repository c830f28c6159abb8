"""Hugging Face's checkpoints."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import lru_cache

from ._files import is_directory, newer_than, read_integer
from ._names import is_temporary, remember_few
from ._protocol import Evidence
from ._shards import missing_shard, missing_stored

_NAME = re.compile(r"checkpoint-([0-9]+)")
_STATE = "trainer_state.json"
_STATE_LIMIT = 2**20
_WEIGHTS = (".bin", ".pt", ".pth", ".safetensors")

_NO_MODEL = re.compile(
    r"""
      .*\.(json|jsonl|txt|md|jinja|yaml|py|log|csv|html)
    | training_args\.bin | optimizer(_[0-9]+)?(\..*)? | scheduler(\..*)? | scaler\.pt
    | rng_state.*\.pth | random_states_.* | latest | additional_chat_templates
    | .*\.(model|tiktoken|spm|bpe)       # tokenizers
    | \..*
    """,
    re.VERBOSE | re.DOTALL,
)


@dataclass(frozen=True, slots=True)
class HuggingFace:
    """
    What Hugging Face's `Trainer` writes, and with it TRL, unsloth, LLaMA-Factory and oumi.

    A checkpoint is a directory `checkpoint-1000` that fills up under its final name.
    `trainer_state.json` is the last file of the first rank; nothing waits for the other ranks. A
    checkpoint saved again still holds the last save's, so what of the model is newer must settle,
    also in directories (FSDP's `pytorch_model_fsdp_0`, DeepSpeed's `global_step1000`). An upload
    may begin with it: where there is no atomic rename, those directories must be whole, too, as far
    as they tell, and have settled.

    Source: huggingface/transformers `src/transformers/trainer.py` (`_save_checkpoint`),
    `trainer_callback.py` (`TrainerState.save_to_json`), `modeling_utils.py` (`save_pretrained`);
    huggingface/accelerate `src/accelerate/utils/fsdp_utils.py` (`save_fsdp_model`).
    """

    def __str__(self) -> str:
        return "hf: checkpoint-1000/trainer_state.json"

    @property
    def name(self) -> str:
        """What `Checkpoint.layout` says."""
        return "hf"

    def match(self, name: str) -> tuple[str, int | None] | None:
        """The directory itself, with its number."""
        step = _NAME.fullmatch(name)
        return None if step is None else (name, int(step[1]))

    def missing(self, name: str, evidence: Evidence) -> str | None:
        """A `trainer_state.json` of this step, and a model: all its shards, and no older."""
        unfinished = _unfinished_state(name, evidence)
        if unfinished is not None:
            return unfinished
        model = _model(evidence.list(name))
        if not model:
            return "no model files"
        lacking = missing_shard(name, evidence) or _unsettled(name, model, evidence)
        return lacking or _unpublished(name, model, evidence)

    def generation(self, name: str, evidence: Evidence) -> str | None:
        """The fingerprint of `trainer_state.json`."""
        return evidence.fingerprint(f"{name}/{_STATE}")

    def recognises(self, name: str, evidence: Evidence) -> bool:
        """Whether a directory of this name holds `trainer_state.json`, a config or a model."""
        files = evidence.list(name)
        return _STATE in files or "config.json" in files or bool(_model(files))

    def owns(self, name: str, evidence: Evidence) -> bool:
        """Whether there is the one file that nobody else writes."""
        return _STATE in evidence.list(name)


def _unfinished_state(name: str, evidence: Evidence) -> str | None:
    if not is_directory(name, evidence):
        return "not a directory"
    path = f"{name}/{_STATE}"
    if evidence.stat(path) is None:
        return f"no {_STATE}"
    step = read_integer(path, "global_step", _STATE_LIMIT, evidence)
    if step is None:
        return f"{_STATE} is not whole"
    expected = int(name.rpartition("-")[2])
    return None if step == expected else f"{_STATE} is of step {step}"


@remember_few
def _model(names: Collection[str]) -> tuple[str, ...]:
    """All but the bookkeeping; of a directory (`global_step5`, for DeepSpeed) only that."""
    return tuple(file for file in sorted(names) if not _is_bookkeeping(file))


@lru_cache(maxsize=1000)
def _is_bookkeeping(file: str) -> bool:
    return is_temporary(file) or _NO_MODEL.fullmatch(file) is not None


def _unsettled(name: str, model: Sequence[str], evidence: Evidence) -> str | None:
    state = f"{name}/{_STATE}"
    paths = [f"{name}/{file}" for file in model]
    stats = {path: evidence.stat(path) for path in paths}
    files = [path for path, stat in stats.items() if stat is not None and not stat.is_directory]
    for path in files:
        stat = stats[path]
        if path.endswith(_WEIGHTS) and stat is not None and not stat.size:
            return f"{path.rpartition('/')[2]} is empty"
    directories = [path for path, stat in stats.items() if stat is not None and stat.is_directory]
    files += [f"{path}/{file}" for path in directories for file in evidence.list(path)]
    newer = newer_than(state, files, evidence)
    if newer is None or evidence.settled(state, *files):
        return None
    return f"{newer.removeprefix(f'{name}/')} is newer than {_STATE}: waits until it has settled"


def _unpublished(name: str, model: Sequence[str], evidence: Evidence) -> str | None:
    """What the model's directories lack, of which nothing in the checkpoint itself tells."""
    paths = () if evidence.rename_is_atomic else (f"{name}/{file}" for file in model)
    directories = [path for path in paths if is_directory(path, evidence)]
    for path in directories:
        inside = evidence.list(path)
        if ".metadata" not in inside and any(file.endswith(".distcp") for file in inside):
            return f"no {path.removeprefix(f'{name}/')}/.metadata"
        lacking = missing_stored(f"{path}/.metadata", evidence)
        if lacking is not None:
            return f"no {lacking.removeprefix(f'{name}/')}"
    if not directories or evidence.settled(*directories):
        return None
    return f"waits until {directories[0].rpartition('/')[2]} has settled"
