"""The tasks: what a model is fine-tuned to do, which rows it learns from, and by which metrics it is judged.

A task is this table's row and one file in `worker/engine/tasks/`. A metric is a row of `METRICS`, computed by the tasks
that name it.
"""

from typing import Literal

from pydantic import BaseModel, ConfigDict

from app.domain.messages import _

Task = Literal["sequence-classification", "causal-lm", "seq2seq-lm"]
Format = Literal["labelled", "text", "prompt-completion", "messages"]
"""Which columns a dataset's rows have; see `app.domain.data.dataset`."""
Unit = Literal["item", "completion token"]
"""What a loss is a mean over: one answer for an item, or one for each token of a completion."""
MetricName = Literal["accuracy", "macro_f1", "token_accuracy", "exact_match", "rouge_l", "perplexity"]


class MetricFacts(BaseModel):
    """What a number of an evaluation means."""

    model_config = ConfigDict(frozen=True)

    name: MetricName
    title: str
    per_item: bool
    """Every test item has a value from 0 to 1, whose mean the metric is: a verdict can rest on it."""
    definition: str
    graded: bool = False
    """That value may lie between 0 and 1; else an item is right or wrong."""
    higher_is_better: bool = True


METRICS: dict[MetricName, MetricFacts] = {
    m.name: m
    for m in (
        MetricFacts(
            name="accuracy",
            title=_("accuracy"),
            per_item=True,
            definition=_("share of items whose most probable label is the right one"),
        ),
        MetricFacts(
            name="macro_f1",
            title=_("macro-F1"),
            per_item=False,
            definition=_("plain mean over all labels of F1; a label that never occurs nor is predicted counts 0"),
        ),
        MetricFacts(
            name="token_accuracy",
            title=_("token accuracy"),
            per_item=True,
            graded=True,
            definition=_(
                "share of completion tokens that are the most probable one, given the true tokens before them; "
                "first within an item, then over items"
            ),
        ),
        MetricFacts(
            name="exact_match",
            title=_("exact match"),
            per_item=True,
            definition=_("share of items whose generated text equals the completion, but for white space at its ends"),
        ),
        MetricFacts(
            name="rouge_l",
            title=_("ROUGE-L"),
            per_item=True,
            graded=True,
            definition=_(
                "F1 of the longest common subsequence of words between the generated text and the completion "
                "(Lin 2004, ROUGE, section 3)"
            ),
        ),
        MetricFacts(
            name="perplexity",
            title=_("perplexity"),
            per_item=False,
            higher_is_better=False,
            definition=_("e to the mean loss over completion tokens"),
        ),
    )
}


class TaskFacts(BaseModel):
    """What a form, a page and a check need to know of a task."""

    model_config = ConfigDict(frozen=True)

    name: Task
    title: str
    metric: MetricName
    """What a verdict rests on unless a study names another."""
    metrics: tuple[MetricName, ...]
    formats: tuple[Format, ...]
    """Rows that it can learn from."""
    unit: Unit
    """What its loss is a mean over."""
    best_by: Literal["metric", "loss"]
    """What the best checkpoint is chosen by, on validation."""
    adds_head: bool
    """It puts a new head on the base model; else the head comes with the checkpoint, and what the model could do
    before can be measured, and forgotten."""

    def writes(self, rows: Format) -> bool:
        """Whether a model is also judged by what it writes: after a prompt, which plain texts have none of."""
        return rows != "text" and any(generates(metric) for metric in self.metrics)


_GENERATION: tuple[MetricName, ...] = ("rouge_l", "exact_match", "token_accuracy", "perplexity")

TASKS: dict[Task, TaskFacts] = {
    t.name: t
    for t in (
        TaskFacts(
            name="sequence-classification",
            title=_("classification of texts"),
            metric="accuracy",
            metrics=("accuracy", "macro_f1"),
            formats=("labelled",),
            unit="item",
            best_by="metric",
            adds_head=True,
        ),
        TaskFacts(
            name="causal-lm",
            title=_("language modelling"),
            metric="token_accuracy",
            metrics=_GENERATION,
            formats=("prompt-completion", "messages", "text"),
            unit="completion token",
            best_by="loss",
            adds_head=False,
        ),
        TaskFacts(
            name="seq2seq-lm",
            title=_("text to text"),
            metric="rouge_l",
            metrics=_GENERATION,
            formats=("prompt-completion",),
            unit="completion token",
            best_by="loss",
            adds_head=False,
        ),
    )
}


def generates(metric: MetricName) -> bool:
    """Whether a metric needs generated text, which plain `text` rows have no prompt for."""
    return metric in ("exact_match", "rouge_l")
