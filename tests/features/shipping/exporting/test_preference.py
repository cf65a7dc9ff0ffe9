"""Exports of models that preference tuning trained, and their answers."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from app.domain.failures import RunFailed
from app.domain.methods import FullSpec, LoraSpec, MethodSpec
from app.domain.models.exports import ExportFormat, ExportJob
from app.features.serving.rules import ModelJob
from tests.support.rows import inferred
from tests.support.tiny import lm as tiny_lm
from tests.support.tiny import preferences as tiny_preferences
from tests.support.tiny import texts as tiny
from tests.support.tiny import tokenizers as tiny_tokenizers
from worker.engine.loop.attempt import Attempt
from worker.features.shipping.exporting import export, merge
from worker.features.shipping.exporting.progress import quiet


@pytest.mark.parametrize(
    ("method", "form"),
    [
        (FullSpec(), ExportFormat.MERGED_FLOAT32),
        pytest.param(LoraSpec(r=4, target_modules="all-linear"), ExportFormat.ADAPTER, marks=pytest.mark.slow),
    ],
    ids=["full", "lora"],
)
def test_an_export_has_the_rewards_of_its_run(method: MethodSpec, form: ExportFormat, tmp_path: Path) -> None:
    """They are relative to the base model, whose log-probabilities are in the run's predictions file."""
    training = tiny_preferences.FAST.model_copy(update={"num_train_epochs": 1})
    run = tiny_preferences.job(tmp_path / "job", tiny_lm.save_model(tmp_path / "base", "llama"), method, training)
    Attempt(run, tiny.Recorder()).run()
    output = Path(run.output)
    saved = output / ("model" if form.merged else "adapter")
    table = pq.read_table(output / "predictions.parquet").to_pydict()
    job = ExportJob(format=form, job=run.model_copy(update={"output": str(tmp_path / "export")}), weights=str(saved),
                    whole=form.merged, predictions=str(output / "predictions.parquet"))  # fmt: skip
    merge.write(job)
    found = export.check(job, quiet)
    assert found.scores == table["preference_accuracy"] != table["likelihood_accuracy"]
    assert found.same == len(found.scores)
    with pytest.raises(RunFailed, match="has no predictions file"):
        export.check(job.model_copy(update={"predictions": ""}), quiet)


@pytest.mark.slow
def test_a_trained_model_answers_prompts_and_conversations_and_a_gguf_file_has_its_rewards(tmp_path: Path) -> None:
    """The playground, REST and `vezna serve` answer by this engine."""
    base = tmp_path / "base"
    words = tiny_tokenizers.byte_level("gpt2")
    words.chat_template = tiny_lm.CHAT_TEMPLATE
    tiny_lm.save_model(base, "llama", vocab_size=len(words) + 2)
    words.save_pretrained(base)
    training = tiny_preferences.FAST.model_copy(update={"num_train_epochs": 1, "max_length": 64})
    run = tiny_preferences.job(tmp_path / "job", base, LoraSpec(r=4), training)
    Attempt(run, tiny.Recorder()).run()
    adapter, saved = Path(run.output) / "adapter", Path(run.output) / "predictions.parquet"
    model = ModelJob(key="run 1/1", job=run, weights=str(adapter), whole=False, base_bytes=1000, own_bytes=10)
    prompts: list[Any] = ["count from one :", [{"role": "user", "content": "count from one"}]]
    answers = inferred.predictions(inferred.asked(inferred.models(), [model], prompts))
    assert [answer["index"] for answer in answers] == [0, 1] and all(answer["tokens"] > 0 for answer in answers)
    (tmp_path / "export").mkdir()
    job = ExportJob(format=ExportFormat.GGUF_F16, job=run.model_copy(update={"output": str(tmp_path / "export")}),
                    weights=str(adapter), whole=False, predictions=str(saved))  # fmt: skip
    assert any(file.name == "model-F16.gguf" for file in merge.write(job))
    found = export.check(job, quiet)
    expected = pq.read_table(saved).to_pydict()["preference_accuracy"]
    assert len(found.scores) == len(expected) and np.mean(np.equal(found.scores, expected)) >= 0.9
