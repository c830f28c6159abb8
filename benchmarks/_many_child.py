"""The processes that `many_runs.py` and others start, and talk with in lines of JSON."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Mapping
from typing import Any

import _many_measures

Result = Mapping[str, Any]


class Child:
    """A process that measures, or commits."""

    def __init__(self, program: str = _many_measures.__file__, /, **spec: object) -> None:
        self._errors = os.memfd_create("errors")
        self._process = subprocess.Popen(
            [sys.executable, program, json.dumps(spec)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
        )

    def __enter__(self) -> Child:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()
        os.close(self._errors)

    def tell(self, **what: object) -> Result:
        """Say something, and hear the answer."""
        assert self._process.stdin is not None
        print(json.dumps(what), file=self._process.stdin, flush=True)
        return self.hear(60)

    def hear(self, timeout: float) -> Result:
        """The next line, and the last of its errors; or why there is none within *timeout*."""
        assert self._process.stdout is not None
        timer = threading.Timer(timeout, self._process.kill)
        timer.start()
        line = self._process.stdout.readline()
        timer.cancel()
        errors = os.pread(self._errors, 2**20, 0).decode(errors="replace").strip()
        said = errors.rpartition("\n")[2]
        answer: dict[str, Any] = {"trouble": f"has ended: {said}"} if not line else json.loads(line)
        return {"said": said, **answer}
