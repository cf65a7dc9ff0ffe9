"""What is limited for a client: an address, or the network of an IPv6 address."""

import pytest

from app.domain.accounts.clients import network_of


@pytest.mark.parametrize(
    ("host", "network", "loopback"),
    [
        ("192.0.2.1", "192.0.2.1", False),
        ("192.0.2.1:4711", "192.0.2.1", False),
        ("127.0.0.1", "127.0.0.1", True),
        ("::1", "::/64", True),
        ("::ffff:192.0.2.1", "192.0.2.1", False),
        ("::ffff:127.0.0.1", "127.0.0.1", True),
        ("2001:db8:0:1:2:3:4:5", "2001:db8:0:1::/64", False),
        ("[2001:db8:0:1::9]:4711", "2001:db8:0:1::/64", False),
        ("fe80::1%eth0", "fe80::/64", False),
        ("unknown", "unknown", False),
        ("x" * 100, "x" * 64, False),
        ("", "", False),
    ],
)
def test_a_client_is_its_address_or_its_network(host: str, network: str, loopback: bool) -> None:
    assert network_of(host) == (network, loopback)
