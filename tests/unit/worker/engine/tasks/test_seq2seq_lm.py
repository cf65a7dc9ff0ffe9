"""Text to text: what encoder and decoder read, the loss, and what is written."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForSeq2SeqLM, M2M100Config, PreTrainedModel, PreTrainedTokenizerBase, Qwen2AudioConfig

from app.domain.data.dataset import PairRow, Row, TextRow
from app.domain.failures import RunFailed
from app.domain.methods import FullSpec, LoraSpec, MethodSpec, PrefixSpec, PromptSpec
from app.domain.runs.training import TrainingArguments
from tests.support.tiny import lm as tiny_lm
from tests.support.tiny import texts as tiny
from worker.engine.data.batches.batches import IGNORED
from worker.engine.evaluation.evaluate import Evaluator
from worker.engine.evaluation.generation import write
from worker.engine.loop.attempt import Attempt
from worker.engine.methods import MECHANISMS
from worker.engine.models.architecture import describe
from worker.engine.models.load import check_task
from worker.engine.tasks import seq2seq_lm
from worker.engine.tasks.completions import Completions

PAIR = PairRow("p1", "train", "count from one :", "two three")
METHODS: list[MethodSpec] = [
    FullSpec(),
    LoraSpec(r=4, target_modules="all-linear"),
    PrefixSpec(num_virtual_tokens=3),
    PromptSpec(num_virtual_tokens=3),
]


def encode(
    rows: Sequence[Row],
    directory: Path,
    *,
    words: PreTrainedTokenizerBase | None = None,
    model: PreTrainedModel | None = None,
    sink: tiny.Recorder | None = None,
    **training: Any,
) -> Completions:
    arguments = TrainingArguments.model_validate({**tiny_lm.FAST.model_dump(), **training})
    job = tiny_lm.job(directory / "job", Path("nowhere"), "seq2seq-lm", rows, training=arguments)
    words = words or tiny_lm.tokenizer(bos=False, eos=True)
    return seq2seq_lm.encode(rows, rows[0].split, words, model or tiny_lm.model("t5"), job, sink or tiny.Recorder())


def evaluator(model: PreTrainedModel, *, bf16: bool = False) -> Evaluator:
    return Evaluator(
        model.device, 4, 0, bf16, lambda: None, lambda message: None, seq2seq_lm.collate, max_new_tokens=8
    )  # fmt: skip


def text(examples: Completions, ids: Sequence[int]) -> str:
    return " ".join(examples.tokenizer.convert_ids_to_tokens([int(i) for i in ids if i != IGNORED]))


def test_the_encoder_reads_the_prompt_and_the_decoder_learns_the_completion(tmp_path: Path) -> None:
    examples = encode([PAIR, PAIR._replace(completion="two")], tmp_path)
    assert text(examples, examples.tokens[0]) == "count from one : </s>"
    assert text(examples, examples.targets[0]) == "two three </s>"
    assert examples.units([0, 1]) == 5
    batch = seq2seq_lm.collate(examples, [0, 1], 0)
    assert batch.labels[1].tolist()[-1] == IGNORED
    assert batch.tokens == 5 + 3 + 5 + 2


@pytest.mark.parametrize("kind", ["t5", "bart"])
def test_the_loss_is_that_of_transformers(tmp_path: Path, kind: str) -> None:
    """With the decoder's input shifted by the model's own rule."""
    model = tiny_lm.model(kind)
    examples = encode(tiny_lm.pairs(6), tmp_path, model=model)
    batch = seq2seq_lm.collate(examples, range(6), 0)
    theirs = model(**batch.inputs, labels=batch.labels).loss.item()
    assert seq2seq_lm.loss(model, batch).item() / examples.units(range(6)) == pytest.approx(theirs, rel=1e-5)


def test_a_model_without_a_rule_of_its_own_starts_as_its_configuration_says(tmp_path: Path) -> None:
    torch.manual_seed(0)
    config = M2M100Config(vocab_size=32, d_model=32, encoder_layers=1, decoder_layers=1, encoder_ffn_dim=32,
                          decoder_ffn_dim=32, encoder_attention_heads=2, decoder_attention_heads=2, pad_token_id=0,
                          decoder_start_token_id=3, max_position_embeddings=64)  # fmt: skip
    model = AutoModelForSeq2SeqLM.from_config(config).eval()
    assert not hasattr(model, "prepare_decoder_input_ids_from_labels")
    examples = encode(tiny_lm.pairs(6), tmp_path, model=model)
    batch = seq2seq_lm.collate(examples, range(6), 0)
    theirs = model(**batch.inputs, labels=batch.labels).loss.item()
    assert seq2seq_lm.loss(model, batch).item() / examples.units(range(6)) == pytest.approx(theirs, rel=1e-5)


def test_both_sides_lose_their_end(tmp_path: Path) -> None:
    """A prompt keeps its special tokens; a completion that is cut does not end."""
    recorder = tiny.Recorder()
    rows = [PAIR._replace(completion="two three four five six"), PAIR]
    examples = encode(rows, tmp_path, sink=recorder, max_length=4)
    assert text(examples, examples.tokens[0]) == "count from one </s>"
    assert text(examples, examples.targets[0]) == "two three four five"
    assert text(examples, examples.targets[1]) == "two three </s>"
    assert recorder.logs == [
        "train split, 2 rows: 2 prompts and 1 completions are longer than max_length 4 and were truncated at their end."
    ]


@pytest.mark.parametrize(
    ("row", "sentence"),
    [
        (PAIR._replace(completion=""), "Row p1 of the train split has an empty completion"),
        (TextRow("t1", "train", "one"), "Row t1 of the train split has no prompt and completion"),
    ],
)
def test_a_row_that_cannot_be_learnt_from_is_named(tmp_path: Path, row: Row, sentence: str) -> None:
    with pytest.raises(RunFailed, match=sentence):
        encode([row], tmp_path)


def test_what_does_not_fit_is_said(tmp_path: Path) -> None:
    with pytest.raises(RunFailed, match="packing: only rows of causal-lm can be packed"):
        encode([PAIR], tmp_path / "packing", packing=True)
    with pytest.raises(RunFailed, match="a prompt without a token"):
        encode([PAIR._replace(prompt="")], tmp_path / "empty", words=tiny_lm.tokenizer(bos=False))
    with pytest.raises(RunFailed, match="does not name the token with which its decoder starts"):
        encode([PAIR], tmp_path / "start", model=tiny_lm.model("t5", decoder_start_token_id=None))
    with pytest.raises(RunFailed, match="the tokenizer is not the model's own"):
        encode([PAIR], tmp_path / "vocabulary", model=tiny_lm.model("t5", vocab_size=8))
    with pytest.raises(RunFailed, match="max_new_tokens is 64"):
        encode([PAIR], tmp_path / "room", model=tiny_lm.model("bart"), max_new_tokens=64)
    with pytest.raises(RunFailed, match="does not map text to text"):
        check_task(Qwen2AudioConfig(), "seq2seq-lm")


def adapted(base: PreTrainedModel, method: MethodSpec) -> Any:
    """With weights that make a difference."""
    model = MECHANISMS[method.mechanism].apply(base, method, describe(base, "seq2seq-lm"))
    generator = torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        if parameter.requires_grad and method.kind != "full":
            parameter.data = torch.randn(parameter.shape, generator=generator)
    return model.eval()


def step_by_step(model: Any, prompt: torch.Tensor, start: int) -> list[int]:
    """The forward pass of training, again for every token."""
    new: list[int] = []
    while len(new) < 8:
        reads = torch.tensor([[start, *new]])
        logits = model(input_ids=prompt, attention_mask=torch.ones_like(prompt), decoder_input_ids=reads).logits
        if (token := int(logits[0, -1].argmax())) == 3:
            break
        new.append(token)
    return new


@pytest.mark.by_day
@pytest.mark.parametrize("kind", ["t5", "bart"])
@pytest.mark.parametrize("method", METHODS, ids=lambda m: m.kind)
def test_generation_goes_on_where_training_would(tmp_path: Path, kind: str, method: MethodSpec) -> None:
    base = tiny_lm.model(kind, **({"initializer_factor": 3.0} if kind == "t5" else {}))
    examples = encode(tiny_lm.pairs(0, 0, 9), tmp_path, model=base)
    model = adapted(base, method)
    texts = write(model, examples.prompts, examples.tokenizer, evaluator(base))
    with torch.no_grad():
        expected = [
            step_by_step(model, torch.from_numpy(prompt).long()[None], base.config.decoder_start_token_id)
            for prompt in examples.prompts
        ]
    assert texts == [examples.tokenizer.decode(tokens, skip_special_tokens=True) for tokens in expected]
    assert len(set(texts)) > 1


@pytest.mark.parametrize("method", METHODS, ids=lambda m: m.kind)
def test_every_way_of_adapting_learns_and_is_judged_in_bfloat16(tmp_path: Path, method: MethodSpec) -> None:
    base = tiny_lm.model("t5")
    examples = encode(tiny_lm.pairs(0, 0, 9), tmp_path, model=base)
    model = adapted(base, method)
    seq2seq_lm.loss(model, seq2seq_lm.collate(examples, range(9), 0)).backward()
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters() if p.requires_grad)
    found = seq2seq_lm.evaluate(model, examples, evaluator(base, bf16=True), generate=True)
    assert found.metrics.keys() == {"token_accuracy", "perplexity", "exact_match", "rouge_l"}


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["t5", "bart"])
def test_an_attempt_learns_to_count(tmp_path: Path, kind: str) -> None:
    base = tiny_lm.save_model(tmp_path / "base", kind)
    training = tiny_lm.FAST.model_copy(update={"num_train_epochs": 12})
    job = tiny_lm.job(tmp_path / "run", base, "seq2seq-lm", tiny_lm.pairs(72, 18, 18), training=training)
    result = Attempt(job, tiny.Recorder()).run()
    before, after = result.evaluation("base", "test"), result.evaluation("adapted", "test")
    assert before and after
    assert after.metric == "rouge_l"
    assert after.loss < before.loss / 4
    assert after.metrics["exact_match"] > before.metrics["exact_match"] + 0.5
    validations = [e for e in result.evaluations if e.split == "validation"]
    assert all(e.score is None for e in validations)
    assert result.best_step == min(validations, key=lambda e: e.loss).step
