"""Sentence embeddings: the loss of sentence-transformers, false negatives, the search, and what is refused."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from torch import nn
from transformers import BertConfig, PreTrainedConfig, RobertaConfig, ViTConfig

from app.domain.data.baselines import BaselineKind, BaselineRequest
from app.domain.data.dataset import PairRow, QueryRow, Row, items_hash
from app.domain.failures import RunFailed
from app.domain.methods import FullSpec, LastLayersSpec, LoraSpec, MethodSpec, PromptSpec
from app.domain.resources.estimate import EstimateRequest
from app.domain.runs.spec import RunSpec
from tests.support.tiny import lm as tiny_lm
from tests.support.tiny import pairs as tiny_pairs
from tests.support.tiny import texts as tiny
from tests.unit.worker.engine.estimation.test_estimate import alike, request_of, steady
from worker.engine.baselines.baselines import baseline
from worker.engine.data.batches.batches import Batch
from worker.engine.estimation.estimate import estimate_run
from worker.engine.evaluation.evaluate import Evaluator, Predictions
from worker.engine.loop.attempt import Attempt
from worker.engine.models.load import check_task
from worker.engine.tasks import sentence_embeddings
from worker.engine.tasks.sentence_embeddings import AUTO, Pairs

PAIR = QueryRow("p1", "test", "good day", "the good one")


class Table(nn.Module):
    """An encoder whose last hidden states depend on the token ids alone."""

    def __init__(self, states: torch.Tensor) -> None:
        super().__init__()
        self.states = nn.Parameter(states)

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> Any:
        return SimpleNamespace(last_hidden_state=self.states[input_ids])


def batch(query_numbers: list[int], passage_numbers: list[int]) -> Batch:
    """Three rows whose tokens are numbered: 3 of each query, 4 of each passage, some of them padding."""
    inputs = {
        "query_ids": torch.arange(9).view(3, 3),
        "query_mask": torch.tensor([[1, 1, 0], [1, 1, 1], [1, 0, 0]]),
        "input_ids": torch.arange(9, 21).view(3, 4),
        "attention_mask": torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0], [1, 1, 1, 0]]),
    }
    return Batch(inputs, torch.tensor(passage_numbers + query_numbers), 15)


def table() -> Table:
    return Table(1 + 0.3 * torch.sin(torch.arange(84).float() * 0.7).view(21, 4))


def test_loss_and_gradients_are_those_of_sentence_transformers() -> None:
    """Recorded with sentence-transformers 6.2.0: `Pooling(4, "mean")`, `Normalize()`, and
    `MultipleNegativesRankingLoss` with its defaults, on the same hidden states and masks."""
    model = table()
    loss = sentence_embeddings.loss(model, batch([0, 1, 2], [0, 1, 2])) / 3
    loss.backward()  # type: ignore[no-untyped-call]
    assert loss.item() == pytest.approx(1.108416199684143, rel=1e-5)
    query = [-0.001469174399971962, -0.010391651652753353, -0.0034220730885863304, 0.016161641106009483]
    passage = [0.0576600581407547, 0.06312433630228043, -0.006445972248911858, -0.11833128333091736]
    assert model.states.grad is not None
    assert model.states.grad[0].tolist() == pytest.approx(query, rel=1e-3)
    assert model.states.grad[18].tolist() == pytest.approx(passage, rel=1e-3)
    assert not model.states.grad[[2, 7, 8, 15, 16, 20]].any()  # padding


@pytest.mark.parametrize(("queries", "passages"), [([0, 1, 2], [0, 0, 2]), ([0, 0, 2], [0, 1, 2])])
def test_a_row_with_the_same_passage_or_query_is_no_negative(queries: list[int], passages: list[int]) -> None:
    """Of the first two rows, neither has the other's passage in the sum of its softmax."""
    model = table()
    with torch.no_grad():
        found = sentence_embeddings.losses(model, batch(queries, passages))
        inputs = batch(queries, passages).inputs
        asked = sentence_embeddings.embeddings(model, inputs["query_ids"], inputs["query_mask"])
        offered = sentence_embeddings.embeddings(model, inputs["input_ids"], inputs["attention_mask"])
        similar = 20 * asked @ offered.T
    expected = [
        similar[0, [0, 2]].logsumexp(0) - similar[0, 0],
        similar[1, [1, 2]].logsumexp(0) - similar[1, 1],
        similar[2].logsumexp(0) - similar[2, 2],
    ]
    assert found.tolist() == pytest.approx([value.item() for value in expected], rel=1e-5)


def encode(rows: list[Row], folder: Path, sink: tiny.Recorder | None = None, **training: Any) -> Pairs:
    job = tiny_pairs.job(folder / "job", Path("nowhere"), training=tiny_pairs.FAST.model_copy(update=training))
    model = AUTO.from_config(tiny.config())
    return sentence_embeddings.encode(rows, "test", tiny.tokenizer(), model, job, sink or tiny.Recorder())


def test_queries_and_passages_are_truncated_at_their_end(tmp_path: Path) -> None:
    recorder = tiny.Recorder()
    long = PAIR._replace(passage=" ".join(tiny_pairs.WORDS[:9]))
    examples = encode([PAIR, long], tmp_path, recorder, max_length=6)
    whole = tiny.tokenizer()(long.passage)["input_ids"]
    assert examples.tokens[1].tolist() == [*whole[:5], whole[-1]] and len(examples.queries[1]) == 4
    assert recorder.logs == [
        "1 of 2 rows of the test split have a query or a passage that is longer than max_length 6, which was truncated "
        "at its end; the longest has 11 tokens."
    ]
    collated = sentence_embeddings.collate(examples, [0, 1], 0)
    assert collated.inputs["input_ids"].shape == (2, 6) and collated.labels.tolist() == [0, 1, 0, 0]
    assert examples.units([0, 1]) == 2 and collated.tokens == 4 + 5 + 4 + 6


@pytest.mark.parametrize("row", [PAIR._replace(query=" "), PAIR._replace(passage=""), PairRow("p1", "test", "a", "b")])
def test_a_row_without_a_query_or_a_passage_is_named(tmp_path: Path, row: Row) -> None:
    with pytest.raises(RunFailed, match=r"Row p1 of the test split has no query or no passage\. Leave it out"):
        encode([row], tmp_path)


class Vectors(nn.Module):
    """An encoder that gives every token a vector of its own."""

    def __init__(self, vectors: dict[int, list[float]]) -> None:
        super().__init__()
        self.table = torch.tensor([vectors.get(token, [0.0, 0.0]) for token in range(max(vectors) + 1)])

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> Any:
        return SimpleNamespace(last_hidden_state=self.table[input_ids])


def searched(rows: list[Row], folder: Path, vectors: dict[str, list[float]]) -> Predictions:
    examples, tokens = encode(rows, folder), tiny.tokenizer()
    model = Vectors({tokens.convert_tokens_to_ids(word): vector for word, vector in vectors.items()})
    evaluator = Evaluator(torch.device("cpu"), 2, 0, False, lambda: None, lambda _line: None,
                          sentence_embeddings.collate)  # fmt: skip
    return sentence_embeddings.evaluate(model, examples, evaluator, generate=False)


def test_a_query_is_searched_in_the_distinct_passages_of_the_split(tmp_path: Path) -> None:
    """good ≈ fine > bad; the passage `fine` occurs twice, and a query may have several right passages."""
    one, two, three, four = tiny_pairs.WORDS[0], tiny_pairs.WORDS[1], tiny_pairs.WORDS[5], tiny_pairs.WORDS[6]
    vectors = {one: [1.0, 0.1], two: [1.0, 0.0], three: [0.0, 1.0], four: [0.1, 1.0]}
    rows: list[Row] = [
        PAIR._replace(item="right", query=one, passage=two),
        PAIR._replace(item="wrong", query=four, passage=two),
        PAIR._replace(item="other", query=one, passage=three),
    ]
    found = searched(rows, tmp_path, vectors)
    assert found.columns["rank"] == [1, 2] and found.columns["prediction"] == [two, three]
    assert found.per_item["recall_at_1"].tolist() == [1, 0], "the query in two rows is one item"
    assert found.per_item["mrr_at_10"].tolist() == [1, 0.5]
    assert found.metrics == {"recall_at_1": 0.5, "recall_at_5": 1.0, "mrr_at_10": 0.75}


def test_a_query_in_several_rows_is_one_item(tmp_path: Path) -> None:
    """In every place that has one score per item: the report, the predictions file, and the baselines."""
    table = tiny_pairs.rows(24, 3, 4)
    again = [row._replace(item=f"again{n}", passage=f"{row.passage} {n}") for row in table[-4:] for n in range(3)]
    job = tiny_pairs.job(tmp_path / "run", tiny.save_model(tmp_path / "model"), table=[*table, *again])
    recorder = tiny.Recorder()
    result = Attempt(job, recorder).run()
    after = result.evaluation("adapted", "test")
    assert after is not None and after.n == 4
    saved = pq.read_table(tmp_path / "run" / "output" / "predictions.parquet")
    assert saved.column("item").to_pylist() == [row.item for row in table[-4:]]
    kinds: list[BaselineKind] = ["bm25", "random-passage"]
    for kind in kinds:
        wanted = BaselineRequest(kind=kind, dataset_file="", dataset_format="query-passage", dataset_hash="h")
        found = baseline(wanted, Path(job.dataset_file))
        assert len(found.scores["recall_at_1"]) == 4
        assert found.items_hash == items_hash([row.item for row in table[-4:]])


def test_the_heaviest_batch_counts_the_longest_query_and_the_longest_passage(tmp_path: Path) -> None:
    """Padded to 12 + 12 tokens: more than two rows of 8 + 8, though no row has more tokens than those."""
    short, long = " ".join(tiny_pairs.WORDS[:1]), " ".join(tiny_pairs.WORDS[:10])
    middle = " ".join(tiny_pairs.WORDS[:6])
    pairs = [(short, long), (long, short), (middle, middle), (middle, middle)]
    examples = encode([PAIR._replace(item=str(n), query=q, passage=p) for n, (q, p) in enumerate(pairs)], tmp_path)
    assert examples.lengths == [15, 15, 16, 16]
    assert examples.weight([0, 1]) == (48, 18) and examples.weight([2, 3]) == (32, 0)
    assert examples.heaviest([[2, 3], [0, 1]]) == [1]
    assert sentence_embeddings.collate(examples, [0, 1], 0).inputs["query_ids"].shape == (2, 12)


def test_a_model_to_which_all_texts_are_alike_finds_nothing(tmp_path: Path) -> None:
    words = tiny_pairs.WORDS[:7]
    rows: list[Row] = [PAIR._replace(item=word, query=word, passage=word) for word in words]
    found = searched(rows, tmp_path, {word: [1.0, 1.0] for word in words})
    assert found.columns["rank"] == [7] * 7
    assert found.metrics == {"recall_at_1": 0.0, "recall_at_5": 0.0, "mrr_at_10": pytest.approx(1 / 7)}
    assert found.loss == pytest.approx(np.log(7), rel=1e-5)


@pytest.mark.parametrize(
    "config", [tiny_lm.config("gpt2"), tiny_lm.config("bart"), ViTConfig(), BertConfig(is_decoder=True)]
)
def test_only_an_encoder_of_texts_is_suitable(config: PreTrainedConfig) -> None:
    with pytest.raises(RunFailed, match=r"is not an encoder of texts\. Choose a model such as BERT"):
        check_task(config, "sentence-embeddings")
    check_task(RobertaConfig(), "sentence-embeddings")


@pytest.mark.by_day
@pytest.mark.slow
@pytest.mark.parametrize(
    "method",
    [
        FullSpec(),
        LoraSpec(r=4, target_modules="all-linear"),
        pytest.param(PromptSpec(num_virtual_tokens=4), marks=pytest.mark.slow),
        pytest.param(LastLayersSpec(layers=1), marks=pytest.mark.slow),
    ],
    ids=lambda method: method.kind,
)
def test_it_learns_passes_the_audit_and_is_estimated(tmp_path: Path, method: MethodSpec) -> None:
    """The pooler, whose output nothing reads, is no part of the model; memory is estimated from the rows."""
    job = tiny_pairs.job(tmp_path / "run", tiny.save_model(tmp_path / "model"), method)
    recorder = tiny.Recorder()
    result = Attempt(job, recorder).run()
    assert result.audit.passed and result.audit.problems == [] and recorder.logs == []
    before, after = (result.evaluation(subject, "test") for subject in ("base", "adapted"))
    assert before is not None and after is not None and before.n == 12
    assert after.metrics["mrr_at_10"] > before.metrics["mrr_at_10"]
    saved = pq.read_table(tmp_path / "run" / "output" / "predictions.parquet")
    assert {"query", "passage", "prediction", "base_rank", "mrr_at_10"} <= set(saved.column_names)
    estimate = estimate_run(request_of(job), Path(job.dataset_file))
    alike(estimate.ledger, steady(result))
    assert estimate.trainable == result.parameters.trainable


@pytest.mark.slow
def test_an_estimate_without_rows_has_two_texts_of_max_length(tmp_path: Path) -> None:
    job = tiny_pairs.job(tmp_path / "run", tiny.save_model(tmp_path / "model"))
    request: EstimateRequest = request_of(job, dataset_file="")
    assert estimate_run(request, None).lengths.longest == 2 * job.spec.training.max_length


@pytest.mark.parametrize(
    ("training", "sentence"),
    [
        ({"gradient_accumulation_steps": 2}, "several small batches are not one large batch"),
        ({"per_device_train_batch_size": 1}, "a batch of one row has no other"),
    ],
)
def test_what_divides_a_batch_is_refused(tmp_path: Path, training: dict[str, int], sentence: str) -> None:
    arguments = tiny_pairs.FAST.model_copy(update=training)
    job = tiny_pairs.job(tmp_path / "run", tiny.save_model(tmp_path / "model"), training=arguments)
    with pytest.raises(RunFailed, match=sentence):
        Attempt(job, tiny.Recorder()).run()
    with pytest.raises(RunFailed, match=sentence):
        estimate_run(request_of(job), Path(job.dataset_file))


def test_forgetting_is_not_measured_on_embeddings() -> None:
    with pytest.raises(ValueError, match="Forgetting is measured on language models, not on sentence-embeddings"):
        RunSpec(base_model="b", dataset="d", task="sentence-embeddings", method=FullSpec(), general_text="texts")
