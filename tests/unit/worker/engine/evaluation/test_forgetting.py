"""Forgetting: the same general tokens for the base model and for the adapted model."""

from pathlib import Path
from typing import Any

import pytest

from app.domain.data.dataset import PairRow, TextRow
from app.domain.failures import RunFailed
from app.domain.methods import FullSpec, LoraSpec
from app.domain.runs.result import RunResult
from tests.support.tiny import lm as tiny_lm
from tests.support.tiny import texts as tiny
from worker.engine.data.batches.batches import IGNORED
from worker.engine.evaluation import forgetting
from worker.engine.evaluation.forgetting import GeneralText, halves
from worker.engine.loop.attempt import Attempt

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
