"""
The values that users see: they compare, pickle and show themselves.
"""

from __future__ import annotations

import os
import pickle
from dataclasses import FrozenInstanceError, replace

import pytest

from ckptstream import Checkpoint, Missed, RunStatus, Status

CHECKPOINT = Checkpoint("runs/7b/checkpoint-500", 500, "runs/7b", "hf", "1732")
UNDECODABLE = os.fsdecode(b"runs/\xff<b>/checkpoint-1")
RUN = RunStatus(
    run="runs/7b",
    watcher="inotify",
    watcher_reason="ext4 is local",
    last_look=1.25,
    newest=CHECKPOINT,
    queued=2,
    waiting_for="waiting for checkpoint-600: no trainer_state.json",
    unfinished={"checkpoint-600": "no trainer_state.json"},
    missed=(Missed("runs/7b/checkpoint-400", 400, True),),
    missed_count=1,
    skipped=3,
    unanswered=None,
)


def test_checkpoint_is_a_path() -> None:
    """
    It goes wherever a path goes.
    """
    assert "runs/7b/checkpoint-500" == os.fspath(CHECKPOINT)
    assert "runs/7b/checkpoint-500" == str(CHECKPOINT)
    assert "runs/7b/checkpoint-500/model" == os.path.join(CHECKPOINT, "model")


def test_checkpoint_repr() -> None:
    """
    Says everything, and could be typed in.
    """
    assert CHECKPOINT == eval(repr(CHECKPOINT))
    assert (
        "Checkpoint(path='runs/7b/checkpoint-500', step=500, run='runs/7b', layout='hf', "
        "generation='1732')"
    ) == repr(CHECKPOINT)


@pytest.mark.parametrize("name", ["path", "step", "run", "layout", "generation", "note"])
def test_checkpoint_is_frozen(name: str) -> None:
    """
    Nothing can be changed, nothing added.
    """
    with pytest.raises((FrozenInstanceError, AttributeError, TypeError)):
        setattr(CHECKPOINT, name, "x")
    with pytest.raises((FrozenInstanceError, AttributeError, TypeError)):
        delattr(CHECKPOINT, name)


@pytest.mark.parametrize(
    ("change", "equal"),
    [
        ({"path": "runs/7b/checkpoint-501"}, False),
        ({"generation": "1733"}, False),
        ({"step": 501}, True),
        ({"run": "."}, True),
        ({"layout": "step_{step}"}, True),
    ],
)
def test_checkpoint_compares_by_path_and_generation(change: dict[str, str], equal: bool) -> None:
    """
    The same step saved again is another checkpoint; how it was found does not matter.
    """
    other = replace(CHECKPOINT, **change)  # type: ignore[arg-type]

    assert equal == (other == CHECKPOINT)
    assert (1 if equal else 2) == len({other, CHECKPOINT})


def test_checkpoint_is_not_its_path() -> None:
    """
    A string never equals it.
    """
    path: object = CHECKPOINT.path

    assert path != CHECKPOINT


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize(
    "value",
    [CHECKPOINT, replace(CHECKPOINT, path=UNDECODABLE, step=10**250), RUN, Status((RUN,), "done")],
    ids=["checkpoint", "odd checkpoint", "run", "status"],
)
def test_values_pickle(value: object, protocol: int) -> None:
    """
    To another process and back, complete.
    """
    copy = pickle.loads(pickle.dumps(value, protocol))

    assert value == copy
    assert repr(value) == repr(copy)


def test_checkpoint_in_a_notebook() -> None:
    """
    A small table.
    """
    html = CHECKPOINT._repr_html_()

    assert html.startswith("<table>")
    assert "<td><b>step</b></td><td>500</td>" in html
    assert "runs/7b/checkpoint-500" in html


def test_names_in_html_are_text() -> None:
    """
    What is not UTF-8, or looks like HTML, does not break the page.
    """
    odd = replace(CHECKPOINT, path=UNDECODABLE, run=UNDECODABLE)
    unfinished = {UNDECODABLE: "no <marker>"}
    run = replace(RUN, run=UNDECODABLE, newest=odd, unfinished=unfinished)

    for html in (odd._repr_html_(), Status((run,))._repr_html_()):
        html.encode()
        assert "&lt;b&gt;" in html
        assert "runs/\udcff" not in html
    assert "no &lt;marker&gt;" in html


def test_status_can_be_printed_whatever_the_names_are() -> None:
    """
    A terminal takes no surrogates.
    """
    odd = replace(CHECKPOINT, path=UNDECODABLE)
    missed = (Missed(UNDECODABLE, 1, finished=True),)
    run = replace(RUN, run=UNDECODABLE, newest=odd, missed=missed, unfinished={UNDECODABLE: "x"})

    str(Status((run,))).encode()
    str(run).encode()


def test_status_of_a_run_as_text() -> None:
    """
    One line that says what it waits for, then the details.
    """
    assert (
        "runs/7b: waiting for checkpoint-600: no trainer_state.json"
        " (inotify: ext4 is local, seen 1.2 s ago)\n"
        "  newest delivered: runs/7b/checkpoint-500\n"
        "  queued: 2\n"
        "  checkpoint-600: no trainer_state.json\n"
        "  missed: runs/7b/checkpoint-400\n"
        "  skipped: 3"
    ) == str(RUN)


def test_status_before_the_first_look() -> None:
    """
    There is little to say.
    """
    run = RunStatus(
        "runs/7b", None, "", None, None, 0, "waiting for the first look", {}, (), 0, 0, None
    )

    assert (
        "runs/7b: waiting for the first look (no watcher yet, never looked at)"
        == str(run)
        == str(Status((run,)))
    )


def test_status_says_how_it_ended() -> None:
    """
    The last line.
    """
    assert "ended: it was closed" == str(Status((RUN,), "it was closed")).splitlines()[-1]


def test_status_in_a_notebook() -> None:
    """
    A table with a row for each run.
    """
    html = Status((RUN, RUN))._repr_html_()

    assert 3 == html.count("<tr>")
    assert "checkpoint-600: no trainer_state.json" in html
