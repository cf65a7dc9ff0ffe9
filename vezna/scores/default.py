"""How a test item is scored where the script does not say it, for trainers whose `predict` gives no label per item:
those of TRL as `vezna.scores.trl` says, and

SentenceTransformerTrainer   accuracy@1: whether the passage of the test set that is most similar to a query is one of
                             its own; the `cosine_accuracy@1` of an InformationRetrievalEvaluator

A trainer is known by the name of its class or of a base class; `UnslothSFTTrainer` is an `SFTTrainer`. The other
trainers of these libraries are refused by name, whatever they inherit from: a `GKDTrainer` trains by another loss.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from vezna.scores.items import Items, plain_rows
from vezna.scores.scoring import DefaultScore, NoScores, evaluating
from vezna.scores.trl import KINDS as OF_TRL

GRADES = ("label", "labels", "score", "scores")
"""Columns by which sentence-transformers knows how similar two texts are."""
LIBRARIES = ("trl", "sentence_transformers")
GENERATING = ("GRPOTrainer", "RLOOTrainer", "OnlineDPOTrainer", "AsyncGRPOTrainer", "GMPOTrainer", "A2POTrainer")
"""Trainers of TRL that sample answers and have them rated."""
CHUNK = 1024
"""Queries that are compared with all passages at once."""


def default_of(trainer: Any) -> DefaultScore | None:
    """By the kind of a trainer; None for one whose `predict` decides. Raises NoScores for another trainer of TRL or
    sentence-transformers, whose `predict` returns no predictions of items."""
    for base in type(trainer).__mro__:
        unsloth = base.__name__.startswith("Unsloth") and base.__name__ != "UnslothTrainer"
        name, library = base.__name__.removeprefix("Unsloth"), base.__module__.partition(".")[0]
        if name in _KINDS:
            return _KINDS[name]
        if unsloth or library in LIBRARIES:
            raise NoScores(_refusal(name))
        if library == "transformers":
            return None
    return None


def _refusal(name: str) -> str:
    """Why a kind of trainer has no default score."""
    remedy = "Give item_scores=…, a function of the trainer that"
    if name in GENERATING:
        return (
            f"{name} learns from answers that it generates, so a test item has no score before one is generated. "
            f"{remedy} generates an answer to each test item and rates it from 0 to 1, as the reward function does"
        )
    if name == "KTOTrainer":
        return (
            "KTOTrainer rates single answers by how their probability changes, and measures no accuracy. "
            f"{remedy} scores each answer from 0 to 1; docs/elsewhere.md has one"
        )
    return f"no score of a test item is known for {name}. {remedy} scores each item from 0 to 1"


def _queries(test: Any, columns: Sequence[str] | None = None) -> Items:
    """The queries of a test set (first column) with their passages (second) and other passages (further columns), each
    query once."""
    rows = [] if isinstance(test, Mapping) else list(plain_rows(test))
    names = list(columns or rows[0]) if rows and isinstance(rows[0], Mapping) else []
    stated = {name: next((row[name] for row in rows if row[name] is not None), None) for name in names}
    texts = [name for name, value in stated.items() if isinstance(value, str)]
    if len(texts) < 2 or any(name in GRADES for name in names) or not _complete(rows, *texts[:2]):
        raise NoScores(
            "the test set is no set of rows with a query and a passage that answers it, and without a score. Give such "
            "rows as test=…, or item_scores=…, a function of the trainer that scores each item"
        )
    query, passage, *others = texts
    found: dict[str, dict[str, Any]] = {}
    for row in rows:
        item = found.setdefault(row[query], {"query": row[query], "passages": [], "others": []})
        item["passages"].append(row[passage])
        item["others"] += [row[name] for name in others if row[name] is not None]
    return Items(
        {name: of if name == "query" else sorted(set(of)) for name, of in item.items()} for item in found.values()
    )


def _complete(rows: Sequence[Mapping[str, Any]], *names: str) -> bool:
    return all(row[name] is not None for row in rows for name in names)


def _accuracy_at_1(trainer: Any, items: Any) -> list[float]:
    model = trainer.model
    passages = sorted({text for item in items for text in (*item["passages"], *item["others"])})
    how = {"convert_to_tensor": True, "show_progress_bar": False, "batch_size": trainer.args.per_device_eval_batch_size}
    right = []
    with evaluating(model):
        encoded = model.encode_document(passages, **how)
        for place in range(0, len(items), CHUNK):
            chunk = items[place : place + CHUNK]
            asked = model.encode_query([item["query"] for item in chunk], **how)
            best = model.similarity(asked, encoded).argmax(dim=1).tolist()
            right += [float(passages[top] in item["passages"]) for item, top in zip(chunk, best, strict=True)]
    return right


def _passages_ranked(trainer: Any) -> str:
    return "accuracy@1 among the passages of the test set, 1"


_KINDS = OF_TRL | {
    "SentenceTransformerTrainer": DefaultScore("cosine_accuracy@1", _passages_ranked, _queries, _accuracy_at_1),
}
