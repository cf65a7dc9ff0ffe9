"""Tagged words for tiny models: words that tell a tag, and others outside of any entity."""

from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForTokenClassification, PreTrainedModel

from app.domain.data.dataset import TaggedRow
from app.domain.methods import MethodSpec
from app.domain.runs.job import TrainJob
from app.domain.runs.training import TrainingArguments
from tests.support.tiny import texts as tiny

TAGS = ["B-animal", "B-number", "I-animal", "O"]
WORD_TAGS = {
    **dict.fromkeys(tiny.WORDS["animal"], 0),
    **dict.fromkeys(tiny.WORDS["number"], 1),
    **dict.fromkeys(tiny.WORDS["colour"], 2),
}
"""A colour is part of an animal's name behind it: `cat red`; elsewhere it is outside."""


def rows(train: int = 96, validation: int = 24, test: int = 24) -> list[TaggedRow]:
    """The texts of the tiny dataset, with the colour of some animals."""
    found = []
    for place, row in enumerate(tiny.rows(train, validation, test)):
        words = row.text.split()
        if place % 2 and (animals := [i for i, word in enumerate(words) if word in tiny.WORDS["animal"]]):
            words.insert(animals[0] + 1, tiny.WORDS["colour"][place // 2 % 5])
        tags: list[int] = []
        for word in words:
            tag = WORD_TAGS.get(word, 3)
            tags.append(3 if tag == 2 and (not tags or tags[-1] not in (0, 2)) else tag)
        found.append(TaggedRow(row.item, row.split, words, tags))
    return found


def model(**changes: Any) -> PreTrainedModel:
    """Tiny BERT with a head over the tags, the same every time."""
    torch.manual_seed(0)
    settings = {"num_labels": len(TAGS), "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0} | changes
    found: PreTrainedModel = AutoModelForTokenClassification.from_config(
        tiny.config(**settings), attn_implementation="sdpa"
    )
    return found.eval()


def job(
    directory: Path,
    base: Path,
    method: MethodSpec | None = None,
    training: TrainingArguments = tiny.FAST,
    table: list[TaggedRow] | None = None,
    labels: list[str] = TAGS,
) -> TrainJob:
    """A job in a directory of its own."""
    table = rows() if table is None else table
    return tiny.job_on(directory, base, "token-classification", "tagged", table, labels, method, training)
