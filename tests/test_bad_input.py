"""
What bad input gets: an error at the call that names the argument, or a reason in status().
"""

from __future__ import annotations

import asyncio
import inspect
import os
import re
import shutil
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import pytest
from observing import SECONDS, linux, mark_done, until
from steering import virtual

import ckptstream
import ckptstream.sync
from ckptstream import CheckpointStream, UnknownLayout, follow
from ckptstream.testing import ManualWatcher, save

anyio_tests = pytest.mark.anyio

Function = Callable[..., Any]

STREAMS: dict[str, Function] = {
    "follow": ckptstream.follow,
    "checkpoints_iterator": ckptstream.checkpoints_iterator,
    "sync.follow": ckptstream.sync.follow,
    "sync.checkpoints_iterator": ckptstream.sync.checkpoints_iterator,
}
CALLS: dict[str, Function] = {
    "wait_for_new_checkpoint": ckptstream.wait_for_new_checkpoint,
    "latest_checkpoint": ckptstream.latest_checkpoint,
    "sync.wait_for_new_checkpoint": ckptstream.sync.wait_for_new_checkpoint,
    "sync.latest_checkpoint": ckptstream.sync.latest_checkpoint,
}
EVERY = {**STREAMS, **CALLS}


def call(name: str, *arguments: object, **options: object) -> object:
    """
    Call a function as its users do: what returns an awaitable is awaited.
    """
    result = EVERY[name](*arguments, **options)
    if not inspect.isawaitable(result):
        return result

    async def wait(awaitable: Awaitable[object]) -> object:
        return await awaitable

    return asyncio.run(wait(result))


def takes(argument: str) -> list[str]:
    return [name for name, function in EVERY.items() if argument in parameters(function)]


def parameters(function: Function) -> list[str]:
    return list(inspect.signature(function).parameters)


def each(*arguments: str) -> pytest.MarkDecorator:
    """
    Every function that has such an argument, with each of them.
    """
    pairs = [(name, argument) for argument in arguments for name in takes(argument)]
    assert pairs
    return pytest.mark.parametrize(("name", "argument"), pairs)


def sensible(argument: str) -> dict[str, object]:
    """
    What must be given with an argument so that only the argument itself is wrong.
    """
    return {"timeout": 1.0} if argument == "timeout_fn" else {}


TIMES = ("timeout", "min_interval_secs", "poll_interval", "seconds_to_sleep")


@pytest.mark.parametrize("value", [-1, -0.001, float("nan"), float("inf"), -float("inf")])
@each(*TIMES)
def test_a_time_that_is_none(run: Path, name: str, argument: str, value: float) -> None:
    """
    Negative, NaN and infinite ones: `ValueError` with the argument and its value.
    """
    with pytest.raises(ValueError, match=re.escape(f"{argument}={value!r} ")):
        call(name, run, **{argument: value})


@pytest.mark.parametrize("value", ["1", b"1", True, [1], 1j, object])
@each(*TIMES)
def test_a_time_of_another_type(run: Path, name: str, argument: str, value: object) -> None:
    """
    `TypeError`; True is no second.
    """
    with pytest.raises(TypeError, match=re.escape(f"{argument}={value!r} ")):
        call(name, run, **{argument: value})


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"cursor": ""}, "cursor='' is empty: name a file"),
        ({"cursor": "evals/"}, "cursor='evals/' is a directory: name a file, such as 'evals.db'"),
        ({"cursor": 7}, "cursor=7 is not a path"),
        ({"cursor": "s3://bucket/evals.db"}, "cursor='s3://bucket/evals.db' is a URL: name a file"),
        (
            {"cursor": "evals.db", "done": "now"},
            "done='now' is not known: use 'next' or 'explicit'",
        ),
        ({"done": "explicit"}, "done='explicit' has nowhere to write it down: give a cursor="),
        ({"retries": -1}, "retries=-1 is too few: give 0 or more"),
        ({"retries": True}, "retries=True is not a number of times: give an int"),
        ({"retries": 2.0}, "retries=2.0 is not a number of times: give an int"),
    ],
)
@each("cursor")
def test_what_a_cursor_cannot_be(
    run: Path, name: str, argument: str, options: dict[str, Any], expected: str
) -> None:
    """
    `TypeError` or `ValueError` with what to do.
    """
    with pytest.raises((TypeError, ValueError), match=re.escape(expected)):
        call(name, run, **options)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (-1, "pin=-1 is too few: give 1 or more"),
        (0, "pin=0 is too few: give 1 or more"),
        (2.0, "pin=2.0 is neither True nor False, nor a number of checkpoints"),
        ("yes", "pin='yes' is neither True nor False, nor a number of checkpoints"),
        (None, "pin=None is neither True nor False, nor a number of checkpoints"),
    ],
)
@each("pin")
def test_what_cannot_be_pinned(
    run: Path, name: str, argument: str, value: object, expected: str
) -> None:
    """
    `TypeError` or `ValueError` with what to do.
    """
    with pytest.raises((TypeError, ValueError), match=re.escape(expected)):
        call(name, run, **{argument: value})


@each("poll_interval")
def test_polling_without_rest(run: Path, name: str, argument: str) -> None:
    """
    It would take a whole core.
    """
    with pytest.raises(ValueError, match=f"{argument}=0 "):
        call(name, run, **{argument: 0})


@pytest.mark.parametrize("path", ["~", "~/runs"])
def test_a_home_directory_is_not_expanded(path: str) -> None:
    """
    It would be waited for, for ever.
    """
    with pytest.raises(ValueError, match=re.escape(f"checkpoint_dir={path!r} ")) as raised:
        follow(path)

    assert f"os.path.expanduser({path!r})" in str(raised.value)


@each("min_interval_secs", "seconds_to_sleep")
def test_none_is_no_time_where_nothing_is_optional(run: Path, name: str, argument: str) -> None:
    """
    Only `timeout` and `poll_interval` may be None.
    """
    with pytest.raises(TypeError, match=f"{argument}=None"):
        call(name, run, **{argument: None})


@each("timeout", "min_interval_secs")
def test_an_integer_too_large_for_a_float(run: Path, name: str, argument: str) -> None:
    """
    It is no length of time either.
    """
    with pytest.raises(ValueError, match=f"{argument}=1000"):
        call(name, run, **{argument: 10**400})


@pytest.mark.parametrize("layout", ["hff", "HF", "", "tf", "checkpoint-*"])
@each("layout")
def test_an_unknown_layout(run: Path, name: str, argument: str, layout: str) -> None:
    """
    With the list of the known ones.
    """
    with pytest.raises(UnknownLayout, match=re.escape(f"layout={layout!r} ")) as raised:
        call(name, run, layout=layout)

    assert {"auto", "hf", "orbax", "tensorflow"} <= set(raised.value.known)
    assert [True] * len(raised.value.known) == [
        repr(known) in str(raised.value) for known in raised.value.known
    ]


@pytest.mark.parametrize("layout", ["ckpt_{step", "{stp}.pt", "{step}{step}", "../{step}"])
@each("layout")
def test_a_template_that_names_nothing(run: Path, name: str, argument: str, layout: str) -> None:
    """
    `ValueError` with the string.
    """
    with pytest.raises(ValueError, match=re.escape(f"layout={layout!r} ")):
        call(name, run, layout=layout)


@pytest.mark.parametrize("layout", [None, 7, ["hf"], ckptstream.layouts.HuggingFace])
@each("layout")
def test_something_that_is_no_layout(run: Path, name: str, argument: str, layout: object) -> None:
    """
    `TypeError`; a class is no layout, its instance is.
    """
    with pytest.raises(TypeError, match=re.escape(f"layout={layout!r} ")):
        call(name, run, layout=layout)


async def needs_one(argument: object) -> bool:
    return bool(argument)


@pytest.mark.parametrize("value", [True, "end", 7, needs_one, lambda one, two: True])
@each("timeout_fn")
def test_a_timeout_fn_that_cannot_be_called(
    run: Path, name: str, argument: str, value: object
) -> None:
    """
    Or not without arguments: `TypeError` at the call, not an hour later.
    """
    with pytest.raises(TypeError, match=re.escape(f"timeout_fn={value!r} cannot be called")):
        call(name, run, timeout_fn=value, timeout=1.0)


@pytest.mark.parametrize("value", [lambda: True, partial(needs_one, 7), lambda *rest: True, bool])
@each("timeout_fn")
def test_a_timeout_fn_that_can_be_called(
    run: Path, name: str, argument: str, value: object
) -> None:
    """
    Functions, partial ones, classes, and what takes any arguments.
    """
    call(name, run, timeout_fn=value, timeout=1.0)


@pytest.mark.parametrize("name", list(STREAMS))
def test_a_timeout_fn_without_a_timeout(run: Path, name: str) -> None:
    """
    `follow` refuses what it would never ask; TensorFlow's iterator takes it, as in TensorFlow.
    """

    def timeout_fn() -> bool:
        return True

    if name.endswith("checkpoints_iterator"):
        call(name, run, timeout_fn=timeout_fn)
        return
    with pytest.raises(ValueError, match=r"timeout_fn=.* without a timeout: give timeout="):
        call(name, run, timeout_fn=timeout_fn)


@pytest.mark.parametrize(
    ("path", "error", "message"),
    [
        ("", ValueError, "='' is empty"),
        (None, TypeError, "=None is not a path"),
        (7, TypeError, "=7 is not a path"),
        (b"run", TypeError, "=b'run' is not a path"),
        (["run"], TypeError, r"=\['run'\] is not a path"),
        ("run\0", ValueError, r"='run\\x00' holds a null character"),
        ("ftp://host/run", ValueError, "='ftp://host/run' is a URL"),
    ],
)
@pytest.mark.parametrize("name", list(EVERY))
def test_a_path_that_is_none(name: str, path: object, error: type[Exception], message: str) -> None:
    """
    Empty, of another type, impossible, or not followed yet.
    """
    with pytest.raises(error, match=f"checkpoint_dir{message}"):
        call(name, path)


@pytest.mark.parametrize("name", [name for name in EVERY if not name.endswith("follow")])
def test_a_pattern_where_one_directory_belongs(name: str) -> None:
    """
    TensorFlow's functions speak of one run.
    """
    with pytest.raises(
        ValueError, match=r"checkpoint_dir='sweeps/\*/run' is a pattern: only follow"
    ):
        call(name, "sweeps/*/run")


@pytest.mark.parametrize("name", [name for name in EVERY if name.endswith("follow")])
@pytest.mark.parametrize(
    ("path", "message"), [("runs/**", "holds '\\*\\*'"), ("runs/*/../x", "goes up again after a")]
)
def test_a_pattern_that_is_none(name: str, path: str, message: str) -> None:
    """
    Each level is written, and the way goes down only.
    """
    with pytest.raises(ValueError, match=f"checkpoint_dir='{re.escape(path)}' {message}"):
        call(name, path)


@pytest.mark.parametrize("name", ["follow", "sync.follow"])
def test_no_directory_at_all(name: str) -> None:
    """
    An empty list of runs, unpacked, is no stream that ends at once.
    """
    with pytest.raises(TypeError, match=r"checkpoint_dirs=\(\) is empty"):
        EVERY[name]()


@pytest.mark.parametrize("name", ["wait_for_new_checkpoint", "sync.wait_for_new_checkpoint"])
@pytest.mark.parametrize(("value", "error"), [("", ValueError), (7, TypeError), (b"x", TypeError)])
def test_a_last_checkpoint_that_is_none(
    run: Path, name: str, value: object, error: type[Exception]
) -> None:
    """
    It is checked like any other path.
    """
    with pytest.raises(error, match=re.escape(f"last_checkpoint={value!r} ")):
        call(name, run, value)


@pytest.mark.parametrize("name", ["latest_checkpoint", "sync.latest_checkpoint"])
@pytest.mark.parametrize(
    ("value", "error"), [("", ValueError), ("a/b", ValueError), (7, TypeError), (b"x", TypeError)]
)
def test_a_latest_filename_that_is_none(
    run: Path, name: str, value: object, error: type[Exception]
) -> None:
    """
    It is a name in the directory itself.
    """
    with pytest.raises(error, match=re.escape(f"latest_filename={value!r} ")):
        call(name, run, value)


@pytest.mark.parametrize("name", ["latest_checkpoint", "sync.latest_checkpoint"])
def test_a_latest_filename_for_another_framework(run: Path, name: str) -> None:
    """
    Only TensorFlow has a state file.
    """
    with pytest.raises(ValueError, match="latest_filename='checkpoint' is TensorFlow's"):
        call(name, run, "checkpoint", layout="hf")


@pytest.mark.parametrize("value", [0, 1, None, "yes"])
@each("latest_only", "skip_existing")
def test_a_flag_that_is_none(run: Path, name: str, argument: str, value: object) -> None:
    """
    True or False and nothing that merely looks like it.
    """
    with pytest.raises(TypeError, match=re.escape(f"{argument}={value!r} ")):
        call(name, run, **{argument: value})


@pytest.mark.parametrize(
    ("value", "error"), [(-1, ValueError), (1.0, TypeError), ("7", TypeError), (True, TypeError)]
)
@each("until_step")
def test_a_step_that_is_none(
    run: Path, name: str, argument: str, value: object, error: type[Exception]
) -> None:
    """
    Steps are integers and count from 0.
    """
    with pytest.raises(error, match=re.escape(f"until_step={value!r} ")):
        call(name, run, until_step=value)


@pytest.mark.parametrize(
    ("value", "error"),
    [("fsevents", ValueError), ("", ValueError), (None, TypeError), (7, TypeError)],
)
@each("watcher")
def test_a_watcher_that_is_none(
    run: Path, name: str, argument: str, value: object, error: type[Exception]
) -> None:
    """
    One of three names, or an object that can watch.
    """
    with pytest.raises(error, match=re.escape(f"watcher={value!r} ")):
        call(name, run, watcher=value)


@pytest.mark.parametrize("name", list(STREAMS))
def test_the_call_itself_touches_nothing(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    A path on a hung mount delays no call in the event loop.
    """

    def touched(*arguments: object, **options: object) -> object:
        raise AssertionError(arguments)

    with monkeypatch.context() as patch:
        for function in ("stat", "lstat", "listdir", "scandir", "open", "readlink"):
            patch.setattr(os, function, touched)
        call(name, "some/run", layout="hf", timeout=1.0)


# From the first look.


@pytest.mark.parametrize("name", list(EVERY))
def test_a_file_where_a_directory_belongs(tmp_path: Path, name: str) -> None:
    """
    `NotADirectoryError` with the path, from the first call that waits, and again from the next.
    """
    file = tmp_path / "checkpoint-7"
    file.touch()
    expected = re.escape(repr(str(file)))

    if name in CALLS:
        with pytest.raises(NotADirectoryError, match=expected):
            call(name, file)
        return
    stream = call(name, file)

    async def ask() -> None:
        assert hasattr(stream, "__anext__")
        await stream.__anext__()

    for _ in range(2):
        with pytest.raises(NotADirectoryError, match=expected):
            next(stream) if hasattr(stream, "__next__") else asyncio.run(ask())


# Never an error, only waiting with a reason.

REASON = Callable[[Path], object]


def unreadable_state(run: Path) -> None:
    save(run, 1, "tensorflow")
    (run / "checkpoint").write_bytes(b'model_checkpoint_path: "ckp')


def empty_state(run: Path) -> None:
    save(run, 1, "tensorflow")
    (run / "checkpoint").write_bytes(b"")


def state_of_nothing(run: Path) -> None:
    run.mkdir()
    (run / "checkpoint").write_text('model_checkpoint_path: "ckpt-404"\n')


def dangling(run: Path) -> None:
    run.symlink_to(run.parent / "nowhere")


def looping(run: Path) -> None:
    run.symlink_to(run)


def foreign(run: Path) -> None:
    run.mkdir()
    for number in range(500):
        (run / f"image-{number:03}.png").touch()


def not_utf_8(run: Path) -> None:
    run.mkdir()
    (run / os.fsdecode(b"caf\xe9")).touch()


def nothing(run: Path) -> None:
    pass


def empty(run: Path) -> None:
    run.mkdir()


NOT_NAMED = "not named by 'checkpoint' yet: waits until its files have settled"


@linux
@virtual
@anyio_tests
@pytest.mark.parametrize(
    ("prepare", "reason"),
    [
        (nothing, "the directory is not there yet"),
        (dangling, "the directory is not there yet"),
        (looping, "the directory cannot be read (Too many levels of symbolic links: '{run}')"),
        (empty, "waiting for the first checkpoint"),
        (empty_state, f"waiting for ckpt-1: {NOT_NAMED}"),
        (unreadable_state, f"waiting for ckpt-1: {NOT_NAMED}"),
        (state_of_nothing, "its only entry is not recognised as a checkpoint ('checkpoint')"),
        (not_utf_8, "its only entry is not recognised as a checkpoint ('caf\\udce9')"),
        (
            foreign,
            "none of its 500 entries is recognised as a checkpoint "
            "('image-000.png', 'image-001.png', 'image-002.png')",
        ),
    ],
)
async def test_it_waits_and_says_for_what(
    tmp_path: Path, watcher: ManualWatcher, prepare: Callable[[Path], None], reason: str
) -> None:
    """
    And the checkpoint that comes after all is delivered.
    """
    run = tmp_path / "run"
    prepare(run)
    stream = follow(run, watcher=watcher)
    got = list[str]()

    async def read() -> None:
        with anyio.fail_after(SECONDS):
            while not got or not got[-1].endswith("-7"):
                got.append((await anext(stream)).path)

    async with anyio.create_task_group() as group:
        group.start_soon(read)
        with anyio.fail_after(SECONDS):
            await watcher.waiting()
        status = stream.status()
        if run.is_symlink():
            run.unlink()
        save(run, 7, "hf")
        watcher.touch()

    assert reason.format(run=run) == status.runs[0].waiting_for
    assert reason.format(run=run) in str(status)
    assert isinstance(status._repr_html_().encode(), bytes)
    # What the state file does not name is finished when it has settled.
    earlier = [f"{run}/ckpt-1"] * ("ckpt-1" in reason)
    assert [*earlier, f"{run}/checkpoint-7"] == got


@virtual
@anyio_tests
async def test_an_unreadable_directory_is_waited_for(
    run: Path, watcher: ManualWatcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    Until it can be read again; without an event, too.
    """
    save(run, 7, "hf")
    real = os.listdir
    readable = False

    def listdir(path: str) -> list[str]:
        if path == str(run) and not readable:
            raise PermissionError(13, "Permission denied", path)
        return real(path)

    monkeypatch.setattr(os, "listdir", listdir)
    stream = follow(run, watcher=watcher)
    got = list[int | None]()

    async def read() -> None:
        with anyio.fail_after(SECONDS):
            got.append((await anext(stream)).step)

    async with anyio.create_task_group() as group:
        group.start_soon(read)
        with anyio.fail_after(SECONDS):
            await watcher.waiting()
        waiting_for = stream.status().runs[0].waiting_for
        readable = True

    expected = f"the directory cannot be read (Permission denied: {str(run)!r})"
    assert (expected, [7]) == (waiting_for, got)


@anyio_tests
async def test_a_directory_that_is_deleted_and_comes_back(tmp_path: Path) -> None:
    """
    Never an end, never an endless silence, on the real watcher.
    """
    run = tmp_path / "run"
    stream = follow(run, layout="step_{step}/DONE")
    got = list[int | None]()

    async def read() -> None:
        with anyio.fail_after(SECONDS):
            async for checkpoint in stream:
                got.append(checkpoint.step)
                if len(got) == 3:
                    return

    def waits_for() -> str:
        return stream.status().runs[0].waiting_for

    async with anyio.create_task_group() as group:
        group.start_soon(read)
        await until(lambda: "the directory is not there yet" == waits_for())
        for step in (1, 2, 3):
            mark_done(run, step)
            await until(lambda: len(got) == step)  # noqa: B023
            if step < 3:
                await until(lambda: "waiting for the next checkpoint" == waits_for())
                shutil.rmtree(run)
                await until(lambda: "the directory is gone" == waits_for())

    assert [1, 2, 3] == got


@linux
@anyio_tests
async def test_paths_and_names_that_are_not_utf_8(tmp_path: Path) -> None:
    """
    Delivered with the path as `os.listdir` would give it.
    """
    run = tmp_path / os.fsdecode(b"caf\xe9")
    layout = os.fsdecode(b"\xff{step}")
    (run / os.fsdecode(b"\xff7")).mkdir(parents=True)
    (run / os.fsdecode(b"\xff7") / "DONE").touch()
    stream = follow(run, layout=layout + "/DONE")

    with anyio.fail_after(SECONDS):
        checkpoint = await anext(stream)

    assert (7, os.fsencode(run) + b"/\xff7") == (checkpoint.step, os.fsencode(checkpoint.path))
    assert isinstance(checkpoint._repr_html_().encode(), bytes)
    assert os.path.exists(checkpoint)


@anyio_tests
async def test_a_step_of_two_hundred_and_fifty_digits_is_delivered(run: Path) -> None:
    """
    In its place: after the smaller ones.
    """
    large = "7" * 250
    for step in (large, "10", "9"):
        (run / step).mkdir()
        (run / step / "DONE").touch()
    stream: CheckpointStream = follow(run, layout="{step}/DONE", timeout=0)

    with anyio.fail_after(SECONDS):
        assert [9, 10, int(large)] == [checkpoint.step async for checkpoint in stream]


def test_a_number_of_five_thousand_digits_is_no_crash(run: Path) -> None:
    """
    A name cannot be so long; a manifest could say such a thing.
    """
    save(run, 7, "hf")
    state = run / "checkpoint-7" / "trainer_state.json"
    state.write_text('{"global_step": ' + "7" * 5000 + "}")

    assert None is ckptstream.sync.latest_checkpoint(run)
