"""
What newcomers stumble over: it is said once in the log, and in `status()`, with what to do.
"""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Callable
from pathlib import Path

import anyio
import pytest
from steering import HeldWatcher, failing, half_save, run_status, steps, virtual

from ckptstream import follow, latest_checkpoint
from ckptstream.testing import ManualWatcher, save

pytestmark = pytest.mark.anyio

Said = Callable[[], list[str]]
PATIENCE = 35.0  # seconds after which what is there is explained


@pytest.fixture
def said(caplog: pytest.LogCaptureFixture, run: Path) -> Said:
    """
    The warnings, without the run's path.
    """
    caplog.set_level(logging.INFO, "ckptstream")

    def warnings() -> list[str]:
        records = [each for each in caplog.records if each.levelno == logging.WARNING]
        return [each.getMessage().removeprefix(f"{run}: ") for each in records]

    return warnings


def write(run: Path, *files: str) -> None:
    for file in files:
        (run / file).parent.mkdir(parents=True, exist_ok=True)
        (run / file).write_bytes(b"x")


async def look_around(run: Path, watcher: ManualWatcher, layout: str = "auto") -> tuple[str, ...]:
    """
    What `status()` advises after some looks.
    """
    stream = follow(run, layout=layout, watcher=watcher)
    assert [] == await steps(stream, watcher)
    for _ in range(3):
        await anyio.sleep(PATIENCE)
        assert [] == await steps(stream, watcher)
    return run_status(stream).remedies


# A directory of one's own.


@virtual
@pytest.mark.parametrize("events", [True, False], ids=["events", "polling"])
async def test_a_directory_of_ones_own_is_explained_after_some_looks(
    run: Path, said: Said, events: bool
) -> None:
    """
    Once in the log, and in `status()`: what is there, and the template that fits it.
    """
    watcher = ManualWatcher(events=events)
    write(run, "step_1/model.pt", "step_1/DONE")
    stream = follow(run, watcher=watcher)
    await steps(stream, watcher)
    assert ([], ()) == (said(), run_status(stream).remedies)
    for _ in range(3):
        await anyio.sleep(PATIENCE)
        await steps(stream, watcher)

    advice = "if step_1 is finished when 'DONE' is there, say layout='step_{step}/DONE'"
    holds = "step_1 is not recognised as a finished checkpoint, and holds 'DONE', 'model.pt'"
    assert [f"{holds}: {advice}"] == said()
    assert (advice,) == run_status(stream).remedies
    assert f"  to do: {advice}" == str(stream.status()).splitlines()[1]
    assert advice.replace("'", "&#x27;") in stream.status()._repr_html_()
    assert str(run / "step_1") == await latest_checkpoint(run, layout="step_{step}/DONE")


@virtual
async def test_files_that_come_later_are_named(run: Path, said: Said) -> None:
    """
    The directory's own name says nothing, and an empty one is about to be filled.
    """
    watcher = ManualWatcher()
    (run / "step_1").mkdir()
    stream = follow(run, watcher=watcher)
    for _ in range(3):
        await steps(stream, watcher)
        await anyio.sleep(PATIENCE)
    assert [] == said()
    write(run, "step_1/weights.bin")
    watcher.event("step_1")
    for _ in range(3):
        await steps(stream, watcher)
        await anyio.sleep(PATIENCE)

    (warning,) = said()
    assert warning.startswith(
        "step_1 is not recognised as a finished checkpoint, and holds 'weights.bin': "
    )


@virtual
@pytest.mark.parametrize(
    ("files", "template"),
    [
        (["step_1/a", "step_1/DONE"], "step_{step}/DONE"),
        (["step_1/a", "step_1/_SUCCESS"], "step_{step}/_SUCCESS"),
        (["step_1/a", "step_1/finished.txt"], "step_{step}/finished.txt"),
        (["step_1/a", "step_1/.complete"], "step_{step}/.complete"),
        (["step_1/a", "step_2/a", "step_2/DONE"], "step_{step}/DONE"),
        (["step_00100/a"], "step_{step}"),
        (["seed-1/DONE"], "seed-{step}/DONE"),
        (["epoch_3-step_7/a"], "epoch_3-step_{step}"),
        (["snap{1}/READY"], "snap{{{step}}}/READY"),
        (["step_1/model.pt", "step_1/rank_0.pt"], "step_{step}"),
        (["step_1/rank_0.pth", "step_1/rank_1.pth"], "step_{step}"),
        (["weights_5.npz"], "weights_{step}.npz"),
        (["model_5.pt"], "model_{step}.pt"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_the_template_fits(
    run: Path, watcher: ManualWatcher, files: list[str], template: str
) -> None:
    """
    With it the same directory is followed.
    """
    write(run, *files)
    (advice,) = await look_around(run, watcher)

    assert f"say layout={template!r}" in advice
    assert await latest_checkpoint(run, layout=template, watcher=ManualWatcher()) is not None


@virtual
@pytest.mark.parametrize(
    "files",
    [
        ["events.out.tfevents.1700000000.host"],
        ["seed_1/config.yaml"],
        ["notes.txt"],
        ["step_1*/DONE"],
    ],
    ids=" ".join,
)
async def test_what_is_no_checkpoint_gets_no_template(
    run: Path, watcher: ManualWatcher, files: list[str]
) -> None:
    """
    A wrong hint is worse than none.
    """
    write(run, *files)

    assert not any("say layout=" in advice for advice in await look_around(run, watcher))


@virtual
async def test_a_save_that_takes_long_is_not_explained(run: Path, said: Said) -> None:
    """
    What only temporary files are in is being written.
    """
    watcher = ManualWatcher()
    write(run, "checkpoint-1/.tmpAbC123")
    assert () == await look_around(run, watcher)

    assert [] == said()


@virtual
async def test_a_framework_that_pauses_is_given_longer(run: Path, watcher: ManualWatcher) -> None:
    """
    Weights alone may be anybody's, who goes on in half a minute.
    """
    write(run, "checkpoint_1/model.safetensors", "checkpoint_1/optimizer.bin")
    stream, advised = follow(run, watcher=watcher), list[int]()
    for _ in range(3):
        await steps(stream, watcher)
        advised.append(len(run_status(stream).remedies))
        await anyio.sleep(PATIENCE)

    assert [0, 0, 1] == advised


# Another level.


@pytest.mark.parametrize("layout", ["hf", "orbax", "deepspeed", "step_{step}/DONE"])
async def test_a_checkpoint_is_no_run(
    run: Path, watcher: ManualWatcher, said: Said, layout: str
) -> None:
    """
    Who follows a checkpoint itself is told to follow the directory above.
    """
    if layout == "deepspeed":
        write(run, "global_step1/mp_rank_00_model_states.pt")
        path = str(run / "global_step1")
    else:
        path = save(run, 1, layout)
    stream = follow(path, layout=layout if "{" in layout else "auto", watcher=watcher)
    for _ in range(3):
        watcher.touch()
        assert [] == await steps(stream, watcher)

    text = f"it looks like a checkpoint of {layout} itself: follow {str(run)!r}"
    assert text == run_status(stream).waiting_for
    assert [f"{path}: {text}"] == said()


async def test_a_checkpoint_by_a_relative_path(
    run: Path, watcher: ManualWatcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    The directory above is spelt as the one that was given.
    """
    save(run, 1)
    words = list[str]()
    for directory, path in (
        (run.parent, "run/checkpoint-1"),
        (run.parent, "run/checkpoint-1/"),
        (run, "checkpoint-1"),
        (run / "checkpoint-1", "."),
    ):
        monkeypatch.chdir(directory)
        stream = follow(path, watcher=watcher)
        await steps(stream, watcher)
        words.append(run_status(stream).waiting_for.rpartition(": ")[2])

    assert ["follow 'run'", "follow 'run'", "follow '.'", f"follow {str(run)!r}"] == words


async def test_a_prefix_of_tensorflow_is_no_run(
    run: Path, watcher: ManualWatcher, said: Said
) -> None:
    """
    No directory has that name, but files have.
    """
    path = save(run, 1, "tensorflow")
    stream = follow(path, watcher=watcher)
    await steps(stream, watcher)

    itself = f"it looks like a checkpoint of TensorFlow itself: follow {str(run)!r}"
    (warning,) = said()
    assert warning.endswith(f"check the path, {path!r}: {itself}")


async def test_a_run_that_is_called_like_a_checkpoint(run: Path, watcher: ManualWatcher) -> None:
    """
    What is below it tells, also where it is empty yet.
    """
    (run / "bert-5").mkdir()
    stream = follow(run / "bert-5", watcher=watcher)
    await steps(stream, watcher)
    assert "waiting for the first checkpoint" == run_status(stream).waiting_for
    save(run / "bert-5", 1)
    watcher.touch()

    assert [1] == await steps(stream, watcher)


# Another layout.


@virtual
@pytest.mark.parametrize(
    ("there", "layout", "advice"),
    [
        ("hf", "orbax", "there are checkpoints of hf: try layout='hf'"),
        ("tensorflow", "hf", "there are checkpoints of tensorflow: try layout='tensorflow'"),
        ("", "hf", "try one such as layout='step_{step}/DONE' or another directory"),
        ("", "auto", "try one such as layout='step_{step}/DONE' or another directory"),
        ("step_{step}/DONE", "hf", "say layout='step_{step}/DONE'"),
    ],
)
async def test_a_wrong_layout_is_told_which_one_helps(
    run: Path, watcher: ManualWatcher, said: Said, there: str, layout: str, advice: str
) -> None:
    """
    Another layout, `auto` too, is named only where it would find something.
    """
    write(run, "notes.txt")
    if there:
        save(run, 1, there)
    (found,) = await look_around(run, watcher, layout)

    assert found.endswith(advice)
    assert [True] == [warning.endswith(advice) for warning in said()]


async def test_evidence_that_another_layout_has(run: Path, watcher: ManualWatcher) -> None:
    """
    Several checkpoints without the marker are finished for another layout, which is named.
    """
    for step in (1, 2):
        save(run, step)
    stream = follow(run, layout="checkpoint-{step}/DONE", watcher=watcher)
    for _ in range(3):
        watcher.touch()
        await steps(stream, watcher)

    (advice,) = run_status(stream).remedies
    assert advice.endswith("right? For hf they are finished: try layout='hf'")


async def test_several_that_are_unfinished_for_auto(
    run: Path, watcher: ManualWatcher, said: Said
) -> None:
    """
    It is no wrong layout, so it is not asked whether it is the right one.
    """
    for step in (1, 2):
        half_save(run, step)
    stream = follow(run, watcher=watcher)
    await steps(stream, watcher)

    (warning,) = said()
    assert "right?" not in warning
    assert warning.endswith("say how that can be seen: one such as layout='step_{step}/DONE'")


# The same in status().


async def test_no_such_directory(run: Path, watcher: ManualWatcher) -> None:
    """
    The path in full.
    """
    run.rmdir()
    stream = follow(run, watcher=watcher)
    await steps(stream, watcher)

    assert (f"check the path, {str(run)!r}",) == run_status(stream).remedies


async def test_an_unreadable_directory(run: Path, watcher: ManualWatcher) -> None:
    """
    As in the log.
    """

    stream = follow(run, watcher=watcher)
    with failing("listdir", errno.EACCES):
        await steps(stream, watcher)

    remedy = "it is waited for; check its permissions and its mount"
    assert (remedy,) == run_status(stream).remedies


async def test_unreadable_checkpoints(run: Path, watcher: ManualWatcher) -> None:
    """
    Each is named, and another layout would not help.
    """
    for step in (1, 2):
        save(run, step)

    stream = follow(run, watcher=watcher)
    with failing("stat", errno.EACCES, "checkpoint-"):
        await steps(stream, watcher)

    remedy = "it is waited for; check its permissions and its mount"
    expected = (f"checkpoint-1: {remedy}", f"checkpoint-2: {remedy}")
    assert expected == run_status(stream).remedies


async def test_thousands_of_unreadable_checkpoints(
    run: Path, watcher: ManualWatcher, caplog: pytest.LogCaptureFixture
) -> None:
    """
    Three are named, and how many more there are, in one record each.
    """
    for step in range(20):
        save(run, step)

    stream = follow(run, watcher=watcher)
    with failing("stat", errno.EACCES, "checkpoint-"):
        await steps(stream, watcher)

    assert 4 == len(run_status(stream).remedies)
    warnings = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert 4 == len(warnings)
    assert "17 more checkpoints cannot be read" in warnings[-1]


async def test_storage_that_does_not_answer(run: Path) -> None:
    """
    While it does not.
    """
    watcher = HeldWatcher()
    watcher.hangs = True
    stream = follow(run, watcher=watcher)
    await steps(stream, watcher)
    during = run_status(stream).remedies
    watcher.answer()
    await steps(stream, watcher)

    assert [("check the mount",), ()] == [during, run_status(stream).remedies]


async def test_finished_ones_that_were_missed(run: Path, watcher: ManualWatcher) -> None:
    """
    The trainer keeps too few.
    """
    for step in (1, 2):
        save(run, step)
    stream = follow(run, watcher=watcher)
    await anext(stream)
    (run / "checkpoint-2/trainer_state.json").unlink()
    (run / "checkpoint-2/model.safetensors").unlink()
    watcher.touch()
    await steps(stream, watcher)
    for file in (run / "checkpoint-2").iterdir():
        file.unlink()
    (run / "checkpoint-2").rmdir()
    watcher.touch()
    await steps(stream, watcher)

    assert ("have the trainer keep more checkpoints, or pin them: pin=True",) == run_status(
        stream
    ).remedies


async def test_a_pattern_that_nothing_matches(tmp_path: Path, watcher: ManualWatcher) -> None:
    """
    In the pattern's row.
    """
    stream = follow(tmp_path / "none-*", watcher=watcher)
    await steps(stream, watcher)
    (pattern,) = stream.status().patterns

    assert ("if there should be some, check the pattern",) == pattern.remedies
    assert "  to do: if there should be some, check the pattern" in str(stream.status())
    assert "check the pattern" in stream.status()._repr_html_()


async def test_nothing_to_do(run: Path, watcher: ManualWatcher) -> None:
    """
    A healthy run has no remedies.
    """
    save(run, 1)
    half_save(run, 2)
    stream = follow(run, watcher=watcher)
    before = run_status(stream).remedies
    await steps(stream, watcher)

    assert ((), ()) == (before, run_status(stream).remedies)


# Written again.


@virtual
@pytest.mark.parametrize("newest", [True, False])
async def test_a_delivered_checkpoint_that_is_written_again(
    run: Path, watcher: ManualWatcher, newest: bool
) -> None:
    """
    It is unfinished again, with what it lacks; waited for if no later one was delivered.
    """
    for step in (1,) if newest else (1, 2):
        save(run, step)
    stream = follow(run, watcher=watcher)
    await steps(stream, watcher)
    model = run / "checkpoint-1/model.safetensors"
    later = (run / "checkpoint-1/trainer_state.json").stat().st_mtime_ns + 10**9
    model.write_bytes(model.read_bytes())
    os.utime(model, ns=(later, later))
    watcher.event("checkpoint-1")
    await steps(stream, watcher)

    reason = "model.safetensors is newer than trainer_state.json: waits until it has settled"
    status = run_status(stream)
    assert {"checkpoint-1": reason} == dict(status.unfinished)
    what = f"checkpoint-1: {reason}" if newest else "the next checkpoint"
    assert f"waiting for {what}" == status.waiting_for
    await anyio.sleep(2)
    await steps(stream, watcher)
    assert {} == dict(run_status(stream).unfinished)
