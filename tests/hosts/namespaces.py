"""Hosts for tests: network namespaces that a pair of virtual cables connects (ip-netns(8), veth(4))."""

import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import pytest

NETWORK = "10.213.{number}.{host}"
"""Inside of the namespaces only; the machine itself has no route to it."""


class Host(NamedTuple):
    """A network namespace."""

    namespace: str
    address: str

    def command(self, command: Sequence[str]) -> list[str]:
        """The command that executes another one in it, by the same process. It has no name server, for whose answer
        torch would wait at each connection."""
        shell = 'mount --bind /dev/null /etc/resolv.conf; exec "$@"'
        return ["ip", "netns", "exec", self.namespace, "sh", "-c", shell, "sh", *command]


@contextmanager
def two_hosts() -> Iterator[tuple[Host, Host]]:
    """Two hosts that reach each other and nothing else. Skips the test where they cannot be made."""
    if shutil.which("ip") is None:
        pytest.skip("network namespaces need ip, of the Debian package iproute2")
    if os.geteuid() != 0:
        pytest.skip("network namespaces need root")
    number = os.getpid() % 250
    names = [f"vezna-{os.getpid()}-{letter}" for letter in "ab"]
    hosts = [Host(name, NETWORK.format(number=number, host=host)) for host, name in enumerate(names, start=1)]
    made = _ip("netns", "add", names[0])
    if made.returncode:
        pytest.skip(f"network namespaces cannot be made here: {made.stderr.strip()}")
    try:
        _must("netns", "add", names[1])
        _must("link", "add", "eth0", "netns", names[0], "type", "veth", "peer", "name", "eth0", "netns", names[1])
        for host in hosts:
            _must("-n", host.namespace, "address", "add", f"{host.address}/24", "dev", "eth0")
            for interface in ("lo", "eth0"):
                _must("-n", host.namespace, "link", "set", interface, "up")
        yield hosts[0], hosts[1]
    finally:
        for name in names:
            _ip("netns", "del", name)


def _ip(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["ip", *arguments], capture_output=True, text=True, check=False)


def _must(*arguments: str) -> None:
    done = _ip(*arguments)
    assert done.returncode == 0, done.stderr
