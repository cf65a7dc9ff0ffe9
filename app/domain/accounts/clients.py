"""Clients by their addresses, for limits."""

import re
from ipaddress import IPv6Address, ip_address, ip_network

WITH_PORT = re.compile(r"^(?:\[(.*)\]|(\d+\.\d+\.\d+\.\d+))(?::\d+)?$")
"""An address as some proxies write it, with the client's port, which is another one in each connection."""
IPV6_NETWORK = 64
"""Bits of an IPv6 address that name a customer's network; its remaining bits cost an attacker nothing."""
MOST_TEXT = 64
"""Characters of a client's name that is no address."""


def network_of(host: str) -> tuple[str, bool]:
    """What is limited for a client: its IPv4 address, or the network of its IPv6 address; and whether that is loopback.
    A trusted proxy may name a client by something that is no address: then that text."""
    try:
        address = ip_address(WITH_PORT.sub(r"\1\2", host).partition("%")[0])
    except ValueError:
        return host[:MOST_TEXT], False
    if isinstance(address, IPv6Address):
        if not address.ipv4_mapped:
            return str(ip_network((address, IPV6_NETWORK), strict=False)), address.is_loopback
        address = address.ipv4_mapped
    return str(address), address.is_loopback
