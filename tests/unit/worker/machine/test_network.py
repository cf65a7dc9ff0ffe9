"""The address at which workers of other hosts meet a worker."""

import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from app.domain.errors import Unavailable
from app.settings import ROOT
from worker.machine.network import interface, shared_address

DOCUMENTATION = "203.0.113.9"
"""An address of no host (RFC 5737)."""


@pytest.mark.parametrize(
    ("servers", "address"),
    [
        (["postgresql+psycopg://vezna:secret@127.0.0.1:5432/vezna", f"redis://{DOCUMENTATION}:6379/0"], "127.0.0.1"),
        (["sqlite:////home/vezna.sqlite", "redis://localhost:6379/0"], "127.0.0.1"),
        (["postgresql:///vezna?host=/run/postgresql", "redis+socket:///run/redis.sock"], None),
        (["postgresql://no-such-host.invalid/vezna"], None),
        ([], None),
    ],
)
def test_without_a_setting_it_is_the_one_by_which_the_database_or_else_the_broker_is_reached(
    servers: list[str], address: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("worker.machine.network._CONTAINER_FILES", ())
    assert shared_address("", *servers) == address


def test_a_name_of_this_host_is_resolved() -> None:
    assert shared_address("localhost", f"postgresql://{DOCUMENTATION}/vezna") == "127.0.0.1"


@pytest.mark.parametrize(("chosen", "why"), [(DOCUMENTATION, "no address of this host"), ("no.invalid", "no address")])
def test_an_address_that_this_host_does_not_have_is_refused(chosen: str, why: str) -> None:
    with pytest.raises(Unavailable, match=why):
        shared_address(chosen)


def test_a_container_announces_no_address_of_its_own_unless_it_is_told_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mark, server = tmp_path / ".dockerenv", "postgresql://127.0.0.1/vezna"
    monkeypatch.setattr("worker.machine.network._CONTAINER_FILES", (mark, tmp_path / ".containerenv"))
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    assert shared_address("", server) == "127.0.0.1"
    mark.touch()
    assert shared_address("", server) is None
    assert shared_address("localhost", server) == "127.0.0.1"
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.43.0.1")
    assert shared_address("", server) == "127.0.0.1", "pods reach each other"


def test_each_address_of_an_interface_is_found() -> None:
    """In a network namespace, where a test may add addresses."""
    inside = (
        "ip link set lo up && ip addr add 198.51.100.1/24 dev lo && ip addr add 198.51.100.2/24 dev lo && exec $0 -c "
    )
    inside += '\'from worker.machine.network import interface as of; print(of("198.51.100.1"), of("198.51.100.2"))\''
    command = ["unshare", "--user", "--map-root-user", "--net", "sh", "-c", inside, sys.executable]
    if shutil.which("unshare") is None or shutil.which("ip") is None:
        pytest.skip("needs unshare and ip")
    if subprocess.run([*command[:4], "true"], capture_output=True, check=False).returncode:
        pytest.skip("network namespaces cannot be made here")
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.split() == ["lo", "lo"]


def test_the_interface_of_an_address_is_found() -> None:
    names = [name for _index, name in socket.if_nameindex()]
    assert interface("127.0.0.1") in names
    assert interface(DOCUMENTATION) is None
