"""
The command line with runs in object stores.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import socket
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from buckets import Proxy, Server, put
from commands import ckptstream, shell, started
from terminals import terminal
from test_cli_completion import complete

pytest.importorskip("obstore")

QUICK = ("--poll-interval", "0.05")
SECRET = "what-only-the-url-says"
OPTIONS = f"?access_key_id=test&secret_access_key={SECRET}&region=us-east-1"
RUN = "runs/7b"
PART = b"x" * 1000


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """
    Where the commands are started.
    """
    return tmp_path


@pytest.fixture
def store(server: Server, bucket: str) -> Any:
    """
    What is in it.
    """
    return server.store(bucket)


@pytest.fixture
def url(bucket: str) -> str:
    """
    A run in it.
    """
    return f"s3://{bucket}/{RUN}"


@pytest.fixture
def decoy(home: Path, url: str) -> Path:
    """
    What a URL means to whoever takes it for a path.
    """
    path = home / url / "checkpoint-1"
    path.mkdir(parents=True)
    (path / "model.safetensors").write_bytes(b"x" * 99_000)
    os.utime(path, (1e9, 1e9))
    return path


def begin(store: Any, step: int, run: str = RUN) -> None:
    """
    Upload the weights.
    """
    put(store, f"{run}/checkpoint-{step}/model.safetensors", PART)


def finish(store: Any, *steps: int, run: str = RUN) -> None:
    """
    Upload checkpoints, what proves them last.
    """
    for step in steps:
        begin(store, step, run)
        put(store, f"{run}/checkpoint-{step}/trainer_state.json", b'{"global_step": %d}' % step)


def files(directory: Path) -> list[str]:
    return sorted(str(path.relative_to(directory)) for path in directory.rglob("*"))


# follow


def test_each_path_is_a_line(home: Path, store: Any, url: str) -> None:
    """
    A URL, and nothing is written to the disk.
    """
    finish(store, 9, 10)
    done = ckptstream("follow", url, "--timeout", "0", home=home)

    assert [f"{url}/checkpoint-{step}" for step in (9, 10)] == done.stdout.splitlines()
    assert (0, "ckptstream: ended: the timeout has expired: 2 done\n") == (
        done.returncode,
        done.stderr,
    )
    assert [] == files(home)


def test_what_is_uploaded_later(home: Path, store: Any, url: str) -> None:
    """
    A line as soon as its proof is there; the step ends it.
    """
    with started("follow", url, *QUICK, "--until-step", "2", home=home) as follower:
        for step in (1, 2):
            finish(store, step)
            assert f"{url}/checkpoint-{step}" == follower.line()

        assert 0 == follower.end()[0]


def test_a_pattern_as_json(home: Path, bucket: str, store: Any) -> None:
    """
    Each prefix that matches is a run.
    """
    finish(store, 1, run="sweeps/a")
    finish(store, 2, run="sweeps/b")
    pattern = f"s3://{bucket}/sweeps/*"
    done = ckptstream("follow", pattern, "--timeout", "0", "--json", home=home)

    found = {each["step"]: each for each in map(json.loads, done.stdout.splitlines())}
    assert [f"s3://{bucket}/sweeps/{name}" for name in "ab"] == [found[n]["run"] for n in (1, 2)]
    assert found[1]["identifier"].startswith("sweeps-a-checkpoint-1-")
    assert f"s3://{bucket}/sweeps/a/checkpoint-1" == found[1]["path"]


def test_a_restart_goes_on(home: Path, store: Any, url: str) -> None:
    """
    Wherever it is started: a URL is the same from everywhere.
    """
    cursor = str(home / "evals.db")
    call = ("follow", url, "--timeout", "0", "--json", "--cursor", cursor)
    (home / "elsewhere").mkdir()
    finish(store, 1, 2)
    first = ckptstream(*call, home=home)
    finish(store, 3)
    second = ckptstream(*call, home=home / "elsewhere")

    steps = [[json.loads(line)["step"] for line in d.stdout.splitlines()] for d in (first, second)]
    assert [[1, 2], [3]] == steps


def test_a_command_for_each(home: Path, store: Any, url: str) -> None:
    """
    With URLs, and with names for its files that are the same wherever it is started.
    """
    finish(store, 1)
    names = list[list[str]]()
    for directory in (home / "a", home / "b"):
        directory.mkdir()
        call = ("--timeout", "0", "--output", "logs", "--exec", "echo {path} {run} {identifier}")
        done = ckptstream("follow", f"{url}{OPTIONS}", *call, home=directory)
        names.append(files(directory / "logs"))
        [log] = names[-1]

        assert (0, f"{url}/checkpoint-1\n") == (done.returncode, done.stdout)
        said = f"{url}/checkpoint-1 {url} {log.removesuffix('.log')}\n"
        assert said == (directory / "logs" / log).read_text()
    assert names[0] == names[1]


def test_a_failed_command_is_set_aside(home: Path, store: Any, url: str) -> None:
    """
    `ls` says so.
    """
    finish(store, 1, 2)
    call = ("--timeout", "0", "--cursor", "evals.db", "--shell", "--exec", "test {step} -eq 1")
    done = ckptstream("follow", url, *call, home=home)
    listed = ckptstream("ls", url, "--cursor", "evals.db", home=home)

    assert 1 == done.returncode
    assert ["done", "set aside after 1 attempt: exit code 1"] == [
        line.split("  ")[-1] for line in listed.stdout.splitlines()
    ]


def test_a_server_that_is_down(home: Path, store: Any, url: str, proxy: Proxy) -> None:
    """
    It is said once, and waited for.
    """
    finish(store, 1)
    proxy.status = 503
    with started("follow", url, *QUICK, home=home) as follower:
        assert "503 Service Unavailable" in follower.line("err")
        proxy.status = None
        assert f"{url}/checkpoint-1" == follower.line()
        follower.send(signal.SIGTERM)

        assert 143 == follower.end()[0]


def test_ctrl_c_while_the_server_is_silent(home: Path, bucket: str) -> None:
    """
    It leaves at once, though the call goes on.
    """
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"s3://{bucket}/{RUN}?endpoint=http://127.0.0.1:{silent.getsockname()[1]}"
        with started("follow", url, home=home) as follower:
            assert "does not answer" in follower.line("err")
            began = time.monotonic()
            follower.send(signal.SIGINT)
            code, _, _ = follower.end()

    assert 130 == code
    assert time.monotonic() - began < 3


# The live view.


def test_a_row_for_each_run(home: Path, store: Any, url: str, decoy: Path) -> None:
    """
    The age is the object's, not that of a path which looks like the URL; and the bar.
    """
    finish(store, 1)
    call = ("follow", f"{url}{OPTIONS}", *QUICK, "--until-step", "4")
    with terminal(*call, home=home, size=(120, 24)) as view:
        view.wait(lambda text: "25% of the way to step 4" in text)
        time.sleep(1)  # Objects have times in whole seconds.
        finish(store, 2)
        text = view.wait(lambda text: "50% of the way to step 4" in text)
        [row] = [line for line in text.splitlines() if line.startswith(f"{url} ")]

        assert re.search(r" 2 +\d+ s +█ \d+ s +waiting for the next checkpoint", row)
        begin(store, 3)
        view.wait(lambda text: "checkpoint-3: no trainer_state.json" in text)
        finish(store, 3, 4)
        assert 0 == view.end()
        assert SECRET.encode() not in view.raw
        assert f"{url}/checkpoint-4  step 4  hf" in view.text


# ls


def test_what_is_there(home: Path, store: Any, url: str, decoy: Path) -> None:
    """
    Sizes and ages of the objects, not of what lies on the disk.
    """
    finish(store, 1)
    begin(store, 2)
    put(store, f"{RUN}/checkpoint-2/deep/er.bin", PART)
    done = ckptstream("ls", f"{url}{OPTIONS}", home=home)

    lines = [re.sub(r"\d+ s  ", "AGE  ", line) for line in done.stdout.splitlines()]
    assert ("", 0) == (done.stderr, done.returncode)
    assert [
        f"{url}/checkpoint-1  1  hf  1.0 kB  AGE  finished",
        f"{url}/checkpoint-2  2  hf  2.0 kB  AGE  unfinished: no trainer_state.json",
    ] == lines


@pytest.mark.parametrize("count", [3, 30])
def test_it_asks_for_no_object(home: Path, store: Any, url: str, proxy: Proxy, count: int) -> None:
    """
    Few listings, and sizes from those.
    """
    for step in range(count):
        for name in ("model.bin", "deep/optimizer.bin", "DONE"):
            put(store, f"{RUN}/step_{step}/{name}", PART)
    call = ("ls", url, "--json", "--layout", "step_{step}/DONE")
    done = ckptstream(*call, home=home)

    assert [3000] * count == [json.loads(line)["size"] for line in done.stdout.splitlines()]
    assert all(asked.startswith("GET ") and "list-type=2" in asked for asked in proxy.asked)
    # For what is finished and for the sizes: the run, each of a few checkpoints and `deep` in it.
    assert len(proxy.asked) <= 2 * (1 + 2 * min(count, 4))


def test_several_files_are_one_checkpoint(home: Path, store: Any, url: str) -> None:
    """
    TensorFlow's: the size is that of all of them.
    """
    for name in ("model.ckpt-5.data-00000-of-00001", "model.ckpt-5.index"):
        put(store, f"{RUN}/{name}", PART)
    done = ckptstream("ls", url, "--json", home=home)

    [found] = map(json.loads, done.stdout.splitlines())
    assert (f"{url}/model.ckpt-5", 2000) == (found["path"], found["size"])


def test_a_run_that_is_not_there(home: Path, url: str) -> None:
    """
    One line, and exit code 2.
    """
    done = ckptstream("ls", f"{url}{OPTIONS}", home=home)

    assert (2, "", f"ckptstream: {url}: the prefix is not there\n") == (
        done.returncode,
        done.stdout,
        done.stderr,
    )


# doctor


def test_where_a_run_lies(home: Path, server: Server, store: Any, bucket: str, url: str) -> None:
    """
    Nothing is written there, also where it is to be tried out; and inotify has no part in it.
    """
    finish(store, 1)
    before = store.list().collect()
    done = ckptstream("doctor", f"{url}{OPTIONS}", "--probe", home=home)
    text = re.sub(r"after \d+ ms", "after MS", re.sub(r"requests: \d+", "requests: N", done.stdout))

    assert ("", 0) == (done.stderr, done.returncode)
    assert [
        url,
        f"  store: s3, bucket '{bucket}'",
        f"  endpoint: {server.endpoint} answers, after MS",
        "  credentials: accepted: objects may be listed",
        "  bucket: found",
        "  prefix: found",
        "  watcher: poll: a bucket sends no events",
        "  polled: every 10 to 60 s, most often while one is expected; "
        "--poll-interval sets the longest",
        "  settled: is what has not changed for 30 s",
        "  requests: N, to find this out",
        "  probe: nothing is written in an object store: it has no events and no links to try",
    ] == text.splitlines()
    assert before == store.list().collect()


def test_the_requests_it_has_made(home: Path, store: Any, url: str, proxy: Proxy) -> None:
    """
    As the server counts them.
    """
    finish(store, 1)
    done = ckptstream("doctor", url, home=home)

    assert f"  requests: {len(proxy.asked)}, to find this out" in done.stdout.splitlines()


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("{bucket}/none", "! prefix: nothing lies there yet"),
        ("{bucket}-none/runs", "! bucket: 404 Not Found, NoSuchBucket: check its name"),
        (
            "{bucket}?endpoint=http://user:" + SECRET + "@127.0.0.1:9",
            "! endpoint: http://127.0.0.1:9: the server refuses connections: check it",
        ),
    ],
)
def test_what_is_wrong(home: Path, bucket: str, path: str, message: str) -> None:
    """
    Its line begins with an exclamation mark.
    """
    done = ckptstream("doctor", f"s3://{path.format(bucket=bucket)}", home=home)

    assert ("", 1) == (done.stderr, done.returncode)
    assert message in done.stdout
    assert SECRET not in done.stdout


@pytest.mark.parametrize(
    ("status", "message"),
    [
        (403, "! credentials: 403 Forbidden, Wrong: check them, and their right to list"),
        (503, "answers: 503 Service Unavailable, Wrong: check it"),
    ],
)
def test_a_server_that_answers_an_error(
    home: Path, url: str, proxy: Proxy, status: int, message: str
) -> None:
    """
    Whose fault it is.
    """
    proxy.status = status
    done = ckptstream("doctor", url, home=home)

    assert 1 == done.returncode
    assert message in done.stdout


def test_plain_http_is_refused(
    home: Path, url: str, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    Unless it is allowed; there is nothing else to check.
    """
    monkeypatch.delenv("AWS_ALLOW_HTTP")
    done = ckptstream("doctor", url, home=home)

    assert 1 == done.returncode
    assert ": plain http is refused: set AWS_ALLOW_HTTP=true\n" in done.stdout
    assert [] == proxy.asked


def test_a_directory_beside_it(home: Path, store: Any, url: str) -> None:
    """
    Each by what can be said of it.
    """
    finish(store, 1)
    done = ckptstream("doctor", url, ".", home=home)

    assert 0 == done.returncode
    assert ["  prefix: found", "  directory: found"] == [
        line for line in done.stdout.splitlines() if line.endswith("y: found") or "prefix" in line
    ]
    assert "inotify, for this user" in done.stdout


# Secrets.


@pytest.mark.parametrize(
    "call",
    [
        "follow {url} --timeout 0 --json --debug",
        "follow {url} --timeout 0 --exec env",
        "follow {url}&colour=red --timeout 0",
        "follow {url}&colour=red --timeout 0 --debug",
        "follow {url} {other}#fragment",
        "follow {other}/**{options}",
        "follow --until-step {url}",
        "follow {url} --cursor {url}",
        "follow {url} --output {url} --exec true",
        "follow {url} --exec 'no-such-program {url}'",
        "follow {url} --layout {url}",
        "follow {url} --layout {url} --debug",
        "follow s3://user:{secret}@bucket/run",
        "follow ftp://user:{secret}@host/run",
        "follow {url} --pin 2 --exec true",
        "ls {url} --json",
        "ls {url}&colour=red",
        "ls {other}/none{options}",
        "doctor {url}",
        "doctor {url}&colour=red",
        "doctor {other}/*{options}",
        "doctor {url} --prob",
    ],
)
def test_secrets_are_never_shown(home: Path, store: Any, url: str, call: str) -> None:
    """
    Neither in what is printed, nor in what commands get.
    """
    finish(store, 1)
    names = {"url": url + OPTIONS, "other": url, "options": OPTIONS, "secret": SECRET}
    done = ckptstream(*(word.format(**names) for word in shlex.split(call)), home=home)

    assert SECRET not in done.stdout + done.stderr
    assert done.stdout + done.stderr


def test_the_shell_completes_no_url(url: str) -> None:
    """
    It knows none, and need not see its options.
    """
    assert [""] == complete(f"ckptstream ls {url}{OPTIONS}")


# Wrong calls.


@pytest.mark.parametrize("name", ["follow", "ls", "doctor"])
def test_without_the_extra(home: Path, url: str, name: str) -> None:
    """
    One line says what to install.
    """
    program = (
        "import sys; sys.modules['obstore'] = None; "
        "from ckptstream._cli import main; sys.exit(main())"
    )
    done = shell(f"{sys.executable} -c \"{program}\" {name} '{url}{OPTIONS}'", home)

    said = f"ckptstream: DIR='{url}' needs obstore: pip install 'ckptstream[object-store]'\n"
    assert (2, "", said) == (done.returncode, done.stdout, done.stderr)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["follow", "{url}?colour=red"], "obstore does not know all of the options 'colour'"),
        (["ls", "{url}?colour=red"], "obstore does not know all of the options 'colour'"),
        (["doctor", "{url}?colour=red"], "obstore does not know all of the options 'colour'"),
        (["follow", "s3://buck*/run"], "has a '*' in the bucket's name: name each bucket"),
        (["doctor", "{url}/*"], "is a pattern: give one run's directory"),
        (["follow", "{url}", "--pin", "--exec", "true"], "--pin=True: an object store has no"),
        (["follow", "{url}", "--output", "{url}", "--exec", "true"], "is a URL: name a directory"),
        (["follow", "{url}", "--cursor", "{url}"], "is a URL: name a file"),
    ],
)
def test_a_wrong_call_is_one_line(home: Path, url: str, arguments: list[str], message: str) -> None:
    """
    With exit code 2, and nothing was made on the disk.
    """
    done = ckptstream(*(word.replace("{url}", url) for word in arguments), home=home)

    [line] = done.stderr.splitlines()
    assert (2, "") == (done.returncode, done.stdout)
    assert message in line
    assert [] == files(home)
