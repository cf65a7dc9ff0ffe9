"""Tags: those of the run's evaluation for its own words, and entities at their places in a text."""

from pathlib import Path
from typing import Any

import pytest
import torch

from app.domain.errors import Invalid
from app.domain.inference import MOST_WORDS, ModelJob
from app.domain.methods import LoraSpec, PromptSpec
from app.domain.models.exports import ExportFormat
from tests.support.rows import exported, inferred
from tests.support.tiny import tags as tiny_tags
from tests.support.tiny import texts as tiny
from worker.engine.exporting import check, merge
from worker.engine.inference import answer
from worker.engine.inference.answer import Cancelled

LORA = LoraSpec(r=4)


def tagger(folder: Path, spec: Any = LORA) -> tuple[ModelJob, list[list[int]], list[list[str]]]:
    """A run that tags words, its own evaluation's predictions of its test items, and the words of these."""
    job = tiny_tags.job(folder / "job", tiny.save_model(folder / "base"), spec)
    found, model = exported.trained(folder, job, ExportFormat.MERGED_FLOAT32)
    _base, tokenizer = merge.base_model(job, torch.float32)
    examples, predictions = check.predict(found, model, tokenizer, lambda _share: None)
    words = [row.tokens for row in examples.rows]
    whole = ModelJob(key="run 1/1", job=job, weights=found.weights, whole=found.whole, base_bytes=1000, own_bytes=10)
    return whole, predictions.columns["prediction"], words


@pytest.mark.parametrize("spec", [LORA, PromptSpec(num_virtual_tokens=2)], ids=lambda one: one.kind)
def test_words_have_the_tags_of_the_runs_own_evaluation(tmp_path: Path, spec: Any) -> None:
    job, tags, words = tagger(tmp_path, spec)
    found = inferred.predictions(inferred.asked(inferred.models(), [job], words))
    named = [[tiny_tags.TAGS[answer] for answer in row] for row in tags]
    assert [[word["tag"] for word in one["words"]] for one in found] == named
    assert len({answer for row in named for answer in row}) > 1
    assert all(0.25 <= word["probability"] <= 1 for one in found for word in one["words"])


def test_entities_lie_at_their_characters_and_side_by_side_models_answer_alike(tmp_path: Path) -> None:
    job, _tags, _words = tagger(tmp_path)
    events = inferred.asked(inferred.models(), [job, inferred.base_of(job)], ["  the cat, (red) dog!"], "compare")
    own, base = [event["predictions"][0] for event in events if event["type"] == "answers"]
    text = "  the cat, (red) dog!"
    assert [word["text"] for word in own["words"]] == ["the", "cat", ",", "(", "red", ")", "dog", "!"]
    for one in (own, base):
        assert all(text[part["start"] : part["end"]] == part["text"] for part in (*one["words"], *one["entities"]))
    assert own["words"] != base["words"]


def test_too_many_words_are_refused_before_they_are_made(monkeypatch: pytest.MonkeyPatch) -> None:
    most = ["!" * MOST_WORDS]
    assert len(answer.sentences(most, lambda: None)[0].words) == MOST_WORDS
    with pytest.raises(Invalid) as refused:
        answer.sentences(["a", "!" * 100_000], lambda: None)
    assert [(one.path, str(one.message)) for one in refused.value.fields] == [
        ("inputs.1", "This input has more than 10000 words")
    ]
    monkeypatch.setattr(answer, "MOST_REQUEST_WORDS", 2 * MOST_WORDS)
    assert len(answer.sentences(most * 2, lambda: None)) == 2
    with pytest.raises(Invalid, match="more than 20000 words together"):
        answer.sentences([*most * 2, ["a"]], lambda: None)


def test_a_reader_who_leaves_ends_the_splitting_of_texts() -> None:
    read = 0

    def between() -> None:
        nonlocal read
        read += 1
        if read == 3:
            raise Cancelled

    with pytest.raises(Cancelled):
        answer.sentences(["a"] * 5, between)


@pytest.mark.slow
def test_too_many_tokens_are_refused_or_words_beyond_them_get_no_tag(tmp_path: Path) -> None:
    job, _tags, _words = tagger(tmp_path)
    with pytest.raises(Invalid, match="42 tokens"):
        inferred.asked(inferred.models(), [job], ["the cat " * 20])
    [cut] = inferred.predictions(inferred.asked(inferred.models(), [job], ["the cat " * 20], truncate=True))
    assert [("tag" in word) for word in cut["words"]] == [True] * 14 + [False] * 26 and cut["tokens"] == 16
    assert inferred.predictions(inferred.asked(inferred.models(), [job], ["cat", ["the", "dog"]]))[1]["tokens"] == 4
    with pytest.raises(Invalid, match="reads no conversation"):
        inferred.asked(inferred.models(), [job], [[{"role": "user", "content": "cat"}]])
