"""Language modelling: what is learnt of a row, by which loss, and how a model is judged."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from tokenizers import Tokenizer, decoders
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel, Metaspace
from tokenizers.processors import TemplateProcessing
from torch.nn import functional
from transformers import (
    AutoModelForCausalLM,
    BertConfig,
    BertGenerationConfig,
    Gemma2Config,
    GenerationConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
    T5Config,
)
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from app.domain.data.dataset import ChatRow, LabelledRow, PairRow, Row, TextRow
from app.domain.failures import RunFailed
from app.domain.methods import FullSpec, LoraSpec, MethodSpec, PrefixSpec, PromptSpec, PTuningSpec
from app.domain.runs.training import TrainingArguments
from app.domain.tasks import Format, MetricName
from tests.support.tiny import lm as tiny_lm
from tests.support.tiny import texts as tiny
from worker.engine.data.batches.batches import IGNORED, most_tokens
from worker.engine.data.batches.packing import check_packing, first_fit
from worker.engine.evaluation.evaluate import Evaluator
from worker.engine.evaluation.generation import write
from worker.engine.loop.attempt import Attempt
from worker.engine.loop.progress import Stopped
from worker.engine.methods import MECHANISMS
from worker.engine.models.architecture import describe
from worker.engine.models.load import check_task
from worker.engine.tasks import causal_lm
from worker.engine.tasks.completions import Completions
from worker.engine.tasks.token_loss import logits_at, token_losses
from worker.text_metrics import exact_match, rouge_l

PAIR = PairRow("p1", "train", "count from one :", " two three")
CHAT = ChatRow("c1", "train", [
    {"role": "user", "content": "count"},
    {"role": "assistant", "content": "one two"},
    {"role": "user", "content": "stop"},
    {"role": "assistant", "content": "three"},
])  # fmt: skip
KINDS = ["gpt2", "llama", "qwen2"]


def encode(
    rows: Sequence[Row],
    words: PreTrainedTokenizerBase | None = None,
    model: PreTrainedModel | None = None,
    *,
    form: Format = "prompt-completion",
    metric: MetricName | None = None,
    sink: tiny.Recorder | None = None,
    directory: Path,
    **training: Any,
) -> Completions:
    arguments = TrainingArguments.model_validate({**tiny_lm.FAST.model_dump(), **training})
    job = tiny_lm.job(
        directory / "job", Path("nowhere"), "causal-lm", rows, form, training=arguments, metric=metric
    )  # fmt: skip
    return causal_lm.encode(
        rows, rows[0].split, words or tiny_lm.tokenizer(), model or tiny_lm.model("gpt2"), job, sink or tiny.Recorder()
    )


def read(examples: Completions, row: int = 0) -> tuple[str, str]:
    """What the model reads, and what it is held against, `-` where nothing is learnt."""
    words = examples.tokenizer
    tokens = " ".join(words.convert_ids_to_tokens(examples.tokens[row].tolist()))
    targets = [t if t != IGNORED else None for t in examples.targets[row].tolist()]
    return tokens, " ".join("-" if t is None else words.convert_ids_to_tokens(t) for t in targets)


def evaluator(model: PreTrainedModel, between: Callable[[], None] = lambda: None, **changes: Any) -> Evaluator:
    settings = {"batch_size": 4, "pad_token": 0, "bf16": False, "max_new_tokens": 8, **changes}
    return Evaluator(
        device=model.device, between=between, log=lambda message: None, collate=causal_lm.collate, **settings
    )  # fmt: skip


# What is learnt of a row


def test_a_completion_is_learnt_with_its_end_and_a_prompt_is_not(tmp_path: Path) -> None:
    examples = encode([PAIR], directory=tmp_path)
    assert read(examples) == ("<s> count from one : two three", "- - - - two three </s>")
    assert examples.units([0]) == 3
    assert examples.lengths == [7]


def test_a_plain_text_is_learnt_whole(tmp_path: Path) -> None:
    examples = encode([TextRow("t1", "train", "one two")], form="text", directory=tmp_path)
    assert read(examples) == ("<s> one two", "one two </s>")


def test_the_prompt_is_learnt_too_where_asked(tmp_path: Path) -> None:
    examples = encode([PAIR], completion_only_loss=False, directory=tmp_path)
    assert read(examples)[1] == "count from one : two three </s>"


def test_no_special_token_is_doubled(tmp_path: Path) -> None:
    row = PairRow("p1", "train", "<s> count :", " one </s>")
    assert read(encode([row], directory=tmp_path)) == ("<s> count : one", "- - one </s>")


def test_what_a_tokenizer_puts_behind_a_text_comes_behind_the_completion(tmp_path: Path) -> None:
    examples = encode([PAIR], tiny_lm.tokenizer(bos=False, eos=True), directory=tmp_path)
    assert read(examples) == ("count from one : two three", "- - - two three </s>")


@pytest.mark.parametrize("template", [tiny_lm.CHAT_TEMPLATE, tiny_lm.MARKED_TEMPLATE], ids=["unmarked", "marked"])
def test_every_assistant_turn_of_a_chat_is_learnt(tmp_path: Path, template: str) -> None:
    words = tiny_lm.tokenizer(chat_template=template)
    examples = encode([CHAT], words, form="messages", max_length=64, directory=tmp_path)
    tokens, targets = read(examples)
    assert tokens.replace("<turn> ", "/") == (
        "<s> /user : count <end> /assistant : one two <end> /user : stop <end> /assistant : three <end>"
    )
    assert targets == "- - - - - - - - one two <end> - - - - - - - - three <end> </s>"
    assert words.decode(examples.prompts[0]).endswith("stop <end> <turn> assistant :")
    assert examples.references == ["three"]


def test_what_a_user_says_after_the_last_answer_is_left_out(tmp_path: Path) -> None:
    words = tiny_lm.tokenizer(chat_template=tiny_lm.CHAT_TEMPLATE)
    longer = CHAT._replace(messages=[*CHAT.messages, {"role": "user", "content": "and"}])
    first, second = (encode([row], words, form="messages", max_length=64, directory=tmp_path / str(len(row.messages)))
                     for row in (CHAT, longer))  # fmt: skip
    assert read(first) == read(second)


def test_an_end_token_in_a_turn_is_enough(tmp_path: Path) -> None:
    words = tiny_lm.tokenizer(chat_template=tiny_lm.CHAT_TEMPLATE, eos_token="<end>")
    _, targets = read(encode([CHAT], words, form="messages", max_length=64, directory=tmp_path))
    assert targets.endswith("three <end>")


def byte_pairs() -> PreTrainedTokenizerFast:
    """Letters, and a space that joins the letter b after it."""
    vocabulary = {token: i for i, token in enumerate(["<pad>", "a", "b", "</s>", "Ġ", "Ġb"])}
    backend = Tokenizer(BPE(vocabulary, [("Ġ", "b")]))
    backend.pre_tokenizer, backend.decoder = ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=backend, pad_token="<pad>", eos_token="</s>")


def test_a_prompt_ends_where_generation_will_see_it_end(tmp_path: Path) -> None:
    """`a b` is `a` and `Ġb`; a model that is given `a ` reads `a` and `Ġ`."""
    recorder = tiny.Recorder()
    rows = [PairRow("p1", "train", "a ", "b"), PairRow("p2", "train", "a", " b")]
    examples = encode(rows, byte_pairs(), sink=recorder, directory=tmp_path)
    assert read(examples, 0) == ("a Ġ b", "- b </s>")
    assert read(examples, 1) == ("a Ġb", "Ġb </s>")
    assert len(recorder.logs) == 1
    assert recorder.logs[0].startswith("In 1 of 2 rows of the train split the tokenizer would merge")


def test_a_text_of_letters_that_the_tokenizer_drops_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunFailed, match=r"Row p1 .* has a text without any token"):
        encode([PairRow("p1", "train", "a", "z")], byte_pairs(), directory=tmp_path)


def metaspace() -> PreTrainedTokenizerFast:
    """As Llama's: a space is a part of the word after it, and a text begins with one that nobody wrote."""
    vocabulary = {token: i for i, token in enumerate(["<pad>", "<s>", "<unk>", "</s>", "▁", "a", "b", "▁a", "▁b"])}
    backend = Tokenizer(BPE(vocabulary, [("▁", "a"), ("▁", "b")], unk_token="<unk>"))
    backend.pre_tokenizer = Metaspace(prepend_scheme="first", split=False)
    backend.post_processor = TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return PreTrainedTokenizerFast(tokenizer_object=backend, pad_token="<pad>", bos_token="<s>", eos_token="</s>")


def test_a_completion_begins_with_no_space_that_nobody_wrote(tmp_path: Path) -> None:
    rows = [PairRow("p1", "train", "a", " b"), PairRow("p2", "train", "a", "b")]
    examples = encode(rows, metaspace(), directory=tmp_path)
    assert read(examples, 0) == ("<s> ▁a ▁b", "- ▁b </s>")
    assert read(examples, 1) == ("<s> ▁a b", "- b </s>")


def test_a_long_prompt_loses_its_beginning_and_a_long_completion_its_end(tmp_path: Path) -> None:
    recorder = tiny.Recorder()
    rows = [PAIR, PairRow("p2", "train", "count :", " one two three four five six")]
    examples = encode(rows, sink=recorder, max_length=6, directory=tmp_path)
    assert read(examples, 0) == ("<s> one : two three", "- - two three </s>")
    assert read(examples, 1) == ("<s> one two three four", "one two three four five")
    assert [examples.tokenizer.decode(prompt) for prompt in examples.prompts] == ["<s> count from one :", "<s> count :"]
    assert not any(examples.cut) and len(examples.cut) == 2
    assert recorder.logs == [
        "2 of 2 rows of the train split are longer than max_length 6: 1 were truncated at the start of their prompt, 1 "
        "at the end of their completion.",
        "1 of 2 rows of the train split have a reply whose stop token is outside the loss, so the model does not learn "
        "there to stop: max_length cuts it off, or the chat template attributes it to the next message. Raise "
        "max_length, or write the stop token inside the template's {% generation %}.",
    ]


def test_a_prompt_leaves_room_for_what_is_written_after_it(tmp_path: Path) -> None:
    model = tiny_lm.model("gpt2", n_positions=12)
    row = PairRow("p1", "test", "and " * 9 + "count from one :", " two")
    examples = encode([row], model=model, max_length=12, max_new_tokens=8, directory=tmp_path)
    assert examples.tokenizer.decode(examples.prompts[0]) == "<s> from one :"
    assert examples.cut[0]
    assert write(model, examples.prompts, examples.tokenizer, evaluator(model))


# Bad input


CHANGING = "{% for m in messages %}{{ loop.revindex }} {{ m.content }} {% endfor %}"
BAD: dict[str, tuple[Row, Format, dict[str, Any], str]] = {
    "an empty completion": (PAIR._replace(completion=" "), "prompt-completion", {}, "Row p1 .* empty completion"),
    "an empty text": (TextRow("t1", "train", "\n"), "text", {}, "Row t1 of the train split has an empty text"),
    "no prompt": (PAIR._replace(prompt=""), "prompt-completion", {"bos": False}, "Row p1 .* prompt without a token"),
    "a label": (LabelledRow("l1", "train", "one", 0), "labelled", {}, "Row l1 .* sequence-classification"),
    "no template": (CHAT, "messages", {}, "no chat template"),
    "no assistant": (CHAT._replace(messages=CHAT.messages[:1]), "messages", {"chat_template": tiny_lm.CHAT_TEMPLATE},
                     "Row c1 .* no turn of the role 'assistant'"),
    "an empty answer": (CHAT._replace(messages=[*CHAT.messages, {"role": "assistant", "content": ""}]), "messages",
                        {"chat_template": tiny_lm.CHAT_TEMPLATE}, "Row c1 .* empty assistant's turn, message 5"),
    "a turn without a role": (CHAT._replace(messages=[{"content": "one"}]), "messages",
                              {"chat_template": tiny_lm.CHAT_TEMPLATE}, "Row c1 .* no role or no content in message 1"),
    "a template that refuses": (CHAT, "messages", {"chat_template": "{{ raise_exception('no system') }}"},
                                r"Row c1 .* rendered by the chat template \(no system\)"),
    "a template that forgets": (CHAT, "messages", {"chat_template": "hello"}, "Row c1 .* loses the assistant's turns"),
    "a template that changes its mind": (CHAT, "messages", {"chat_template": CHANGING}, r"Row c1 .*{% generation %}"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_a_row_that_cannot_be_learnt_from_is_named(tmp_path: Path, case: str) -> None:
    row, form, options, sentence = BAD[case]
    with pytest.raises(RunFailed, match=sentence):
        encode([row], tiny_lm.tokenizer(**options), form=form, directory=tmp_path)


def test_a_tokenizer_of_another_model_is_found_out(tmp_path: Path) -> None:
    with pytest.raises(RunFailed, match=r"Row p1 .* token \d+, and the base model has 8 embeddings"):
        encode([PAIR], model=tiny_lm.model("gpt2", vocab_size=8), directory=tmp_path)


def test_generated_text_cannot_be_judged_on_rows_without_a_prompt(tmp_path: Path) -> None:
    row = TextRow("t1", "train", "one two")
    with pytest.raises(RunFailed, match="metric: rouge_l scores generated text, but rows of plain text have no prompt"):
        encode([row], form="text", metric="rouge_l", directory=tmp_path)


def test_generation_needs_room(tmp_path: Path) -> None:
    with pytest.raises(RunFailed, match="max_new_tokens is 64, which leaves no room for a prompt"):
        encode([PAIR], max_new_tokens=64, directory=tmp_path)


@pytest.mark.by_day
@pytest.mark.slow
@pytest.mark.parametrize(
    ("template", "sentence"),
    [
        ("{{ messages.__class__.__mro__[1].__subclasses__() }}", "unsafe"),
        ("{{ cycler.__init__.__globals__.os.popen('id').read() }}", "unsafe"),
        ("{% if messages.append({'role': 'user', 'content': 'x'}) %}{% endif %}", "unsafe"),
        ("{% import 'os' as os %}", "no loader"),
        ("{% for a in range(9999) %}{% for b in range(9999) %}{% for c in range(9999) %}{% endfor %}{% endfor %}"
         "{% endfor %}", "did not finish within 5 seconds"),
        ("{% set n = 9 %}{% set x = n ** (n ** n) %}", "did not finish within 5 seconds"),
        ("{% macro f() %}{{ f() }}{{ f() }}{% endmacro %}{{ f() }}", "recursion|did not finish within"),
        ("{% set n = namespace(x='aaaaaaaa') %}{% for a in range(60) %}{% set n.x = n.x ~ n.x %}{% endfor %}",
         "MemoryError"),
        ("{{ 'a' * 10000000000 }}", "MemoryError"),
        ("{{ 'a' * 100000000 }}", "it writes 100000000 characters"),
    ],
)  # fmt: skip
def test_a_hostile_template_reaches_nothing_and_comes_to_an_end(tmp_path: Path, template: str, sentence: str) -> None:
    with pytest.raises(RunFailed, match=sentence):
        encode([CHAT], tiny_lm.tokenizer(chat_template=template), form="messages", directory=tmp_path)


@pytest.mark.parametrize(
    ("config", "sentence"),
    [
        (BertConfig(), "'bert' is an encoder, which sees the words that a language model should predict"),
        (tiny_lm.config("bart"), "encoder-decoder. Choose the task seq2seq-lm"),
        (T5Config(), "transformers has no causal-lm model of type 't5'"),
    ],
)
def test_a_model_that_reads_both_ways_is_refused(config: Any, sentence: str) -> None:
    with pytest.raises(RunFailed, match=sentence):
        check_task(config, "causal-lm")
    check_task(BertConfig(is_decoder=True), "causal-lm")


def test_a_model_that_reads_both_ways_without_saying_so_is_found_out() -> None:
    torch.manual_seed(0)
    config = BertGenerationConfig(vocab_size=32, hidden_size=32, num_hidden_layers=1, num_attention_heads=2,
                                  intermediate_size=32, initializer_range=0.5)  # fmt: skip
    with pytest.raises(RunFailed, match="is an encoder"):
        causal_lm.check_direction(AutoModelForCausalLM.from_config(config))


# The loss


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_loss_is_the_cross_entropy_and_so_is_its_gradient(dtype: torch.dtype, monkeypatch: Any) -> None:
    monkeypatch.setattr("worker.engine.tasks.token_loss.PARTS", {"cpu": 50, "cuda": 50})
    logits = torch.randn(7, 11, generator=torch.Generator().manual_seed(0)).to(dtype)
    targets, weights = torch.arange(7), torch.rand(7)
    found, expected = logits.clone().requires_grad_(), logits.clone().requires_grad_()
    mine = token_losses(found, targets)
    theirs = functional.cross_entropy(expected.float(), targets, reduction="none")
    assert mine.dtype == torch.float32
    torch.testing.assert_close(mine, theirs, rtol=1e-6, atol=1e-6)
    (mine * weights).sum().backward()
    (theirs * weights).sum().backward()
    assert found.grad is not None
    torch.testing.assert_close(found.grad, expected.grad)


def gemma2() -> PreTrainedModel:
    """Its logits are capped behind the projection."""
    torch.manual_seed(0)
    config = Gemma2Config(vocab_size=32, hidden_size=32, intermediate_size=32, num_hidden_layers=2, head_dim=16,
                          num_attention_heads=2, num_key_value_heads=1, final_logit_softcapping=0.5, pad_token_id=0,
                          initializer_range=0.5)  # fmt: skip
    model: PreTrainedModel = AutoModelForCausalLM.from_config(config).eval()
    return model


@pytest.mark.parametrize("kind", [*KINDS, "gemma2"])
def test_the_loss_is_that_of_transformers(tmp_path: Path, kind: str) -> None:
    model = gemma2() if kind == "gemma2" else tiny_lm.model(kind)
    examples = encode(tiny_lm.pairs(6), model=model, directory=tmp_path)
    batch = causal_lm.collate(examples, range(6), 0)
    labels = torch.cat([torch.full((6, 1), IGNORED), batch.labels], dim=1)
    ids = torch.cat([batch.inputs["input_ids"], torch.full((6, 1), 3)], dim=1)
    mask = torch.cat([batch.real, torch.zeros(6, 1, dtype=torch.long)], dim=1)
    theirs = model(input_ids=ids, attention_mask=mask, labels=labels).loss
    assert causal_lm.loss(model, batch).item() / examples.units(range(6)) == pytest.approx(theirs.item(), rel=1e-5)


def test_only_what_has_a_target_reaches_the_projection(tmp_path: Path) -> None:
    model = tiny_lm.model("llama")
    examples = encode(tiny_lm.pairs(6), model=model, directory=tmp_path)
    seen: list[torch.Size] = []
    model.get_output_embeddings().register_forward_hook(lambda module, args, output: seen.append(output.shape))
    causal_lm.loss(model, causal_lm.collate(examples, range(6), 0)).backward()
    assert seen == [(1, examples.units(range(6)), 32)]


# Packing


def per_token(model: PreTrainedModel, batch: Any) -> dict[int, list[float]]:
    """Losses by target token, in order: packing changes the order of rows only."""
    targets = batch.targets
    losses = token_losses(logits_at(model, batch.inputs, batch.places, batch.labels.shape[1]), targets)
    losses.sum().backward()
    found: dict[int, list[float]] = {}
    for target, loss in zip(targets.tolist(), losses.tolist(), strict=True):
        found.setdefault(target, []).append(loss)
    return {target: sorted(values) for target, values in found.items()}


@pytest.mark.parametrize("kind", KINDS)
def test_packed_rows_have_the_losses_and_the_gradients_that_they_have_alone(tmp_path: Path, kind: str) -> None:
    model = tiny_lm.model(kind)
    rows = tiny_lm.pairs(18)
    plain, packed = (
        encode(rows, model=model, packing=packing, max_length=24, directory=tmp_path / str(packing))
        for packing in (False, True)
    )
    results = []
    for examples in (plain, packed):
        model.zero_grad()
        batch = causal_lm.collate(examples, range(18), 0)
        losses = per_token(model, batch)
        results.append((batch, losses, {name: p.grad.clone() for name, p in model.named_parameters()}))
    (alone, losses, gradients), (together, packed_losses, packed_gradients) = results
    assert together.inputs["input_ids"].shape[0] < 10
    assert together.inputs["input_ids"].shape[1] <= 24
    assert together.tokens == alone.tokens
    assert losses.keys() == packed_losses.keys()
    for target, values in losses.items():
        assert packed_losses[target] == pytest.approx(values, abs=1e-5)
    for name, gradient in gradients.items():
        torch.testing.assert_close(packed_gradients[name], gradient, rtol=1e-3, atol=1e-4)


def test_rows_of_one_length_are_not_packed(tmp_path: Path) -> None:
    """Two of eight tokens do not fit into ten: nothing would be saved, and a mask by hand costs time."""
    examples = encode([PAIR, PAIR], packing=True, max_length=10, directory=tmp_path)
    assert causal_lm.collate(examples, [0, 1], 0).inputs.keys() == {"input_ids"}


def test_rows_fit_into_as_few_sequences_as_the_rule_finds() -> None:
    lengths = [5, 9, 2, 2, 7, 1, 4]
    bins = first_fit(lengths, 10)
    assert sorted(i for members in bins for i in members) == list(range(7))
    assert [[lengths[i] for i in members] for members in bins] == [[9, 1], [7, 2], [5, 4], [2]]
    with pytest.raises(ValueError, match="Row 1 has 9 tokens, and a sequence takes 8"):
        first_fit(lengths, 8)


def refusing(kind: str) -> tuple[PreTrainedModel, str]:
    sizes: dict[str, Any] = {"vocab_size": 32, "hidden_size": 32, "num_hidden_layers": 2, "pad_token_id": 0}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 2, "intermediate_size": 32}
    cases: dict[str, tuple[dict[str, Any], str]] = {
        "mistral": (
            {**sizes, **heads, "sliding_window": 8},
            "attends to a window of 8 tokens. Lower max_length from 24",
        ),
        "bloom": ({"vocab_size": 32, "hidden_size": 32, "n_layer": 2, "n_head": 2}, "does not accept packed inputs"),
        "mpt": ({"vocab_size": 32, "d_model": 32, "n_layers": 2, "n_heads": 2}, "influence each other"),
        "rwkv": ({**sizes, "attention_hidden_size": 32}, "influence each other"),
    }
    config, sentence = cases[kind]
    torch.manual_seed(0)
    model: PreTrainedModel = AutoModelForCausalLM.from_config(CONFIG_MAPPING[kind](**config))
    for parameter in model.parameters():
        parameter.data.normal_(std=0.2)
    return model, sentence


@pytest.mark.parametrize("kind", ["mistral", "bloom", "mpt", "rwkv"])
def test_packing_is_refused_where_rows_would_not_be_alone(kind: str) -> None:
    model, sentence = refusing(kind)
    with pytest.raises(RunFailed, match=f"packing: rows cannot be packed for a model of type '{kind}'.*{sentence}"):
        check_packing(model, 24)


def test_a_window_that_is_long_enough_does_not_matter() -> None:
    model, _ = refusing("mistral")
    check_packing(model, 8)


def test_packing_takes_the_same_steps_and_only_in_training(tmp_path: Path) -> None:
    seen = []
    base = tiny_lm.save_model(tmp_path / "base", "llama")
    for packing in (False, True):
        recorder = tiny.Recorder()
        training = tiny_lm.FAST.model_copy(update={"packing": packing})
        job = tiny_lm.job(tmp_path / str(packing), base, "causal-lm", tiny_lm.pairs(), training=training)
        result = Attempt(job, recorder).run()
        seen.append(([(s.step, s.tokens) for s in recorder.seen], [s.loss for s in recorder.seen], result))
    assert seen[0][0] == seen[1][0]
    assert seen[0][1] == pytest.approx(seen[1][1], abs=1e-4)
    assert seen[0][2].evaluations[0] == seen[1][2].evaluations[0]


# How a model is judged


def test_items_are_judged_by_their_own_tokens(tmp_path: Path) -> None:
    model = tiny_lm.model("gpt2")
    rows = tiny_lm.pairs(0, 0, 9)
    examples = encode(rows, model=model, directory=tmp_path)
    found = causal_lm.evaluate(model, examples, evaluator(model), generate=False)
    for i, right in enumerate(found.per_item["token_accuracy"]):
        logits = model(input_ids=torch.from_numpy(examples.tokens[i]).long()[None]).logits[0]
        targets = torch.from_numpy(examples.targets[i])
        assert right == pytest.approx((logits.argmax(1) == targets)[targets != IGNORED].float().mean().item())
    assert found.metrics["token_accuracy"] == pytest.approx(found.per_item["token_accuracy"].mean())
    assert found.metrics["perplexity"] == pytest.approx(np.exp(found.loss))
    assert found.metrics.keys() == {"token_accuracy", "perplexity"}


def step_by_step(model: Any, prompt: np.ndarray, stop: int, most: int) -> list[int]:
    """The forward pass of training, again for every token."""
    new: list[int] = []
    while len(new) < most:
        ids = torch.tensor([[*prompt.tolist(), *new]])
        token = int(model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits[0, -1].argmax())
        if token == stop:
            break
        new.append(token)
    return new


METHODS: list[MethodSpec] = [
    FullSpec(),
    LoraSpec(r=4, target_modules="all-linear"),
    PrefixSpec(num_virtual_tokens=3),
    PromptSpec(num_virtual_tokens=3),
    PTuningSpec(num_virtual_tokens=3),
]


@pytest.mark.by_day
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("method", METHODS, ids=lambda m: m.kind)
def test_generation_goes_on_where_training_would(tmp_path: Path, kind: str, method: MethodSpec) -> None:
    """In a batch of prompts of different lengths, whatever the method puts in front or inside."""
    base = tiny_lm.model(kind)
    examples = encode(tiny_lm.pairs(0, 0, 9), model=base, directory=tmp_path)
    model = MECHANISMS[method.mechanism].apply(base, method, describe(base, "causal-lm"))
    generator = torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        if parameter.requires_grad and method.kind != "full":
            parameter.data = torch.randn(parameter.shape, generator=generator) * 0.5
    model.eval()
    texts = write(model, examples.prompts, examples.tokenizer, evaluator(base))
    with torch.no_grad():
        expected = [step_by_step(model, prompt, 3, 8) for prompt in examples.prompts]
    assert texts == [examples.tokenizer.decode(tokens, skip_special_tokens=True) for tokens in expected]
    assert len(set(texts)) > 1


@pytest.mark.parametrize("method", METHODS, ids=lambda m: m.kind)
def test_generation_works_in_bfloat16_too(tmp_path: Path, method: MethodSpec) -> None:
    base = tiny_lm.model("llama")
    examples = encode(tiny_lm.pairs(0, 0, 9), model=base, directory=tmp_path)
    model = MECHANISMS[method.mechanism].apply(base, method, describe(base, "causal-lm"))
    found = causal_lm.evaluate(model, examples, evaluator(base, bf16=True), generate=True)
    assert found.metrics.keys() == {"token_accuracy", "perplexity", "exact_match", "rouge_l"}
    assert all(len(values) == 9 for values in found.per_item.values())


def test_the_models_own_habits_of_writing_do_not_count(tmp_path: Path) -> None:
    model = tiny_lm.model("gpt2")
    examples = encode(tiny_lm.pairs(0, 0, 9), model=model, directory=tmp_path)
    before = write(model, examples.prompts, examples.tokenizer, evaluator(model))
    own = GenerationConfig(
        do_sample=True, temperature=5.0, top_k=2, num_beams=3, repetition_penalty=9.0, no_repeat_ngram_size=1,
        min_new_tokens=8, max_length=3, suppress_tokens=[6, 7, 8], forced_eos_token_id=3, eos_token_id=3,
    )  # fmt: skip
    model.generation_config = own
    assert write(model, examples.prompts, examples.tokenizer, evaluator(model)) == before
    assert model.generation_config is own


def test_writing_stops_at_the_models_own_end_tokens(tmp_path: Path) -> None:
    model = tiny_lm.model("gpt2")
    examples = encode(tiny_lm.pairs(0, 0, 1), model=model, directory=tmp_path)
    text = write(model, examples.prompts, examples.tokenizer, evaluator(model))[0]
    second = examples.tokenizer.convert_tokens_to_ids(text.split()[1])
    model.generation_config.eos_token_id = [3, second]
    stopped = write(model, examples.prompts, examples.tokenizer, evaluator(model))[0]
    assert stopped == text.split()[0]


def test_writing_can_be_stopped_between_two_tokens(tmp_path: Path) -> None:
    model = tiny_lm.model("gpt2")
    examples = encode(tiny_lm.pairs(0, 0, 1), model=model, directory=tmp_path)
    calls = 0

    def between() -> None:
        nonlocal calls
        calls += 1
        if calls == 4:
            raise Stopped

    with pytest.raises(Stopped):
        write(model, examples.prompts, examples.tokenizer, evaluator(model, between))
    assert calls == 4


def test_rouge_l_and_exact_match_are_as_defined() -> None:
    # Lin 2004, section 3.1: two candidates for "police killed the gunman".
    assert rouge_l("police kill the gunman", "police killed the gunman") == pytest.approx(3 / 4)
    assert rouge_l("the gunman kill police", "police killed the gunman") == pytest.approx(2 / 4)
    assert rouge_l("One, TWO!", "one two three") == pytest.approx(2 * 2 / 5)
    assert rouge_l("snow_white", "snow white") == 1
    assert rouge_l("один", "два") == 0
    assert rouge_l("", "one") == 0
    assert rouge_l("…", "!") == 1
    assert exact_match(" two\n", "two") == 1
    assert exact_match("Two", "two") == 0


# The whole


@pytest.mark.by_day
@pytest.mark.slow
@pytest.mark.parametrize("form", ["text", "prompt-completion", "messages"])
def test_an_attempt_learns_to_count(tmp_path: Path, form: Format) -> None:
    base = tiny_lm.save_model(tmp_path / "base", "gpt2", chat_template=tiny_lm.CHAT_TEMPLATE)
    training = tiny_lm.FAST.model_copy(update={"num_train_epochs": 12, "max_length": 40})
    recorder = tiny.Recorder()
    rows = tiny_lm.ROWS[form](72, 18, 18)
    result = Attempt(tiny_lm.job(tmp_path / "run", base, "causal-lm", rows, form, training=training), recorder).run()
    before, after = result.evaluation("base", "test"), result.evaluation("adapted", "test")
    assert before and after
    assert after.loss < before.loss / 4
    assert after.score == after.metrics["token_accuracy"] > 0.7
    validations = [e for e in result.evaluations if e.split == "validation"]
    assert result.best_step == min(validations, key=lambda e: e.loss).step
    table = pq.read_table(tmp_path / "run" / "output" / "predictions.parquet").to_pylist()
    assert len(table) == 18
    if form == "text":
        assert after.metrics.keys() == {"token_accuracy", "perplexity"}
    else:
        assert after.metrics["exact_match"] > 0.7
        assert not any(row["cut"] for row in table), "no prompt is longer than max_length"
        assert all((row["prediction"] == row["completion"].strip()) == bool(row["exact_match"])
                   for row in table if "completion" in row)  # fmt: skip
        assert validations[0].metrics.keys() == {"token_accuracy", "perplexity"}


def test_a_verdict_can_rest_on_generated_text(tmp_path: Path) -> None:
    base = tiny_lm.save_model(tmp_path / "base", "llama")
    recorder = tiny.Recorder()
    job = tiny_lm.job(tmp_path / "run", base, "causal-lm", tiny_lm.pairs(), metric="rouge_l")
    Attempt(job, recorder).run()
    for evaluation, _, scores in recorder.evaluations:
        if evaluation.split == "test":
            assert evaluation.score == pytest.approx(np.mean(scores))
        else:
            assert evaluation.score is None


def test_positions_are_known(tmp_path: Path) -> None:
    assert most_tokens(tiny_lm.model("gpt2").config, tiny_lm.tokenizer()) == 64
    assert most_tokens(tiny_lm.model("t5").config, tiny_lm.tokenizer()) is None
