"""Requests to addresses that users name, for webhooks, parity checks and judge models. Off by
default.

An address named by a user could make Vezna reach what only its own network reaches (server-side request forgery). So

    host        must be in VEZNA_OUTBOUND_HOSTS: `hooks.example.org`, `10.0.0.5:8000`; without a port the scheme's own
    address     each that the name resolves to must be public, or be listed itself: `10.0.0.0/8`, or with the port
    pinned      the request goes to the address that was checked, so the name cannot resolve otherwise meanwhile
    scheme      https, or http to an address that is not public
    redirects   are not followed; proxies, netrc and cookies are not used
    limits      on the time of the whole exchange, resolving included, and on the bytes of an answer, which must not be
                compressed

Errors name the host and the reason, never a header or a body.
"""

import socket
import ssl
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address, ip_network
from queue import Empty, SimpleQueue
from threading import Thread

import httpcore2
import httpx2

from app.domain.errors import Invalid, Unavailable
from app.domain.messages import Message, _
from app.settings import Settings


class Pinned(httpcore2.NetworkBackend):
    """Connects to one address, whatever the host, and reads and writes until a deadline."""

    def __init__(self, address: str, deadline: float) -> None:
        self._address, self._deadline, self._backend = address, deadline, httpcore2.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore2.SOCKET_OPTION] | None = None,
    ) -> httpcore2.NetworkStream:
        """Connect to the address, at the port of the URL."""
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise httpcore2.ConnectTimeout
        timeout = left if timeout is None else min(timeout, left)
        stream = self._backend.connect_tcp(self._address, port, timeout, local_address, socket_options)
        return _UntilDeadline(stream, self._deadline)


class _UntilDeadline(httpcore2.NetworkStream):
    """A stream whose reads and writes together end at a deadline: a timeout alone begins anew with each byte."""

    def __init__(self, stream: httpcore2.NetworkStream, deadline: float) -> None:
        self._stream, self._deadline = stream, deadline

    def _left(self) -> float:
        if (left := self._deadline - time.monotonic()) <= 0:
            raise httpcore2.ReadTimeout
        return left

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._stream.read(max_bytes, self._left())

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._stream.write(buffer, self._left())

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore2.NetworkStream:
        """TLS with the name of the URL."""
        return _UntilDeadline(self._stream.start_tls(ssl_context, server_hostname, self._left()), self._deadline)

    def get_extra_info(self, info: str) -> object:
        return self._stream.get_extra_info(info)


Address = IPv4Address | IPv6Address
Resolve = Callable[[str, int], Sequence[str]]
NAT64 = IPv6Network("64:ff9b::/96")
"""An IPv4 address in its last 32 bits (RFC 6052)."""
UNICAST = IPv6Network("2000::/3")
"""Every public IPv6 address is in it (RFC 4291), and no other form of an IPv4 address."""
NOT_PUBLIC = tuple(map(ip_network, ("168.63.129.16/32", "192.0.0.0/24", "192.88.99.0/24", "3fff::/20")))
"""Public to `ipaddress`: services of Azure and Oracle's cloud for each machine, the relays of 6to4, and examples."""
CONNECT_SECONDS = 5.0
SECONDS = 15.0
MOST_BYTES = 1 << 20
DEFAULT_PORTS = {"https": 443, "http": 80}


class NotReached(Unavailable):
    """A server gave no answer that could be used."""


@dataclass(frozen=True)
class Reply:
    """What a server answered."""

    status: int
    body: bytes
    media_type: str
    """Lower case, without parameters."""

    @property
    def succeeded(self) -> bool:
        """The status is 2xx."""
        return 200 <= self.status < 300


@dataclass(frozen=True)
class Target:
    """An address that may be requested."""

    url: httpx2.URL
    address: Address
    """Checked; the request goes there."""


def resolved(host: str, port: int) -> list[str]:
    """The addresses of a host, by the system's resolver. Raises OSError."""
    return list(dict.fromkeys(str(entry[4][0]) for entry in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)))


class Outbound:
    """A client that reaches listed hosts only."""

    def __init__(self, settings: Settings, resolve: Resolve = resolved) -> None:
        self._hosts = frozenset(entry.lower() for entry in settings.outbound_hosts)
        self._networks = [ip_network(entry) for entry in settings.outbound_hosts if _is_network(entry)]
        self._resolve = resolve

    @property
    def enabled(self) -> bool:
        return bool(self._hosts)

    def require_listed(self, text: str) -> httpx2.URL:
        """An address that may be stored, whether or not it answers now. Raises Invalid for the field `url`."""
        url = _parsed(text)
        host, port = _host(url), url.port or DEFAULT_PORTS[url.scheme]
        default = port == DEFAULT_PORTS[url.scheme]
        named = {f"{host}:{port}", f"[{host}]:{port}"} | ({host, f"[{host}]"} if default else set())
        literal = _literal(host)
        if self._hosts.isdisjoint(named) and not (default and literal and self._in_network(literal)):
            name = host if default else f"{host}:{port}"
            what = _("Vezna may not reach %(name)s", name=name)
            raise Invalid.field("url", what, _("Ask an admin to add it to VEZNA_OUTBOUND_HOSTS: %(name)s", name=name))
        if literal and (problem := self._problem(literal, port, url.scheme, host, by_name=False)):
            raise Invalid.field("url", problem, _("Use another address"))
        return url

    def target(self, text: str, seconds: float = SECONDS) -> Target:
        """An address with what its host resolves to within some time. Raises Invalid, and NotReached."""
        url = self.require_listed(text)
        host = _host(url)
        port = url.port or DEFAULT_PORTS[url.scheme]
        literal = _literal(host)
        try:
            texts = [str(literal)] if literal else self._resolved(host, port, seconds)
            found = [ip_address(text.partition("%")[0]) for text in texts]
        except (OSError, UnicodeError, ValueError) as error:
            raise NotReached(_("The name %(host)s does not resolve.", host=host)) from error
        if not found:
            raise NotReached(_("The name %(host)s does not resolve.", host=host))
        for address in found:
            if problem := self._problem(address, port, url.scheme, host, by_name=literal is None):
                raise NotReached(_("%(problem)s.", problem=problem))
        return Target(url.copy_with(host=host), found[0])

    def post(
        self,
        text: str,
        body: bytes,
        headers: Mapping[str, str],
        *,
        seconds: float = SECONDS,
        most_bytes: int = MOST_BYTES,
    ) -> Reply:
        """POST JSON. Raises Invalid for an address that may not be reached, and NotReached."""
        deadline = time.monotonic() + seconds
        target = self.target(text, seconds)
        host = _host(target.url)
        sent = {"content-type": "application/json", **headers, "host": target.url.netloc.decode()}
        sent |= {"accept-encoding": "identity", "user-agent": "Vezna"}
        backend = Pinned(str(target.address), deadline)
        limits = {"timeout": {"connect": min(CONNECT_SECONDS, seconds), "read": seconds, "write": seconds}}
        try:
            with (
                httpcore2.ConnectionPool(ssl.create_default_context(), network_backend=backend) as pool,
                pool.stream(
                    "POST", str(target.url), headers=list(sent.items()), content=body, extensions=limits
                ) as answer,
            ):
                return _read(host, answer, most_bytes)
        except httpcore2.TimeoutException as error:
            raise NotReached(
                _("%(host)s did not answer completely within %(seconds)g seconds.", host=host, seconds=seconds)
            ) from error
        except httpcore2.ConnectError as error:
            raise NotReached(
                _("%(host)s refuses the connection, or its certificate is not valid.", host=host)
            ) from error
        except (httpcore2.NetworkError, httpcore2.ProtocolError) as error:
            raise NotReached(_("%(host)s broke the connection off, or does not speak HTTP.", host=host)) from error

    def _resolved(self, host: str, port: int, seconds: float) -> Sequence[str]:
        """In a thread that is left behind after the time: the system's resolver cannot be interrupted, and waits for
        each of its servers several times. Raises as the resolver does, and NotReached."""
        ended: SimpleQueue[Sequence[str] | Exception] = SimpleQueue()

        def resolve() -> None:
            try:
                ended.put(self._resolve(host, port))
            except Exception as error:  # raised by the thread that waits
                ended.put(error)

        Thread(target=resolve, daemon=True, name="resolve").start()
        try:
            result = ended.get(timeout=seconds)
        except Empty:
            why = _("The name %(host)s does not resolve within %(seconds)g seconds.", host=host, seconds=seconds)
            raise NotReached(why) from None
        if isinstance(result, Exception):
            raise result
        return result

    def _in_network(self, address: Address) -> bool:
        return any(address in network for network in self._networks)

    def _is_listed(self, address: Address, port: int) -> bool:
        return self._in_network(address) or not self._hosts.isdisjoint({f"{address}:{port}", f"[{address}]:{port}"})

    def _problem(self, address: Address, port: int, scheme: str, host: str, *, by_name: bool) -> Message | None:
        """Why an address may not be reached, without a final period."""
        inner = _within(address)
        public = inner.is_global and not inner.is_multicast and not any(inner in network for network in NOT_PUBLIC)
        public = public and (isinstance(inner, IPv4Address) or inner in UNICAST)
        if not public and not (self._is_listed(address, port) or self._is_listed(inner, port)):
            if not by_name:
                return _("%(address)s is no public address, and VEZNA_OUTBOUND_HOSTS does not list it", address=address)
            return _(
                "%(host)s resolves to %(address)s, which is no public address. VEZNA_OUTBOUND_HOSTS must list it too",
                host=host,
                address=address,
            )
        if public and scheme == "http":
            return _("%(host)s has a public address, which is reached by https only", host=host)
        return None


def _within(address: Address) -> Address:
    """The IPv4 address that an IPv6 address stands for, where it does."""
    if isinstance(address, IPv4Address):
        return address
    if address in NAT64:
        return IPv4Address(int(address) & 0xFFFFFFFF)
    teredo = address.teredo
    return address.ipv4_mapped or address.sixtofour or (teredo[1] if teredo else address)


def _parsed(text: str) -> httpx2.URL:
    remedy = _("Write it as https://host/path")
    try:
        url = httpx2.URL(text.strip())
    except (httpx2.InvalidURL, ValueError) as error:
        raise Invalid.field("url", _("This is not an address"), remedy) from error
    if url.scheme not in DEFAULT_PORTS or not url.host:
        raise Invalid.field("url", _("This is not an address of a web server"), remedy)
    if url.userinfo:
        raise Invalid.field("url", _("The address has a user name or a password, which logs would show"), remedy)
    return url.copy_with(fragment=None)


def _host(url: httpx2.URL) -> str:
    """In lower case and ASCII, without the brackets of IPv6 and a final period."""
    return url.raw_host.decode().lower().rstrip(".")


def _literal(host: str) -> Address | None:
    try:
        return ip_address(host)
    except ValueError:
        return None


def _is_network(entry: str) -> bool:
    try:
        ip_network(entry)
    except ValueError:
        return False
    return True


def _read(host: str, answer: httpcore2.Response, most_bytes: int) -> Reply:
    headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in answer.headers}
    if 300 <= answer.status < 400:
        raise NotReached(_("%(host)s redirects to another address. Name that address instead.", host=host))
    if headers.get("content-encoding", "identity").lower() != "identity":
        raise NotReached(_("%(host)s compresses its answer, although the request forbids that.", host=host))
    read = bytearray()
    for piece in answer.iter_stream():
        read += piece
        if len(read) > most_bytes:
            raise NotReached(_("The answer of %(host)s is longer than %(most)s bytes.", host=host, most=most_bytes))
    media_type = headers.get("content-type", "").partition(";")[0].strip().lower()
    return Reply(answer.status, bytes(read), media_type)
