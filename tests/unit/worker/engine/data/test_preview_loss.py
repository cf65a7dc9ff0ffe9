"""Previews of rows as a model sees them, and the tokens in the loss."""

import json
from base64 import b64decode
from collections.abc import Mapping, Sequence
from io import BytesIO
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from app.domain.data.dataset import (
    ChatRow,
    LabelledRow,
    PairRow,
    PreferenceChatRow,
    QueryRow,
    Row,
    Split,
    TaggedRow,
    TextRow,
    item_name,
)
from app.domain.data.findings import FindingCode
from app.domain.data.previews import LOOKED_AT, Preview, PreviewRequest, PreviewRow, SplitLengths
from app.domain.data.turns import Message, message
from app.domain.runs.training import TrainingArguments
from app.domain.tasks import Format, Task
from app.store.files.rows_file import RowsFile
from tests.support.tiny import images as tiny_images
from tests.support.tiny import lm as tiny_lm
from tests.support.tiny import preferences as tiny_preferences
from tests.support.tiny import texts as tiny
from tests.support.tiny.chat_templates import CHATML_TOOLS, FORGETTING, LLAMA, MARKED, PLAIN, tokenizer
from tests.unit.worker.engine.tasks.test_preference import PAIR, encoded
from worker.engine.data.batches.batches import IGNORED
from worker.engine.data.describe import describe_data
from worker.engine.data.images import opened, resized
from worker.engine.data.lines import LineWriter
from worker.engine.data.previews.previews import pieces, preview
from worker.engine.tasks import causal_lm, preference

TOOLS: list[Any] = [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}]
CALLS = {"tool_calls": [{"type": "function", "function": {"name": "weather", "arguments": {"city": "Sofia"}}}]}
UNENDED = MARKED.replace("{{- '<|im_end|>' }}{% endgeneration %}", "{% endgeneration %}{{- '<|im_end|>' }}")
"""Each reply's end is outside its marks."""
NEXT_ROLE = (
    "{%- for m in messages %}{{- ('<|im_start|>' if m.role == 'user' else '<|eot_id|>') + m.content }}{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|eot_id|>' }}{%- endif %}"
)
"""As GLM: a reply has no end but the next message's role."""
THOUGHTLESS = PLAIN.replace(
    "message.content +", "('<think>\\n\\n</think>\\n\\n' if message.role == 'assistant' else '') + message.content +"
)
"""Every reply begins with an empty thought."""
PROMPTED = THOUGHTLESS.replace("<|im_start|>assistant\\n", "<|im_start|>assistant\\n<think>\\n\\n</think>\\n\\n")
"""The generation prompt ends in one, too."""
OPENED = THOUGHTLESS.replace("<|im_start|>assistant\\n", "<|im_start|>assistant\\n<think>\\n")
"""The generation prompt begins one."""


def user(text: str) -> Message:
    return message("user", text, {})


def assistant(text: str, **more: Any) -> Message:
    return message("assistant", text, more)


def chat(*turns: Message, item: str = "c", tools: list[Any] | None = None) -> ChatRow:
    return ChatRow(item * 16, "train", list(turns), json.dumps(tools) if tools else None)


PLAIN_CHATS = [
    chat(user("a"), assistant("one"), user("b"), assistant("two"), item="0"),
    chat(user("a"), assistant("wrong", train=False), user("b"), assistant("right"), user("c"), item="1"),
    chat(
        user("a"), assistant("right"), user("b"), assistant("wrong", train=False), user("c"), assistant("d"), item="2"
    ),
    chat(message("system", "Be brief.", {}), user("a"), assistant("one"), item="3"),
]
TOOL_CHAT = chat(
    user("Weather in Sofia?"),
    assistant("", **CALLS),
    message("tool", "12 °C", {"name": "weather"}),
    assistant("It is 12 °C."),
    item="4",
    tools=TOOLS,
)


def model_of(folder: Path, words: PreTrainedTokenizerBase, **changes: Any) -> Path:
    """A tiny model with this tokenizer. `changes`: of its generation_config.json."""
    tiny_lm.save_model(folder, "llama", vocab_size=len(words), max_position_embeddings=1024)
    words.save_pretrained(folder)
    file = folder / "generation_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"eos_token_id": words.eos_token_id} | changes))
    return folder


def shown(
    model: Path, rows: Sequence[Row], form: Format, task: Task, max_length: int = 1024, *, only: bool = True
) -> Preview:
    return preview_of(model, rows, form, task, model, max_length, completion_only_loss=only)


def trained(
    model: Path, rows: Sequence[Row], form: Format, task: Task, max_length: int = 1024, *, only: bool = True
) -> Any:
    """The rows as training encodes them, and what it logs."""
    training = TrainingArguments.model_validate(
        tiny_lm.FAST.model_dump() | {"max_length": max_length, "completion_only_loss": only}
    )
    job = tiny_lm.job(model / f"{max_length}{only}", model, task, rows, form, training=training)
    words, loaded = AutoTokenizer.from_pretrained(model), AutoModelForCausalLM.from_pretrained(model)
    sink = tiny.Recorder()
    encode = causal_lm.encode if task == "causal-lm" else preference.encode
    return encode(rows, "train", words, loaded, job, sink), sink.logs


def marked(row: PreviewRow) -> list[tuple[str, bool]]:
    return [(token.text, token.learnt) for token in row.tokens]


def labelled(words: PreTrainedTokenizerBase, tokens: Any, targets: Any) -> tuple[str, list[bool]]:
    """The text of a row as training has it, and which tokens have a label."""
    last = [int(targets[-1])] if targets[-1] != IGNORED else []
    return words.decode([*tokens.tolist(), *last]), [False, *(targets != IGNORED).tolist()]


def agree(model: Path, rows: Sequence[Row], max_length: int, *, only: bool) -> None:
    found = shown(model, rows, "messages", "causal-lm", max_length, only=only)
    examples, _logs = trained(model, rows, "messages", "causal-lm", max_length, only=only)
    words = AutoTokenizer.from_pretrained(model)
    for row, tokens, targets in zip(found.rows, examples.tokens, examples.targets, strict=True):
        text, labels = labelled(words, tokens, targets)
        assert [learnt for _text, learnt in marked(row)] == labels
        assert "".join(token for token, _learnt in marked(row)) == text
        assert row.in_loss == sum(labels) == int(np.sum(targets != IGNORED))


@pytest.mark.parametrize(
    "template",
    [CHATML_TOOLS, MARKED, FORGETTING, LLAMA, UNENDED, PLAIN],
    ids=["chatml", "marked", "qwen3", "llama", "unended", "plain"],
)
def test_a_preview_marks_exactly_the_tokens_with_a_label(tmp_path: Path, template: str) -> None:
    rows = PLAIN_CHATS if template is PLAIN else [*PLAIN_CHATS, TOOL_CHAT]
    model = model_of(tmp_path / "model", tokenizer(template))
    for max_length, only in ((1024, True), (1024, False), (24, True), (24, False)):
        agree(model, rows, max_length, only=only)


def test_of_preference_pairs_it_marks_both_answers_as_training_does(tmp_path: Path) -> None:
    model = model_of(tmp_path / "model", tokenizer(PLAIN))
    row = PreferenceChatRow("0" * 16, "train", [user("a"), assistant("one"), user("b")], "two", "<think></think>")
    for max_length in (1024, 16):
        found = shown(model, [row], "preference-messages", "preference", max_length)
        [seen] = found.rows
        examples, logs = trained(model, [row], "preference-messages", "preference", max_length)
        assert [finding.code for finding in found.findings] == (
            ["empty-thought-learnt"] if max_length == 1024 else ["stop-outside-loss", "empty-thought-learnt"]
        )
        assert sum("1 of 1 rows of the train split" in line for line in logs) == len(found.findings)
        sides = [examples.targets[0], examples.rejected_targets[0]]
        labels = [label for side in sides for label in (False, *(side != IGNORED).tolist())]
        assert [learnt for _text, learnt in marked(seen)] == labels


def test_an_empty_thought_that_is_cut_off_is_not_learnt(tmp_path: Path) -> None:
    model = model_of(tmp_path / "model", tokenizer(PLAIN))
    row = PairRow("0" * 16, "train", "a", "one " * 60 + "<think></think>")
    for max_length, codes in ((1024, ["empty-thought-learnt"]), (40, ["stop-outside-loss"])):
        found = shown(model, [row], "prompt-completion", "causal-lm", max_length)
        assert [finding.code for finding in found.findings] == codes


@pytest.mark.parametrize("named", ["generation_config.json", "config.json"])
def test_a_reply_that_ends_in_a_stop_token_of_the_model_gets_no_other(tmp_path: Path, named: str) -> None:
    words = tokenizer(LLAMA)
    words.eos_token = "<|im_end|>"
    ending = words.convert_tokens_to_ids("<|eot_id|>")
    model = model_of(tmp_path / "model", words, eos_token_id=[ending, words.eos_token_id])
    if named == "config.json":
        (model / "generation_config.json").unlink()
        file = model / named
        file.write_text(json.dumps(json.loads(file.read_text()) | {"eos_token_id": ending}))
    [row] = shown(model, PLAIN_CHATS[:1], "messages", "causal-lm").rows
    assert [text for text, learnt in marked(row) if learnt][-1] == "<|eot_id|>"
    agree(model, PLAIN_CHATS[:1], 1024, only=True)


TWO = chat(user("a"), assistant("one"), user("b"), assistant("two"))
REASONED = chat(
    user("a"), assistant("one", reasoning_content="hm"), user("b"), assistant("two", reasoning_content="aha")
)
FIRST = chat(user("a"), assistant("one", reasoning_content="hm", train=False), *REASONED.messages[2:])
FOUND: dict[str, tuple[str, Row, int, bool, set[FindingCode]]] = {
    "nothing": (PLAIN, TWO, 1024, True, set()),
    "nothing with marks": (MARKED, TWO, 1024, True, set()),
    "an end outside the marks": (UNENDED, TWO, 1024, True, {"stop-outside-loss"}),
    "the same where everything is learnt": (UNENDED, TWO, 1024, False, set()),
    "the same of one reply, which gets an end": (UNENDED, chat(*TWO.messages[:2]), 1024, True, set()),
    "a next role that ends a reply": (NEXT_ROLE, TWO, 1024, True, {"stop-outside-loss"}),
    "a wrong reply after a prompt without an end": (
        "{%- for m in messages %}{{- m.role + m.content + ('<|im_end|>' if m.role == 'assistant' else '') }}"
        "{%- endfor %}{%- if add_generation_prompt %}{{- 'assistant' }}{%- endif %}",
        chat(user("a"), assistant("wrong", train=False), user("b"), assistant("right")),
        *(1024, False, set()),
    ),
    "an end that is cut off": (PLAIN, chat(user("a"), assistant("one " * 30)), 40, True, {"stop-outside-loss"}),
    "a line break that is cut off": (PLAIN, chat(user("a"), assistant("one")), 24, True, set()),
    "a plain text that is cut off": (PLAIN, TextRow("0" * 16, "train", "one " * 30), 40, True, set()),
    "an empty thought": (THOUGHTLESS, TWO, 1024, True, {"empty-thought-learnt"}),
    "an empty thought of the prompt": (PROMPTED, TWO, 1024, True, set()),
    "a thought that the prompt begins": (OPENED, TWO, 1024, True, {"empty-thought-learnt"}),
    "an empty thought of the prompt, which is learnt too": (PROMPTED, TWO, 1024, False, {"empty-thought-learnt"}),
    "an empty thought of a wrong reply": (
        PLAIN,
        chat(user("a"), assistant("<think></think>one", train=False), user("b"), assistant("two")),
        *(1024, True, set()),
    ),
    "a thought": (MARKED, REASONED, 1024, True, set()),
    "an empty thought in a completion": (
        PLAIN,
        PairRow("0" * 16, "train", "a", "<think>\n</think>\none"),
        *(1024, True, {"empty-thought-learnt"}),
    ),
    "reasoning that is forgotten": (FORGETTING, REASONED, 1024, True, {"reasoning-left-out"}),
    "reasoning that is not learnt": (FORGETTING, FIRST, 1024, True, set()),
    "reasoning of one reply": (FORGETTING, chat(*REASONED.messages[:2]), 1024, True, set()),
}


@pytest.mark.parametrize("name", FOUND)
def test_what_is_unusual_is_found_and_logged(tmp_path: Path, name: str) -> None:
    template, row, max_length, only, codes = FOUND[name]
    words = tokenizer(template)
    stops = [words.eos_token_id, *words.convert_tokens_to_ids(["<|im_start|>"] if template is NEXT_ROLE else [])]
    model = model_of(tmp_path / "model", words, eos_token_id=stops)
    form: Format = {ChatRow: "messages", PairRow: "prompt-completion", TextRow: "text"}[type(row)]
    found = shown(model, [row], form, "causal-lm", max_length, only=only).findings
    assert {finding.code for finding in found} == codes
    for finding in found:
        assert (finding.severity, finding.count, finding.details.of_rows) == ("warns", 1, 1)
        assert [example.item for example in finding.examples] == [row.item]
        assert finding.examples[0].excerpt.startswith("a")
    logs = trained(model, [row], form, "causal-lm", max_length, only=only)[1]
    said = [line for line in logs if "1 of 1 rows" in line and "longer than max_length" not in line]
    assert len(said) == len(codes)


def test_max_length_limits_each_answer_of_a_pair_with_its_prompt(tmp_path: Path) -> None:
    """So the length that most rows do not exceed is that of the longer answer, not that of both."""
    rows: list[Row] = [PAIR._replace(item=str(place)) for place in range(19)]
    rows.append(PAIR._replace(item="long", rejected=" one two three four five six"))
    splits: Mapping[Split, Sequence[Row]] = {"train": rows}
    for limit, truncated in ((64, 0), (8, 1), (7, 20)):
        folder = tmp_path / str(limit)
        examples = encoded(rows, folder, max_length=limit)
        seen = describe_data(splits, examples, tiny_preferences.FAST.per_device_train_batch_size, 0)
        assert (seen.truncated_rows, seen.long_tokens) == (truncated, 7)


UNKNOWN, GOOD, BAR, BAZ, END = range(5)


@pytest.fixture
def writer() -> LineWriter:
    words = {"<unk>": UNKNOWN, "good": GOOD, "bar": BAR, "baz": BAZ, "</s>": END}
    model = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    model.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=model, unk_token="<unk>", eos_token="</s>")
    return LineWriter(tokenizer, {END}, completion_only=True)


@pytest.mark.parametrize(("prompt", "apart"), [("good foo", 1), ("good foo ", 0)])
def test_an_unknown_word_hides_no_word_of_the_completion(writer: LineWriter, prompt: str, apart: int) -> None:
    [line] = writer.lines([PairRow("i", "train", prompt, "bar baz")])
    assert line.ids == [GOOD, UNKNOWN, BAR, BAZ, END]
    assert line.learnt == [False, False, True, True, True]
    assert writer.apart == apart


def preview_of(
    folder: Path, rows: Sequence[Row], form: Format, task: Task, model: Path, max_length: int = 16, **more: bool
) -> Preview:
    file = folder / "rows.parquet"
    with RowsFile(file, form, ["a", "b", "c"] if form in ("labelled", "tagged", "labelled-images") else []) as written:
        written.write(rows)
    request = PreviewRequest(
        location=str(model),
        task=task,
        dataset_file="x",
        dataset_format=form,
        dataset_hash="y",
        max_length=max_length,
        **more,
    )
    return preview(request, file)


def texts(found: Preview) -> list[str]:
    return ["".join(token.text for token in row.tokens) for row in found.rows]


def test_a_classifiers_rows_have_special_tokens_and_lengths_before_they_are_cut(tmp_path: Path) -> None:
    model = tiny.save_model(tmp_path / "model")
    rows = [LabelledRow(item_name(str(i)), "train", "the cat " * (i + 1), i % 2) for i in range(8)]
    found = preview_of(tmp_path, rows, "labelled", "sequence-classification", model)
    assert len(found.rows) == 5
    row = next(row for row in found.rows if row.length <= 16)
    assert [token.special for token in row.tokens] == [True, *[False] * (row.length - 2), True]
    assert not any(token.learnt for token in row.tokens)
    assert row.label in (0, 1)
    train = found.lengths[0]
    assert train.counts == [(2 * (i + 1) + 2, 1) for i in range(8)]
    assert (train.percentile(50), train.percentile(100), train.cut_share(16)) == (10, 18, 1 / 8)
    long = [row for row in found.rows if row.length > 16]
    assert all(row.kept == 16 for row in long)


def test_the_first_token_of_each_word_is_learnt(tmp_path: Path) -> None:
    model = tiny.save_model(tmp_path / "model")
    rows = [TaggedRow(item_name(str(i)), "train", ["cat", "dog-cat", *["the"] * i], [0] * (i + 2)) for i in range(4)]
    found = preview_of(tmp_path, rows, "tagged", "token-classification", model, 8)
    row = next(row for row in found.rows if row.item == item_name("0"))
    assert [(token.text.strip(), token.learnt) for token in row.tokens] == [
        ("[CLS]", False), ("cat", True), ("dog", True), ("[UNK]", False), ("cat", False), ("[SEP]", False),
    ]  # fmt: skip
    assert max(row.length for row in found.rows) == 9 and max(row.kept for row in found.rows) == 8


def test_seq2seq_sides_and_query_and_passage_are_cut_each_by_itself(tmp_path: Path) -> None:
    model = tiny_lm.save_model(tmp_path / "model", "t5")
    rows = [PairRow("0" * 16, "train", "count from one and two and three", "one and")]
    found = preview_of(tmp_path, rows, "prompt-completion", "seq2seq-lm", model, 5)
    [row] = found.rows
    assert "".join(token.text for token in row.tokens if token.learnt).split() == ["one", "and", "</s>"]
    assert (row.length, row.kept) == (11, 8)
    assert found.lengths[0].counts == [(8, 1)]
    model = tiny.save_model(tmp_path / "model")
    rows = [QueryRow("0" * 16, "train", "the cat", "the cat the cat the cat the cat")]
    found = preview_of(tmp_path, rows, "query-passage", "sentence-embeddings", model, 5)
    [row] = found.rows
    assert [token.special for token in row.tokens] == [True, False, False, True, True, False, False, False, True]
    assert (row.length, row.kept, found.lengths[0].counts) == (14, 9, [(10, 1)])
    assert not any(token.learnt for token in row.tokens)


def test_plain_texts_are_learnt_after_their_first_token_and_a_split_without_rows_has_no_length(tmp_path: Path) -> None:
    model = tiny_lm.save_model(tmp_path / "model", "gpt2")
    found = preview_of(tmp_path, [TextRow("0" * 16, "train", "a text")], "text", "causal-lm", model)
    assert [token.learnt for token in found.rows[0].tokens] == [False, True, True, True]
    assert found.rows[0].in_loss == 3
    assert [(one.split, one.rows) for one in found.lengths] == [("train", 1), ("validation", 0), ("test", 0)]
    assert found.lengths[2].percentile(50) == 0
    assert found.lengths[2].bins() == [(0, 1, 0)]


def test_lengths_are_told_of_some_rows_by_name_and_of_how_many(tmp_path: Path) -> None:
    model = tiny.save_model(tmp_path / "model")
    rows = [LabelledRow(item_name(str(i)), "test", "the cat", 0) for i in range(LOOKED_AT + 10)]
    found = preview_of(tmp_path, rows, "labelled", "sequence-classification", model)
    assert (found.lengths[2].rows, found.lengths[2].looked_at) == (LOOKED_AT + 10, LOOKED_AT)


def test_a_letter_of_several_tokens_stands_with_the_last() -> None:
    bytes_ = sorted(pre_tokenizers.ByteLevel.alphabet())
    backend = Tokenizer(models.BPE({sign: place for place, sign in enumerate(bytes_)}, []))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    text = "naïve 👩‍🔬 größer"
    ids = backend.encode(text).ids
    found = pieces(PreTrainedTokenizerFast(tokenizer_object=backend), ids)
    assert len(found) == len(ids) == len(text.encode())
    assert "".join(found) == text
    assert found[:4] == ["n", "a", "", "ï"]


@pytest.mark.parametrize("count", [1, 7, 20])
def test_bins_hold_every_row(count: int) -> None:
    lengths = SplitLengths(split="train", rows=6, looked_at=6, counts=[(1, 1), (5, 2), (39, 3)])
    bins = lengths.bins(count)
    assert sum(rows for _, _, rows in bins) == 6
    assert len(bins) <= count
    assert all(here[1] == there[0] for here, there in pairwise(bins))


def test_images_are_shown_as_the_image_processor_makes_them(tmp_path: Path) -> None:
    model = tiny_images.save_model(tmp_path / "model")
    rows = tiny_images.rows(8, 1, 1)
    found = preview_of(tmp_path, rows, "labelled-images", "image-classification", model)
    first = sorted(rows[:8], key=lambda row: row.item)[:5]
    assert [(row.item, row.label) for row in found.rows] == [(row.item, row.label) for row in first]
    assert (found.rows[0].stored_size, found.rows[0].seen_size, found.lengths) == ((12, 10), (16, 16), [])
    seen = Image.open(BytesIO(b64decode(found.rows[0].image.removeprefix("data:image/png;base64,"))))
    [pixels] = resized(tiny_images.processor(tmp_path / "processor"), [opened(first[0].image)])
    assert np.array_equal(np.asarray(seen).transpose(2, 0, 1), pixels)
