"""Incoming files: the body of a request is streamed to the files store, neither buffered nor parsed here.

    POST    a form (multipart/form-data): files, and short fields beside them
    PUT     the bytes of one file

A request that is rejected or interrupted leaves nothing behind.
"""

import errno
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Annotated, Self

from fastapi import Depends, Request
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.concurrency import run_in_threadpool

from app.domain.data.uploads import MOST_PARTS, shown_name
from app.domain.errors import Invalid, Unavailable
from app.domain.messages import _
from app.store.files.files import Files, Incoming, Stored, too_large
from app.web.http import csrf
from app.web.http.dependencies import Config, Store
from app.web.http.errors import wants_json

BLOCK = 1 << 20
"""Bytes that are written at a time."""
MOST_FIELDS, MOST_FIELD_BYTES = 20, 4096
BESIDE_FILES = 1 << 18
"""Bytes that a form may have beside its files."""
ANY_SIZE = 1 << 62
"""For `max_body_size` of a route: the limit is a setting, which this module enforces."""


class Received:
    """The files of a request, which enter the store only with `stored`, and the form fields sent with them."""

    def __init__(
        self, files: Files, most_bytes: int, admit: Callable[[Mapping[str, str]], None] = lambda _fields: None
    ) -> None:
        self.fields: dict[str, str] = {}
        self.refused: Invalid | None = None
        """Why the request is rejected; `stored` raises it, so that page and API each present it in their own form."""
        self._files, self._most, self._admit = files, most_bytes, admit
        self._open = ExitStack()
        self._incoming: list[tuple[str, Incoming]] = []
        self._sizes: list[int] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *why: object) -> None:
        self._open.close()

    def begin(self, name: str) -> None:
        """Begin another file. Raises Invalid if there are too many, and what `admit` raises for the fields before the
        first one."""
        if not self._incoming:
            self._admit(self.fields)
        if len(self._incoming) == MOST_PARTS:
            raise Invalid.field(
                "file",
                _("More than %(most)s files were sent", most=MOST_PARTS),
                _("Merge some, or upload them one after the other"),
            )
        self._incoming.append((name, self._open.enter_context(self._files.receive(self._most))))
        self._sizes.append(0)

    def write(self, data: bytes) -> None:
        """Write more of the last file. Raises Invalid once all files together are too large."""
        self._sizes[-1] += len(data)
        if sum(self._sizes) > self._most:
            raise too_large(self._most)
        with _room():
            self._incoming[-1][1].write(data)

    @property
    def digests(self) -> list[tuple[str, str]]:
        """The name and the SHA-256 of each file."""
        return [(name, incoming.sha256) for name, incoming in self._incoming]

    def stored(self) -> list[tuple[str, Stored]]:
        """Put all files into the store. Raises Invalid for a rejected request, no file, and an empty file."""
        if self.refused:
            raise self.refused
        if not self._incoming:
            raise Invalid.field("file", _("No file was sent"), _("Choose a file"))
        for (file_name, _incoming), size in zip(self._incoming, self._sizes, strict=True):
            if not size:
                what = _("%(name)s is empty", name=shown_name(file_name))
                raise Invalid.field("file", what, _("Choose a file with a header and rows"))
        with _room():
            return [(name, incoming.done()) for name, incoming in self._incoming]


class _Form:
    """Parses a form as it arrives."""

    def __init__(self, content_type: str, received: Received) -> None:
        kind, options = parse_options_header(content_type)
        if kind != b"multipart/form-data" or not options.get(b"boundary"):
            raise Invalid.field(
                "file",
                _("The files were not sent as multipart/form-data"),
                _("Send them as: curl -F file=@reviews.csv"),
            )
        self._received = received
        self._complete = False
        self._header, self._value, self._disposition = b"", b"", b""
        self._in_file, self._field, self._text = False, "", b""
        """Whether the current part is a file; otherwise its field, and the value so far."""
        self._parser = MultipartParser(
            options[b"boundary"],
            {
                "on_header_field": self._on_header_field,
                "on_header_value": self._on_header_value,
                "on_header_end": self._on_header_end,
                "on_headers_finished": self._on_headers_finished,
                "on_part_data": self._on_part_data,
                "on_part_end": self._on_part_end,
                "on_end": self._on_end,
            },
        )

    def write(self, data: bytes) -> None:
        try:
            self._parser.write(data)
        except FormParserError as error:
            raise Invalid.field(
                "file", _("The form is malformed (%(error)s)", error=error), _("Send it again")
            ) from error

    def end(self) -> None:
        """The body has ended."""
        if not self._complete:
            raise Invalid.field("file", _("The form ended before its last file"), _("Send it again"))

    def _on_header_field(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]

    def _on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _on_header_end(self) -> None:
        if self._header.lower() == b"content-disposition":
            self._disposition = self._value
        self._header = self._value = b""

    def _on_headers_finished(self) -> None:
        _kind, options = parse_options_header(self._disposition)
        filename = options.get(b"filename")
        self._in_file, self._field, self._disposition = bool(filename), "", b""
        if filename:
            self._received.begin(filename.decode("utf-8", "replace"))
        elif filename is None:  # a form without a file sends one that has no name
            if len(self._received.fields) == MOST_FIELDS:
                raise Invalid.field(
                    "file",
                    _("The form has more than %(most)s fields", most=MOST_FIELDS),
                    _("Leave some out"),
                )
            self._field = options.get(b"name", b"").decode("utf-8", "replace")

    def _on_part_data(self, data: bytes, start: int, end: int) -> None:
        if self._in_file:
            self._received.write(data[start:end])
        elif self._field:
            self._text += data[start:end]
            if len(self._text) > MOST_FIELD_BYTES:
                raise Invalid.field(
                    self._field,
                    _("The field is too long"),
                    _("Use at most %(most)s bytes", most=MOST_FIELD_BYTES),
                )

    def _on_part_end(self) -> None:
        if self._field:
            self._received.fields[self._field] = self._text.decode("utf-8", "replace")
            self._text = b""

    def _on_end(self) -> None:
        self._complete = True


async def form(request: Request, settings: Config, files: Store) -> AsyncIterator[Received]:
    """The files of a form. Raises Forbidden for a form that is from no page of this server, before a file is stored."""

    def admit(fields: Mapping[str, str]) -> None:
        if not wants_json(request):
            csrf.check(request, fields.get(csrf.FIELD))

    with Received(files, settings.upload_bytes, admit) as received:
        try:
            _early(request.headers, settings.upload_bytes)
            parts = _Form(request.headers.get("content-type", ""), received)
            await _pass_on(request, parts.write)
            parts.end()
        except Invalid as error:
            received.refused = error
        received.fields.pop(csrf.FIELD, None)
        yield received


async def raw(request: Request, name: str, settings: Config, files: Store) -> AsyncIterator[Received]:
    """The body as a file of the name that stands in the address."""
    with Received(files, settings.upload_bytes) as received:
        try:
            _early(request.headers, settings.upload_bytes)
            await run_in_threadpool(received.begin, name)
            await _pass_on(request, received.write)
        except Invalid as error:
            received.refused = error
        yield received


FormFiles = Annotated[Received, Depends(form)]
RawFile = Annotated[Received, Depends(raw)]
"""An endpoint has them as its first parameter: later dependencies, such as a session, are then not held meanwhile."""


def _early(headers: Mapping[str, str], most_bytes: int) -> None:
    """Reject a request by its declared size, before its body arrives."""
    declared = headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > most_bytes + BESIDE_FILES:
        raise too_large(most_bytes)


async def _pass_on(request: Request, write: Callable[[bytes], None]) -> None:
    """The body in blocks, each written by a thread, so that other requests are served meanwhile."""
    block = bytearray()
    async for chunk in request.stream():
        block += chunk
        if len(block) >= BLOCK:
            await run_in_threadpool(write, bytes(block))
            block.clear()
    if block:
        await run_in_threadpool(write, bytes(block))


@contextmanager
def _room() -> Iterator[None]:
    """A full store is unavailable; it is not an internal error."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise Unavailable(_("The file store is full. Free some space there, then upload the file again.")) from error
