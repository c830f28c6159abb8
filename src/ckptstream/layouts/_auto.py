"""Which framework wrote a checkpoint, decided for each one by its own evidence."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from ._described import Described
from ._hugging_face import HuggingFace
from ._orbax import Orbax
from ._presets import GENERIC, PRESETS
from ._protocol import BuiltInLayout, Evidence, Layout, Match, PointerLayout, Verdict
from ._tensorflow import TensorFlow

NOBODY = "auto"  # the layout of what no layout recognises
# The first that fits gives its name, so that what goes by names of any kind comes last.
BUILT_IN: tuple[BuiltInLayout, ...] = (
    TensorFlow(),
    HuggingFace(),
    *(preset for preset in PRESETS if preset.signs is not None and preset not in GENERIC),
    Orbax(),
    *GENERIC,
)

_SIGNS = {
    "tensorflow": ".data-00000-of-00001 files",
    "hf": "trainer_state.json, config.json or a model",
    "orbax": "commit_success.txt, _CHECKPOINT_METADATA, _METADATA or manifest.ocdbt",
}
_FILES = {
    "hf": ("trainer_state.json", "config.json"),
    "orbax": ("commit_success.txt", "_CHECKPOINT_METADATA", "_METADATA", "manifest.ocdbt"),
}
_DIGITS = str.maketrans("123456789", "0" * 9)
_SHAPES = 4096  # how many are kept: those of a run are few


_Named: TypeAlias = "tuple[BuiltInLayout, Match]"
_Asks: TypeAlias = "Callable[[str, Evidence], bool]"


@dataclass(frozen=True, slots=True)
class Auto:
    """
    Whatever one of several layouts recognises.

    Names alone do not tell: the `checkpoint_1` that Accelerate fills looks like one that T5X has
    renamed. So each entry is decided by what it holds:

    - A layout fits if the name does and it recognises one of its signs there. Frameworks that leave
      none there have no say, whatever of theirs is absent: DeepSpeed's `latest` does not matter to
      a `global_step1000` without a rank's file.
    - What a framework writes before anything else must be there, and nothing that it never writes:
      `metadata.json` is LLaMA-Factory's first file, so a `checkpoint-1000` without it is not its
      own, and `CHECKPOINT_COMPLETE` is not waited for. `save_pretrained` begins with `config.json`,
      with which prime-rl ends, so a `step_1000` that has it before the weights needs no `STABLE`.
    - If some layout finds a sign that no other framework leaves there, only those that find one of
      theirs fit: with `trainer_state.json` it is the Trainer's, whatever else could be.
    - An entry is finished when all layouts that fit say so: while weights alone are there, they may
      be Accelerate's, who is not done before `random_states_0.pkl` is there. What no file can tell
      apart, weights alone in a `step_1000`, is not handed out too early: it waits, and `status()`
      says for what and for whom.

    Args:
        layouts: Asked in this order; the first that fits gives its name, or, if it was finished
            before, the one whose generation that was.

    Attributes:
        pointers: Those of them that have a pointer file.
    """

    layouts: tuple[BuiltInLayout, ...] = BUILT_IN
    _shapes: dict[str, tuple[BuiltInLayout, ...]] = field(
        init=False, repr=False, compare=False, default_factory=dict[str, tuple[BuiltInLayout, ...]]
    )
    # Found once: to ask all layouts took twenty times as long as all else that opens a stream.
    pointers: tuple[PointerLayout, ...] = field(init=False, repr=False, compare=False, default=())

    def __post_init__(self) -> None:
        object.__setattr__(self, "pointers", _with_pointers(self.layouts))

    def __str__(self) -> str:
        return f"auto: {', '.join(layout.name for layout in self.layouts)}"

    @property
    def name(self) -> str:
        """The name of the choice; a `Verdict` has the name of the layout chosen."""
        return "auto"

    def match(self, name: str) -> Match | None:
        """What the first layout says that the name fits."""
        matches = (layout.match(name) for layout in self._candidates(name))
        return next((match for match in matches if match is not None), None)

    def missing(self, name: str, evidence: Evidence) -> str | None:
        """What the first layout says that lacks something."""
        return self.judge(name, evidence).missing

    def generation(self, name: str, evidence: Evidence) -> int | str | None:
        """What the layout says that recognises the checkpoint."""
        return self.judge(name, evidence).generation

    def judge(self, name: str, evidence: Evidence) -> Verdict:
        """What the layouts that fit the checkpoint say together."""
        named = self._named(name, evidence)
        for layout, match in named:
            alias = _alias(layout, name, match[1], evidence)
            if alias is not None:
                return alias
        # Most often there is an owner, and nobody else need be asked.
        fitting = [each for each in named if _owns(each[0], name, evidence)]
        fitting = fitting or [each for each in named if each[0].recognises(name, evidence)]
        if not fitting:
            return _unrecognised(named)
        chosen, match, generation = _choose(fitting, name, evidence)
        for layout, _ in fitting:
            missing = layout.missing(name, evidence)
            if missing is not None:
                whose = "" if layout is chosen else f" ({layout.name})"
                return Verdict(chosen.name, match[1], f"{missing}{whose}", generation)
        return Verdict(chosen.name, match[1], None, generation)

    def sign(self, chosen: str, name: str, evidence: Evidence) -> str:
        """By which file, or else by what, the layout called *chosen* was recognised there."""
        layout = next(each for each in self.layouts if each.name == chosen)
        if isinstance(layout, Described):
            return layout.sign(name, evidence) or _looks_for(layout)
        files = (file for file in _FILES.get(chosen, ()) if file in evidence.list(name))
        return next(files, _looks_for(layout))

    def is_owned(self, name: str, evidence: Evidence) -> bool:
        """Whether there is a sign that only one framework leaves."""
        return any(_owns(layout, name, evidence) for layout, _ in self._named(name, evidence))

    def _named(self, name: str, evidence: Evidence) -> list[_Named]:
        """The layouts that take a member for a part of this checkpoint, with what they say."""
        candidates = dict.fromkeys(c for m in evidence.members for c in self._candidates(m))
        fits = ((layout, _fit(layout, name, evidence)) for layout in candidates)
        return [(layout, match) for layout, match in fits if match is not None]

    def _candidates(self, name: str) -> tuple[BuiltInLayout, ...]:
        """
        The layouts that may take the name.

        A run has thousands of names that differ in their digits alone.
        """
        shape = name[:-2].translate(_DIGITS) + name[-2:]  # `.h5` is another suffix than `.h4`
        candidates = self._shapes.get(shape)
        if candidates is None:
            candidates = tuple(layout for layout in self.layouts if layout.match(shape))
            if len(self._shapes) >= _SHAPES:
                self._shapes.clear()
            self._shapes[shape] = candidates
        return candidates


def _owns(layout: BuiltInLayout, name: str, evidence: Evidence) -> bool:
    owns: _Asks = getattr(layout, "owns", layout.recognises)
    return owns(name, evidence)


def _choose(
    fitting: Sequence[_Named], name: str, evidence: Evidence
) -> tuple[BuiltInLayout, Match, int | str | None]:
    """
    The first, unless another one told the generation that was finished before.

    What somebody adds to a finished checkpoint must not make another one of it.
    """
    first, match = fitting[0]
    generation = first.generation(name, evidence)
    if evidence.before is not None and str(generation) != evidence.before:
        for other, its in fitting[1:]:
            before = other.generation(name, evidence)
            if str(before) == evidence.before:
                return other, its, before
    return first, match, generation


def judge(layout: Layout, name: str, evidence: Evidence) -> Verdict:
    """
    What *layout* says of the checkpoint called *name*.

    The generation is there for an unfinished one, too, if its file is.
    """
    if isinstance(layout, Auto):
        return layout.judge(name, evidence)
    fit = _fit(layout, name, evidence)
    step = None if fit is None else fit[1]
    alias = _alias(layout, name, step, evidence)
    if alias is not None:
        return alias
    missing = layout.missing(name, evidence)
    generation = layout.generation(name, evidence)
    return Verdict(layout.name, step, missing, generation)


def _alias(layout: Layout, name: str, step: int | None, evidence: Evidence) -> Verdict | None:
    """What is said of a link: nobody's checkpoint, which is not missed when it goes."""
    alias = layout.alias(name, evidence) if isinstance(layout, Described) else None
    return None if alias is None else Verdict(NOBODY, step, alias, None)


def pointer_layouts(layout: Layout) -> tuple[PointerLayout, ...]:
    """The layouts with a pointer file: *layout* itself, or those among Auto's."""
    return layout.pointers if isinstance(layout, Auto) else _with_pointers((layout,))


def _with_pointers(layouts: Sequence[Layout]) -> tuple[PointerLayout, ...]:
    return tuple(each for each in layouts if isinstance(each, PointerLayout) and each.pointer)


def _fit(layout: Layout, name: str, evidence: Evidence) -> Match | None:
    """What a layout says of the first member that it takes for a part of this checkpoint."""
    matches = map(layout.match, evidence.members)
    return next((match for match in matches if match is not None and match[0] == name), None)


def _unrecognised(named: Sequence[_Named]) -> Verdict:
    # Nothing more is asked: a name such as images_2024 may hide a million files.
    if not named:
        return Verdict(NOBODY, None, "not there", None)
    signs = (f"{_looks_for(layout)} ({layout.name})" for layout, _ in named)
    missing = f"not recognised: looked for {', or '.join(signs)}"
    return Verdict(NOBODY, named[0][1][1], missing, None)


def _looks_for(layout: BuiltInLayout) -> str:
    if isinstance(layout, Described) and layout.signs is not None:
        return layout.signs.words
    return _SIGNS.get(layout.name, "its files")
