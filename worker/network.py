"""The address of this host at which workers of other hosts meet it, and the interface that has it. IPv4."""

import fcntl
import socket
import struct
import sys
from urllib.parse import urlsplit

from app.domain.errors import Unavailable
from app.domain.messages import _

_SIOCGIFADDR = 0x8915
_NO_PORT = 9
"""Discard: connecting a UDP socket sends nothing, it only chooses a route."""


def shared_address(chosen: str, *servers: str) -> str | None:
    """`chosen` as an address, or else the one by which this host reaches the first of the `servers` (URLs) that has a
    host; None if none has one. Raises Unavailable if this host does not have the chosen address."""
    if chosen:
        try:
            address = _resolved(chosen)
        except OSError as error:
            raise Unavailable(
                _("VEZNA_RENDEZVOUS_HOST=%(host)s has no address (%(why)s).", host=chosen, why=error)
            ) from error
        if interface(address) is None:
            text = _(
                "VEZNA_RENDEZVOUS_HOST=%(host)s is no address of this host. Set it to the address of the interface by "
                "which the workers of other hosts reach this one.",
                host=chosen,
            )
            raise Unavailable(text)
        return address
    for server in servers:
        try:
            if host := urlsplit(server).hostname:
                return _towards(_resolved(host))
        except (OSError, ValueError):
            continue
    return None


def interface(address: str) -> str | None:
    """The name of the interface that has an address of this host; None if none has it."""
    loopback = "lo" if sys.platform.startswith("linux") else "lo0"
    if is_loopback(address):
        return loopback
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        for _index, name in socket.if_nameindex():
            try:
                answer = fcntl.ioctl(asking.fileno(), _SIOCGIFADDR, struct.pack("256s", name.encode()[:15]))
            except OSError:  # it has none, or this is not Linux
                continue
            if socket.inet_ntoa(answer[20:24]) == address:
                return name
    return None


def is_loopback(address: str) -> bool:
    """Only this host reaches it."""
    return address.startswith("127.")


def _resolved(host: str) -> str:
    return str(socket.getaddrinfo(host, None, socket.AF_INET, socket.SOCK_STREAM)[0][4][0])


def _towards(address: str) -> str:
    """The address of this host from which packets to another one come."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as route:
        route.connect((address, _NO_PORT))
        return str(route.getsockname()[0])
