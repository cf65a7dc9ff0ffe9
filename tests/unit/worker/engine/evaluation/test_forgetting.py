"""Evaluations of the base model: forgetting, and how runs share them."""

from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file, save_file

from app.domain.data.dataset import PairRow, TextRow
from app.domain.failures import RunFailed
from app.domain.methods import FullSpec, LoraSpec
from app.domain.runs.result import RunResult
from tests.support.tiny import lm as tiny_lm
from tests.support.tiny import pairs as tiny_pairs
from tests.support.tiny import texts as tiny
from worker.engine.data.batches.batches import IGNORED
from worker.engine.evaluation import base_evaluations, forgetting
from worker.engine.evaluation.forgetting import GeneralText, halves
from worker.engine.loop.attempt import Attempt
from worker.engine.models.weights import fingerprint

GENERAL = [TextRow(f"g{i}", "test", " ".join(tiny_lm.WORDS[i % 5 : i % 5 + 6])) for i in range(12)]


def general(directory: Path, rows: list[TextRow], kind: str = "gpt2", **training: Any) -> GeneralText:
    task = "seq2seq-lm" if kind == "t5" else "causal-lm"
    arguments = tiny_lm.FAST.model_copy(update=training)
    job = tiny_lm.job(directory / "job", Path("nowhere"), task, tiny_lm.pairs(), training=arguments, general=rows)
    words = tiny_lm.tokenizer(bos=kind != "t5", eos=kind == "t5")
    return GeneralText(job, words, tiny_lm.model(kind), tiny.Recorder())


def run(directory: Path, kind: str, **changes: Any) -> RunResult:
    base = tiny_lm.save_model(directory / "base", kind)
    task = "seq2seq-lm" if kind == "t5" else "causal-lm"
    training = tiny_lm.FAST.model_copy(update=changes.pop("training", {}))
    job = tiny_lm.job(
        directory / "run", base, task, tiny_lm.pairs(), training=training, general=GENERAL, **changes
    )  # fmt: skip
    return Attempt(job, tiny.Recorder()).run()


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["gpt2", "t5"])
def test_a_model_that_learns_forgets(tmp_path: Path, kind: str) -> None:
    found = run(tmp_path, kind, training={"num_train_epochs": 8}).forgetting
    assert found
    assert found.dataset == "general"
    assert found.change == found.adapted_loss - found.base_loss
    assert abs(found.change) > 0.01


def test_a_model_that_learns_nothing_forgets_nothing(tmp_path: Path) -> None:
    """LoRA starts as no change at all, and one step with so small a rate is next to none."""
    method = LoraSpec(r=4, target_modules="all-linear")
    found = run(tmp_path, "llama", method=method, training={"max_steps": 1, "learning_rate": 1e-9}).forgetting
    assert found
    assert found.change == pytest.approx(0, abs=1e-5)


def test_without_general_text_nothing_is_measured(tmp_path: Path) -> None:
    base = tiny_lm.save_model(tmp_path / "base", "gpt2")
    job = tiny_lm.job(tmp_path / "run", base, "causal-lm", tiny_lm.pairs(), method=FullSpec())
    assert Attempt(job, tiny.Recorder()).run().forgetting is None


def test_every_token_of_a_text_counts(tmp_path: Path) -> None:
    found = general(tmp_path, GENERAL[:1])
    assert (found.examples.targets[0] != IGNORED).all()
    assert found.forgetting(1.0, 1.5).tokens == 7  # six words and the end


def test_a_few_first_texts_of_the_test_split_are_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [TextRow("t", "train", "one two"), *GENERAL, TextRow("e", "test", " ")]
    monkeypatch.setattr(forgetting, "MOST_TOKENS", 100)
    found = general(tmp_path / "tokens", rows, max_length=24)
    assert [row.item for row in found.examples.rows] == ["g0", "g1", "g2", "g3"]
    monkeypatch.setattr(forgetting, "MOST_TEXTS", 2)
    assert len(general(tmp_path / "texts", rows).examples) == 2


def test_a_dataset_without_a_text_to_judge_by_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunFailed, match="general_text: its test split has no text"):
        general(tmp_path, [TextRow("e", "test", " ")])
    with pytest.raises(RunFailed, match="no rows in its test split"):
        general(tmp_path / "train", [TextRow("e", "train", "one")])


def test_an_encoder_decoder_is_given_the_first_half_of_a_text(tmp_path: Path) -> None:
    def cut(text: str, max_length: int = 100) -> list[tuple[str, str]]:
        rows = list(halves([TextRow("t", "test", text)], max_length))
        assert all(isinstance(row, PairRow) and row.split == "test" for row in rows)
        return [(row.prompt, row.completion) for row in rows]

    assert cut("one two three four") == [("one two three", "four")]
    assert cut("one two three") == [("one two", "three")]
    assert cut("one two three four", max_length=2) == [("one", "two three four")]
    assert cut("東京都千代田区") == [("東京都", "千代田区")]
    assert cut("x") == []
    found = general(tmp_path, GENERAL, "t5")
    assert len(found.examples) == 12


FOUR_TEXTS = [TextRow(f"g{i}", "test", " ".join(tiny_lm.WORDS[i % 5 : i % 5 + 6])) for i in range(4)]
READ = "An earlier run evaluated the base model: its predictions are read from the cache."


class Study:
    """Runs on one base model and dataset, by one worker."""

    def __init__(self, directory: Path, kind: str = "gpt2") -> None:
        self.directory = directory
        self.task = "seq2seq-lm" if kind == "t5" else "causal-lm"
        self.base = tiny_lm.save_model(directory / "base", kind)
        self.cache = directory / "cache"
        self.runs = 0

    def run(self, *, inspected: bool = True, **changes: Any) -> tuple[RunResult, list[str], dict[str, list[Any]]]:
        """Result, log and the columns of the base model's predictions."""
        self.runs += 1
        training = tiny_lm.FAST.model_copy(update={"max_steps": 2} | changes.pop("training", {}))
        folder = self.directory / str(self.runs)
        job = tiny_lm.job(
            folder, self.base, self.task, tiny_lm.pairs(), training=training, general=FOUR_TEXTS, **changes
        )  # fmt: skip
        weights = fingerprint(self.base) if inspected else ""
        where = {"cache": str(self.cache), "cache_bytes": 1 << 20, "model_fingerprint": weights}
        sink = tiny.Recorder()
        result = Attempt(job.model_copy(update=where), sink).run()
        columns = pq.read_table(Path(job.output) / "predictions.parquet").to_pydict()
        return result, sink.logs, {name: values for name, values in columns.items() if name.startswith("base_")}


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["gpt2", "t5"])
def test_another_arm_and_seed_reads_what_the_first_run_computed(tmp_path: Path, kind: str) -> None:
    study = Study(tmp_path, kind)
    first, lines, predictions = study.run(method=FullSpec())
    assert READ not in lines
    second, lines, predictions_read = study.run(method=LoraSpec(r=2), training={"seed": 1})
    assert lines.count(READ) == 2, "the test split and the general text"
    assert predictions_read == predictions
    assert second.evaluation("base", "test") == first.evaluation("base", "test")
    assert second.forgetting and first.forgetting
    assert second.forgetting.base_loss == first.forgetting.base_loss
    assert second.evaluation("adapted", "test") != first.evaluation("adapted", "test")


def test_reading_changes_nothing_in_the_training(tmp_path: Path) -> None:
    study = Study(tmp_path)
    (computed, *_), (read, lines, _) = study.run(), study.run()
    assert READ in lines
    assert read.evaluation("adapted", "test") == computed.evaluation("adapted", "test")


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes",
    [{"max_new_tokens": 3}, {"max_length": 6}, {"per_device_eval_batch_size": 3}],
    ids=["shorter answers", "shorter rows", "smaller batches"],
)
def test_what_changes_the_predictions_is_computed_anew(tmp_path: Path, changes: dict[str, Any]) -> None:
    study = Study(tmp_path)
    study.run()
    assert study.run(training=changes)[1].count(READ) < 2


@pytest.mark.slow
def test_other_weights_are_evaluated(tmp_path: Path) -> None:
    study = Study(tmp_path)
    _, _, predictions = study.run()
    weights = study.base / "model.safetensors"
    tensors = load_file(weights)
    tensors["transformer.ln_f.bias"] += torch.randn(tensors["transformer.ln_f.bias"].shape)
    save_file(tensors, weights, {"format": "pt"})
    _, lines, others = study.run()
    assert READ not in lines and others != predictions


@pytest.mark.slow
def test_weights_without_a_known_hash_are_not_shared(tmp_path: Path) -> None:
    study = Study(tmp_path)
    study.run(inspected=False)
    assert READ not in study.run(inspected=False)[1]


@pytest.mark.slow
def test_a_damaged_file_is_computed_anew(tmp_path: Path) -> None:
    study = Study(tmp_path)
    _, _, predictions = study.run()
    for file in (study.cache / "base").iterdir():
        file.write_text(file.read_text()[:20])
    _, lines, again = study.run()
    assert READ not in lines and again == predictions
    assert study.run()[1].count(READ) == 2


@pytest.mark.slow
def test_the_least_recently_used_are_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base_evaluations, "KEPT", 1)
    study = Study(tmp_path)
    study.run()
    assert len([*(study.cache / "base").iterdir()]) == 1
    assert READ not in study.run()[1], "the general text's came later"


def classify(tmp_path: Path, base: Path, name: str, *, seed: int) -> tuple[RunResult, list[str], dict[str, list[Any]]]:
    """Result, log and predictions file of a classification run."""
    training = tiny.FAST.model_copy(update={"seed": seed})
    job = tiny.job(tmp_path / name, base, LoraSpec(r=2), training)
    where = {"cache": str(tmp_path / "cache"), "cache_bytes": 1 << 20, "model_fingerprint": fingerprint(base)}
    sink = tiny.Recorder()
    result = Attempt(job.model_copy(update=where), sink).run()
    return result, sink.logs, pq.read_table(Path(job.output) / "predictions.parquet").to_pydict()


@pytest.mark.slow
def test_a_classifier_shares_the_evaluation_among_runs_with_the_same_seed(tmp_path: Path) -> None:
    base = tiny.save_model(tmp_path / "base")
    computed, lines, predictions = classify(tmp_path, base, "first", seed=0)
    assert READ not in lines
    read, lines, again = classify(tmp_path, base, "second", seed=0)
    assert READ in lines and again == predictions
    assert read.evaluation("base", "test") == computed.evaluation("base", "test")
    assert read.confusion == computed.confusion
    _, lines, others = classify(tmp_path, base, "other seed", seed=1)
    assert READ not in lines and others != predictions, "its head starts from other weights"


def test_a_search_stores_which_passages_it_found_and_not_their_texts(tmp_path: Path) -> None:
    base = tiny.save_model(tmp_path / "base")
    columns = []
    for name in ("first", "second"):
        job = tiny_pairs.job(tmp_path / name, base, training=tiny_pairs.FAST.model_copy(update={"max_steps": 1}))
        where = {"cache": str(tmp_path / "cache"), "cache_bytes": 1 << 20, "model_fingerprint": fingerprint(base)}
        sink = tiny.Recorder()
        Attempt(job.model_copy(update=where), sink).run()
        assert (READ in sink.logs) == (name == "second")
        columns.append(pq.read_table(Path(job.output) / "predictions.parquet").to_pydict()["base_prediction"])
    assert columns[0] == columns[1] and len(set(columns[0])) > 1
    [file] = (tmp_path / "cache" / "base").iterdir()
    assert not any(passage in file.read_text() for passage in columns[0])
