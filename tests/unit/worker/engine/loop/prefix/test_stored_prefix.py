"""The frozen prefix in an attempt: read back, it changes no loss; arms and seeds of a study share it."""

from pathlib import Path

import pytest

from app.domain.methods import FullSpec, HeadOnlySpec, LastLayersSpec, LoraSpec, MethodSpec
from app.domain.runs.result import RunResult
from tests.support.tiny import lm as tiny_lm
from tests.support.tiny import texts as tiny
from worker.engine.loop.attempt import Attempt

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
