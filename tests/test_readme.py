"""Every example of the README and of the docstrings is executed, and what it shows is true."""

from __future__ import annotations

import ast
import inspect
import json
import os
import re
import shutil
import subprocess
import sys
import textwrap
import types
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote_plus

import anyio
import anyio.lowlevel
import commands
import nbformat
import pytest
from buckets import Server, put
from examples import BLOCK, CONSOLE, README, blocks, console
from nbclient import NotebookClient
from observing import until, wait_until

import ckptstream
import ckptstream.sync
from ckptstream.testing import apply, operations, save


async def execute(code: str, **names: Any) -> dict[str, Any]:
    """Run code in which `await` may stand at the top, as in a notebook."""
    namespace: dict[str, Any] = {"ckptstream": ckptstream, "anyio": anyio, **names}
    compiled = compile(code, "README.md", "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    result = types.FunctionType(compiled, namespace)()
    if inspect.isawaitable(result):
        await result
    return namespace


def run_script(code: str, directory: Path, then: Callable[[], None]) -> str:
    """What a script prints that was started before *then*."""
    process = subprocess.Popen(
        [sys.executable, "-c", code], cwd=directory, stdout=subprocess.PIPE, text=True
    )
    try:
        then()
        return process.communicate(timeout=60)[0]
    finally:
        process.kill()
        process.wait()


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory with the run of the examples."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs" / "7b").mkdir(parents=True)
    return tmp_path


def test_every_python_example_has_a_name_that_a_test_executes() -> None:
    """No example in the README goes untested."""
    text, here = README.read_text(), Path(__file__)
    tests = here.read_text() + (here.parent / "test_server.py").read_text()

    assert text.count("```python\n") == len(BLOCK.findall(text))
    assert [] == [m["name"] for m in BLOCK.finditer(text) if f'blocks("{m["name"]}")' not in tests]
    typed = {m["name"] for m in CONSOLE.finditer(text)}
    assert [] == [name for name in typed if f'console("{name}")' not in tests]
    assert text.count("$ ckptstream ") == len(typed)


def test_first_screen(home: Path) -> None:
    """The first example prints what the README shows."""
    [(code, output)] = blocks("first")

    def train() -> None:
        for step in (100, 200, 300):
            save(home / "runs/7b", step, "hf")

    assert output == run_script(code, home, train)


@pytest.mark.anyio
async def test_a_sweep_and_a_run(home: Path) -> None:
    """One stream gives what is finished in all of them."""
    [(code, _)] = blocks("sweep")
    directories = ["runs/7b", "sweeps/a/checkpoints", "sweeps/b/checkpoints"]
    for directory in directories:
        save(home / directory, 100)
    printed = list[str]()
    code = code.replace("timeout=3600", "timeout=0")

    await execute(code, print=printed.append)

    assert [f"{directory}: step 100" for directory in directories] == sorted(printed)


Shape = Callable[[Callable[[str], Awaitable[float]]], types.SimpleNamespace]


@pytest.fixture
def shape() -> Shape:
    """Gives the shape of a server with a function `evaluate`, as in a process that begins."""
    [(code, _)] = blocks("shape")
    imports = (
        "from contextlib import asynccontextmanager\nimport anyio, ckptstream\n"
        "from starlette.applications import Starlette\nfrom starlette.routing import Route\n"
        "from starlette.responses import JSONResponse\n"
    )

    def begin(evaluate: Callable[[str], Awaitable[float]]) -> types.SimpleNamespace:
        names: dict[str, Any] = {"evaluate": evaluate}
        exec(imports + code, names)
        return types.SimpleNamespace(**names)

    return begin


@pytest.mark.anyio
async def test_the_shape_of_a_server(home: Path, shape: Shape) -> None:
    """The application answers from what was evaluated, and its end ends the tasks."""

    async def evaluate(path: str) -> float:
        return 0.5

    server = shape(evaluate)
    save(home / "sweeps/a/checkpoints", 7)
    async with server.app.router.lifespan_context(server.app):
        await until(lambda: server.scores)
        answer = await server.runs(None)

    assert {"sweeps/a/checkpoints/checkpoint-7": 0.5} == json.loads(answer.body)


@pytest.mark.anyio
async def test_what_the_server_was_at_comes_again_after_a_restart(home: Path, shape: Shape) -> None:
    """It was handed to another task and is not done, though newer ones are."""
    run = "sweeps/a/checkpoints"
    for step in (1, 2, 3):
        save(home / run, step)

    async def scored(count: int, hung: str) -> set[str]:
        async def evaluate(path: str) -> float:
            if path.endswith(hung):
                await anyio.sleep_forever()
            return 0.5

        server = shape(evaluate)
        async with server.app.router.lifespan_context(server.app):
            await until(lambda: len(server.scores) == count)
        return {path.removeprefix(f"{run}/") for path in server.scores}

    assert {"checkpoint-2", "checkpoint-3"} == await scored(2, hung="-1")
    assert {"checkpoint-1"} == await scored(1, hung="none")
    async with ckptstream.follow("sweeps/*/checkpoints", cursor="evals.db", timeout=0) as stream:
        assert [] == [ckpt async for ckpt in stream]


def test_three_runs_in_one_task_group(home: Path) -> None:
    """Three runs are followed to their ends in one event loop."""
    [(code, _)] = blocks("three-runs")
    runs = ["runs/large", "runs/medium", "runs/small"]

    def train() -> None:
        for step in (100, 200):
            for run in runs:
                save(home / run, step, "orbax")

    lines = run_script(code, home, train).splitlines()
    assert [f"{run}: step {step}" for run in runs for step in (100, 200)] == sorted(lines)


def test_notebook_cells(home: Path) -> None:
    """The cells show the newest checkpoint in a real kernel."""
    save(home / "runs/7b", 100, "hf")
    cells = ["import ckptstream", *(code for code, _ in blocks("notebook"))]
    new: Any = nbformat.v4
    notebook = new.new_notebook(cells=[new.new_code_cell(code) for code in cells])

    NotebookClient(notebook, timeout=60, resources={"metadata": {"path": str(home)}}).execute()

    shown = notebook.cells[-1].outputs[0]["data"]
    assert "runs/7b/checkpoint-100" in shown["text/html"]
    assert "step=100" in shown["text/plain"]


@pytest.mark.anyio
async def test_how_it_ends(home: Path) -> None:
    """With `timeout_fn` the stream ends after the last checkpoint."""
    [(code, _)] = blocks("ends")
    seen = list[str]()

    class Scheduler:
        async def job_state(self, job: str) -> str:
            return "COMPLETED"

    async def evaluate(path: str) -> None:
        seen.append(path)

    save(home / "runs/7b", 100, "hf")
    await execute(
        code.replace("timeout=600", "timeout=0"), scheduler=Scheduler(), evaluate=evaluate
    )

    assert ["runs/7b/checkpoint-100"] == seen


@pytest.mark.anyio
async def test_restart(home: Path) -> None:
    """What was done does not come again, what was not does."""
    [(code, _)] = blocks("restart")
    code, seen = code.replace("timeout=3600", "timeout=0"), list[str]()

    async def evaluate(path: str) -> None:
        seen.append(path)
        if len(seen) == 2:
            raise Enough

    for step in (1, 2, 3):
        save(home / "runs/7b", step, "hf")
    with pytest.raises(Enough):
        await execute(code, evaluate=evaluate)
    await execute(code, evaluate=evaluate)
    await execute(code, evaluate=evaluate)

    assert [f"runs/7b/checkpoint-{step}" for step in (1, 2, 2, 3)] == seen


@pytest.mark.anyio
async def test_done_explicitly(home: Path) -> None:
    """Each task says of its checkpoint what became of it."""
    [(code, _)] = blocks("explicit")
    code, seen = code.replace('"timeout": 3600', '"timeout": 0'), list[str]()

    async def evaluate(path: str) -> None:
        seen.append(path)
        if path.endswith("2") and len(seen) == 2:
            raise RuntimeError("out of memory")

    for step in (1, 2):
        save(home / "sweeps/a/checkpoints", step, "hf")
    for _ in range(3):
        await execute(code, evaluate=evaluate)

    assert [f"sweeps/a/checkpoints/checkpoint-{step}" for step in (1, 2, 2)] == seen


@pytest.mark.anyio
async def test_for_each(home: Path) -> None:
    """A plain function is called for each checkpoint, once."""
    [(code, _)] = blocks("for-each")
    code, seen = code.replace("timeout=3600", "timeout=0"), list[str]()
    for step in (1, 2):
        save(home / "sweeps/a/checkpoints", step, "hf")
    for _ in range(2):
        await execute(code, evaluate=lambda ckpt: seen.append(str(ckpt)))

    assert [f"sweeps/a/checkpoints/checkpoint-{step}" for step in (1, 2)] == sorted(seen)


@pytest.mark.anyio
async def test_options(home: Path) -> None:
    """Every option that is shown is accepted."""
    [(code, _)] = blocks("options")

    await execute(code)


@pytest.mark.anyio
async def test_status(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A waiting stream says in words what it waits for."""
    [(code, output)] = blocks("status")
    run = home / "runs/7b"
    save(run, 200, "hf")
    for operation in operations(300, "hf", earlier=[200]):
        if operation.path.endswith("trainer_state.json"):
            break
        apply(operation, run)
    stream = ckptstream.follow("runs/7b")
    await anext(stream)

    await execute(code, stream=stream)

    def comparable(text: str) -> str:
        return re.sub(r"\w+ is local, seen [0-9.]+ s", "LOCAL", text)

    assert comparable(output) == comparable(capsys.readouterr().out)


@pytest.mark.asyncio
async def test_reading_with_aiofiles(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A checkpoint's files are there to be read."""
    [(code, _)] = blocks("aiofiles")
    save(home / "runs/7b", 100, "hf")

    namespace = await execute(code)
    await namespace["print_losses"]("runs/7b")

    assert "100 100\n" == capsys.readouterr().out


@pytest.mark.anyio
async def test_retention(
    home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is deleted while it is read stays readable, and what was deleted before is said."""
    [(code, _)] = blocks("retention")
    run = home / "runs/7b"
    for step in (100, 200, 300):
        save(run, step, "hf")
    seen = list[int]()

    def evaluate(path: str) -> None:
        for directory in run.glob("checkpoint-[12]00"):
            shutil.rmtree(directory)  # The trainer keeps one, and has just saved it.
        with open(f"{path}/trainer_state.json") as file:
            seen.append(json.load(file)["global_step"])

    namespace = await execute(code.replace("timeout=3600", "timeout=0"), evaluate=evaluate)
    known = [ckpt async for ckpt in ckptstream.follow(run, timeout=0)]
    monkeypatch.setattr(ckptstream, "follow", lambda *_, **__: each(known))
    await namespace["evaluate_all"](run)

    assert [100, 300] == seen
    assert "checkpoint-200' is gone, so it cannot be pinned" in capsys.readouterr().out
    assert ["7b"] == os.listdir(home / "runs")


@pytest.mark.anyio
async def test_pins(home: Path) -> None:
    """What is deleted while another one is evaluated comes all the same."""
    [(code, _)] = blocks("pins")
    run = home / "runs/7b"
    for step in (100, 200, 300):
        save(run, step, "hf")
    seen = list[int]()

    def evaluate(path: str) -> None:
        if not seen:
            finished = ".ckptstream-pins/*/checkpoint-300/trainer_state.json"
            wait_until(lambda: any((home / "runs").glob(finished)))  # Threads make them in order.
            for directory in run.glob("checkpoint-[12]00"):
                shutil.rmtree(directory)
        with open(f"{path}/trainer_state.json") as file:
            seen.append(json.load(file)["global_step"])

    await execute(code.replace("timeout=3600", "timeout=1"), evaluate=evaluate)

    assert [100, 200, 300] == seen
    assert ["7b"] == os.listdir(home / "runs")


async def each(checkpoints: list[ckptstream.Checkpoint]) -> AsyncIterator[ckptstream.Checkpoint]:
    """What a stream delivers that has looked before the trainer deleted."""
    for checkpoint in checkpoints:
        yield checkpoint


@pytest.mark.parametrize(
    ("name", "layout", "expected"),
    [("tensorflow", "tensorflow", "runs/7b/ckpt-2"), ("orbax", "orbax", "2")],
)
def test_coming_from_another_iterator(
    home: Path, capsys: pytest.CaptureFixture[str], name: str, layout: str, expected: str
) -> None:
    """One changed import, or `ckpt.step`, and the loop goes on as before."""
    [(code, _)] = blocks("tensorflow") if name == "tensorflow" else blocks("orbax")
    save(home / "runs/7b", 1, layout)
    save(home / "runs/7b", 2, layout)

    exec(code, {"ckptstream": ckptstream})

    assert f"{expected}\n" == capsys.readouterr().out


@pytest.mark.anyio
async def test_testing_an_evaluator(tmp_path: Path) -> None:
    """The test that users are shown passes."""
    [(code, _)] = blocks("testing")

    namespace = await execute(code)
    test: Callable[[Path], Awaitable[None]] = namespace["test_my_evaluator"]
    await test(tmp_path)


EVALUATE = """
import sys
print(sys.argv[1:])
"""


def typed(command: str, home: Path) -> tuple[str, int]:
    """What a terminal shows of a command, and its exit code."""
    (home / "eval.py").write_text(EVALUATE)
    command = command.replace("'python ", f"'{sys.executable} ")
    command = command.replace(" python eval", f" {sys.executable} eval")
    done = commands.shell(command, home)
    return done.stdout + done.stderr, done.returncode


def test_lines_of_the_command(home: Path) -> None:
    """Each path is an argument of the next command."""
    command, output = console("cli-lines")
    for step in (100, 200):
        save(home / "runs/7b", step)

    assert (output, 0) == typed(command, home)


def test_commands_of_the_command(home: Path) -> None:
    """Each checkpoint is evaluated, once, and what that writes is kept."""
    command, output = console("cli-exec")
    assert "" == output
    command = command.replace("--timeout 3600", "--timeout 0")
    for run in "ab":
        save(home / f"sweeps/{run}/checkpoints", 100)
    paths = [f"sweeps/{run}/checkpoints/checkpoint-100" for run in "ab"]
    first, code = typed(command, home)
    second, _ = typed(command, home)

    assert (0, paths) == (code, sorted(line for line in first.splitlines() if "sweeps" in line))
    assert "sweeps" not in second
    written = sorted(path.read_text() for path in (home / "logs").glob("*.log"))
    assert [f"{[path, '--step', '100']}\n" for path in paths] == written


def test_shell_of_the_command(home: Path) -> None:
    """Each command has a file of its own."""
    command, output = console("cli-shell")
    for step in (100, 200):
        save(home / "runs/7b", step)

    assert (output, 0) == typed(command, home)
    written = {path.read_text() for path in home.glob("runs-7b-checkpoint-*.txt")}
    assert {f"['runs/7b/checkpoint-{step}']\n" for step in (100, 200)} == written


def test_listing_of_the_command(home: Path) -> None:
    """What is done, what is set aside, and what is not finished."""
    command, output = console("cli-ls")
    run = home / "runs/7b"
    for step in (100, 200):
        save(run, step, "hf")
    evaluate = "--exec 'sh -c \"test {step} -ne 200\"'"
    typed(f"ckptstream follow runs/7b --timeout 0 --cursor evals.db {evaluate}\n", home)
    for operation in operations(300, "hf", earlier=[100, 200]):
        if operation.path.endswith("trainer_state.json"):
            break
        apply(operation, run)

    def comparable(text: str) -> str:
        return re.sub(r"[0-9.]+ kB  \d+ (s|min) +", "SIZE  AGE  ", text)

    shown, code = typed(command, home)
    assert (comparable(output), 0) == (comparable(shown), code)


class Enough(Exception):
    """Ends an example that would follow for ever."""


@pytest.mark.anyio
@pytest.mark.parametrize("documented", [ckptstream, ckptstream.follow], ids=["package", "follow"])
async def test_docstring_example(home: Path, documented: object) -> None:
    """The examples in the docstrings run."""
    docstring = inspect.getdoc(documented) or ""
    [example] = re.findall(r"(?:^    .*\n)+", docstring + "\n", re.MULTILINE)[:1]
    seen = list[str]()

    def evaluate(path: str) -> None:
        seen.append(path)
        raise Enough

    save(home / "runs/7b", 100, "hf")
    with pytest.raises(Enough):
        await execute(textwrap.dedent(example), evaluate=evaluate)

    assert ["runs/7b/checkpoint-100"] == seen


@pytest.mark.anyio
async def test_docstring_example_of_pin(home: Path) -> None:
    """What is evaluated is the pinned checkpoint."""
    [example] = re.findall(r"(?:^    .*\n)+", inspect.getdoc(ckptstream.pin) or "", re.MULTILINE)[
        :1
    ]
    save(home / "runs/7b", 100, "hf")
    seen = list[str]()
    ckpt = await anext(ckptstream.follow("runs/7b"))

    await execute(textwrap.dedent(example), evaluate=seen.append, ckpt=ckpt)

    assert [".ckptstream-pins"] == [Path(path).parts[-3] for path in seen]


UPLOADED = ("config.json", "model.bin", "trainer_state.json")


@pytest.fixture
def ckpts(server: Server, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The bucket of the examples, with a run in it, and what a user would have set for it."""
    for key, value in server.environment.items():
        monkeypatch.setenv(key, value)
    server.make_bucket("ckpts")
    store = server.store("ckpts")
    upload(store, 100)
    return store


def upload(store: Any, step: int) -> None:
    """As Hugging Face's Trainer leaves it, the marker last."""
    checkpoint = f"runs/7b/checkpoint-{step}"
    for name in UPLOADED:
        put(store, f"{checkpoint}/{name}", json.dumps({"global_step": step}).encode())


@pytest.mark.anyio
async def test_a_run_in_a_bucket(ckpts: Any) -> None:
    """What it gives, and how its files are read."""
    [(code, _)] = blocks("bucket")
    printed = list[tuple[object, ...]]()

    await execute(code.replace("timeout=3600", "timeout=0"), print=lambda *it: printed.append(it))

    assert [(100, "s3://ckpts/runs/7b/checkpoint-100", 100)] == printed


@pytest.mark.anyio
async def test_a_message_wakes_a_stream(ckpts: Any, server: Server) -> None:
    """What comes is known at once, though the bucket is asked once an hour."""
    boto3 = pytest.importorskip("boto3")
    [(code, _)] = blocks("wake")
    names = await execute(code.replace("WaitTimeSeconds=20", "WaitTimeSeconds=1"))
    sqs = boto3.client("sqs", endpoint_url=server.endpoint, region_name="us-east-1")
    # One of its own: whoever was cancelled while it received may still take a message.
    queue = sqs.create_queue(QueueName=uuid.uuid4().hex)["QueueUrl"]
    stream = ckptstream.follow("s3://ckpts/runs/7b", poll_interval=3600)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(names["wake_on_events"], stream, sqs, queue)
        first = await anext(stream)
        upload(ckpts, 200)
        key = quote_plus("runs/7b/checkpoint-200/trainer_state.json")
        event = {"Records": [{"s3": {"bucket": {"name": "ckpts"}, "object": {"key": key}}}]}
        sqs.send_message(QueueUrl=queue, MessageBody=json.dumps(event))
        second = await anext(stream)
        tasks.cancel_scope.cancel()
    ckpts.delete([f"runs/7b/checkpoint-200/{name}" for name in UPLOADED])

    assert (100, 200) == (first.step, second.step)


@pytest.mark.anyio
async def test_a_profile_of_aws(
    ckpts: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its credentials are taken, and none of the environment."""
    [(code, _)] = blocks("profile")
    keys = "[training]\naws_access_key_id=profile\naws_secret_access_key=secret\nregion=us-east-1\n"
    (tmp_path / "credentials").write_text(keys)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    for key in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(key)
    printed = list[tuple[object, ...]]()

    await execute(code.replace("timeout=3600", "timeout=0"), print=lambda *it: printed.append(it))

    assert [(100, "s3://ckpts/runs/7b/checkpoint-100")] == printed


def test_what_the_command_says_of_a_bucket(ckpts: Any, home: Path) -> None:
    """But for the server's name, the time that it took, and how much lies there."""
    command, output = console("cli-doctor")

    def comparable(text: str) -> str:
        return re.sub(r"endpoint: \S+|\d+ ms|requests: \d+", "", text)

    shown, code = typed(command, home)
    assert (comparable(output), 0) == (comparable(shown), code)
