"""Detects the encoding of a text file: by its first bytes, by decoding it as UTF-8, else by the letters of
European languages, else by statistics of its bytes.

General statistics read Portuguese and Swedish as cp1250 ("năo", "pĺ"), since the encodings share most letters.
"""

import codecs
import io
import re
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, NamedTuple

from charset_normalizer import from_bytes

from app.domain.messages import Message, _
from worker.ingest.readers.batches import Source, Unreadable

_ALPHABETS = {
    "cp1252": (
        *("àâæçèéêëîïôœùûüÿ", "äöüß", "áéíñóúü", "áâãàçéêíóôõúü", "àèéìíîòóù", "àçèéíïòóúü", "áéèëêïóöü", "åäöé"),
        *("æøåéóòôê", "äöåšž", "áðéíóúýþæö", "äöõüšž"),
    ),
    "cp1250": ("ąćęłńóśźż", "áčďéěíňóřšťúůýž", "áäčďéíĺľňóôŕšťúýž", "áéíóöőúüű", "čćđšž", "ăâîşţ"),
    "cp1254": ("çğıöşüâîû",),
    "cp1257": ("ąčęėįšųūž", "āčēģīķļņšūž"),
}
"""French, German, Spanish, Portuguese, Italian, Catalan, Dutch, Swedish, Danish and Norwegian, Finnish, Icelandic,
Estonian; Polish, Czech, Slovak, Hungarian, Croatian and Slovene, Romanian; Turkish; Lithuanian, Latvian. Of equal ones
the first encoding is chosen, so cp1252 stands first."""
_WITHIN_WORDS = re.compile(r"[^\W\d_]|(?<=[^\W\d_])[^\x00-\x7f](?=[^\W\d_])")
"""Letters, and signs between two of them, which a wrong encoding makes of letters."""
_NO_LETTERS = set("’–—…·\xa0\xad")
_LEAST_SHARE = 0.9
_MOST_FOREIGN = 0.4
"""Share of letters beyond a to z; in Cyrillic or Greek text nearly all are."""


def european_encoding(sample: bytes) -> str:
    """The encoding in which one language's letters explain the text best; empty if none explains nine tenths."""
    shares = {name: _share(sample.decode(name, errors="replace"), letters) for name, letters in _ALPHABETS.items()}
    best = max(shares, key=lambda name: shares[name])
    return best if shares[best] >= _LEAST_SHARE else ""


def _share(text: str, alphabets: tuple[str, ...]) -> float:
    """The share of letters beyond a to z that the best of some alphabets has."""
    signs = Counter(_WITHIN_WORDS.findall(text.lower()))
    foreign = {sign: count for sign, count in signs.items() if not sign.isascii() and sign not in _NO_LETTERS}
    total = sum(foreign.values())
    if not total or total > _MOST_FOREIGN * sum(signs.values()):
        return 0.0
    return max(sum(foreign.get(sign, 0) for sign in set(alphabet)) for alphabet in alphabets) / total


CHUNK = 1 << 20
_SAMPLE = 1 << 18
_SURROGATES = re.compile("[\ud800-\udfff]")
"""Some decoders produce them unpaired."""
_HEAD = 4096
_MOSTLY, _SELDOM = 0.7, 0.1
_WIDE = {"utf-32-le": (1, 2, 3), "utf-32-be": (0, 1, 2), "utf-16-le": (1, 3), "utf-16-be": (0, 2)}
"""Which of four bytes are zero in Latin text."""
_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


class Encoding(NamedTuple):
    name: str
    guessed: bool = False
    """It was guessed by statistics and may be wrong."""


def encoding_of(source: Source) -> Encoding:
    """The encoding of a file, which is read completely. Raises Unreadable for bytes that are not text."""
    with source.path.open("rb") as file:
        head = file.read(_HEAD)
    name = source.options.encoding or wide(head)
    if name:
        _decoded(source, name)
        return Encoding(name)
    invalid = _first_invalid_utf8(source)
    return Encoding("utf-8") if invalid is None else Encoding(_guessed(source.path, invalid), guessed=True)


@contextmanager
def reading(source: Source, encoding: str) -> Iterator[tuple[io.TextIOWrapper, BinaryIO]]:
    """A file as text with its own line ends, and the raw file, whose position shows the progress. Decoding errors
    become Unreadable."""
    with source.path.open("rb") as raw, io.TextIOWrapper(raw, encoding=encoding, newline="") as text:
        try:
            yield text, raw
        except UnicodeError as error:
            raise Unreadable(_undecodable(source.name, encoding, error)) from error


def wide(head: bytes) -> str:
    """The encoding of a file's byte order mark, or UTF-16 or UTF-32 without one: in Latin text most of their bytes are
    zero. Else empty."""
    if marked := next((name for mark, name in _MARKS if head.startswith(mark)), ""):
        return marked
    quarter = len(head) // 4
    if quarter < 1:
        return ""
    zeros = [head[place : quarter * 4 : 4].count(0) / quarter for place in range(4)]
    full, empty = [share > _MOSTLY for share in zeros], [share < _SELDOM for share in zeros]
    for name, zero in _WIDE.items():
        if all(full[place] if place in zero else empty[place] for place in range(4)):
            return name
    return ""


def _first_invalid_utf8(source: Source) -> int | None:
    """Position of the first byte that is not valid UTF-8. Raises Unreadable for a NUL: the file is binary."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    before, lines = 0, 1
    with source.path.open("rb") as file:
        while chunk := file.read(CHUNK):
            if (place := chunk.find(0)) >= 0:
                raise Unreadable(_nul_byte(source.name, lines + chunk[:place].count(b"\n")))
            pending = len(decoder.getstate()[0])
            try:
                decoder.decode(chunk)
            except UnicodeDecodeError as error:
                _refuse_nul_after(source, before, lines)
                return before - pending + error.start
            before += len(chunk)
            lines += chunk.count(b"\n")
        try:
            decoder.decode(b"", final=True)
        except UnicodeDecodeError:
            return before - 1
    return None


def _refuse_nul_after(source: Source, before: int, lines: int) -> None:
    with source.path.open("rb") as file:
        file.seek(before)
        while chunk := file.read(CHUNK):
            if (place := chunk.find(0)) >= 0:
                raise Unreadable(_nul_byte(source.name, lines + chunk[:place].count(b"\n")))
            lines += chunk.count(b"\n")


def _nul_byte(name: str, line: int) -> Message:
    return _(
        "%(name)s: line %(line)s contains a NUL byte, so the file is damaged, or is not a text file.",
        name=name,
        line=line,
    )


def _guessed(path: Path, invalid: int) -> str:
    with path.open("rb") as file:
        file.seek(max(0, invalid - _SAMPLE // 2))
        sample = file.read(_SAMPLE)
    if european := european_encoding(sample):
        return european
    guess = from_bytes(sample).best()
    return guess.encoding if guess is not None and guess.encoding not in ("ascii", "utf_8") else "cp1252"


def _decoded(source: Source, name: str) -> None:
    """Decode the whole file; raise Unreadable if it is not valid in this encoding."""
    lines = 1
    decoder = codecs.getincrementaldecoder(name)()
    with source.path.open("rb") as file:
        try:
            while chunk := file.read(CHUNK):
                text = decoder.decode(chunk)
                if (place := text.find("\0")) >= 0:
                    line = lines + text.count("\n", 0, place)
                    problem = _(
                        "%(name)s: line %(line)s contains a NUL character, so the file is damaged, or is not "
                        "%(encoding)s.",
                        name=source.name,
                        line=line,
                        encoding=name,
                    )
                    raise Unreadable(problem)
                if surrogate := _SURROGATES.search(text):
                    line = lines + text.count("\n", 0, surrogate.start())
                    problem = _(
                        "%(name)s: line %(line)s contains an unpaired surrogate (\\ud800 to \\udfff), so the file is "
                        "damaged, or is not %(encoding)s.",
                        name=source.name,
                        line=line,
                        encoding=name,
                    )
                    raise Unreadable(problem)
                lines += text.count("\n")
            decoder.decode(b"", final=True)
        except UnicodeError as error:
            raise Unreadable(_undecodable(source.name, name, error, lines)) from error


def _undecodable(name: str, encoding: str, error: UnicodeError, line: int | None = None) -> Message:
    where = name if line is None else _("%(name)s from line %(line)s", name=name, line=line)
    if not isinstance(error, UnicodeDecodeError):
        what = _("%(where)s is not valid %(encoding)s.", where=where, encoding=encoding)
    elif error.start < len(error.object):
        byte = f"0x{error.object[error.start]:02x}"
        what = _("%(where)s is not valid %(encoding)s (byte %(byte)s).", where=where, encoding=encoding, byte=byte)
    else:
        what = _("%(where)s is not valid %(encoding)s (it is truncated).", where=where, encoding=encoding)
    return Message.joined([what, _("Choose another encoding, or save the file as UTF-8.")])
