"""The address of this host at which workers of other hosts meet it, and the interface that has it. IPv4."""

import array
import fcntl
import os
import socket
import struct
import sys
from pathlib import Path
from urllib.parse import urlsplit

from app.domain.errors import Unavailable
from app.domain.messages import _

_SIOCGIFCONF = 0x8912
_IFREQ_BYTES = 40
"""Of `struct ifreq` on 64-bit Linux: 16 of the name, then a `sockaddr_in`, whose address is at 4."""
_MOST_ADDRESSES = 1024
_CONTAINER_FILES = (Path("/.dockerenv"), Path("/run/.containerenv"))
"""Of Docker and of Podman."""
_NO_PORT = 9
"""Discard: connecting a UDP socket sends nothing, it only chooses a route."""


def shared_address(chosen: str, *servers: str) -> str | None:
    """`chosen` as an address, or else the one by which this host reaches the first of the `servers` (URLs) that has a
    host; None if none has one, or in a container, whose own network is closed to other hosts. Raises Unavailable if
    this host does not have the chosen address."""
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
    if behind_bridge():
        return None
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
    return next((name for name, each in _addresses() if each == address), None)


def behind_bridge() -> bool:
    """Whether this is a container of Docker or Podman; pods of Kubernetes reach each other."""
    return "KUBERNETES_SERVICE_HOST" not in os.environ and any(file.exists() for file in _CONTAINER_FILES)


def is_loopback(address: str) -> bool:
    """Only this host reaches it."""
    return address.startswith("127.")


def _addresses() -> list[tuple[str, str]]:
    """Every address of this host, with its interface; none where this is not Linux."""
    answer = array.array("B", bytes(_IFREQ_BYTES * _MOST_ADDRESSES))
    place, size = answer.buffer_info()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        try:
            filled = fcntl.ioctl(asking.fileno(), _SIOCGIFCONF, struct.pack("iP", size, place))
        except OSError:
            return []
    requests = answer.tobytes()[: struct.unpack("iP", filled)[0]]
    return [
        (requests[at : at + 16].split(b"\0")[0].decode(), socket.inet_ntoa(requests[at + 20 : at + 24]))
        for at in range(0, len(requests), _IFREQ_BYTES)
    ]


def _resolved(host: str) -> str:
    return str(socket.getaddrinfo(host, None, socket.AF_INET, socket.SOCK_STREAM)[0][4][0])


def _towards(address: str) -> str:
    """The address of this host from which packets to another one come."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as route:
        route.connect((address, _NO_PORT))
        return str(route.getsockname()[0])
