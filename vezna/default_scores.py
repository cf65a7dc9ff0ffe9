"""How a test item is scored where the script does not say it, for trainers whose `predict` gives no label per item.

SFTTrainer (TRL)             token accuracy: of the tokens that the loss counts, the share that is the most probable
                             one, given the true tokens before them
DPOTrainer (TRL)             preference accuracy: whether the reward of the chosen answer is above that of the rejected
                             one, both against the reference model; TRL's `rewards/accuracies`
SentenceTransformerTrainer   recall@1: whether the passage of the test set that is most similar to a query is one of
                             its own

A trainer is known by the end of its class's name or of a base class's: `UnslothSFTTrainer` is an `SFTTrainer`.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from vezna.items import plain_rows

PLACE = "vezna_place"
"""Column with the place of a row in the test set while the trainer prepares it: it may drop and shuffle rows."""
GRADES = ("label", "labels", "score", "scores")
"""Columns by which sentence-transformers knows how similar two texts are."""
CHUNK = 1024
"""Queries that are compared with all passages at once."""


class NoScores(ValueError):
    """Why test items have no score, and what to do."""


@dataclass(frozen=True)
class DefaultScore:
    """How a kind of trainer scores the items of a test set."""

    metric: str
    """The `eval_…` that is reported for validation."""
    version: Callable[[Any], str]
    """Of a trainer: what computes the score, with the settings that decide which tokens count."""
    items: Callable[[Any], Any]
    """Of the rows of a test set: the items. Raises NoScores."""
    scores: Callable[[Any, Any], list[float]]
    """Of a trainer and the items: from 0 to 1, in their order. Raises NoScores."""


def default_of(trainer: Any) -> DefaultScore | None:
    """By the kind of a trainer; None for one whose `predict` decides."""
    names = [base.__name__ for base in type(trainer).__mro__]
    return next((score for kind, score in _KINDS.items() if any(name.endswith(kind) for name in names)), None)


def _token_accuracy(trainer: Any, test: Any) -> list[float]:
    if getattr(trainer, "_skip_prepare_dataset", False):
        rows = _in_order(trainer, _numbered(test))
    else:
        more = {"packing": False, "formatting_func": getattr(trainer, "_formatting_func", None), "dataset_name": "test"}
        rows = _prepared(trainer, test, **more)
    scores = []
    with _evaluating(trainer):
        for row in rows:
            inputs = trainer._prepare_inputs(trainer.data_collator([row]))
            labels = inputs.pop("labels")[0, 1:]
            counted = labels != -100
            if not counted.any():
                raise NoScores(_nothing_left(trainer, 1, len(rows)))
            logits = trainer.model(**inputs).logits[0, -len(labels) - 1 : -1]  # prompt tuning puts tokens in front
            scores.append((logits.argmax(dim=-1) == labels)[counted].double().mean().item())
    return scores


def _preference_accuracy(trainer: Any, test: Any) -> list[float]:
    if getattr(trainer, "precompute_ref_logps", False):
        raise NoScores(
            "with precompute_ref_log_probs=True the reference model is gone when the test pairs are scored. Set it to "
            "False, or give item_scores=…, a function of the trainer that scores each pair"
        )
    scores, measured = [], trainer._metrics["eval"]
    with _evaluating(trainer):
        for row in _prepared(trainer, test, dataset_name="test"):
            measured.clear()
            trainer.prediction_step(trainer.model, trainer.data_collator([row]), True)
            scores.append(float(measured["rewards/accuracies"][-1]))
    measured.clear()
    return scores


def _prepared(trainer: Any, test: Any, **more: Any) -> list[Mapping[str, Any]]:
    """The rows of a test set as the trainer prepares its own, in their order."""
    if not hasattr(trainer, "_prepare_dataset") or getattr(trainer, "_is_vision_dataset", False):
        raise NoScores(
            f"Vezna does not know how {type(trainer).__name__} of this version prepares its rows. Give item_scores=…, "
            "a function of the trainer that scores each item"
        )
    numbered = _numbered(test)
    prepared = trainer._prepare_dataset(numbered, trainer.processing_class, trainer.args, **more)
    if len(prepared) < len(numbered):
        raise NoScores(_nothing_left(trainer, len(numbered) - len(prepared), len(numbered)))
    return _in_order(trainer, prepared)


def _numbered(test: Any) -> Any:
    if not hasattr(test, "add_column"):
        raise NoScores("the test set is no datasets.Dataset. Give test=datasets.Dataset.from_list(rows)")
    return test.add_column(PLACE, list(range(len(test))))


def _in_order(trainer: Any, numbered: Any) -> list[Mapping[str, Any]]:
    """The rows of a numbered dataset, with the columns that the trainer's data collator takes."""
    ordered = numbered.sort(PLACE)
    return list(trainer._remove_unused_columns(ordered.remove_columns(PLACE), "test"))


def _nothing_left(trainer: Any, items: int, of_all: int) -> str:
    return (
        f"at least {items} of the {of_all} test items have no token to score within "
        f"max_length={trainer.args.max_length}. Raise max_length, or leave them out of the test set in every run"
    )


@contextmanager
def _evaluating(trainer: Any) -> Iterator[None]:
    """With the model as in the trainer's own evaluation: without dropout or gradients, in the training's precision."""
    training = trainer.model.training
    trainer.model.eval()
    try:
        with torch.no_grad(), trainer.compute_loss_context_manager():
            yield
    finally:
        trainer.model.train(training)


def _queries(test: Any) -> list[dict[str, Any]]:
    """The queries of a test set (first column) with their passages (second) and other passages (further columns), each
    query once."""
    rows = [] if isinstance(test, Mapping) else list(plain_rows(test))
    columns = list(rows[0]) if rows and isinstance(rows[0], Mapping) else []
    texts = [name for name in columns if isinstance(rows[0][name], str)]
    if len(texts) < 2 or any(name in GRADES for name in columns):
        raise NoScores(
            "the test set is no set of rows with a query and a passage that answers it, and without a score. Give such "
            "rows as test=…, or item_scores=…, a function of the trainer that scores each item"
        )
    query, passage, *others = texts
    found: dict[str, dict[str, Any]] = {}
    for row in rows:
        item = found.setdefault(row[query], {"query": row[query], "passages": [], "others": []})
        item["passages"].append(row[passage])
        item["others"] += [row[name] for name in others]
    return [{name: of if name == "query" else sorted(set(of)) for name, of in item.items()} for item in found.values()]


def _recall_at_1(trainer: Any, items: Any) -> list[float]:
    model = trainer.model
    passages = sorted({text for item in items for text in (*item["passages"], *item["others"])})
    how = {"convert_to_tensor": True, "show_progress_bar": False, "batch_size": trainer.args.per_device_eval_batch_size}
    encoded = model.encode_document(passages, **how)
    right = []
    for place in range(0, len(items), CHUNK):
        chunk = items[place : place + CHUNK]
        asked = model.encode_query([item["query"] for item in chunk], **how)
        best = model.similarity(asked, encoded).argmax(dim=1).tolist()
        right += [float(passages[top] in item["passages"]) for item, top in zip(chunk, best, strict=True)]
    return right


def _tokens_counted(trainer: Any) -> str:
    args = trainer.args
    only = "completion" if getattr(trainer, "completion_only_loss", False) else "all"
    only = "assistant" if getattr(args, "assistant_only_loss", False) else only
    return f"token accuracy given the true tokens, 1: {only} tokens within {args.max_length}"


def _rewards_compared(trainer: Any) -> str:
    return f"preference accuracy against the reference model, 1: within {trainer.args.max_length} tokens"


_KINDS = {
    "SFTTrainer": DefaultScore("mean_token_accuracy", _tokens_counted, lambda rows: rows, _token_accuracy),
    "DPOTrainer": DefaultScore("rewards/accuracies", _rewards_compared, lambda rows: rows, _preference_accuracy),
    "SentenceTransformerTrainer": DefaultScore(
        "cosine_recall@1", lambda trainer: "recall@1 among the passages of the test set, 1", _queries, _recall_at_1
    ),
}
