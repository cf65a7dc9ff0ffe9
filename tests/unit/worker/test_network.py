"""The address at which workers of other hosts meet a worker."""

import socket

import pytest

from app.domain.errors import Unavailable
from worker.network import interface, shared_address

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
    servers: list[str], address: str | None
) -> None:
    assert shared_address("", *servers) == address


def test_a_name_of_this_host_is_resolved() -> None:
    assert shared_address("localhost", f"postgresql://{DOCUMENTATION}/vezna") == "127.0.0.1"


@pytest.mark.parametrize(("chosen", "why"), [(DOCUMENTATION, "no address of this host"), ("no.invalid", "no address")])
def test_an_address_that_this_host_does_not_have_is_refused(chosen: str, why: str) -> None:
    with pytest.raises(Unavailable, match=why):
        shared_address(chosen)


def test_the_interface_of_an_address_is_found() -> None:
    names = [name for _index, name in socket.if_nameindex()]
    assert interface("127.0.0.1") in names
    assert interface(DOCUMENTATION) is None
