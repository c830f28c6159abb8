"""
Cells in a real Jupyter kernel.
"""

from __future__ import annotations

import asyncio
import itertools
import re
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

nbclient = pytest.importorskip("nbclient")
nbformat = pytest.importorskip("nbformat")
pytest.importorskip("ipykernel")

from ckptstream.testing import save  # noqa: E402

GUARD = 60  # seconds; only a kernel that hangs comes near

pytestmark = [
    pytest.mark.asyncio,
    # Of Jupyter's own: it is not under test.
    pytest.mark.filterwarnings("ignore::DeprecationWarning:jupyter_core"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning:jupyter_client"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning:zmq"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


class Notebook:
    """
    A kernel, and what its cells put out.
    """

    def __init__(self, client: Any) -> None:
        self._client = client

    async def run(self, source: str) -> str:
        """
        Execute a cell; its outputs as one text, errors included.
        """
        cell = nbformat.v4.new_code_cell(source)
        self._client.nb.cells.append(cell)
        index = len(self._client.nb.cells) - 1
        await self._client.async_execute_cell(cell, index)
        # A busy kernel tells in several parts of what was printed.
        parts = itertools.groupby(cell.outputs, lambda output: output.output_type == "stream")
        return "\n".join(("" if printed else "\n").join(map(text, each)) for printed, each in parts)

    async def interrupt(self, source: str, when: Path) -> str:
        """
        Execute a cell, and press the stop button when the file is there.
        """
        running = asyncio.create_task(self.run(source))
        while not when.exists() and not running.done():
            await asyncio.sleep(0)
        await self._client.km.interrupt_kernel()
        return await asyncio.wait_for(running, GUARD)

    async def insist(self, source: str, begun: Path) -> str:
        """
        Execute a cell, and again if the kernel lost it.

        After an interrupt one on Python 3.10 does so now and then: it is idle, and has begun
        nothing. A cell that was begun is not sent again: if that hangs, it is our fault.
        """
        for _ in range(3):
            running = asyncio.create_task(
                self.run(f"pathlib.Path({str(begun)!r}).touch()\n{source}")
            )
            await asyncio.wait([running], timeout=GUARD / 4)
            if running.done() or begun.exists():
                return await running
            running.cancel()
            with suppress(asyncio.CancelledError, nbclient.exceptions.DeadKernelError):
                await running
        raise AssertionError("the kernel begins nothing")


def text(output: Any) -> str:
    match output.output_type:
        case "stream":
            return str(output.text)
        case "error":
            return f"{output.ename}: {output.evalue}"
        case _:
            return "\n".join(str(value) for value in output.data.values())


@asynccontextmanager
async def kernel(run: Path) -> AsyncGenerator[Notebook]:
    manager = nbclient.NotebookClient(
        nbformat.v4.new_notebook(),
        timeout=GUARD,
        allow_errors=True,
        kernel_name="python3",
        resources={"metadata": {"path": str(run.parent)}},
    )
    manager.create_kernel_manager()
    manager.km.kernel_cmd = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    async with manager.async_setup_kernel():
        notebook = Notebook(manager)
        await notebook.run(
            "import logging, pathlib\n"
            "import ckptstream, ckptstream.sync\n"
            f"run = {str(run)!r}\n"
            "class Tell(logging.Handler):\n"
            "    def emit(self, record):\n"
            "        if 'waiting for the first checkpoint' in record.getMessage():\n"
            "            pathlib.Path(run + '.waits').touch()\n"
            "logging.getLogger('ckptstream').addHandler(Tell())\n"
            "logging.getLogger('ckptstream').setLevel(logging.INFO)\n"
            # A kernel that awaits notices a signal when something else wakes its loop.
            "import asyncio\n"
            "async def tick():\n"
            "    while True:\n"
            "        await asyncio.sleep(0.05)\n"
            "ticking = asyncio.get_running_loop().create_task(tick())\n"
        )
        yield notebook


async def test_cell_that_asks_for_the_next_one_is_run_again(run: Path) -> None:
    """
    Each time the cell is run it shows the next checkpoint, as a table; at the end, nothing.
    """
    save(run, 1)
    save(run, 2)
    async with kernel(run) as notebook:
        await notebook.run("stream = ckptstream.follow(run, timeout=0)")
        shown = [await notebook.run("await anext(stream, None)") for _ in range(4)]

    assert [1, 2] == [int(step) for step in re.findall(r"checkpoint-(\d)</td>", "".join(shown))]
    assert "<td><b>step</b></td><td>1</td>" in shown[0]
    assert "Checkpoint(path=" in shown[0]
    assert ["", ""] == shown[2:]


async def test_async_for_at_top_level(run: Path) -> None:
    """
    A cell may iterate, and the status is a table.
    """
    save(run, 1)
    save(run, 2)
    async with kernel(run) as notebook:
        output = await notebook.run(
            "stream = ckptstream.follow(run, until_step=2)\n"
            "async for checkpoint in stream:\n"
            "    print('step', checkpoint.step)\n"
        )
        status = await notebook.run("stream.status()")

    assert "step 1\nstep 2\n" == output
    assert "<table>" in status
    assert "checkpoint-2</td>" in status


async def test_blocking_twin_in_a_cell(run: Path) -> None:
    """
    It works although the kernel's event loop runs.
    """
    save(run, 1)
    async with kernel(run) as notebook:
        output = await notebook.run(
            "for checkpoint in ckptstream.sync.follow(run, timeout=0):\n"
            "    print('step', checkpoint.step, flush=True)\n"
            "print(ckptstream.sync.latest_checkpoint(run) == checkpoint.path)\n"
        )

    assert "step 1\nTrue\n" == output


@pytest.mark.parametrize("call", ["next(stream)", "await anext(stream)"])
async def test_stop_button_while_a_cell_waits(run: Path, call: str) -> None:
    """
    The cell ends, the kernel lives, and the stream goes on in the next cell.
    """
    module = "ckptstream" if "await" in call else "ckptstream.sync"
    async with kernel(run) as notebook:
        await notebook.run(f"stream = {module}.follow(run)")
        stopped = await notebook.interrupt(call, run.with_name("run.waits"))
        save(run, 7)
        found = await notebook.insist(f"({call}).step", run.with_name("run.begun"))
        threads = await notebook.run(
            "import threading\n"
            "del stream\n"
            "[t.name for t in threading.enumerate() if t.name == 'ckptstream-sync']"
        )

    assert stopped.startswith(("KeyboardInterrupt", "CancelledError"))
    assert "7" == found
    assert "[]" == threads
