"""What `layout=` accepts, and what it says otherwise."""

import pickle
from typing import Any, cast

import pytest

from ckptstream import layouts
from ckptstream._errors import UnknownLayout
from ckptstream.layouts import Auto, HuggingFace, Layout, Orbax, Template, TensorFlow, resolve

NAMES = (
    "accelerate composer dcp deepspeed fairseq flax hf keras keras-backup keras-sharded levanter "
    "lightning llamafactory-v1 maxtext megatron megatron-bridge nemo olmo olmo-core orbax prime-rl "
    "ray ray-v1 safetensors sb3 t5x tensorflow torch torchtitan verl"
).split()


def test_every_framework_has_a_name() -> None:
    """
    A checkpoint's layout can be asked for by the name that it says.
    """
    assert NAMES == [resolve(name).name for name in NAMES]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("auto", Auto()),
        ("hf", HuggingFace()),
        ("orbax", Orbax()),
        ("tensorflow", TensorFlow()),
        ("step_{step}/DONE", Template("step_{step}/DONE")),
        (Orbax(), Orbax()),
    ],
)
def test_known(given: str | Layout, expected: Layout) -> None:
    """
    A known name, a name with `{step}` or a layout stands for a layout.
    """
    assert expected == resolve(given)


def test_state_file() -> None:
    """
    The state file's name reaches TensorFlow, also within `"auto"`.
    """
    tensorflow = TensorFlow("latest")

    assert tensorflow == resolve("tensorflow", state_file="latest")
    assert Auto((tensorflow, *Auto().layouts[1:])) == resolve("auto", state_file="latest")


@pytest.mark.parametrize(
    ("given", "hint"),
    [
        ("hff", " (did you mean 'hf'?)"),
        ("ORBAX", " (did you mean 'orbax'?)"),
        ("", ""),
        ("x/y", ""),
    ],
)
def test_unknown(given: str, hint: str) -> None:
    """
    An unknown name is told what there is.
    """
    with pytest.raises(UnknownLayout) as error:
        resolve(given)
    known = "'auto', " + ", ".join(map(repr, NAMES))

    assert (
        f"layout={given!r} is not known{hint}: use one of {known}, or a name with {{step}} "
        "such as 'step_{step}/DONE'"
    ) == str(error.value)
    assert str(error.value) == str(pickle.loads(pickle.dumps(error.value)))
    assert given == error.value.layout


def test_bad_template() -> None:
    """
    A string with braces is a name, if a wrong one.
    """
    with pytest.raises(ValueError, match="no other"):
        resolve("ckpt_{epoch}.pt")


class Named:
    name = "mine"

    def match(self, name: str) -> None: ...
    def missing(self, name: str, evidence: object) -> None: ...
    def generation(self, name: str, evidence: object) -> None: ...


class Nameless:
    name = 5

    def match(self, name: str) -> None: ...
    def missing(self, name: str, evidence: object) -> None: ...
    def generation(self, name: str, evidence: object) -> None: ...


@pytest.mark.parametrize(
    "given", [None, 5, b"hf", Orbax, Named, Nameless(), type("NoMethods", (), {"name": "x"})()]
)
def test_no_layout(given: object) -> None:
    """
    Anything else is a `TypeError` that names it.
    """
    with pytest.raises(TypeError) as error:
        resolve(cast("Any", given))

    assert str(error.value).startswith(f"layout={given!r} is not a layout: ")


def test_exports() -> None:
    """
    There are at most 15 public names, and all of them are there.
    """
    assert len(layouts.__all__) <= 15
    assert all(hasattr(layouts, name) for name in layouts.__all__)
