"""Files of other hosts' ranks come to rank 0 whole, or fail without leaving a rank waiting."""

import queue
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch

from worker.engine.ranks import hosts

SECONDS = 20


class Wire:
    """`torch.distributed` between the ranks, as threads."""

    def __init__(self) -> None:
        self.sent: queue.Queue[torch.Tensor] = queue.Queue()

    def send(self, tensor: torch.Tensor, rank: int) -> None:
        assert rank == 0
        self.sent.put(tensor.clone())

    def recv(self, tensor: torch.Tensor, rank: int) -> None:
        tensor.copy_(self.sent.get(timeout=SECONDS))


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """That of rank 0 and that of ranks 1 and 2, which has files of both and one of another rank."""
    monkeypatch.setattr(hosts, "dist", Wire())
    monkeypatch.setattr(hosts, "CHUNK", 1000)
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    second.mkdir()
    (second / "weights-1.safetensors").write_bytes(bytes(range(250)) * 10)
    (second / "random-1.safetensors").write_bytes(b"")
    (second / "random-2.safetensors").write_bytes(b"two")
    (second / "random-11.safetensors").write_bytes(b"not of rank 1")
    return first, second


def bring(first: Path, second: Path) -> list[BaseException | None]:
    """What each rank raises."""

    def rank(number: int) -> None:
        hosts.bring(second if number else first, number, [1, 2])

    with ThreadPoolExecutor(3) as pool:
        # One after the other on the wire, as each sends to rank 0 alone.
        senders = [pool.submit(lambda: (rank(1), rank(2)))]
        return [each.exception(SECONDS) for each in (pool.submit(rank, 0), *senders)]


def test_rank_0_gets_the_files_of_every_rank_of_another_host(folders: tuple[Path, Path]) -> None:
    first, second = folders
    assert bring(first, second) == [None, None]
    found = {path.name: path.read_bytes() for path in first.iterdir()}
    assert found == {path.name: path.read_bytes() for path in second.iterdir() if "11" not in path.name}


def test_a_full_disk_of_rank_0_is_an_error_once_everything_was_sent(
    folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = folders
    real = Path.open

    def full(path: Path, mode: str = "r", *arguments: Any) -> Any:
        return real(Path("/dev/full"), mode) if path.parent == first else real(path, mode, *arguments)

    monkeypatch.setattr(Path, "open", full)
    raised, sent = bring(first, second)
    assert isinstance(raised, OSError) and sent is None
    assert hosts.dist.sent.empty()  # type: ignore[attr-defined]
