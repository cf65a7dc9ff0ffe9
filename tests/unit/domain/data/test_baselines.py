"""Which baselines a study has."""

import pytest

from app.domain.data.baselines import BASELINES, BaselineRequest, baselines_of, not_applicable
from app.domain.tasks import Format, MetricName, Task

NO_PAIRS = "the data have no prompts with completions"


def test_each_metric_of_a_verdict_has_its_baselines() -> None:
    assert baselines_of("sequence-classification", "labelled", "accuracy") == ["most-frequent", "tfidf", "embeddings"]
    assert baselines_of("image-classification", "labelled-images", "accuracy") == [
        "most-frequent",
        "pixels",
        "embeddings",
    ]
    assert baselines_of("token-classification", "tagged", "item_entity_f1") == [
        "most-frequent-tag",
        "random-tags",
        "word-tag",
    ]
    assert baselines_of("causal-lm", "prompt-completion", "exact_match") == ["most-frequent-answer", "few-shot"]
    assert baselines_of("seq2seq-lm", "prompt-completion", "rouge_l") == ["first-sentence"]
    assert baselines_of("sentence-embeddings", "query-passage", "mrr_at_10") == ["random-passage", "bm25"]
    answers = ["random-answer", "longer-answer"]
    assert baselines_of("preference", "preference", "preference_accuracy") == answers
    assert baselines_of("preference", "preference-messages", "likelihood_accuracy") == answers


@pytest.mark.parametrize(
    ("task", "rows", "metric", "reasons"),
    [
        ("causal-lm", "prompt-completion", "token_accuracy", {"few-shot": "token accuracy scores no generated text"}),
        ("causal-lm", "text", "token_accuracy", {"few-shot": NO_PAIRS}),
        ("causal-lm", "messages", "exact_match", {"most-frequent-answer": NO_PAIRS, "few-shot": NO_PAIRS}),
        ("causal-lm", "messages", "rouge_l", {"first-sentence": NO_PAIRS, "few-shot": NO_PAIRS}),
        ("seq2seq-lm", "prompt-completion", "rouge_l", {"few-shot": "only causal language models have it"}),
        ("causal-lm", "prompt-completion", "rouge_l", {}),
        ("sequence-classification", "labelled", "accuracy", {}),
        ("image-classification", "labelled-images", "accuracy", {}),
        ("sentence-embeddings", "query-passage", "recall_at_1", {}),
        ("preference", "preference", "preference_accuracy", {}),
    ],
)
def test_a_baseline_of_the_task_that_cannot_be_scored_has_a_reason(
    task: Task, rows: Format, metric: MetricName, reasons: dict[str, str]
) -> None:
    assert not_applicable(task, rows, metric) == reasons
    assert not set(baselines_of(task, rows, metric)) & set(reasons)


def test_the_same_request_has_the_same_key_whatever_the_model_where_it_uses_none() -> None:
    rows = {"dataset_file": "f", "dataset_format": "labelled", "dataset_hash": "h"}
    keys = {kind: BaselineRequest.model_validate(rows | {"kind": kind}).key for kind in BASELINES}
    assert len(set(keys.values())) == len(BASELINES)
    other = BaselineRequest.model_validate(rows | {"kind": "embeddings", "location": "m", "max_length": 8})
    assert other.key != keys["embeddings"]


def test_baselines_that_were_stored_before_fields_were_added_keep_their_keys() -> None:
    rows = {"dataset_file": "f", "dataset_format": "labelled", "dataset_hash": "h", "labels": ["a", "b"]}
    tfidf = BaselineRequest.model_validate(rows | {"kind": "tfidf"})
    embeddings = BaselineRequest.model_validate(rows | {"kind": "embeddings", "location": "m", "max_length": 8})
    assert tfidf.key == "ae7d1fa0829447511658edc94af5bae98fa5cbb869e0978d7ca6bbae39337901"
    assert embeddings.key == "06dbf73d8912fe0fe413126743424b10eacf985618254a5d19b6defb50142006"
    changed = [tfidf.model_copy(update=update) for update in ({"train_fraction": 0.5}, {"max_new_tokens": 9})]
    assert len({tfidf.key, *(request.key for request in changed)}) == 3
