"""
`checkpoints_iterator`, `wait_for_new_checkpoint` and `latest_checkpoint`, as TensorFlow names them.
"""

from __future__ import annotations

import inspect
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import anyio
import pytest
from steering import virtual

import ckptstream
from ckptstream import checkpoints_iterator, follow, latest_checkpoint, wait_for_new_checkpoint
from ckptstream.testing import ManualWatcher, save

pytestmark = pytest.mark.anyio

LAYOUTS = ["hf", "orbax", "tensorflow"]

# From tensorflow/python/training/checkpoint_utils.py and checkpoint_management.py.
SIGNATURES: dict[str, dict[str, object]] = {
    "checkpoints_iterator": {
        "checkpoint_dir": inspect.Parameter.empty,
        "min_interval_secs": 0,
        "timeout": None,
        "timeout_fn": None,
    },
    "wait_for_new_checkpoint": {
        "checkpoint_dir": inspect.Parameter.empty,
        "last_checkpoint": None,
        "seconds_to_sleep": 1,
        "timeout": None,
    },
    "latest_checkpoint": {"checkpoint_dir": inspect.Parameter.empty, "latest_filename": None},
}


@pytest.mark.parametrize("name", SIGNATURES)
def test_names_order_and_defaults_are_tensorflows(name: str) -> None:
    """
    One changed import replaces `tf.train`; what is ours is by keyword only.
    """
    function: Callable[..., object] = getattr(ckptstream, name)
    parameters = inspect.signature(function).parameters.values()
    positional = [p for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD]
    keyword = {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}

    assert list(SIGNATURES[name].items()) == [(p.name, p.default) for p in positional]
    assert {"layout": "auto", "watcher": "auto"} == keyword


# checkpoints_iterator.


@pytest.mark.parametrize("layout", LAYOUTS)
async def test_the_iterator_gives_paths_as_text(
    run: Path, watcher: ManualWatcher, layout: str
) -> None:
    """
    The directory as it was given, plus the checkpoint's name.
    """
    path = save(run, 7, layout)

    found = [path async for path in checkpoints_iterator(str(run), 0, 0, watcher=watcher)]

    assert [path] == found
    assert [str] == [type(path) for path in found]


async def test_the_iterator_runs_on_every_loop(run: Path) -> None:
    """
    With the real watcher and threads.
    """
    path = save(run, 7)

    assert [path] == [path async for path in checkpoints_iterator(run, timeout=0)]


async def test_timeout_fn_without_a_timeout_is_accepted(run: Path, watcher: ManualWatcher) -> None:
    """
    It is never asked, as in TensorFlow; `follow` refuses it.
    """

    def ended() -> bool:
        raise AssertionError("asked")

    path = save(run, 7)
    async with checkpoints_iterator(run, timeout_fn=ended, watcher=watcher) as paths:
        assert path == await anext(paths)
    with pytest.raises(ValueError, match="is never asked without a timeout"):
        follow(run, timeout_fn=ended)


@virtual
async def test_the_iterators_positional_times(run: Path, watcher: ManualWatcher) -> None:
    """
    `min_interval_secs`, `timeout`, `timeout_fn`.
    """
    asked = list[float]()

    async def ended() -> bool:
        asked.append(anyio.current_time() - begin)
        return len(asked) == 2

    save(run, 1)
    begin = anyio.current_time()
    paths = checkpoints_iterator(run, 30, 10, ended, watcher=watcher)
    assert str(run / "checkpoint-1") == await anext(paths)
    save(run, 2)
    watcher.touch()
    assert str(run / "checkpoint-2") == await anext(paths)
    assert 30 == pytest.approx(anyio.current_time() - begin)

    assert [] == [path async for path in paths]
    assert pytest.approx([70, 80]) == asked


async def test_the_iterator_is_a_stream(run: Path, watcher: ManualWatcher) -> None:
    """
    It can be closed, woken, and asked for its status.
    """
    paths = checkpoints_iterator(run, watcher=watcher)
    save(run, 1)
    paths.wake()
    assert str(run / "checkpoint-1") == await anext(paths)
    await paths.aclose()
    with pytest.raises(StopAsyncIteration):
        await anext(paths)

    assert "it was closed" == paths.status().ended


# wait_for_new_checkpoint.


async def test_waiting_takes_any_if_there_was_none(run: Path, watcher: ManualWatcher) -> None:
    """
    The newest at once.
    """
    save(run, 1)
    path = save(run, 2)

    assert path == await wait_for_new_checkpoint(run, watcher=watcher)


async def test_waiting_is_for_another_one(run: Path, watcher: ManualWatcher) -> None:
    """
    The path seen last, as text or as a path, is not new.
    """
    last = save(run, 1)
    for seen in (last, Path(last)):
        found = list[str | None]()

        async def wait(seen: str | Path = seen, found: list[str | None] = found) -> None:
            found.append(await wait_for_new_checkpoint(run, seen, watcher=watcher))

        async with anyio.create_task_group() as group:
            group.start_soon(wait)
            await watcher.waiting()
            assert [] == found
            new = save(run, 2)
            watcher.touch()

        assert [new] == found
        shutil.rmtree(new)


async def test_waiting_tells_generations_of_a_checkpoint_apart(
    run: Path, watcher: ManualWatcher
) -> None:
    """
    Where a `Checkpoint` is given, the same path saved again is new.
    """
    path = save(run, 1)
    seen = await anext(follow(run, watcher=watcher))
    assert await wait_for_new_checkpoint(run, seen, 1, 0, watcher=watcher) is None
    save(run, 1)

    assert path == await wait_for_new_checkpoint(run, seen, 1, 0, watcher=watcher)
    assert await wait_for_new_checkpoint(run, path, 1, 0, watcher=watcher) is None


@virtual
async def test_waiting_ends_with_none(run: Path, watcher: ManualWatcher) -> None:
    """
    After the timeout, in a directory that is empty, seen already, or not there.
    """
    last = save(run, 1)
    for directory, seen in ((run, last), (run.with_name("none"), None)):
        begin = anyio.current_time()
        assert await wait_for_new_checkpoint(directory, seen, 1, 10, watcher=watcher) is None
        assert 10 == pytest.approx(anyio.current_time() - begin)


@virtual
async def test_waiting_ends_in_time_though_the_last_one_is_rewritten(
    run: Path, watcher: ManualWatcher
) -> None:
    """
    The same path saved again is not new, and does not prolong the wait.
    """
    last = save(run, 1)

    async def rewrite() -> None:
        for _ in range(10):
            await anyio.sleep(4)
            save(run, 1)
            watcher.touch()

    begin = anyio.current_time()
    async with anyio.create_task_group() as group:
        group.start_soon(rewrite)
        assert await wait_for_new_checkpoint(run, last, 1, 10, watcher=watcher) is None
        assert 10 == pytest.approx(anyio.current_time() - begin)
        group.cancel_scope.cancel()


@virtual
async def test_seconds_to_sleep_is_the_poll_interval(run: Path) -> None:
    """
    Where no event comes.
    """
    watcher = ManualWatcher(events=False)

    async def commit() -> None:
        await anyio.sleep(4)
        save(run, 1)

    begin = anyio.current_time()
    async with anyio.create_task_group() as group:
        group.start_soon(commit)
        await wait_for_new_checkpoint(run, None, 3, watcher=watcher)

    assert 6 == pytest.approx(anyio.current_time() - begin, rel=0.05)


# latest_checkpoint.


@pytest.mark.parametrize("layout", LAYOUTS)
async def test_the_latest_is_the_newest_finished(
    run: Path, watcher: ManualWatcher, layout: str
) -> None:
    """
    For every framework.
    """
    paths = [save(run, step, layout, earlier=range(1, step)) for step in (1, 2, 10)]

    assert paths[-1] == await latest_checkpoint(run, watcher=watcher)


async def test_the_latest_of_nothing_is_none(run: Path, watcher: ManualWatcher) -> None:
    """
    An empty directory, and none at all.
    """
    assert await latest_checkpoint(run, watcher=watcher) is None
    assert await latest_checkpoint(run / "none", watcher=watcher) is None


async def test_the_latest_runs_on_every_loop(run: Path) -> None:
    """
    With the real watcher and threads.
    """
    assert await latest_checkpoint(run) is None
    assert save(run, 7) == await latest_checkpoint(run)


@virtual
async def test_the_latest_includes_the_settle_interval(run: Path, watcher: ManualWatcher) -> None:
    """
    A checkpoint that only time proves finished is not overlooked.
    """
    path = save(run, 1, "ckpt_{step}.pt")

    assert path == await latest_checkpoint(run, layout="ckpt_{step}.pt", watcher=watcher)


async def test_the_state_file_may_have_another_name(run: Path, watcher: ManualWatcher) -> None:
    """
    TensorFlow's `latest_filename`.
    """
    for step in (1, 2):
        save(run, step, "tensorflow", earlier=range(1, step))
    names = "".join(f'all_model_checkpoint_paths: "ckpt-{step}"\n' for step in (1, 2))
    (run / "best").write_text(f'model_checkpoint_path: "ckpt-1"\n{names}')

    assert str(run / "ckpt-1") == await latest_checkpoint(run, "best", watcher=watcher)
    assert str(run / "ckpt-2") == await latest_checkpoint(run, watcher=watcher)


@pytest.mark.parametrize("call", [latest_checkpoint, wait_for_new_checkpoint])
async def test_a_file_where_a_directory_belongs_raises(
    tmp_path: Path, watcher: ManualWatcher, call: Callable[..., object]
) -> None:
    """
    As in `follow`.
    """
    file = tmp_path / "file"
    file.touch()
    waiting = call(file, watcher=watcher)
    assert inspect.isawaitable(waiting)
    with pytest.raises(NotADirectoryError):
        await waiting


async def test_paths_may_be_path_objects(run: Path, watcher: ManualWatcher) -> None:
    """
    The result begins with what was given, also when it is relative.
    """
    save(run, 1)
    relative = os.path.relpath(run)

    expected = os.path.join(relative, "checkpoint-1")
    assert expected == await latest_checkpoint(Path(relative), watcher=watcher)
