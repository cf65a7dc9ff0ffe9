"""Stored activations: one file per key, rows of different lengths concatenated, readable in any order.

    the rows' activations, [tokens, H]
    index, int64 [N, 2]: each row's first token and its number of tokens
    footer: kind, N, tokens, H, dtype, CRC-32 of the activations
    SHA-256 of key, index and footer

Files are read, not mapped: pages of a mapped file would count as memory of this process, which is what is measured.
Several processes may share a directory: a file appears complete, by renaming, and a removed file can still be read by a
process that has it open.
"""

import hashlib
import os
import shutil
import struct
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from numpy.typing import NDArray

_FOOTER = struct.Struct("<8sQQQ16sL")
_HASH = hashlib.sha256().digest_size
_KIND = b"prefix 1"
_DTYPES = {str(dtype).encode(): dtype for dtype in (torch.float32, torch.bfloat16, torch.float16)}
_CHUNK = 2**20
_SPARE = 2**30
"""Bytes of disk to leave free for everything else: checkpoints, artifacts."""
_ABANDONED = 3600
"""Seconds without a write after which an unfinished file counts as abandoned."""


class NotCached(Exception):
    """Activations cannot be stored; the message says why. Training continues without the cache."""


class PrefixCache:
    """The file of one key, in a directory of at most `capacity_bytes`; the least recently used files are removed
    first."""

    def __init__(self, directory: Path, key: str, capacity_bytes: int) -> None:
        """`key`: a hash of everything that the activations depend on (weights, rows, depth, dtype, libraries)."""
        self.file = directory / f"{key}.activations"
        self._key = key.encode()
        self._capacity = capacity_bytes

    def open(self) -> "Activations | None":
        """Open the stored activations; None if there are none. A damaged file is removed.

        Reads the whole file once to verify it: a second per GiB, where computing it takes minutes.
        """
        try:
            file = self.file.open("rb", buffering=0)
        except OSError:
            return None
        try:
            activations = Activations(file, self._key)
        except (ValueError, OSError):
            file.close()
            with suppress(OSError):  # removed in the meantime, or owned by another user
                self.file.unlink()
            return None
        with suppress(OSError):
            os.utime(self.file)
        return activations

    @contextmanager
    def writing(self, rows: int, tokens: int) -> "Iterator[Writer]":
        """A writer for `rows` rows with `tokens` tokens in total; the file appears when the block ends without an
        error.

        Raises `NotCached` if it does not fit, `ValueError` if a row was not added.
        """
        part = self.file.with_suffix(f".{os.getpid()}-{time.monotonic_ns()}.part")
        with _refusing():
            part.parent.mkdir(parents=True, exist_ok=True)
            file = part.open("xb")
        try:
            with file:
                writer = Writer(file, rows, lambda token_bytes: self._make_room(tokens * token_bytes))
                yield writer
                with _refusing():
                    writer.finish(self._key)
                    file.flush()
            with _refusing():
                part.replace(self.file)
        finally:
            part.unlink(missing_ok=True)

    def _make_room(self, needed: int) -> None:
        """Remove the least recently used files until `needed` bytes fit. Raises `NotCached` if they never will."""
        directory, now = self.file.parent, time.time()
        files: list[tuple[float, int, Path]] = []
        for path in directory.iterdir():
            with suppress(FileNotFoundError):  # removed in the meantime
                stat = path.stat()
                if path.suffix == ".part" and now - stat.st_mtime > _ABANDONED:
                    path.unlink()
                elif path.suffix == ".activations" and path != self.file:
                    files.append((stat.st_mtime, stat.st_size, path))
        stored, free = sum(size for _, size, _ in files), shutil.disk_usage(directory).free
        if needed > self._capacity:
            raise NotCached(f"Activations need {_gib(needed)} and their cache may hold {_gib(self._capacity)}.")
        if needed + _SPARE > free + stored:
            raise NotCached(
                f"Activations need {_gib(needed)} and the worker's disk has {_gib(free)} left, "
                f"of which {_gib(_SPARE)} are kept free."
            )
        for _, size, path in sorted(files):
            if stored + needed <= self._capacity and needed + _SPARE <= free:
                return
            path.unlink(missing_ok=True)
            stored, free = stored - size, free + size


class Writer:
    def __init__(self, file: BinaryIO, rows: int, make_room: Callable[[int], None]) -> None:
        """`make_room` is called with the bytes of a token before the first is written."""
        self._file = file
        self._make_room = make_room
        self._index = np.full((rows, 2), -1, dtype=np.int64)
        self._tokens = self._width = self._checksum = 0
        self._dtype = b""

    def add(self, rows: Sequence[int], hidden: torch.Tensor, mask: torch.Tensor) -> None:
        """Append the non-padding tokens of some rows: `hidden` [B, T, H], `mask` [B, T] with 1 for a token."""
        if hidden.shape[:2] != mask.shape or str(hidden.dtype).encode() not in _DTYPES:
            raise NotCached(
                f"The model's activations are {hidden.dtype} of shape {[*hidden.shape]} for tokens of shape "
                f"{[*mask.shape]}: they cannot be split by token."
            )
        with _refusing():
            if not self._tokens:
                self._width, self._dtype = hidden.shape[-1], str(hidden.dtype).encode()
                self._make_room(self._width * hidden.element_size())
            for row, start, stop, values in zip(rows, *_spans(mask), hidden.contiguous().cpu(), strict=True):
                data = _bytes(values[start:stop])
                self._index[row] = self._tokens, stop - start
                self._checksum = zlib.crc32(data, self._checksum)
                self._file.write(data)
                self._tokens += int(stop - start)

    def finish(self, key: bytes) -> None:
        """Append index, footer and hash."""
        missing = np.flatnonzero(self._index[:, 0] < 0)
        if len(missing):
            raise ValueError(f"Row {missing[0]} was in no batch.")
        counts = len(self._index), self._tokens, self._width
        tail = self._index.tobytes() + _FOOTER.pack(_KIND, *counts, self._dtype, self._checksum)
        self._file.write(tail + hashlib.sha256(key + tail).digest())


class Activations:
    """A file that is open for reading."""

    def __init__(self, file: BinaryIO, key: bytes) -> None:
        """Raises `ValueError` if the file is damaged or was written for another key."""
        self._file = file
        size, end = os.fstat(file.fileno()).st_size, _FOOTER.size + _HASH
        footer = os.pread(file.fileno(), end, max(0, size - end))
        if len(footer) < end:
            raise ValueError("cut short")
        kind, rows, tokens, self.width, dtype, checksum = _FOOTER.unpack(footer[: _FOOTER.size])
        if kind != _KIND or dtype.rstrip(b"\0") not in _DTYPES:
            raise ValueError("no file of activations")
        self.dtype = _DTYPES[dtype.rstrip(b"\0")]
        self._token_bytes = self.width * self.dtype.itemsize
        data = tokens * self._token_bytes
        if size != data + rows * 16 + end:
            raise ValueError("another size")
        tail = os.pread(file.fileno(), rows * 16 + _FOOTER.size, data)
        if hashlib.sha256(key + tail).digest() != footer[_FOOTER.size :]:
            raise ValueError("another index")
        if _checksum(file, data) != checksum:
            raise ValueError("other activations")
        self._index = np.frombuffer(tail, np.int64, rows * 2).reshape(rows, 2)
        self._buffer = torch.empty(0, dtype=self.dtype)

    def __enter__(self) -> "Activations":
        return self

    def __exit__(self, *raised: object) -> None:
        self._file.close()

    def read(self, rows: Sequence[int], mask: torch.Tensor) -> torch.Tensor:
        """The activations [B, T, H] on the device of `mask` [B, T], which has 1 for a token; zeros in the padding.

        On a CPU the next call overwrites the result: a backward pass that still needs it raises. Raises `ValueError` if
        a row's length differs from that in the file.
        """
        batch, longest = mask.shape
        size = batch * longest * self.width
        if self._buffer.numel() < size:
            with torch.inference_mode(False):  # a tensor created in inference mode could never take part in training
                self._buffer = torch.empty(size, dtype=self.dtype)
        # Zeroed by torch and then written without its knowledge: autograd sees only the first.
        hidden = self._buffer[:size].view(batch, longest, self.width).zero_()
        memory = _bytes(hidden)
        for i, (row, start, stop) in enumerate(zip(rows, *_spans(mask), strict=True)):
            first, length = (int(x) for x in self._index[row])
            if stop - start != length:
                raise ValueError(f"Row {row} has {stop - start} tokens here and {length} in the file.")
            at = (i * longest + int(start)) * self._token_bytes
            self._fill(memory[at : at + length * self._token_bytes], first * self._token_bytes)
        return hidden.to(mask.device)

    def _fill(self, target: memoryview, offset: int) -> None:
        """Read until `target` is full. Raises `OSError` if the file ends early."""
        while target:
            count = os.preadv(self._file.fileno(), [target], offset)
            if count == 0:
                raise OSError("A file of stored activations was cut short while it was in use.")
            target, offset = target[count:], offset + count


@contextmanager
def _refusing() -> Iterator[None]:
    """Turn a disk error into the reason why nothing is stored."""
    try:
        yield
    except OSError as error:
        raise NotCached(f"Activations could not be written: {error.strerror or error}.") from error


def _spans(mask: torch.Tensor) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The first token of each row and the one after its last, [B] and [B]; padding may be on either side or both."""
    real = mask.cpu().numpy() != 0
    start, length = real.argmax(axis=1), real.sum(axis=1)
    return start, start + length


def _bytes(values: torch.Tensor) -> memoryview:
    """The memory of a contiguous tensor."""
    return values.view(torch.uint8).numpy().reshape(-1).data


def _checksum(file: BinaryIO, size: int) -> int:
    """CRC-32 of the first `size` bytes."""
    chunk, checksum = memoryview(bytearray(_CHUNK)), 0
    for start in range(0, size, _CHUNK):
        count = os.preadv(file.fileno(), [chunk[: min(_CHUNK, size - start)]], start)
        checksum = zlib.crc32(chunk[:count], checksum)
    return checksum


def _gib(size: int) -> str:
    return f"{size / 2**30:.2f} GiB"
