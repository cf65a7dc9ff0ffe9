"""Prompts that end in what the tokenizer does not know."""

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from app.domain.data.dataset import PairRow
from worker.engine.data.lines import LineWriter

UNKNOWN, GOOD, BAR, BAZ, END = range(5)


@pytest.fixture
def writer() -> LineWriter:
    words = {"<unk>": UNKNOWN, "good": GOOD, "bar": BAR, "baz": BAZ, "</s>": END}
    model = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    model.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=model, unk_token="<unk>", eos_token="</s>")
    return LineWriter(tokenizer, {END}, completion_only=True)


@pytest.mark.parametrize(("prompt", "apart"), [("good foo", 1), ("good foo ", 0)])
def test_an_unknown_word_at_a_prompts_end_hides_no_word_of_the_completion(
    writer: LineWriter, prompt: str, apart: int
) -> None:
    [line] = writer.lines([PairRow("i", "train", prompt, "bar baz")])
    assert line.ids == [GOOD, UNKNOWN, BAR, BAZ, END]
    assert line.learnt == [False, False, True, True, True]
    assert writer.apart == apart
