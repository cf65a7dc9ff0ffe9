"""What an attempt refuses before it trains though it was queued: by the field, as it would have been at the door."""

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, BertGenerationConfig, MistralConfig, PreTrainedConfig

from app.domain.failures import FailureCode, RunFailed
from app.domain.methods import PromptSpec
from app.domain.runs.status import Phase
from tests.support.tiny import lm as tiny_lm
from tests.support.tiny import texts as tiny
from worker.engine.loop.attempt import Attempt


def test_a_budget_that_a_method_does_not_go_with(base: Path, tmp_path: Path, recorder: tiny.Recorder) -> None:
    packed = tiny.FAST.model_copy(update={"packing": True})
    job = tiny.job(tmp_path, base, PromptSpec(num_virtual_tokens=2), packed)
    with pytest.raises(
        RunFailed, match=r"training\.packing: The method prompt tuning does not work with packing: "
    ) as failed:
        Attempt(job, recorder).run()
    assert failed.value.code is FailureCode.BAD_CONFIGURATION
    assert recorder.phases == [Phase.LOAD]


SIZES = {
    "vocab_size": 32,
    "hidden_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "initializer_range": 0.5,
}


@pytest.mark.parametrize(
    ("config", "packing", "sentence"),
    [
        (BertGenerationConfig(**SIZES), False, "is an encoder"),
        (MistralConfig(**SIZES, num_key_value_heads=2, sliding_window=8), True, "packing: rows cannot be packed"),
    ],
    ids=["reads both ways", "a window"],
)
def test_a_model_whose_rows_would_see_what_they_predict(
    config: PreTrainedConfig, packing: bool, sentence: str, tmp_path: Path, recorder: tiny.Recorder
) -> None:
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path / "base")
    tiny_lm.tokenizer().save_pretrained(tmp_path / "base")
    training = tiny_lm.FAST.model_copy(update={"packing": packing})
    job = tiny_lm.job(tmp_path / "job", tmp_path / "base", "causal-lm", tiny_lm.pairs(), training=training)
    with pytest.raises(RunFailed, match=sentence):
        Attempt(job, recorder).run()
