"""An S3-compatible server for tests: Ceph's radosgw, Debian's package of that name, on an SQLite file."""

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import httpx2
import pytest

from tests.support.servers.running_stack import free_port

KEY, SECRET = "key-of-tests", "secret-of-tests"


class ObjectStore:
    """One server with one user; its objects stay when it stops."""

    def __init__(self, folder: Path) -> None:
        if not shutil.which("radosgw") or not shutil.which("radosgw-admin"):
            pytest.skip("radosgw is not installed (Debian: apt-get install radosgw)")
        self.port, self._folder = free_port(), folder
        self._process: subprocess.Popen[bytes] | None = None
        (folder / "db").mkdir()
        lines = {
            "rgw_backend_store": "dbstore",
            "rgw_config_store": "dbstore",
            "dbstore_db_dir": folder / "db",
            "dbstore_config_uri": f"file:{folder}/db/config.db",
            "rgw_data": folder,
            "run_dir": folder,
            "keyring": folder / "keyring",
            "log_file": folder / "log",
            "admin_socket": "",
            "rgw_frontends": f"beast endpoint=127.0.0.1:{self.port}",
        }
        (folder / "ceph.conf").write_text("\n".join(["[global]", *(f"{k} = {v}" for k, v in lines.items()), ""]))
        self._options = ["-c", str(folder / "ceph.conf"), "-n", "client.rgw", "--no-mon-config"]
        user = [
            "user",
            "create",
            "--uid=tests",
            "--display-name=Tests",
            f"--access-key={KEY}",
            f"--secret-key={SECRET}",
        ]
        subprocess.run(["radosgw-admin", *self._options, *user], check=True, capture_output=True, timeout=120)

    @property
    def environment(self) -> dict[str, str]:
        """What a client needs to know."""
        return {
            "AWS_ACCESS_KEY_ID": KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_REGION": "us-east-1",
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{self.port}",
        }

    def start(self) -> None:
        """Start it and wait for its answer."""
        with (self._folder / "out").open("ab") as out:
            command = ["radosgw", *self._options, "-f"]
            self._process = subprocess.Popen(command, stdout=out, stderr=out, env=os.environ | {"TZ": "UTC"})
        deadline = time.monotonic() + 60
        while True:
            try:
                httpx2.get(self.environment["AWS_ENDPOINT_URL"])
                return
            except httpx2.TransportError:
                assert time.monotonic() < deadline and self._process.poll() is None, (self._folder / "out").read_text()
                time.sleep(0.1)

    def freeze(self) -> None:
        """The kernel goes on accepting connections; nothing answers."""
        assert self._process
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        assert self._process
        self._process.send_signal(signal.SIGCONT)

    def stop(self) -> None:
        """Kill it, as a machine that goes down does."""
        if self._process:
            self._process.kill()
            self._process.wait()
            self._process = None
