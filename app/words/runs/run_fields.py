"""The fields of a list of runs: column headings, units, and formatted values."""

from typing import Any

from app.domain.comparison.fairness.confounders import ConfounderKind
from app.domain.runs.listing.fields import FIELDS, Field
from app.words.format import NBSP, NOTHING, count, decimal, hundred, memory_in, memory_unit, points, rate, share
from app.words.i18n import gettext as _
from app.words.i18n import marked
from app.words.verdict.confounders import DIFFERS

TITLES = {
    "id": marked("Run"),
    "study": marked("Study"),
    "study_name": marked("Study name"),
    "collection": marked("Collection"),
    "arm": marked("Arm"),
    "method": marked("Method"),
    "model": marked("Base model"),
    "data": marked("Data"),
    "task": marked("Task"),
    "metric": marked("Metric"),
    "score": marked("Score"),
    "accuracy": marked("Accuracy"),
    "item_entity_f1": marked("Entity F1 per item"),
    "tag_accuracy": marked("Tag accuracy"),
    "token_accuracy": marked("Token accuracy"),
    "exact_match": marked("Exact match"),
    "rouge_l": marked("ROUGE-L"),
    "recall_at_1": marked("Recall@1"),
    "recall_at_5": marked("Recall@5"),
    "mrr_at_10": marked("MRR@10"),
    "preference_accuracy": marked("Preference accuracy"),
    "likelihood_accuracy": marked("Likelihood accuracy"),
    "mean_likelihood_accuracy": marked("Mean likelihood accuracy"),
    "base_score": marked("Base model score"),
    "validation_score": marked("Validation score"),
    "loss": marked("Test loss"),
    "train_loss": marked("Training loss"),
    "peak": marked("Peak memory"),
    "estimated": marked("Estimated peak"),
    "train": marked("Train time"),
    "wall": marked("Wall time"),
    "speed": marked("Throughput"),
    "trainable": marked("Trainable params"),
    "parameters": marked("Total params"),
    "size": marked("File size"),
    "rank": marked("Rank"),
    "learning_rate": marked("Learning rate"),
    "seed": marked("Seed"),
    "steps": marked("Steps"),
    "attempts": marked("Attempts"),
    "status": marked("State"),
    "failure": marked("Failure"),
    "device": marked("Device"),
    "precision": marked("Precision"),
    "worker": marked("Worker"),
    "tag": marked("Tags"),
    "note": marked("Note"),
    "queued_at": marked("Queued"),
    "started_at": marked("Started"),
    "finished_at": marked("Ended"),
    "n": marked("Seeds"),
    "lower": marked("Lower bound"),
}
UNITS = {
    "loss": marked("nats"),
    "train_loss": marked("nats"),
    "train": marked("s"),
    "wall": marked("s"),
    "speed": marked("tokens/s"),
    "n": "",
    "lower": "%",
}
PLAIN = ("id", "study", "seed")
"""Identifiers: no thousands separator, no difference to a baseline."""


def column_title(name: str) -> str:
    return _(TITLES[name])


def unit(name: str, largest: float) -> str:
    """The unit of a column; of bytes by their largest value."""
    if name in UNITS:
        return _(UNITS[name]) if UNITS[name] else ""
    match FIELDS[name].kind:
        case "fraction":
            return "%"
        case "bytes":
            return memory_unit(largest)[1]
    return ""


def not_compared(kind: ConfounderKind) -> str:
    """Why a number has no difference beside it."""
    return _("Not compared with the baseline: %(why)s, or is unknown", why=_(DIFFERS[kind]))


def formatted(field: Field, value: Any, largest: float) -> str:
    """A number in the unit of its column, whose largest value is given."""
    if value is None:
        return NOTHING
    if field.name in PLAIN:
        return str(value)
    match field.kind:
        case "fraction":
            return hundred(value)
        case "bytes":
            return memory_in(value, largest, 2 if field.name == "size" else 0)
        case "seconds":
            return decimal(value)
        case "count":
            return count(value) if float(value).is_integer() else decimal(value)
    if field.name == "learning_rate":
        return rate(value)
    return decimal(value, 0 if field.name == "speed" else 3)


def difference(field: Field, value: Any, baseline: Any) -> str:
    """The difference to the baseline: points for a score, nats for a loss, otherwise a percentage."""
    if value is None or baseline is None or field.name in PLAIN or not field.numeric:
        return ""
    if field.kind == "fraction":
        return points(value - baseline)
    if field.name in ("loss", "train_loss"):
        return decimal(value - baseline, 3, signed=True)
    if field.name == "learning_rate":
        return f"×{NBSP}{rate(float(f'{value / baseline:.2g}'))}" if baseline else ""
    return share(value, baseline) if baseline else ""


FILTERS = (column_title,)
