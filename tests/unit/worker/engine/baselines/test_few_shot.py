"""The few-shot baseline: which examples are in a prompt, how many fit, and the answers of a tiny language model."""

from pathlib import Path

import pytest

from app.domain.data.baselines import FEW_SHOT_EXAMPLES, BaselineRequest
from app.domain.data.dataset import PairRow
from app.domain.failures import RunFailed
from tests.support.tiny import lm as tiny_lm
from worker.engine.baselines import few_shot
from worker.engine.baselines.texts import baseline

WORDS = tiny_lm.tokenizer()
TRAIN = [PairRow(f"t{i}", "train", "count from one :", " one two") for i in range(6)]
EACH = 6
"""Tokens of an example: four of the prompt, two of the completion."""


def request(model: Path, **changes: object) -> BaselineRequest:
    values = {
        "kind": "few-shot",
        "dataset_file": "rows",
        "dataset_format": "prompt-completion",
        "dataset_hash": "h",
        "location": str(model),
        "max_length": 48,
        "max_new_tokens": 4,
    }
    return BaselineRequest.model_validate(values | changes)


@pytest.mark.parametrize(("limit", "used"), [(64, 4), (29, 4), (28, 3), (11, 1), (10, 0), (3, 0)])
def test_as_many_examples_as_fit_stand_before_the_prompt(limit: int, used: int) -> None:
    ids, found = few_shot.prompt("count from two :", TRAIN[:4], limit, few_shot.encoder(WORDS))
    assert found == used and len(ids) <= limit
    assert WORDS.decode(ids[-3:]) == "from two :"
    if used:
        assert len(ids) == 1 + EACH * used + 4 and ids[0] == WORDS.bos_token_id


def test_the_same_four_rows_are_drawn_each_time_and_all_of_fewer() -> None:
    rows = [row._replace(item=f"r{i}") for i, row in enumerate(TRAIN * 5)]
    assert few_shot.chosen(rows) == few_shot.chosen(rows) != rows[:4]
    assert len({row.item for row in few_shot.chosen(rows)}) == FEW_SHOT_EXAMPLES
    assert len(few_shot.chosen(TRAIN[:2])) == 2


def test_a_language_model_answers_every_test_row_and_again_alike(tmp_path: Path) -> None:
    model = tiny_lm.save_model(tmp_path / "model", "llama")
    file = tiny_lm.save_rows(tmp_path / "rows.parquet", tiny_lm.pairs())
    found = baseline(request(model), file)
    assert len(found.scores["rouge_l"]) == 12 and set(found.scores) == {"exact_match", "rouge_l"}
    assert all(0 <= score <= 1 for score in found.scores["rouge_l"])
    assert baseline(request(model), file).scores == found.scores


def test_an_answer_ends_at_a_blank_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_lm.save_model(tmp_path / "model", "llama")
    monkeypatch.setattr(few_shot, "write", lambda _model, prompts, *_rest: ["\none\n\ntwo three"] * len(prompts))
    pairs = tiny_lm.pairs()
    train, test = pairs[:40], pairs[-12:]
    assert set(few_shot.few_shot_answers(request(model), train, test)) == {"one"}
    several = [row._replace(completion="one\n\ntwo") for row in train]
    assert set(few_shot.few_shot_answers(request(model), several, test)) == {"\none\n\ntwo three"}


def test_where_no_example_fits_the_reason_says_so(tmp_path: Path) -> None:
    model = tiny_lm.save_model(tmp_path / "model", "llama")
    file = tiny_lm.save_rows(tmp_path / "rows.parquet", tiny_lm.pairs())
    with pytest.raises(RunFailed, match=r"No training example fits into a prompt of 4 tokens\. Raise max_length\."):
        baseline(request(model, max_length=4), file)
