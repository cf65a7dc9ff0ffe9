"""The frozen prefix in an attempt, and the file of its activations."""

import os
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from app.domain.methods import FullSpec, HeadOnlySpec, LastLayersSpec, LoraSpec, MethodSpec
from app.domain.runs.result import RunResult
from tests.support.tiny import lm as tiny_lm
from tests.support.tiny import texts as tiny
from worker.engine.loop.attempt import Attempt
from worker.engine.loop.prefix.activations import Activations, NotCached, PrefixCache
from worker.engine.memory.measured import resident_bytes

UPPER_LORA = LoraSpec(r=4, target_modules=["query", "value"], layers_to_transform=[1])
UPPER_PROJECTIONS = LoraSpec(r=4, target_modules=["q_proj", "v_proj"], layers_to_transform=[1])
FROZEN_BELOW: list[MethodSpec] = [HeadOnlySpec(), LastLayersSpec(layers=1), UPPER_LORA]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    # Dropout, which the prefix has to do without in both cases.
    return tiny.save_model(tmp_path_factory.mktemp("model"), hidden_dropout_prob=0.1)


def run(
    directory: Path, model: Path, method: MethodSpec, cache: Path, **training: object
) -> tuple[RunResult, tiny.Recorder]:
    recorder = tiny.Recorder()
    job = tiny.job(directory, model, method, tiny.FAST.model_copy(update=training))
    job = job.model_copy(update={"cache": str(cache), "cache_bytes": 10**8})
    return Attempt(job, recorder).run(), recorder


def files(cache: Path) -> set[Path]:
    return {path for path in (cache / "prefix").rglob("*") if path.is_file()}


@pytest.mark.slow
@pytest.mark.parametrize("method", FROZEN_BELOW, ids=lambda method: method.kind)
def test_reading_it_back_changes_no_loss_in_float32(tmp_path: Path, model: Path, method: MethodSpec) -> None:
    computed, plain = run(tmp_path / "computed", model, method, tmp_path / "none", cache_frozen_prefix=False)
    filled, first = run(tmp_path / "filled", model, method, tmp_path / "cache")
    _, second = run(tmp_path / "read", model, method, tmp_path / "cache")

    # A row's activations are computed in a batch of another shape: rounding, and nothing more.
    assert [s.loss for s in first.seen] == pytest.approx([s.loss for s in plain.seen], abs=2e-5)
    assert [s.loss for s in second.seen] == [s.loss for s in first.seen]
    assert [e.metrics for e in filled.evaluations] == [e.metrics for e in computed.evaluations]
    assert any("are read from the cache" in line for line in first.logs)
    assert filled.clocks.cache > 0 and computed.clocks.cache == 0


@pytest.mark.slow
@pytest.mark.parametrize("method", FROZEN_BELOW, ids=lambda method: method.kind)
def test_it_is_stored_and_read_back_in_bfloat16_too(tmp_path: Path, model: Path, method: MethodSpec) -> None:
    _, plain = run(tmp_path / "computed", model, method, tmp_path / "none", cache_frozen_prefix=False, bf16=True)
    result, first = run(tmp_path / "filled", model, method, tmp_path / "cache", bf16=True)
    _, second = run(tmp_path / "read", model, method, tmp_path / "cache", bf16=True)
    assert any("are read from the cache" in line for line in first.logs)
    assert result.clocks.cache > 0
    assert [s.loss for s in first.seen] == pytest.approx([s.loss for s in plain.seen], rel=0.05)
    assert [s.loss for s in second.seen] == [s.loss for s in first.seen]


@pytest.mark.parametrize("method", [LastLayersSpec(layers=1), UPPER_PROJECTIONS], ids=lambda method: method.kind)
@pytest.mark.parametrize("bf16", [False, True])
def test_a_language_model_reads_it_back(tmp_path: Path, method: MethodSpec, bf16: bool) -> None:
    llama = tiny_lm.save_model(tmp_path / "llama", "llama")
    losses = []
    for name in ("computed", "read"):
        recorder = tiny.Recorder()
        training = tiny_lm.FAST.model_copy(update={"bf16": bf16, "cache_frozen_prefix": name == "read"})
        job = tiny_lm.job(tmp_path / name, llama, "causal-lm", tiny_lm.pairs(), method=method, training=training)
        Attempt(job.model_copy(update={"cache": str(tmp_path / "cache"), "cache_bytes": 10**8}), recorder).run()
        assert any("are read from the cache" in line for line in recorder.logs) == (name == "read")
        losses.append([step.loss for step in recorder.seen])
    assert losses[1] == pytest.approx(losses[0], rel=0.05 if bf16 else 1e-4)


def test_a_model_that_cannot_be_probed_trains(tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*arguments: object) -> None:
        raise RuntimeError("expected another shape")

    monkeypatch.setattr("worker.engine.loop.prefix.frozen_prefix._probe", broken)
    result, recorder = run(tmp_path, model, HeadOnlySpec(), tmp_path / "cache")
    assert result.steps == 24
    assert any("could not be probed (RuntimeError: expected another shape)" in line for line in recorder.logs)


@pytest.mark.slow
def test_seeds_share_it_and_so_do_arms_that_are_frozen_as_deep(tmp_path: Path, model: Path) -> None:
    cache = tmp_path / "cache"
    run(tmp_path / "1", model, LastLayersSpec(layers=1), cache)
    [kept] = files(cache)
    run(tmp_path / "2", model, LastLayersSpec(layers=1), cache, seed=5)
    run(tmp_path / "3", model, UPPER_LORA, cache)
    assert files(cache) == {kept}
    run(tmp_path / "4", model, HeadOnlySpec(), cache)  # frozen deeper
    run(tmp_path / "5", model, LastLayersSpec(layers=1), cache, max_length=8)  # other tokens
    assert len(files(cache)) == 3


def test_a_method_that_trains_the_lowest_block_stores_nothing(tmp_path: Path, model: Path) -> None:
    for place, method in enumerate((FullSpec(), LoraSpec(r=4, target_modules=["query"]))):
        result, recorder = run(tmp_path / str(place), model, method, tmp_path / "cache")
        assert result.clocks.cache == 0 and not any("frozen" in line for line in recorder.logs)
    assert not (tmp_path / "cache").exists()


def test_no_room_in_the_cache_is_said_and_the_run_goes_on(tmp_path: Path, model: Path) -> None:
    recorder = tiny.Recorder()
    job = tiny.job(tmp_path, model, HeadOnlySpec())
    job = job.model_copy(update={"cache": str(tmp_path / "cache"), "cache_bytes": 100})
    assert Attempt(job, recorder).run().steps == 24
    assert any("are frozen and computed every time" in line for line in recorder.logs)


WIDTH = 16
GENEROUS = 2**40
LENGTHS = [3, 1, 5, 2]
RIGHT = torch.tensor([[1, 1, 1, 0, 0], [1, 0, 0, 0, 0], [1, 1, 1, 1, 1], [1, 1, 0, 0, 0]])
LEFT = RIGHT.flip(1)


def activations(dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """Four rows of five tokens."""
    return torch.randn(4, 5, WIDTH, generator=torch.Generator().manual_seed(0)).to(dtype)


def store(
    cache: PrefixCache, hidden: torch.Tensor, mask: torch.Tensor = RIGHT, order: Sequence[int] = (0, 1, 2, 3)
) -> Activations:
    """Write and open."""
    with cache.writing(len(mask), int(mask.sum())) as writer:
        for i in order:
            writer.add([i], hidden[i : i + 1], mask[i : i + 1])
    found = cache.open()
    assert found is not None
    return found


def names(directory: Path) -> set[str]:
    return {path.name for path in directory.iterdir()}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("mask", [RIGHT, LEFT], ids=["right", "left"])
def test_rows_come_back_with_zeros_in_the_padding(tmp_path: Path, dtype: torch.dtype, mask: torch.Tensor) -> None:
    hidden = activations(dtype)
    with store(PrefixCache(tmp_path, "a", GENEROUS), hidden, mask, order=[2, 0, 3, 1]) as stored:
        for rows in ([0, 1, 2, 3], [3, 1], [2], [1, 1, 0]):
            read = stored.read(rows, mask[rows])
            assert read.dtype is dtype
            assert torch.equal(read, hidden[rows] * mask[rows].unsqueeze(-1).to(dtype))


def test_a_row_may_be_read_with_padding_on_the_other_side(tmp_path: Path) -> None:
    hidden = activations()
    with store(PrefixCache(tmp_path, "a", GENEROUS), hidden, RIGHT) as stored:
        read = stored.read([0, 3], LEFT[[0, 3]])
    assert torch.equal(read[0, 2:], hidden[0, :3])
    assert torch.equal(read[1, 3:], hidden[3, :2])
    assert not read[0, :2].any()


def test_a_row_that_has_another_length_now_is_refused(tmp_path: Path) -> None:
    with (
        store(PrefixCache(tmp_path, "a", GENEROUS), activations()) as stored,
        pytest.raises(ValueError, match="Row 1 has 3 tokens here and 1 in the file"),
    ):
        stored.read([1], RIGHT[:1])


def test_a_backward_pass_through_activations_that_were_overwritten_raises(tmp_path: Path) -> None:
    weight = torch.ones(WIDTH, requires_grad=True)
    with store(PrefixCache(tmp_path, "a", GENEROUS), activations()) as stored:
        loss = (stored.read([0], RIGHT[:1]) * weight).sum()
        stored.read([1], RIGHT[1:2])
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            loss.backward()


def test_what_was_first_read_in_an_evaluation_can_be_trained_on(tmp_path: Path) -> None:
    weight = torch.ones(WIDTH, requires_grad=True)
    with store(PrefixCache(tmp_path, "a", GENEROUS), activations()) as stored:
        with torch.inference_mode():
            stored.read([0], RIGHT[:1])
        (stored.read([0], RIGHT[:1]) * weight).sum().backward()
    assert weight.grad is not None
    assert torch.allclose(weight.grad, activations()[0, :3].sum(0))


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_what_is_read_does_not_count_as_memory_of_the_process(tmp_path: Path) -> None:
    rows, tokens = 64, 256
    hidden, mask = torch.ones(1, tokens, 1024), torch.ones(1, tokens, dtype=torch.int64)
    cache = PrefixCache(tmp_path, "a", GENEROUS)
    with cache.writing(rows, rows * tokens) as writer:
        for row in range(rows):
            writer.add([row], hidden, mask)
    before = resident_bytes()
    with Activations(cache.file.open("rb", buffering=0), b"a") as stored:
        for row in range(rows):
            stored.read([row], mask)
        assert cache.file.stat().st_size > 64 * 2**20
        assert resident_bytes() - before < 8 * 2**20


def test_nothing_is_found_where_nothing_was_stored(tmp_path: Path) -> None:
    assert PrefixCache(tmp_path / "absent", "a", GENEROUS).open() is None


def _flip(offset: int) -> object:
    def damage(file: Path) -> None:
        content = bytearray(file.read_bytes())
        content[offset] ^= 1
        file.write_bytes(content)

    return damage


def _cut(file: Path) -> None:
    os.truncate(file, file.stat().st_size - 100)


def _empty(file: Path) -> None:
    file.write_bytes(b"")


def _another(file: Path) -> None:
    """A file that is whole, but another key's."""
    store(PrefixCache(file.parent, "b", GENEROUS), activations()).__exit__()
    (file.parent / "b.activations").replace(file)


@pytest.mark.parametrize(
    "damage",
    [_flip(0), _flip(-33), _flip(-69), _flip(-61), _flip(-120), _flip(-1), _cut, _empty, _another],
    ids=["activations", "checksum", "2⁵⁶ more rows", "2⁵⁶ more tokens", "index", "hash", "cut", "empty", "another key"],
)
def test_a_damaged_file_is_removed_and_can_be_written_anew(tmp_path: Path, damage: object) -> None:
    assert callable(damage)
    cache = PrefixCache(tmp_path, "a", GENEROUS)
    store(cache, activations()).__exit__()
    damage(cache.file)
    assert cache.open() is None
    assert not cache.file.exists()
    with store(cache, activations()) as stored:
        assert torch.equal(stored.read([2], RIGHT[2:3]), activations()[2:3])


def test_a_file_cut_short_while_it_is_read_is_an_error_and_no_wrong_numbers(tmp_path: Path) -> None:
    cache = PrefixCache(tmp_path, "a", GENEROUS)
    with store(cache, activations()) as stored:
        os.truncate(cache.file, 100)
        with pytest.raises(OSError, match="cut short"):
            stored.read([3], RIGHT[3:])


def test_what_was_not_opened_for_longest_makes_room(tmp_path: Path) -> None:
    caches = {key: PrefixCache(tmp_path, key, 0) for key in "abc"}
    size = 0
    for age, key in enumerate("ab"):
        roomy = PrefixCache(tmp_path, key, GENEROUS)
        store(roomy, activations()).__exit__()
        size = roomy.file.stat().st_size
        os.utime(roomy.file, (1000 + age, 1000 + age))
    reopened = caches["a"].open()
    assert reopened is not None, "now b is the older one"
    with reopened, store(PrefixCache(tmp_path, "c", int(2.5 * size)), activations()):
        assert names(tmp_path) == {"a.activations", "c.activations"}


def test_a_file_that_is_removed_can_still_be_read_by_who_has_it_open(tmp_path: Path) -> None:
    with store(PrefixCache(tmp_path, "a", GENEROUS), activations()) as first:
        with store(PrefixCache(tmp_path, "b", LENGTHS[2] * 4 * WIDTH * 3), activations()):
            assert names(tmp_path) == {"b.activations"}
        assert torch.equal(first.read([2], RIGHT[2:3]), activations()[2:3])


def test_more_than_the_cache_may_hold_is_refused_and_nothing_is_removed(tmp_path: Path) -> None:
    store(PrefixCache(tmp_path, "a", GENEROUS), activations()).__exit__()
    with pytest.raises(NotCached, match=r"need 0\.00 GiB and their cache may hold 0\.00 GiB"):
        store(PrefixCache(tmp_path, "b", 100), activations())
    assert names(tmp_path) == {"a.activations"}


def test_a_disk_without_room_is_refused_before_writing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=2**30 + 100))
    with pytest.raises(NotCached, match=r"disk has 1\.00 GiB left, of which 1\.00 GiB are kept free"):
        store(PrefixCache(tmp_path, "a", GENEROUS), activations())
    assert names(tmp_path) == set()


def test_a_directory_that_cannot_be_written_is_a_reason_not_to_cache(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(NotCached, match="could not be written: "):
        store(PrefixCache(tmp_path / "file", "a", GENEROUS), activations())


def test_two_writers_of_a_key_do_each_other_no_harm(tmp_path: Path) -> None:
    one, other = PrefixCache(tmp_path, "a", GENEROUS), PrefixCache(tmp_path, "a", GENEROUS)
    hidden = activations()
    with one.writing(4, 11) as first:
        first.add([0, 1], hidden[:2], RIGHT[:2])
        with other.writing(4, 11) as second:
            second.add([3, 2, 1, 0], hidden.flip(0), RIGHT.flip(0))
        reader = other.open()
        first.add([2, 3], hidden[2:], RIGHT[2:])
    assert reader is not None
    with reader, store(one, hidden) as again:
        for stored in (reader, again):
            assert torch.equal(stored.read([2], RIGHT[2:3]), hidden[2:3])
    assert names(tmp_path) == {"a.activations"}


def test_a_writer_that_stops_leaves_nothing(tmp_path: Path) -> None:
    cache = PrefixCache(tmp_path, "a", GENEROUS)
    with pytest.raises(KeyboardInterrupt), cache.writing(4, 11) as writer:
        writer.add([0], activations()[:1], RIGHT[:1])
        raise KeyboardInterrupt
    assert names(tmp_path) == set()


def test_a_file_without_all_rows_never_appears(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="Row 3 was in no batch"):
        store(PrefixCache(tmp_path, "a", GENEROUS), activations(), order=[0, 1, 2])
    assert names(tmp_path) == set()


def test_what_a_killed_writer_left_is_removed_and_what_one_still_writes_stays(tmp_path: Path) -> None:
    for name, age in (("b.1-1.part", 7200), ("b.2-2.part", 5)):
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (time.time() - age,) * 2)
    store(PrefixCache(tmp_path, "a", GENEROUS), activations()).__exit__()
    assert names(tmp_path) == {"a.activations", "b.2-2.part"}


def test_activations_that_belong_to_no_token_are_refused(tmp_path: Path) -> None:
    with (
        pytest.raises(NotCached, match=r"shape \[4, 5, 16\] for tokens of shape \[4, 4\]"),
        PrefixCache(tmp_path, "a", GENEROUS).writing(4, 11) as writer,
    ):
        writer.add([0, 1, 2, 3], activations(), RIGHT[:, :4])
