"""Which framework wrote a checkpoint, decided for each one by its own evidence."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ._hugging_face import HuggingFace
from ._orbax import Orbax
from ._protocol import BuiltInLayout, Evidence, Layout, PointerLayout, Verdict
from ._tensorflow import TensorFlow

NOBODY = "auto"  # the layout of what no layout recognises
_SIGNS = {
    "tensorflow": ".data-00000-of-00001 files",
    "hf": "trainer_state.json, config.json or a model",
    "orbax": "commit_success.txt, _CHECKPOINT_METADATA, _METADATA or manifest.ocdbt",
}


@dataclass(frozen=True, slots=True)
class Auto:
    """
    Whatever one of several layouts recognises.

    Names alone do not tell: the `checkpoint_1` that Accelerate fills looks like one that Orbax has
    renamed. An entry is finished when all layouts that its names fit say so, and one of them
    recognises something that only its own framework writes.

    Args:
        layouts: Asked in this order.
    """

    layouts: tuple[BuiltInLayout, ...] = (TensorFlow(), HuggingFace(), Orbax())

    def __str__(self) -> str:
        return f"auto: {', '.join(layout.name for layout in self.layouts)}"

    @property
    def name(self) -> str:
        """The name of the choice; a `Verdict` has the name of the layout chosen."""
        return "auto"

    def match(self, name: str) -> tuple[str, int | None] | None:
        """What the first layout says that the name fits."""
        matches = (layout.match(name) for layout in self.layouts)
        return next((match for match in matches if match is not None), None)

    def missing(self, name: str, evidence: Evidence) -> str | None:
        """What the first layout says that lacks something."""
        return self.judge(name, evidence).missing

    def generation(self, name: str, evidence: Evidence) -> int | str | None:
        """What the layout says that recognises the checkpoint."""
        return self.judge(name, evidence).generation

    def judge(self, name: str, evidence: Evidence) -> Verdict:
        """What the layouts that the checkpoint's names fit say together."""
        fitting = {
            layout: match for layout in self.layouts if (match := _fit(layout, name, evidence))
        }
        chosen = next((layout for layout in fitting if layout.recognises(name, evidence)), None)
        if chosen is None:
            return _unrecognised(fitting)
        answers = (layout.missing(name, evidence) for layout in fitting)
        missing = next((answer for answer in answers if answer is not None), None)
        generation = chosen.generation(name, evidence)
        return Verdict(chosen.name, fitting[chosen][1], missing, generation)


def judge(layout: Layout, name: str, evidence: Evidence) -> Verdict:
    """
    What *layout* says of the checkpoint called *name*.

    The generation is there for an unfinished one, too, if its file is.
    """
    if isinstance(layout, Auto):
        return layout.judge(name, evidence)
    missing = layout.missing(name, evidence)
    generation = layout.generation(name, evidence)
    fit = _fit(layout, name, evidence)
    return Verdict(layout.name, None if fit is None else fit[1], missing, generation)


def pointer_layouts(layout: Layout) -> tuple[PointerLayout, ...]:
    """The layouts with a pointer file: *layout* itself, or those among Auto's."""
    layouts = layout.layouts if isinstance(layout, Auto) else (layout,)
    return tuple(layout for layout in layouts if isinstance(layout, PointerLayout))


def _fit(layout: Layout, name: str, evidence: Evidence) -> tuple[str, int | None] | None:
    """What a layout says of the first member that it takes for a part of this checkpoint."""
    matches = map(layout.match, evidence.members)
    return next((match for match in matches if match is not None and match[0] == name), None)


def _unrecognised(fitting: Mapping[BuiltInLayout, tuple[str, int | None]]) -> Verdict:
    # Nothing more is asked: a name such as images_2024 may hide a million files.
    if not fitting:
        return Verdict(NOBODY, None, "not there", None)
    signs = (f"{_SIGNS.get(layout.name, 'its files')} ({layout.name})" for layout in fitting)
    missing = f"not recognised: looked for {', or '.join(signs)}"
    match = next(iter(fitting.values()))
    return Verdict(NOBODY, match[1], missing, None)
