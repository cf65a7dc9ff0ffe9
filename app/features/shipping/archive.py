"""Files as one tar archive that is written as it is read: no copy on the disk, and a length that is known before.

An archive of the same files is the same, byte for byte: every file has the same owner, mode and time.
"""

import tarfile
from collections.abc import Iterable, Iterator

END = 2 * tarfile.BLOCKSIZE
"""Bytes of the two empty blocks that end an archive."""


def archive(members: Iterable[tuple[str, int, Iterator[bytes]]]) -> Iterator[bytes]:
    """The archive of members: name, number of bytes, and these bytes in pieces. Raises ValueError if there are more or
    fewer of them, which would shift everything behind."""
    for name, size, pieces in members:
        yield _header(name, size)
        sent = 0
        for piece in pieces:
            sent += len(piece)
            yield piece
        if sent != size:
            raise ValueError(f"{name} has {sent} bytes in the store, not {size}")
        yield bytes(-size % tarfile.BLOCKSIZE)
    yield bytes(END)


def archive_bytes(members: Iterable[tuple[str, int]]) -> int:
    """The archive's length, from names and numbers of bytes."""
    return END + sum(len(_header(name, size)) + size + -size % tarfile.BLOCKSIZE for name, size in members)


def _header(name: str, size: int) -> bytes:
    info = tarfile.TarInfo(name)
    info.size = size
    return info.tobuf(tarfile.PAX_FORMAT)
