"""The tasks that a model is fine-tuned for: the rows they train on, and their metrics.

A task is a row of `TASKS` and a file in `worker/engine/tasks/`. A metric is a row of `METRICS`, computed by its tasks.
"""

from typing import Literal

from pydantic import BaseModel, ConfigDict

from app.domain.messages import _

Task = Literal["sequence-classification", "token-classification", "causal-lm", "seq2seq-lm", "sentence-embeddings"]
Format = Literal["labelled", "tagged", "text", "prompt-completion", "messages", "query-passage"]
"""The columns of a dataset; see `app.domain.data.dataset`."""
Unit = Literal["item", "word", "completion token"]
"""What a loss is averaged over: items, their words, or the tokens of completions."""
MetricName = Literal[
    "accuracy",
    "macro_f1",
    "item_entity_f1",
    "tag_accuracy",
    "entity_f1",
    "token_accuracy",
    "exact_match",
    "rouge_l",
    "perplexity",
    "recall_at_1",
    "recall_at_5",
    "mrr_at_10",
]


class MetricFacts(BaseModel):
    """A metric: its title, its definition, its range."""

    model_config = ConfigDict(frozen=True)

    name: MetricName
    title: str
    per_item: bool
    """It is the mean of a value from 0 to 1 of every test item, so a verdict can rest on it."""
    definition: str
    graded: bool = False
    """An item's value may lie between 0 and 1; otherwise an item is right or wrong."""
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
            name="item_entity_f1",
            title=_("entity F1 per item"),
            per_item=True,
            graded=True,
            definition=_(
                "F1 of the entities of an item, each right if its type and all its words are; 1 where an item has none "
                "and none is predicted; then the mean over items"
            ),
        ),
        MetricFacts(
            name="tag_accuracy",
            title=_("tag accuracy"),
            per_item=True,
            graded=True,
            definition=_("share of words with the right tag; first within an item, then over items"),
        ),
        MetricFacts(
            name="entity_f1",
            title=_("entity F1"),
            per_item=False,
            definition=_(
                "F1 of the entities of all items together, each right if its type and all its words are "
                "(seqeval's strict mode)"
            ),
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
        MetricFacts(
            name="recall_at_1",
            title=_("recall@1"),
            per_item=True,
            definition=_("share of queries whose most similar passage of the split is a right one"),
        ),
        MetricFacts(
            name="recall_at_5",
            title=_("recall@5"),
            per_item=True,
            definition=_("share of queries with a right passage among the 5 most similar passages of the split"),
        ),
        MetricFacts(
            name="mrr_at_10",
            title=_("MRR@10"),
            per_item=True,
            graded=True,
            definition=_(
                "reciprocal rank of the first right passage among the 10 most similar passages of the split, else 0; "
                "mean over queries"
            ),
        ),
    )
}


class TaskFacts(BaseModel):
    """A task: its title, its metrics, and what it needs."""

    model_config = ConfigDict(frozen=True)

    name: Task
    title: str
    metric: MetricName
    """Default metric of the verdict."""
    metrics: tuple[MetricName, ...]
    formats: tuple[Format, ...]
    """Formats of rows that it can train on."""
    unit: Unit
    """What its loss is averaged over."""
    best_by: Literal["metric", "loss"]
    """What chooses the best checkpoint, on the validation split."""
    adds_head: bool
    """It adds a new head. Otherwise the base model can be evaluated before training."""
    in_batch: bool = False
    """The loss of a row depends on the other rows of its batch, so a batch cannot be divided."""

    @property
    def forgets(self) -> bool:
        """Forgetting can be measured: its model has a loss on plain texts."""
        return self.unit == "completion token"

    def writes(self, rows: Format) -> bool:
        """Whether the model is also evaluated on generated text, which needs prompts: plain texts have none."""
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
            name="token-classification",
            title=_("token classification"),
            metric="item_entity_f1",
            metrics=("item_entity_f1", "tag_accuracy", "entity_f1"),
            formats=("tagged",),
            unit="word",
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
        TaskFacts(
            name="sentence-embeddings",
            title=_("sentence embeddings"),
            metric="recall_at_1",
            metrics=("recall_at_1", "recall_at_5", "mrr_at_10"),
            formats=("query-passage",),
            unit="item",
            best_by="metric",
            adds_head=False,
            in_batch=True,
        ),
    )
}


def generates(metric: MetricName) -> bool:
    """Whether a metric needs generated text, for which plain `text` rows have no prompt."""
    return metric in ("exact_match", "rouge_l")
