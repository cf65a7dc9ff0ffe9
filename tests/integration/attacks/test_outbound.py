"""Requests to servers that users name: every way to reach what is not listed is refused, before anything is sent."""

import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from app.domain.errors import Invalid
from app.services.outbound import outbound as outbound_service
from app.services.outbound.outbound import NotReached, Outbound
from app.settings import Settings

HOOK = "hook.example.org"
SECRET = "whsec-not-to-be-shown"


class Server(ThreadingHTTPServer):
    """Answers as `act` says, and remembers the requests."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, act: Callable[[BaseHTTPRequestHandler], None]) -> None:
        self.act, self.seen = act, list[tuple[str, str, bytes]]()
        super().__init__(("127.0.0.1", 0), Handler)


class Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        assert isinstance(self.server, Server)
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        self.server.seen.append((self.headers["host"], self.path, body))
        self.server.act(self)

    do_GET = do_POST  # noqa: N815

    def log_message(self, *args: object) -> None:
        pass


def answer(body: bytes = b'{"ok":true}', status: int = 200, **headers: str) -> Callable[[BaseHTTPRequestHandler], None]:
    def act(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(status)
        for name, value in {"content-type": "application/json", "content-length": str(len(body)), **headers}.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.end_headers()
        handler.wfile.write(body)

    return act


@contextmanager
def serving(act: Callable[[BaseHTTPRequestHandler], None], context: ssl.SSLContext | None = None) -> Iterator[Server]:
    server = Server(act)
    if context:
        server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()


def client(*hosts: str, addresses: tuple[str, ...] = ("93.184.216.34",), asked: list[str] | None = None) -> Outbound:
    """A client for which every name resolves to these addresses, one more each time it is asked."""

    def resolve(host: str, port: int) -> list[str]:
        if asked is not None:
            asked.append(host)
        return list(addresses)

    return Outbound(Settings(outbound_hosts=list(hosts)), resolve)


def local(server: Server, *more: str, asked: list[str] | None = None) -> tuple[Outbound, str]:
    port = server.server_address[1]
    outbound = client(f"{HOOK}:{port}", "127.0.0.0/8", *more, addresses=("127.0.0.1",), asked=asked)
    return outbound, f"http://{HOOK}:{port}/x?y=1"


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("https://other.example.org/", "Vezna may not reach other.example.org"),
        ("https://hook.example.org.evil.example/", "may not reach"),
        ("https://evil.example/#hook.example.org", "may not reach evil.example"),
        (f"https://{HOOK}:8443/", "may not reach hook.example.org:8443"),
        ("http://127.0.0.1/", "may not reach 127.0.0.1"),
        ("http://2130706433/", "may not reach"),
        ("http://0x7f.1/", "may not reach"),
        ("http://[::1]/", "may not reach"),
        ("ftp://hook.example.org/", "not an address of a web server"),
        ("file:///etc/passwd", "not an address of a web server"),
        ("//hook.example.org", "not an address of a web server"),
        (f"https://user:pass@{HOOK}/", "user name or a password"),
        ("https://", "not an address"),
        ("http://[::1", "not an address"),
        ("", "not an address"),
    ],
)
def test_what_is_not_listed_is_refused_before_its_name_is_resolved(url: str, why: str) -> None:
    asked: list[str] = []
    outbound = client(HOOK, asked=asked)
    with pytest.raises(Invalid, match=why) as refused:
        outbound.post(url, b"{}", {"authorization": SECRET})
    assert refused.value.fields[0].path == "url" and asked == []


def test_it_is_off_by_default() -> None:
    outbound = Outbound(Settings())
    assert not outbound.enabled
    with pytest.raises(Invalid, match="VEZNA_OUTBOUND_HOSTS"):
        outbound.require_listed("https://hooks.example.org/")


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "10.1.2.3",
        "172.16.0.1",
        "192.168.1.1",
        "169.254.169.254",
        "100.64.0.1",
        "168.63.129.16",
        "0.0.0.0",
        "224.0.0.1",
        "::1",
        "fe80::1%eth0",
        "fd00:ec2::254",
        "::ffff:169.254.169.254",
        "64:ff9b::a9fe:a9fe",
        "2002:7f00:1::",
        "::",
        "::127.0.0.1",
        "::ffff:0:127.0.0.1",
        "64:ff9b:1::7f00:1",
        "fec0::1",
        "5f00::1",
        "3fff::1",
        "192.0.0.192",
        "192.88.99.1",
        "100.100.100.200",
    ],
)
def test_a_listed_name_does_not_lead_to_an_address_that_is_not_public(address: str) -> None:
    for addresses in ((address,), ("93.184.216.34", address)):  # one of several is enough
        with pytest.raises(NotReached, match=r"is no public address\. VEZNA_OUTBOUND_HOSTS must list it too"):
            client(HOOK, addresses=addresses).target(f"https://{HOOK}/")


def test_what_is_listed_is_reached_by_the_scheme_that_suits_it() -> None:
    assert str(client(HOOK).target(f"https://{HOOK.upper()}./a").address) == "93.184.216.34"
    with pytest.raises(NotReached, match="public address, which is reached by https only"):
        client(HOOK).target(f"http://{HOOK}/")
    inner = client("vllm.internal:8000", "10.0.0.0/8", addresses=("10.1.2.3",))
    assert str(inner.target("http://vllm.internal:8000/v1").address) == "10.1.2.3"
    assert str(client("10.0.0.5:8000", "10.0.0.5").target("http://10.0.0.5:8000/").address) == "10.0.0.5"
    assert str(client("[::1]:8000", "::1").target("http://[::1]:8000/").address) == "::1"
    with pytest.raises(NotReached, match="does not resolve"):
        client(HOOK, addresses=()).target(f"https://{HOOK}/")


def test_an_address_that_is_listed_with_a_port_is_reached_at_that_port_alone() -> None:
    here = client("127.0.0.1:8391")
    assert str(here.target("http://127.0.0.1:8391/v1").address) == "127.0.0.1"
    assert str(client("[::1]:8391").target("http://[::1]:8391/v1").address) == "::1"
    for url in (
        "http://127.0.0.1/",
        "http://127.0.0.1:8392/",
        "http://127.0.0.2:8391/",
        "http://[::ffff:7f00:1]:8391/",
    ):
        with pytest.raises(Invalid, match="Vezna may not reach"):
            here.target(url)
    for port, addresses in ((8392, ("127.0.0.1",)), (8391, ("127.0.0.1", "127.0.0.2"))):
        named = client(f"{HOOK}:{port}", "127.0.0.1:8391", addresses=addresses)
        with pytest.raises(NotReached, match="must list it too"):
            named.target(f"http://{HOOK}:{port}/")
    assert client(f"{HOOK}:8391", "127.0.0.1:8391", addresses=("127.0.0.1",)).target(f"http://{HOOK}:8391/")


def test_a_request_goes_to_the_address_that_was_checked_under_its_own_name() -> None:
    asked: list[str] = []
    with serving(answer()) as server:
        outbound, url = local(server, asked=asked)
        reply = outbound.post(url, b"[1]", {"webhook-id": "1"})
    assert (reply.status, reply.body, reply.media_type) == (200, b'{"ok":true}', "application/json")
    assert server.seen == [(f"{HOOK}:{server.server_address[1]}", "/x?y=1", b"[1]")]
    assert asked == [HOOK], "a second answer of the name server would be another one"


def test_a_redirect_is_not_followed() -> None:
    with serving(answer()) as inner:
        place = f"http://127.0.0.1:{inner.server_address[1]}/latest/meta-data/"
        with serving(answer(b"", 307, location=place)) as server:
            outbound, url = local(server)
            with pytest.raises(NotReached, match="redirects to another address"):
                outbound.post(url, b"{}", {})
        assert inner.seen == []


def drip_bytes(handler: BaseHTTPRequestHandler) -> None:
    with suppress(OSError):  # the client has left
        for _ in range(100):
            handler.wfile.write(b"x")
            handler.wfile.flush()
            time.sleep(0.05)


def drip_headers(handler: BaseHTTPRequestHandler) -> None:
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nx-long: ")
    drip_bytes(handler)


def drip(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(200)
    handler.end_headers()
    drip_bytes(handler)


def hang_up(handler: BaseHTTPRequestHandler) -> None:
    handler.wfile.write(b"garbage\r\n\r\n")
    handler.close_connection = True


@pytest.mark.parametrize(
    ("act", "why"),
    [
        (drip, "did not answer completely within 0.3 seconds"),
        (drip_headers, "did not answer completely within 0.3 seconds"),
        (lambda handler: time.sleep(0.6), "did not answer completely within 0.3 seconds"),
        (hang_up, "broke the connection off, or does not speak HTTP"),
        (answer(b"x" * 2000), "is longer than 1000 bytes"),
        (answer(b"\x1f\x8b", content_encoding="gzip"), "compresses its answer"),
    ],
    ids=["drips", "drips-headers", "hangs", "garbage", "long", "gzip"],
)
def test_a_server_cannot_hold_or_fill_it(act: Callable[[BaseHTTPRequestHandler], None], why: str) -> None:
    with serving(act) as server:
        outbound, url = local(server)
        with pytest.raises(NotReached, match=why) as failed:
            outbound.post(url, b"{}", {"authorization": SECRET}, seconds=0.3, most_bytes=1000)
    assert SECRET not in str(failed.value.message)


def test_a_name_that_does_not_resolve_in_time_holds_nothing() -> None:
    ended = threading.Event()

    def resolve(_host: str, _port: int) -> list[str]:
        ended.wait(60)
        return ["93.184.216.34"]

    outbound = Outbound(Settings(outbound_hosts=[HOOK]), resolve)
    with pytest.raises(NotReached, match=r"hook\.example\.org does not resolve within 0\.3 seconds"):
        outbound.post(f"https://{HOOK}/", b"{}", {}, seconds=0.3)

    ended.set()


def test_the_time_to_resolve_counts() -> None:
    """The connection has what is left of it."""
    clock = [0.0]

    def resolve(_host: str, _port: int) -> list[str]:
        clock[0] = 20.0
        return ["127.0.0.1"]

    with serving(answer()) as server, pytest.MonkeyPatch.context() as patch:
        port = server.server_address[1]
        patch.setattr(outbound_service, "time", SimpleNamespace(monotonic=lambda: clock[0]))
        outbound = Outbound(Settings(outbound_hosts=[f"{HOOK}:{port}", "127.0.0.0/8"]), resolve)
        with pytest.raises(NotReached, match="did not answer completely within 15 seconds"):
            outbound.post(f"http://{HOOK}:{port}/", b"{}", {})
        assert not server.seen


def test_a_closed_port_is_named_without_what_was_to_be_sent() -> None:
    with serving(answer()) as server:
        outbound, url = local(server)
    with pytest.raises(NotReached, match="refuses the connection") as failed:
        outbound.post(url, SECRET.encode(), {"authorization": SECRET})
    assert SECRET not in repr(failed.value) and HOOK in failed.value.message


def certificate(folder: Path, name: str) -> Path:
    """A certificate for a name, signed by itself, with its key."""
    key, at = generate_private_key(SECP256R1()), datetime.now(UTC)
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(at - timedelta(days=1))
        .not_valid_after(at + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, SHA256())
    )
    file = folder / f"{name}.pem"
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    file.write_bytes(private + made.public_bytes(Encoding.PEM))
    return file


@pytest.mark.parametrize(("name", "trusted"), [(HOOK, True), (HOOK, False), ("other.example.org", True)])
def test_tls_verifies_the_name_and_not_the_address(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, trusted: bool
) -> None:
    file = certificate(tmp_path, name)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    if trusted:
        monkeypatch.setenv("SSL_CERT_FILE", str(file))
    with serving(answer(), context) as server:
        outbound, url = local(server)
        url = url.replace("http:", "https:")
        if name == HOOK and trusted:
            assert outbound.post(url, b"{}", {}).status == 200
        else:
            with pytest.raises(NotReached, match="its certificate is not valid"):
                outbound.post(url, b"{}", {})
