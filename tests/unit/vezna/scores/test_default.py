"""Default scores of trainers, the items that they are of, and the version of a metric."""

import datetime
import math
import tracemalloc
import uuid
from collections.abc import Callable, Iterator
from functools import partial, wraps
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from datasets import Dataset

from vezna import VeznaCallback
from vezna.scores.default import default_of
from vezna.scores.items import is_stream, item_groups, item_names, split_hash
from vezna.scores.metric_version import ARGMAX, version_of
from vezna.scores.scoring import NoScores
from vezna.tracking import _facts


def trainer_named(*names: str, **values: Any) -> Any:
    """A trainer whose class and base classes have these names."""
    kind: type = SimpleNamespace
    for name in reversed(names):
        library = "" if name.startswith(("Unsloth", "_Unsloth", "Custom")) else "trl.trainer"
        library = "transformers.trainer" if name == "Trainer" else library
        kind = type(name, (kind,), {"__module__": library or "script"})
    values = {"args": SimpleNamespace(max_length=512, assistant_only_loss=False), **values}
    return kind(**values)


@pytest.mark.parametrize(
    ("names", "metric"),
    [
        (("SFTTrainer", "_BaseTrainer", "Trainer"), "mean_token_accuracy"),
        (("UnslothTrainer", "SFTTrainer"), "mean_token_accuracy"),
        (("CustomTrainer", "SFTTrainer", "_BaseTrainer", "Trainer"), "mean_token_accuracy"),
        (("UnslothDPOTrainer", "_UnslothDPOTrainer", "_BaseTrainer", "Trainer"), "rewards/accuracies"),
        (("SentenceTransformerTrainer", "BaseTrainer", "Trainer"), "cosine_accuracy@1"),
        (("RewardTrainer", "_BaseTrainer", "Trainer"), "accuracy"),
        (("CPOTrainer", "_BaseTrainer", "Trainer"), "rewards/accuracies"),
        (("UnslothORPOTrainer", "_UnslothORPOTrainer", "_BaseTrainer", "Trainer"), "rewards/accuracies"),
    ],
)
def test_a_trainer_is_known_by_the_names_of_its_classes(names: tuple[str, ...], metric: str) -> None:
    default = default_of(trainer_named(*names))
    assert default is not None and default.metric == metric


@pytest.mark.parametrize(
    ("names", "why"),
    [
        (("GRPOTrainer", "Trainer"), "GRPOTrainer learns from answers that it generates"),
        (("UnslothGRPOTrainer", "_UnslothGRPOTrainer", "Trainer"), "GRPOTrainer learns from answers"),
        (("OnlineDPOTrainer", "Trainer"), "OnlineDPOTrainer learns from answers that it generates"),
        (("KTOTrainer", "Trainer"), "KTOTrainer rates single answers .* docs/elsewhere.md has one"),
        (("SDPOTrainer", "Trainer"), "known for SDPOTrainer"),
        (("GKDTrainer", "SFTTrainer", "Trainer"), "known for GKDTrainer"),
        (("UnslothGKDTrainer", "_UnslothGKDTrainer", "SFTTrainer", "Trainer"), "known for GKDTrainer"),
    ],
)
def test_another_trainer_is_refused_by_name(names: tuple[str, ...], why: str, caplog: pytest.LogCaptureFixture) -> None:
    callback = VeznaCallback(trainer := trainer_named(*names), study="s", arm="a", test=[])
    assert not hasattr(trainer, "get_test_dataloader")
    with pytest.raises(NoScores, match=why) as refusal:
        callback._scored()
    assert ". Give item_scores=…, a function of the trainer that " in str(refusal.value)
    [said] = [one.getMessage() for one in caplog.records if one.name == "vezna"]
    assert said.startswith("Vezna: ") and said.endswith(". Without scores there is no verdict.")
    scored = VeznaCallback(trainer, study="s", arm="a", test=[1, 2], item_scores=lambda _trainer: [0.5, 1.0])
    assert scored._scored() == [0.5, 1.0] and len(caplog.records) == 1


def test_a_trainer_of_the_script_that_is_transformers_own_is_scored_by_its_predictions() -> None:
    assert default_of(trainer_named("CustomDPOTrainer", "Trainer")) is None


def test_a_trainer_of_another_version_raises_nothing_into_the_script(caplog: pytest.LogCaptureFixture) -> None:
    strange = trainer_named("SFTTrainer", args=SimpleNamespace())
    callback = VeznaCallback(strange, study="s", arm="a", test=[])
    assert callback._default is None and callback._metric == "accuracy"
    [said] = [one.getMessage() for one in caplog.records if one.name == "vezna"]
    assert "cannot be scored by default (AttributeError" in said and "Give item_scores=…" in said


def test_which_tokens_count_is_part_of_the_metrics_version() -> None:
    [all_tokens, completions] = [trainer_named("SFTTrainer", completion_only_loss=only) for only in (False, True)]
    default = default_of(all_tokens)
    assert default is not None
    counted = "token accuracy given the true tokens, 1: %s tokens within 512, keep_start"
    assert default.version(all_tokens) == counted % "all"
    assert default.version(completions) == counted % "completion"
    completions.args.truncation_mode = "keep_end"
    assert (
        default.version(completions)
        == "token accuracy given the true tokens, 1: completion tokens within 512, keep_end"
    )


def test_how_pairs_are_compared_without_a_reference_model_is_part_of_the_metrics_version() -> None:
    def version(name: str, **values: Any) -> str:
        default = default_of(trainer := trainer_named(name, **values))
        assert default is not None
        return default.version(trainer)

    assert version("RewardTrainer") == "preference accuracy of the reward model, 1: pairs within 512"
    summed = "preference accuracy by summed log probability, 1: within 512, keep_start"
    assert version("CPOTrainer", loss_type="sigmoid") == summed
    mean = summed.replace("summed", "mean")
    assert version("CPOTrainer", loss_type="simpo") == version("ORPOTrainer") == mean


def test_pairs_of_an_encoder_decoder_are_not_scored() -> None:
    default = default_of(trainer := trainer_named("ORPOTrainer", is_encoder_decoder=True))
    assert default is not None
    with pytest.raises(NoScores, match=r"ORPOTrainer with an encoder-decoder. Give item_scores=…"):
        default.scores(trainer, [])


def test_how_the_reference_model_is_made_is_part_of_the_metrics_version() -> None:
    def version(reference: str | None, adapters: Any = None, **arguments: Any) -> str:
        model, other = [SimpleNamespace(config=SimpleNamespace(_name_or_path=name), peft_config=adapters)
                        for name in ("base", reference)]  # fmt: skip
        args = SimpleNamespace(max_length=64, truncation_mode="keep_end", **arguments)
        trainer = trainer_named("DPOTrainer", args=args, model=model, ref_model=other if reference else None)
        default = default_of(trainer)
        assert default is not None
        return default.version(trainer).partition("2: ")[2]

    usual = "within 64, keep_end, reference: its base model"
    assert version("base") == version(None, {"default": 1}) == usual
    assert version("base", ld_alpha=0.5) == f"{usual}, ld_alpha=0.5"
    assert version("other") == "within 64, keep_end, reference: other"
    assert version(None, {"default": 1, "ref": 1}) == "within 64, keep_end, reference: its first adapter"
    synced = {"sync_ref_model": True, "ref_model_mixup_alpha": 0.6, "ref_model_sync_steps": 64}
    assert version("base", **synced) == "within 64, keep_end, reference moved by 0.6 every 64 steps"


def test_a_query_of_several_rows_is_one_item_with_all_its_passages() -> None:
    default = default_of(trainer_named("SentenceTransformerTrainer"))
    assert default is not None
    rows = [
        {"anchor": "cat", "positive": "a cat", "negative": "a dog"},
        {"anchor": "dog", "positive": "a dog", "negative": "a cat"},
        {"anchor": "cat", "positive": "the cat", "negative": "a dog"},
    ]
    assert default.items(rows, None) == [
        {"query": "cat", "passages": ["a cat", "the cat"], "others": ["a dog"]},
        {"query": "dog", "passages": ["a dog"], "others": ["a cat"]},
    ]
    for wrong in ([{"a": "cat", "b": "dog", "score": 0.5}], [{"text": "cat"}], {"one": rows}, []):
        with pytest.raises(NoScores, match="is no set of rows with a query and a passage"):
            default.items(wrong, None)


def test_columns_choose_query_and_passage_and_rows_without_another_passage_have_none() -> None:
    default = default_of(trainer_named("SentenceTransformerTrainer"))
    assert default is not None
    rows = [{"id": "1", "q": "cat", "p": "a cat", "n": None}, {"id": "2", "q": "dog", "p": "a dog", "n": "a cat"}]
    items = default.items(rows, ["q", "p", "n"])
    assert items == [
        {"query": "cat", "passages": ["a cat"], "others": []},
        {"query": "dog", "passages": ["a dog"], "others": ["a cat"]},
    ]
    assert len(set(item_names(items, ["q", "p", "n"]))) == 2
    with pytest.raises(NoScores, match="a query and a passage"):
        default.items([*rows, {"id": "3", "q": "cow", "p": None, "n": None}], ["q", "p"])


class Encoder:
    """A model that finds the first passage for every query, and must not be trained meanwhile."""

    training = True

    def train(self, mode: bool = True) -> None:
        self.training = mode

    def eval(self) -> None:
        self.train(False)

    def encode_document(self, texts: list[str], **_how: Any) -> list[str]:
        assert not self.training
        return texts

    encode_query = encode_document

    def similarity(self, queries: list[str], passages: list[str]) -> torch.Tensor:
        return torch.tensor([[-float(place) for place in range(len(passages))]] * len(queries))


def test_a_query_with_several_passages_is_right_if_one_of_them_is_first_and_the_model_trains_on() -> None:
    args = SimpleNamespace(per_device_eval_batch_size=8)
    trainer = trainer_named("SentenceTransformerTrainer", model=Encoder(), args=args)
    default = default_of(trainer)
    assert default is not None
    rows = [{"q": "cat", "p": "a cat"}, {"q": "cat", "p": "the cat"}, {"q": "dog", "p": "a dog"}]
    assert default.scores(trainer, default.items(rows, None)) == [1.0, 0.0]
    assert trainer.model.training


class Step:
    """What TRL measures in a step of its evaluation."""

    def __init__(self) -> None:
        self._metrics: Any = {"eval": {}}
        self.model = Encoder()
        self._skip_prepare_dataset, self.processing_class = True, None

    def data_collator(self, rows: list[Any]) -> dict[str, torch.Tensor]:
        return {"labels": torch.tensor([rows[0]["labels"]])}

    def _remove_unused_columns(self, rows: Any, _of: str) -> Any:
        return rows

    def prediction_step(self, _model: Any, inputs: dict[str, torch.Tensor], only_loss: bool) -> None:
        assert only_loss and not self.model.training
        self._metrics["eval"]["mean_token_accuracy"] = [float(inputs["labels"][0, -1]) / 10]


def test_token_accuracy_is_what_the_trainer_measures_for_each_row_and_an_error_is_a_sentence() -> None:
    trainer = trainer_named("SFTTrainer", **vars(step := Step()))
    for name in ("data_collator", "_remove_unused_columns", "prediction_step"):
        setattr(trainer, name, getattr(step, name))
    default = default_of(trainer)
    assert default is not None
    rows = Dataset.from_list([{"labels": [1, 2]}, {"labels": [-100, 3]}])
    assert default.scores(trainer, rows) == [0.2, 0.3] and step.model.training
    callback = VeznaCallback(trainer, study="s", arm="a", test=rows)
    del trainer._metrics["eval"], trainer.args.assistant_only_loss
    with pytest.raises(NoScores, match=r"cannot be scored by default \(KeyError: 'eval'\). Give item_scores=…"):
        callback._scored()


class PairStep(Step):
    """What TRL measures for a pair: rewards in which two rows of the same tokens may differ in the last digits."""

    def data_collator(self, rows: list[Any]) -> dict[str, torch.Tensor]:
        sides = torch.tensor([rows[0]["chosen_ids"], rows[0]["rejected_ids"]])
        return {
            "input_ids": sides,
            "completion_mask": torch.ones_like(sides),
            "rewards": torch.tensor(rows[0]["rewards"]),
        }

    def _prepare_dataset(self, rows: Any, *_others: Any, **_named: Any) -> Any:
        return rows

    def prediction_step(self, _model: Any, inputs: dict[str, torch.Tensor], only_loss: bool) -> None:
        chosen, rejected = inputs["rewards"].tolist()
        self._metrics["eval"]["rewards/margins"] = [chosen - rejected]


def test_answers_of_the_same_tokens_are_a_tie_whatever_the_last_digits_of_their_rewards() -> None:
    trainer = trainer_named("DPOTrainer", **vars(step := PairStep()))
    for name in ("data_collator", "_remove_unused_columns", "_prepare_dataset", "prediction_step"):
        setattr(trainer, name, getattr(step, name))
    default = default_of(trainer)
    assert default is not None
    noise = [1.0, 1.0 + 2**-20]
    pairs = [([1, 2], [1, 2], noise), ([1, 2], [1, 2], noise[::-1]), ([1, 2], [1, 3], noise[::-1]),
             ([1, 2], [1, 3], noise), ([1, 2], [1, 3], [0.0, 0.0])]  # fmt: skip
    rows = [dict(zip(("chosen_ids", "rejected_ids", "rewards"), pair, strict=True)) for pair in pairs]
    assert default.scores(trainer, Dataset.from_list(rows)) == [0.5, 0.5, 1.0, 0.0, 0.5]


def test_without_a_reference_model_pairs_are_not_scored() -> None:
    trainer = trainer_named("DPOTrainer", precompute_ref_logps=True)
    default = default_of(trainer)
    assert default is not None
    with pytest.raises(NoScores, match="the reference model is gone"):
        default.scores(trainer, [])


@pytest.mark.parametrize("name", ["", "dev_"])
def test_what_an_evaluator_measures_is_reported_also_if_it_has_a_name(name: str) -> None:
    evaluator = SimpleNamespace(queries=["cat", "dog"])
    arguments = {"args": SimpleNamespace(per_device_eval_batch_size=8), "eval_dataset": None, "evaluator": evaluator}
    callback = VeznaCallback(trainer_named("SentenceTransformerTrainer", **arguments), study="s", arm="a", test=[])
    reported: list[Any] = []
    callback.run = SimpleNamespace(  # type: ignore[assignment]
        add_seconds=lambda *_: None, log_evaluation=lambda step, **values: reported.append((step, values))
    )
    metrics = {f"eval_{name}cosine_accuracy@1": 0.5, f"eval_{name}cosine_recall@1": 0.25}
    callback.on_evaluate(None, SimpleNamespace(global_step=4), None, metrics=metrics)
    assert reported == [(4, {"score": 0.5, "items": 2, "loss": None})]


ROWS = [{"text": "a cat", "label": 0}, {"text": "a dog", "label": 1}, {"text": "a cat", "label": 0}]


def test_tokens_and_padding_leave_a_rows_name_alone() -> None:
    tokenized = [row | {"input_ids": [1, 2, 3], "attention_mask": [1, 1, 1]} for row in ROWS]
    padded = [row | {"input_ids": [1, 2, 3, 0], "attention_mask": [1, 1, 1, 0]} for row in ROWS]
    assert item_names(tokenized) == item_names(padded) == item_names(ROWS)
    assert item_names([{"input_ids": [1, 2]}]) != item_names([{"input_ids": [1, 3]}])


def test_another_label_or_text_is_another_item_and_equal_rows_are_told_apart() -> None:
    names = item_names(ROWS)
    assert len(set(names)) == 3
    assert names[2] == f"{names[0]}-2"
    assert item_names([ROWS[0] | {"label": 1}]) != names[:1]
    assert item_names(ROWS, ["text"]) == item_names([row | {"label": 5} for row in ROWS], ["text"])
    with pytest.raises(ValueError, match="no column 'sentence'; it has text, label"):
        item_names(ROWS, ["sentence"])


def test_a_split_has_one_hash_in_any_order() -> None:
    assert split_hash(item_names(ROWS)) == split_hash(item_names(ROWS[::-1]))
    assert split_hash(item_names(ROWS)) != split_hash(item_names(ROWS[:2]))
    assert len(split_hash(item_names(ROWS))) == 64


def test_rows_of_torch_and_of_datasets_are_hashed_by_their_values() -> None:
    torch = pytest.importorskip("torch")
    datasets = pytest.importorskip("datasets")
    as_dataset = datasets.Dataset.from_list(ROWS)
    assert item_names(as_dataset) == item_names(ROWS)
    assert item_names(as_dataset.with_format("torch")) == item_names(ROWS)
    pairs = [(torch.tensor([1.0, 2.0]), 0)]
    assert item_names(pairs) == item_names([([1.0, 2.0], 0)])
    with pytest.raises(ValueError, match="object, which cannot be hashed"):
        item_names([{"x": object()}])


def test_rows_of_messages_are_hashed_without_their_tokens_and_computed_columns() -> None:
    messages = [{"messages": [{"role": "user", "content": "a cat"}]}]
    tokenized = [messages[0] | {"input_ids": [1, 2], "labels": [-100, 2]}]
    assert item_names(tokenized) == item_names(messages)
    pair = {"prompt": "say", "chosen": "a cat", "rejected": "a dog"}
    assert item_names([pair | {"prompt_ids": [1], "ref_chosen_logps": -1.5}]) == item_names([pair])


def test_lists_of_numbers_that_are_labels_count() -> None:
    def same(one: dict[str, Any], other: dict[str, Any]) -> bool:
        return item_names([one]) == item_names([other])

    words = {"tokens": ["Ada", "slept"], "id": "1"}
    assert not same(words | {"ner_tags": [1, 0]}, words | {"ner_tags": [0, 0]})
    steps = {"prompt": "1 + 1", "completions": ["a", "b"]}
    assert not same(steps | {"labels": [True, False]}, steps | {"labels": [False, True]})
    several = {"text": "a cat", "input_ids": [1, 2, 3]}
    assert not same(several | {"labels": [0.0, 1.0]}, several | {"labels": [1.0, 0.0]})
    assert same(several | {"labels": [-100, 2, 3], "assistant_masks": [0, 1, 1]}, {"text": "a cat"})


def test_the_names_of_several_datasets_count_and_that_of_a_single_one_does_not() -> None:
    datasets = pytest.importorskip("datasets")
    first, other = datasets.Dataset.from_list(ROWS[:2]), datasets.Dataset.from_list(ROWS[2:])
    assert item_names(datasets.DatasetDict({"a": first})) == item_names(first)
    both = datasets.DatasetDict({"b": other, "a": first})
    assert item_names(both) == item_names(datasets.DatasetDict({"a": first, "b": other}))
    assert split_hash(item_names(both)) != split_hash(item_names(datasets.DatasetDict({"a": other, "b": first})))
    with pytest.raises(ValueError, match="a mapping of no datasets"):
        item_names({"text": ["a cat"], "label": [0]})


def test_a_stream_among_several_datasets_is_not_read() -> None:
    datasets = pytest.importorskip("datasets")

    def endless() -> Iterator[dict[str, str]]:
        raise AssertionError("the stream was read")
        yield {"text": "a"}

    streams = datasets.IterableDatasetDict({"train": datasets.IterableDataset.from_generator(endless)})
    assert is_stream(streams) and is_stream(endless()) and not is_stream({"train": ROWS})
    assert "train" not in _facts(None, {"train": streams}, None)[1]["splits"]


def groups_of(rows: list[Any], **how: Any) -> list[int | None]:
    """The group of each row, by number."""
    names = item_names(rows)
    found = item_groups(rows, names, **how)
    return [int(found[name]) if name in found else None for name in names]


def test_equal_inputs_are_a_group_whatever_their_labels() -> None:
    assert groups_of([*ROWS, {"text": "a cat", "label": 1}]) == [0, None, 0, 0]
    pairs = [{"prompt": "say", "chosen": word, "rejected": "no"} for word in ("a", "b")]
    assert groups_of([*pairs, {"prompt": "do", "chosen": "a", "rejected": "no"}]) == [0, 0, None]
    assert groups_of([("a", 1), ("b", 0)]) == [None, None]
    assert groups_of([{"label": 1}, {"label": 0}]) == [None, None], "without an input rows are told apart as they are"
    numbered = [row | {"id": number} for number, row in enumerate(ROWS)]
    assert groups_of(numbered) == [None, None, None]
    assert groups_of(numbered, columns=["text", "label"]) == [0, None, 0]


def test_a_column_or_a_list_names_groups_which_equal_inputs_join() -> None:
    rows = [{"text": text, "user": user} for text, user in zip("abcadef", "uuvvw", strict=False)]
    assert groups_of(rows, group="user") == [0, 0, 0, 0, None], "u and v sent the same text"
    lone = [{"text": text} for text in "abcd"]
    assert groups_of(lone, group=["u", "u", None, ""]) == [0, 0, None, None]
    assert groups_of(lone, group=[float("nan")] * 4) == [None] * 4
    with pytest.raises(ValueError, match="no column 'user', which group names"):
        item_groups(lone, item_names(lone), group="user")
    with pytest.raises(ValueError, match="3 groups were given for 4 test items"):
        item_groups(lone, item_names(lone), group=[1, 2, 3])


def test_values_that_every_library_writes_for_missing_are_no_group() -> None:
    pandas, torch = pytest.importorskip("pandas"), pytest.importorskip("torch")
    rows = [{"text": text} for text in "abcd"]
    for missing in (pandas.NA, pandas.NaT, np.float32("nan"), torch.tensor(float("nan")), np.datetime64("NaT", "ns")):
        assert groups_of(rows, group=[missing, missing, "a", "a"]) == [None, None, 0, 0], missing
    assert groups_of(rows, group=torch.tensor([1, 1, 2, 2])) == [0, 0, 1, 1]
    assert groups_of(rows, group=pandas.Series([1, None, 1, None], dtype="Int64")) == [0, None, 0, None]
    days = [datetime.date(2020, 1, day) for day in (1, 1, 2, 3)]
    assert groups_of(rows, group=days) == [0, 0, None, None]
    one, other = uuid.uuid4(), uuid.uuid4()
    assert groups_of(rows, group=[one, other, one, other]) == [0, 1, 0, 1]


def test_a_prompt_is_the_input_only_beside_the_columns_that_trl_reads() -> None:
    pairs = [{"prompt": "Translate:", "input": word, "completion": word.upper()} for word in ("a", "b", "a")]
    assert groups_of(pairs) == [0, None, 0]
    scored = [{"prompt": "say", "completion": word, "label": True, "completions": [word]} for word in ("a", "b")]
    assert groups_of(scored) == [0, 0]


class Pictures(list[int]):
    """200 rows of 0.8 MB each, made as they are read."""

    def __getitem__(self, place: Any) -> Any:
        return {"image": bytes(800_000) + bytes([place]), "label": 1, "user": place // 2}


def test_rows_are_read_one_by_one() -> None:
    rows = Pictures(range(200))
    names = [str(place) for place in rows]
    for how in ({}, {"group": "user"}, {"group": names}):
        tracemalloc.start()
        item_groups(rows, names, **how)
        assert tracemalloc.get_traced_memory()[1] < 10e6
        tracemalloc.stop()


THRESHOLD = 0.5
TABLE = {"a": 0.5}


class Score:
    """Scores by a threshold."""

    def __init__(self, threshold: float) -> None:
        self.threshold = threshold

    def __call__(self, output: list[float]) -> list[float]:
        """Whether each value exceeds it."""
        return self.method(output)

    def method(self, output: list[float]) -> list[float]:
        """Whether each value exceeds it."""
        return [float(value > self.threshold) for value in output]


def plain(output: list[float]) -> list[float]:
    """Of nothing but its code and a module."""
    return [float(math.floor(value)) for value in output]


def above(output: list[float], threshold: float) -> list[float]:
    """By an argument."""
    return [float(value > threshold) for value in output]


def above_global(output: list[float]) -> list[float]:
    """By a global number."""
    return [float(value > THRESHOLD) for value in output]


def of_table(output: list[float]) -> list[float]:
    """By a global object."""
    return [TABLE["a"] for _value in output]


def closure(threshold: float) -> Callable[[list[float]], list[float]]:
    """By a variable of the function around it."""

    def score(output: list[float]) -> list[float]:
        return [float(value > threshold) for value in output]

    return score


def with_default(threshold: float) -> Callable[[list[float]], list[float]]:
    """By a default."""

    def score(output: list[float], threshold: float = threshold) -> list[float]:
        return [float(value > threshold) for value in output]

    return score


def decorated(threshold: float) -> Callable[[list[float]], list[float]]:
    """As a decorator makes one."""

    @wraps(plain)
    def score(output: list[float]) -> list[float]:
        return [value * threshold for value in plain(output)]

    return score


without_source: dict[str, Any] = {}
exec("def score(output): return output", without_source)


@pytest.mark.parametrize(
    "function",
    [
        Score(0.1), Score(0.1).method, partial(above, threshold=0.1), closure(0.1), decorated(0.1), of_table,
        lambda output: output, without_source["score"], len,
    ],
)  # fmt: skip
def test_what_the_code_does_not_tell_gets_no_version(function: Callable[..., Any]) -> None:
    assert version_of(function) == ""


def test_a_function_is_known_by_its_code_its_defaults_and_its_global_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    assert version_of(None) == ARGMAX
    assert version_of(plain).startswith("plain, SHA-256 ") and version_of(plain) == version_of(plain)
    assert version_of(with_default(0.1)) == version_of(with_default(0.1)) != version_of(with_default(0.9))
    before = version_of(above_global)
    monkeypatch.setitem(globals(), "THRESHOLD", 0.9)
    assert before and version_of(above_global) not in ("", before)
