"""Token classification: which token carries a word's tag, the loss, the scores, and whole runs."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from torch.nn import functional
from transformers import PreTrainedTokenizerFast, T5Config

from app.domain.data.dataset import TaggedRow
from app.domain.data.tagging import UNREAD
from app.domain.failures import RunFailed
from app.domain.methods import FullSpec, LoraSpec, MethodSpec, PromptSpec
from app.domain.resources.ledger import OWNERS
from app.services.runs.predictions import read
from tests.support.tiny import tags as tiny_tags
from tests.support.tiny import texts as tiny
from tests.unit.worker.engine.estimation.test_estimate import request_of
from worker.engine.data.batches.batches import IGNORED
from worker.engine.data.batches.padding_free import RowsApart, without_padding
from worker.engine.estimation.estimate import estimate_run
from worker.engine.evaluation.evaluate import Evaluator
from worker.engine.loop.attempt import Attempt
from worker.engine.methods import MECHANISMS
from worker.engine.models.architecture import describe
from worker.engine.tasks import token_classification as task
from worker.engine.tasks.token_classification import tag_scores

CPU = torch.device("cpu")
LONGER = tiny.FAST.model_copy(update={"num_train_epochs": 6, "learning_rate": 1e-2})


def encoded(rows: list[TaggedRow], tmp_path: Path, **training: Any) -> tuple[task.Tagged, tiny.Recorder]:
    job = tiny_tags.job(tmp_path / "job", Path("nowhere"), training=tiny.FAST.model_copy(update=training), table=rows)
    sink = tiny.Recorder()
    return task.encode(rows, "test", tiny.tokenizer(), tiny_tags.model(), job, sink), sink


def evaluator() -> Evaluator:
    nothing: Callable[..., None] = lambda *_: None  # noqa: E731
    return Evaluator(CPU, 4, 0, False, nothing, nothing, task.collate)


def byte_level() -> PreTrainedTokenizerFast:
    """As GPT-2's: the space before a word belongs to its first token."""
    letters = sorted({*pre_tokenizers.ByteLevel.alphabet()})
    backend = Tokenizer(models.BPE({letter: place for place, letter in enumerate(letters)}, []))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    return PreTrainedTokenizerFast(tokenizer_object=backend)


def test_the_first_token_of_a_word_carries_its_tag() -> None:
    [words] = task.tokenize(byte_level(), [["ab", "é", "c"]])
    assert len(words.ids) == 2 + 3 + 2, "é has two bytes, and each space is a token"
    assert words.starts == [0, 3, 6]
    [words] = task.tokenize(tiny.tokenizer(), [["cat", "dog-cat", "the"]])
    assert (len(words.ids), words.starts) == (7, [1, 2, 5]), "[CLS] cat dog - cat the [SEP]"


def test_a_word_without_a_token_is_unread_and_counts_as_wrong(tmp_path: Path) -> None:
    row = TaggedRow("a", "test", ["cat", "the", "one", "dog"], [0, 3, 1, 0])
    examples, sink = encoded([row], tmp_path, max_length=4)
    assert examples.targets[0].tolist() == [IGNORED, 0, 3, IGNORED]
    assert examples.read[0].tolist() == [0, 1] and examples.truncated == [6]
    assert any("1 of 1 rows of the test split are longer than max_length 4" in line for line in sink.logs)
    assert any("2 words of the test split have no token" in line for line in sink.logs)
    found = task.evaluate(tiny_tags.model(), examples, evaluator(), generate=False)
    assert found.columns["prediction"][0][2:] == [UNREAD, UNREAD]
    assert found.per_item["tag_accuracy"][0] <= 0.5
    perfect, together = tag_scores([row.tags], [[0, 3, UNREAD, UNREAD]], tiny_tags.TAGS)
    assert perfect["tag_accuracy"].tolist() == [0.5]
    assert perfect["item_entity_f1"].tolist() == [0.5] and together["entity_f1"] == 0.5, "1 of 3 found, none wrong"


def test_the_loss_is_that_of_transformers_per_word(tmp_path: Path) -> None:
    examples, _sink = encoded(tiny_tags.rows(8, 0, 0), tmp_path)
    batch, model = task.collate(examples, range(8), 0), tiny_tags.model()
    theirs = model(**batch.inputs, labels=batch.labels).loss.item()
    assert task.loss(model, batch).item() / examples.units(range(8)) == pytest.approx(theirs, rel=1e-5)
    assert task.losses(model, batch).shape == (examples.units(range(8)),)
    by_row = [task.loss(model, task.collate(examples, [i], 0)).item() for i in range(8)]
    assert sum(by_row) == pytest.approx(task.loss(model, batch).item(), rel=1e-5), "padding has no say"
    assert functional.cross_entropy(model(**batch.inputs).logits.flatten(0, 1), batch.labels.flatten()).item() == (
        pytest.approx(theirs, rel=1e-5)
    )


def test_virtual_tokens_come_before_the_words(tmp_path: Path) -> None:
    examples, _sink = encoded(tiny_tags.rows(4, 0, 0), tmp_path)
    base, method = tiny_tags.model(), PromptSpec(num_virtual_tokens=3)
    model = MECHANISMS[method.mechanism].apply(base, method, describe(base, "token-classification")).eval()
    batch = task.collate(examples, range(4), 0)
    assert model(**batch.inputs).logits.shape[1] == batch.labels.shape[1] + 3
    assert task.losses(model, batch).shape == (examples.units(range(4)),)


def test_without_padding_the_loss_is_the_same(tmp_path: Path) -> None:
    examples, _sink = encoded(tiny_tags.rows(6, 0, 0), tmp_path)
    batch, model = task.collate(examples, range(6), 0), tiny_tags.model()
    apart, plain = without_padding(batch), task.loss(model, batch).item()
    with RowsApart(model).of(apart):
        assert task.loss(model, apart).item() == pytest.approx(plain, rel=1e-5)


@pytest.mark.parametrize(
    ("words", "tags", "says"),
    [
        (["cat"], [0, 1], "does not have one tag per word"),
        ([], [], "does not have one tag per word"),
        (["cat"], [9], "has a tag outside 0 to 3"),
        (["cat", ""], [0, 3], "has an empty word"),
    ],
)
def test_a_row_that_cannot_be_used_is_named(words: list[str], tags: list[int], says: str, tmp_path: Path) -> None:
    good, odd = tiny_tags.rows(1, 0, 0), TaggedRow("odd", "test", words, tags)
    job = tiny_tags.job(tmp_path / "job", Path("nowhere"), table=good)
    with pytest.raises(RunFailed, match=f"Row odd of the test split {says}"):
        task.encode([*good, odd], "test", tiny.tokenizer(), tiny_tags.model(), job, tiny.Recorder())


def test_a_training_row_without_a_word_that_the_model_reads_is_named(tmp_path: Path) -> None:
    """Its step would divide by zero words."""
    row = TaggedRow("a", "test", ["\N{NO-BREAK SPACE}"], [0])
    examples, _sink = encoded([row], tmp_path)
    assert examples.units([0]) == 0, "in a test split the word counts as wrong"
    job = tiny_tags.job(tmp_path / "train", Path("nowhere"), table=[row])
    with pytest.raises(RunFailed, match=r"Row a of the train split has no word that the model reads\. Leave it out"):
        odd = row._replace(split="train")
        task.encode([odd], "train", tiny.tokenizer(), tiny_tags.model(), job, tiny.Recorder())


def test_a_row_without_a_token_is_named(tmp_path: Path) -> None:
    backend = Tokenizer(models.WordLevel({"cat": 0}))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    job = tiny_tags.job(tmp_path / "job", Path("nowhere"))
    odd, tokenizer = (
        TaggedRow("a", "test", ["\N{NO-BREAK SPACE}"], [0]),
        PreTrainedTokenizerFast(tokenizer_object=backend),
    )
    with pytest.raises(RunFailed, match="Row a of the test split has no word that the model reads"):
        task.encode([odd], "test", tokenizer, tiny_tags.model(), job, tiny.Recorder())


def test_a_tokenizer_of_another_model_is_named(tmp_path: Path) -> None:
    job = tiny_tags.job(tmp_path / "job", Path("nowhere"))
    with pytest.raises(RunFailed, match="so the tokenizer is not the model's own"):
        task.encode(tiny_tags.rows(1, 0, 0), "test", tiny.tokenizer(), tiny_tags.model(vocab_size=5), job,
                    tiny.Recorder())  # fmt: skip


def test_a_tokenizer_that_does_not_say_where_tokens_are_is_refused() -> None:
    class Slow:
        def __call__(self, *_texts: Any, **_how: Any) -> None:
            raise NotImplementedError

    with pytest.raises(RunFailed, match=r"does not report where its tokens stand .* tokenizer\.json"):
        task.tokenize(Slow(), [["cat"]])  # type: ignore[arg-type]


def test_an_encoder_decoder_is_refused() -> None:
    assert "encoder-decoder" in str(task.incompatibility(T5Config()))


@pytest.mark.slow
@pytest.mark.parametrize(
    "method", [FullSpec(), pytest.param(LoraSpec(r=8), marks=pytest.mark.slow)], ids=lambda method: method.kind
)
def test_a_run_learns_and_leaves_its_predictions(method: MethodSpec, base: Path, tmp_path: Path) -> None:
    run = tiny_tags.job(tmp_path / "run", base, method, LONGER)
    estimated = estimate_run(request_of(run), Path(run.dataset_file))
    result = Attempt(run, tiny.Recorder()).run()
    before, after = result.evaluation("base", "test"), result.evaluation("adapted", "test")
    assert before is not None and after is not None and after.metric == "item_entity_f1"
    assert before.score is not None and (after.score or 0) > (0.9 if method.kind == "full" else before.score)
    assert after.loss < before.loss and result.audit.passed
    measured = result.memory.ledger
    assert measured is not None
    assert estimated.ledger.total == pytest.approx(measured.total, rel=0.01)
    for owner in OWNERS if method.kind == "full" else ():  # with LoRA two moments of the step need nearly the same
        expected = pytest.approx(measured.owners[owner], abs=2048 + 0.002 * measured.total)
        assert estimated.ledger.owners[owner] == expected, owner
    file = tmp_path / "run" / "output" / "predictions.parquet"
    table = pq.read_table(file).to_pydict()
    per_item, together = tag_scores(table["tags"], table["prediction"], tiny_tags.TAGS)
    assert per_item["item_entity_f1"].tolist() == pytest.approx(table["item_entity_f1"])
    assert after.metrics["entity_f1"] == pytest.approx(together["entity_f1"])
    with file.open("rb") as content:
        shown = read(content)
    place = next(i for i, tags in enumerate(table["tags"]) if 0 in tags)
    assert shown.at("text", place) == " ".join(table["tokens"][place])
    assert "[animal " in shown.at("wanted", place)
    assert {"answer", "base_answer"} <= set(shown.table.column_names)


@pytest.mark.slow
def test_an_estimate_without_rows_has_a_target_for_every_token(base: Path, tmp_path: Path) -> None:
    request = request_of(tiny_tags.job(tmp_path / "run", base))
    few, many = (estimate_run(request.model_copy(update={"labels": labels}), None) for labels in (4, 404))
    assert few.lengths.source == "max_length"
    tokens = tiny.FAST.per_device_train_batch_size * tiny.FAST.max_length
    assert many.phases["train"] - few.phases["train"] > 400 * 4 * tokens, "float32 logits for every token"
