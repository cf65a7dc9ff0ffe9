"""Parts of settings: lists, addresses, and secrets in files."""

import json
import re
from ipaddress import ip_network
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from pydantic import SecretStr

from app.domain.messages import Message, _
from app.domain.validation import field_error

LOOPBACK_ADDRESSES = ("127.0.0.1", "localhost", "::1")
"""Addresses that only this machine reaches."""


def is_safe_url(address: object) -> bool:
    """Whether an address is https, or of this machine."""
    if not isinstance(address, str):
        return False
    try:
        parts = urlsplit(address)
    except ValueError:
        return False
    if parts.scheme == "http":
        return parts.hostname in LOOPBACK_ADDRESSES
    return parts.scheme == "https" and bool(parts.hostname)


def listed(value: object) -> object:
    """A JSON list, or values separated by commas; `[::1]` alone is not JSON."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value) if value.startswith("[") else value.replace(",", " ").split()
    except ValueError:
        return value.replace(",", " ").split()


def host_and_port(address: str) -> tuple[str, int] | None:
    """Host and port of `HOST:PORT`; None for anything else."""
    try:
        parts = urlsplit(f"//{address}")
        if parts.netloc == address and "@" not in address and parts.hostname and parts.port:
            return parts.hostname, parts.port
    except ValueError:
        pass
    return None


def content(variable: str, path: str) -> str:
    """A secret from a file, without the line break at its end. Raises ValueError."""
    try:
        text = Path(path).read_text().rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else _("it is not UTF-8")
        raise ValueError(
            _("%(variable)s=%(path)s cannot be read: %(why)s", variable=variable, path=path, why=why)
        ) from None  # the error may quote the secret
    if not text:
        raise ValueError(
            _(
                "%(variable)s=%(path)s is empty: write the secret into it, or remove the variable",
                variable=variable,
                path=path,
            )
        )
    return text


def has_password(url: str) -> bool:
    """Whether a URL has a password of its own."""
    return bool(_split(url)[1].partition(":")[2])


def with_password(url: str, password: SecretStr) -> str:
    """A URL with a password, unless it has one: any character is quoted that means something in a URL."""
    if not password.get_secret_value() or has_password(url):
        return url
    scheme, user, place = _split(url)
    return f"{scheme}://{user.partition(':')[0]}:{quote(password.get_secret_value(), safe='')}@{place}"


def _split(url: str) -> tuple[str, str, str]:
    """Scheme, user, and the rest from the host on: an @ in the path or the query belongs to them."""
    scheme, _sign, rest = url.partition("://")
    authority = re.split(r"[/?#]", rest, maxsplit=1)[0]
    user, at, _host = authority.rpartition("@")
    return scheme, user, rest[len(user) + len(at) :]


def require_proxies(proxies: list[str]) -> list[str]:
    """The addresses of proxies. Raises ValueError."""
    for proxy in proxies:
        try:
            every = proxy == "*" or ip_network(proxy).prefixlen == 0
        except ValueError:
            raise ValueError(
                _(
                    "%(proxy)s is not an address or a network: write the proxy's address, such as 10.0.0.5, or its "
                    "network, such as 10.0.0.0/24",
                    proxy=proxy,
                )
            ) from None
        if every:
            raise ValueError(
                _(
                    "%(proxy)s would trust every client, which could then claim any address: write the proxy's "
                    "address, such as 10.0.0.5, or its network, such as 10.0.0.0/24",
                    proxy=proxy,
                )
            )
    return proxies


def require_hosts(hosts: list[str]) -> list[str]:
    """Hosts and networks. Raises ValueError."""
    for host in hosts:
        if not re.fullmatch(r"[A-Za-z0-9._-]+(:\d+)?|\[[0-9A-Fa-f:.]+\](:\d+)?|[0-9A-Fa-f:.]+(/\d+)?", host):
            raise ValueError(
                _(
                    "%(host)s is neither a host nor a network: write hooks.example.org, 10.0.0.5:8000 or "
                    "10.0.0.0/8, without a scheme and a path",
                    host=host,
                )
            )
    return hosts


def require_server_address(url: str) -> str:
    """The address of a server. Raises ValueError."""
    remedy = _("write http://host:8000, with an IPv6 address in brackets")
    try:
        parts = urlsplit(url)
        complete = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        complete = False
    if not complete:
        raise ValueError(_("this is not the address of a server: %(remedy)s", remedy=remedy))  # it may hold a password
    return url


def sentence(error: Any) -> Message:
    """The sentence for a setting that pydantic refuses."""
    message = field_error(error, {}).message
    name = "_".join(str(part) for part in error["loc"][:1]).upper()
    return Message.joined([f"VEZNA_{name}:", message]) if name else message
