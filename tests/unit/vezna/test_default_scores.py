"""The default scores of trainers other than transformers': which trainer has which, and what a query is."""

from types import SimpleNamespace
from typing import Any

import pytest

from vezna.default_scores import NoScores, default_of


def trainer_named(*names: str, **values: Any) -> Any:
    """A trainer whose class and base classes have these names."""
    kind: type = SimpleNamespace
    for name in reversed(names):
        kind = type(name, (kind,), {})
    return kind(args=SimpleNamespace(max_length=512, assistant_only_loss=False), **values)


@pytest.mark.parametrize(
    ("names", "metric"),
    [
        (("SFTTrainer", "_BaseTrainer", "Trainer"), "mean_token_accuracy"),
        (("UnslothTrainer", "SFTTrainer"), "mean_token_accuracy"),
        (("UnslothDPOTrainer", "_UnslothDPOTrainer", "_BaseTrainer", "Trainer"), "rewards/accuracies"),
        (("SentenceTransformerTrainer", "BaseTrainer", "Trainer"), "cosine_recall@1"),
    ],
)
def test_a_trainer_is_known_by_the_names_of_its_classes(names: tuple[str, ...], metric: str) -> None:
    default = default_of(trainer_named(*names))
    assert default is not None and default.metric == metric
    assert default_of(trainer_named("GRPOTrainer", "Trainer")) is None


def test_which_tokens_count_is_part_of_the_metrics_version() -> None:
    [all_tokens, completions] = [trainer_named("SFTTrainer", completion_only_loss=only) for only in (False, True)]
    default = default_of(all_tokens)
    assert default is not None
    assert default.version(all_tokens) == "token accuracy given the true tokens, 1: all tokens within 512"
    assert default.version(completions) == "token accuracy given the true tokens, 1: completion tokens within 512"


def test_a_query_of_several_rows_is_one_item_with_all_its_passages() -> None:
    default = default_of(trainer_named("SentenceTransformerTrainer"))
    assert default is not None
    rows = [
        {"anchor": "cat", "positive": "a cat", "negative": "a dog"},
        {"anchor": "dog", "positive": "a dog", "negative": "a cat"},
        {"anchor": "cat", "positive": "the cat", "negative": "a dog"},
    ]
    assert default.items(rows) == [
        {"query": "cat", "passages": ["a cat", "the cat"], "others": ["a dog"]},
        {"query": "dog", "passages": ["a dog"], "others": ["a cat"]},
    ]
    for wrong in ([{"a": "cat", "b": "dog", "score": 0.5}], [{"text": "cat"}], {"one": rows}, []):
        with pytest.raises(NoScores, match="is no set of rows with a query and a passage"):
            default.items(wrong)


def test_without_a_reference_model_pairs_are_not_scored() -> None:
    trainer = trainer_named("DPOTrainer", precompute_ref_logps=True)
    default = default_of(trainer)
    assert default is not None
    with pytest.raises(NoScores, match="the reference model is gone"):
        default.scores(trainer, [])
