"""What the ranks of a run need beside `torch.distributed` when they are on several hosts.

They meet at a store that rank 0 serves (`TCPStore`), on the address of its host that the others reach. It and the
traffic of gloo and NCCL know neither passwords nor encryption: docs/deployment.md says what network that takes.

Checkpoints are written by rank 0's host. Ranks of other hosts write their parts to their own disks and send the files.
"""

import json
import socket
from collections.abc import Sequence
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist
from torch._C._distributed_c10d import PrefixStore, Store, TCPStore

from app.domain.errors import first_line
from app.domain.failures import FAILURES, FailureCode, RunFailed
from app.domain.messages import _
from app.domain.runs.job import Place
from worker.engine.device.environment import source_hash, versions
from worker.machine.network import interface

CONNECT = timedelta(seconds=60)
"""How long a rank tries to reach rank 0's store, which answers before the rank starts."""
CHUNK = 16 * 2**20
"""Bytes of a file that are sent at a time."""
NAME_BYTES = 200


def listen(address: str) -> tuple[str, TCPStore]:
    """Serve a store on one address of this host, at a free port. Returns `ADDRESS:PORT`, and what serves it."""
    with socket.socket() as listener:
        listener.bind((address, 0))
        listener.listen(128)
        port = listener.getsockname()[1]
        served = TCPStore(
            address, port, is_master=True, wait_for_workers=False, timeout=CONNECT, master_listen_fd=listener.detach()
        )
    return f"{address}:{port}", served


def meet(place: Place, rank: int, name: str) -> Store:
    """The store of an attempt with this name, after it was found that all ranks have the same software.

    Raises `RunFailed`: `not_joined` if rank 0 cannot be reached, `bad_configuration` if versions differ.
    """
    host, _colon, port = place.endpoint.rpartition(":")
    try:
        reached = TCPStore(host, int(port), is_master=False, wait_for_workers=False, timeout=CONNECT)
    except (RuntimeError, ValueError) as error:
        why = first_line(error)
        text = _("%(what)s (%(why)s)", what=FAILURES[FailureCode.NOT_JOINED], why=f"{place.endpoint}: {why}")
        raise RunFailed(FailureCode.NOT_JOINED, text) from error
    store = PrefixStore(name, reached)
    own = versions() | {"vezna's source": source_hash()[:12]}
    del own["python"]
    if rank == 0:
        store.set("software", json.dumps(own))
        return store
    for what, version in json.loads(store.get("software")).items():
        if own.get(what) != version:
            text = _(
                "The hosts of the run have different software: %(what)s is %(first)s on the first and %(here)s on "
                "another. Install the same version of it on all of them.",
                what=what,
                first=version,
                here=own.get(what),
            )
            raise RunFailed(FailureCode.BAD_CONFIGURATION, text)
    return store


def interfaces(address: str) -> dict[str, str]:
    """The environment variables by which gloo and NCCL use the interface with an address of this host."""
    name = interface(address)
    return {"GLOO_SOCKET_IFNAME": name, "NCCL_SOCKET_IFNAME": f"={name}"} if name else {}


def bring(folder: Path, rank: int, remote: Sequence[int]) -> None:
    """Copy the files of the `remote` ranks, which end in `-RANK.safetensors`, into rank 0's folder. Rank 0 and the
    remote ranks call it; the others may. Raises OSError where reading or writing fails, once everything was sent."""
    failed: OSError | None = None
    for sender in remote:
        try:
            if rank == sender:
                _send(sorted(folder.glob(f"*-{rank}.safetensors")))
            elif rank == 0:
                _receive(folder, sender)
        except OSError as error:  # the others wait for their turn to send
            failed = error
    if failed is not None:
        raise failed


def _send(files: Sequence[Path]) -> None:
    failed: OSError | None = None
    dist.send(torch.tensor([len(files)]), 0)
    for file in files:
        name, left = file.name.encode(), file.stat().st_size
        dist.send(torch.tensor([len(name), left]), 0)
        dist.send(_bytes(name), 0)
        with file.open("rb") as opened:
            while left:
                size = min(CHUNK, left)
                try:
                    data = opened.read(size)
                except OSError as error:
                    failed, data = error, b""
                dist.send(_bytes(data.ljust(size, b"\0")), 0)  # rank 0 waits for as many bytes as were announced
                left -= size
    if failed is not None:
        raise failed


def _receive(folder: Path, sender: int) -> None:
    failed: OSError | None = None
    [count] = _numbers(sender, 1)
    for _file in range(count):
        length, left = _numbers(sender, 2)
        name = bytes(_received(sender, min(length, NAME_BYTES)).tolist()).decode()
        if Path(name).name != name:
            raise ValueError(f"rank {sender} sends a file with the name {name!r}")
        try:
            opened = (folder / name).open("wb")
        except OSError as error:
            opened, failed = None, error
        while left:
            data = _received(sender, min(CHUNK, left))
            left -= len(data)
            if opened is None:
                continue
            try:
                opened.write(data.numpy().tobytes())
                opened.flush()
            except OSError as error:  # the disk is full; the sender goes on
                failed = error
        if opened is not None:
            with suppress(OSError):  # of what `flush` could not write
                opened.close()
    if failed is not None:
        raise failed


def _numbers(sender: int, count: int) -> list[int]:
    numbers = torch.zeros(count, dtype=torch.int64)
    dist.recv(numbers, sender)
    return [int(number) for number in numbers]


def _received(sender: int, size: int) -> torch.Tensor:
    data = torch.empty(size, dtype=torch.uint8)
    dist.recv(data, sender)
    return data


def _bytes(data: bytes) -> torch.Tensor:
    return torch.frombuffer(bytearray(data), dtype=torch.uint8)
