"""How a test item is scored where the script does not say it, for trainers whose `predict` gives no label per item.

SFTTrainer (TRL)             token accuracy: the share of the tokens counted in the loss that the model predicts
                             correctly, given the true tokens before them; TRL's `mean_token_accuracy`
DPOTrainer (TRL)             preference accuracy: whether the reward of the chosen answer is above that of the rejected
                             one, both against the reference model; TRL's `rewards/accuracies`
SentenceTransformerTrainer   accuracy@1: whether the passage of the test set that is most similar to a query is one of
                             its own; the `cosine_accuracy@1` of an InformationRetrievalEvaluator

A trainer is known by the name of its class or of a base class; `UnslothSFTTrainer` is an `SFTTrainer`. The other
trainers of these libraries are not, whatever they inherit from: a `GKDTrainer` trains by another loss.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from vezna.items import Items, plain_rows

PLACE = "vezna_place"
"""Column with the place of a row in the test set while the trainer prepares it: it may drop and shuffle rows."""
IGNORED = -100
"""The label of a token that the loss does not count."""
GRADES = ("label", "labels", "score", "scores")
"""Columns by which sentence-transformers knows how similar two texts are."""
LIBRARIES = ("trl", "sentence_transformers", "transformers")
CHUNK = 1024
"""Queries that are compared with all passages at once."""


class NoScores(ValueError):
    """Why test items have no score, and what to do."""


@contextmanager
def or_no_scores() -> Iterator[None]:
    """Raise NoScores for whatever another version of a library raises."""
    try:
        yield
    except NoScores:
        raise
    except Exception as error:
        raise NoScores(
            f"the test items cannot be scored by default ({type(error).__name__}: {error}). Give item_scores=…, a "
            "function of the trainer that scores each item"
        ) from error


@dataclass(frozen=True)
class DefaultScore:
    """How a kind of trainer scores the items of a test set."""

    metric: str
    """The `eval_…` that is reported for validation."""
    version: Callable[[Any], str]
    """Of a trainer: what computes the score, with the settings that decide which tokens count."""
    items: Callable[[Any, Sequence[str] | None], Any]
    """Of the rows of a test set and the columns that count: the items. Raises NoScores."""
    scores: Callable[[Any, Any], list[float]]
    """Of a trainer and the items: from 0 to 1, in their order. Raises NoScores."""


def default_of(trainer: Any) -> DefaultScore | None:
    """By the kind of a trainer; None for one whose `predict` decides."""
    for base in type(trainer).__mro__:
        unsloth = base.__name__.startswith("Unsloth") and base.__name__ != "UnslothTrainer"
        name = base.__name__.removeprefix("Unsloth")
        if name in _KINDS or unsloth or base.__module__.partition(".")[0] in LIBRARIES:
            return _KINDS.get(name)
    return None


def _rows(test: Any, _columns: Sequence[str] | None) -> Any:
    return test


def _token_accuracy(trainer: Any, test: Any) -> list[float]:
    if getattr(trainer, "_skip_prepare_dataset", False):
        rows = _in_order(trainer, _numbered(test))
    else:
        more = {"packing": False, "formatting_func": getattr(trainer, "_formatting_func", None), "dataset_name": "test"}
        rows = _prepared(trainer, test, **more)
    for row in rows:
        if not (trainer.data_collator([row])["labels"][0, 1:] != IGNORED).any():
            raise NoScores(_nothing_left(trainer, 1, len(rows)))
    return _measured(trainer, rows, "mean_token_accuracy")


def _preference_accuracy(trainer: Any, test: Any) -> list[float]:
    if getattr(trainer, "precompute_ref_logps", False):
        raise NoScores(
            "with precompute_ref_log_probs=True the reference model is gone when the test pairs are scored. Set it to "
            "False, or give item_scores=…, a function of the trainer that scores each pair"
        )
    return _measured(trainer, _prepared(trainer, test, dataset_name="test"), "rewards/accuracies")


def _measured(trainer: Any, rows: Sequence[Any], metric: str) -> list[float]:
    """What TRL measures for each row by itself, as in its own evaluation: without full logits, where it avoids them."""
    scores, measured = [], trainer._metrics["eval"]
    with _evaluating(trainer.model):
        for row in rows:
            measured.clear()
            trainer.prediction_step(trainer.model, trainer.data_collator([row]), True)
            scores.append(float(measured[metric][-1]))
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
def _evaluating(model: Any) -> Iterator[None]:
    """With the model in evaluation mode, and then in the mode that it was in."""
    training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(training)


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
    with _evaluating(model):
        encoded = model.encode_document(passages, **how)
        for place in range(0, len(items), CHUNK):
            chunk = items[place : place + CHUNK]
            asked = model.encode_query([item["query"] for item in chunk], **how)
            best = model.similarity(asked, encoded).argmax(dim=1).tolist()
            right += [float(passages[top] in item["passages"]) for item, top in zip(chunk, best, strict=True)]
    return right


def _passages_ranked(trainer: Any) -> str:
    return "accuracy@1 among the passages of the test set, 1"


def _tokens_counted(trainer: Any) -> str:
    only = "completion" if getattr(trainer, "completion_only_loss", False) else "all"
    only = "assistant" if getattr(trainer.args, "assistant_only_loss", False) else only
    return f"token accuracy given the true tokens, 1: {only} tokens {_within(trainer)}"


def _rewards_compared(trainer: Any) -> str:
    alpha = getattr(trainer.args, "ld_alpha", None)
    desensitized = "" if alpha is None else f", ld_alpha={alpha}"
    reference = _reference(trainer)
    return f"preference accuracy against the reference model, 1: {_within(trainer)}, {reference}{desensitized}"


def _within(trainer: Any) -> str:
    return f"within {trainer.args.max_length}, {getattr(trainer.args, 'truncation_mode', 'keep_start')}"


def _reference(trainer: Any) -> str:
    """Which model TRL's rewards are relative to. With PEFT it is the model without its adapter, and for full
    fine-tuning what the model was loaded from: the same one."""
    args, reference = trainer.args, getattr(trainer, "ref_model", None)
    if getattr(args, "sync_ref_model", False):
        return f"reference moved by {args.ref_model_mixup_alpha} every {args.ref_model_sync_steps} steps"
    if reference is None:
        copied = "ref" in (getattr(trainer.model, "peft_config", None) or {})
        return "reference: its first adapter" if copied else "reference: its base model"
    own, other = (getattr(model.config, "_name_or_path", "") for model in (trainer.model, reference))
    return "reference: its base model" if own and own == other else f"reference: {other or 'given'}"


_KINDS = {
    "SFTTrainer": DefaultScore("mean_token_accuracy", _tokens_counted, _rows, _token_accuracy),
    "DPOTrainer": DefaultScore("rewards/accuracies", _rewards_compared, _rows, _preference_accuracy),
    "SentenceTransformerTrainer": DefaultScore("cosine_accuracy@1", _passages_ranked, _queries, _accuracy_at_1),
}
