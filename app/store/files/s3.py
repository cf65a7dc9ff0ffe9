"""Bounds on the waiting for an S3-compatible store that accepts connections but does not answer.

The libraries' own bounds multiply to six minutes for a request, and a file that is sent waits without end: aiohttp has
no timeout for `100 Continue`, nor for a receiver that reads no more. Here each wait ends after ten seconds, and a
request after 45 at most. How long a file takes as long as its bytes move is not bounded.
"""

import importlib
import socket
from typing import Any

from fsspec.config import conf

CONNECT_SECONDS = 5.0
ANSWER_SECONDS = 10.0
"""Time until the first byte of an answer, between two parts of it, and until sent bytes are received."""
TRIES = 2
"""By botocore, and by s3fs of that: it resumes a download which breaks off."""
PROTOCOLS = ("s3://", "s3a://")


def options(url: str) -> dict[str, Any]:
    """Arguments of the file system at this URL: none if it is not S3. Values of fsspec's configuration come first."""
    if not url.startswith(PROTOCOLS):
        return {}
    config = {
        "connect_timeout": CONNECT_SECONDS,
        "read_timeout": ANSWER_SECONDS,
        "retries": {"mode": "standard", "total_max_attempts": TRIES},
        "connector_args": {"socket_factory": _connection},
    }
    return {"session": _session(), "config_kwargs": config | conf.get("s3", {}).get("config_kwargs", {})}


def is_s3(filesystem: Any) -> bool:
    """Whether an fsspec file system is that of an S3-compatible store."""
    return "s3" in filesystem.protocol  # a name, or several


def limit_tries(filesystem: Any) -> None:
    """Have s3fs repeat a failed request once rather than four times; another file system is left as it is."""
    if is_s3(filesystem):
        filesystem.retries = TRIES


def is_of_client(error: Exception) -> bool:
    """Whether the S3 client raised it because of a connection: an answer of the store is another error in s3fs."""
    return type(error).__module__.partition(".")[0] in ("botocore", "aiobotocore")


def _session() -> Any:
    """A session that sends a file without waiting for `100 Continue`. Raises ImportError without the extra `s3`."""
    session = importlib.import_module("aiobotocore.session").AioSession()
    session.unregister("before-call.s3", importlib.import_module("botocore.handlers").add_expect_header)
    return session


def _connection(address: Any) -> socket.socket:
    """A socket of which Linux ends the connection if the other side does not take sent bytes in time."""
    family, kind, protocol, _name, _address = address
    made = socket.socket(family, kind, protocol)
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(ANSWER_SECONDS * 1000))
    return made
