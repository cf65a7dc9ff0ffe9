"""The tasks that a model is fine-tuned for: the rows they train on, and their metrics.

A task is a row of `TASKS` and a file in `worker/engine/tasks/`; `app.domain.metrics` has the metrics.
"""

from collections.abc import Callable
from typing import Final, Literal

from pydantic import BaseModel, ConfigDict

from app.domain.messages import _
from app.domain.metrics import METRICS, MetricFacts, MetricName, generates

__all__ = [
    "ANSWERING",
    "DECODERS",
    "DEFAULT_TASK",
    "LANGUAGE",
    "METRICS",
    "PICTURES",
    "PREFERENCES",
    "TASKS",
    "Format",
    "MetricFacts",
    "MetricName",
    "Task",
    "TaskFacts",
    "Unit",
    "generates",
    "tasks_where",
]

Task = Literal[
    "sequence-classification",
    "token-classification",
    "causal-lm",
    "seq2seq-lm",
    "sentence-embeddings",
    "preference",
    "image-classification",
]
DEFAULT_TASK: Final = "sequence-classification"
"""The task of a spec that names none, and of the lessons of the Lab."""
Format = Literal[
    "labelled",
    "tagged",
    "text",
    "prompt-completion",
    "messages",
    "query-passage",
    "preference",
    "preference-messages",
    "labelled-images",
]
"""The columns of a dataset; see `app.domain.data.dataset`."""
PREFERENCES: tuple[Format, ...] = ("preference", "preference-messages")
"""Formats whose rows have a chosen and a rejected answer."""
Unit = Literal["item", "pair", "word", "completion token"]
"""What a loss is averaged over: items, pairs of answers, words of items, or the tokens of completions."""


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
    output: Literal["label", "tags", "text", "embedding"]
    """What its model returns for an input."""
    auto: str
    """The transformers class that loads its model."""
    pipeline: str
    """The hub's name for the task of its model (`pipeline_tag`)."""
    decoder: bool = False
    """Its model is a decoder, which continues a prompt or a conversation."""
    encoder_decoder: bool = False
    """Its model reads a prompt with an encoder and writes with a decoder, so each row has two padded sequences."""
    packs: bool = False
    """Several rows can share a sequence."""
    blockwise: bool = False
    """The blocks of its model can compute rows without padding, and can be compiled."""
    in_batch: bool = False
    """The loss of a row depends on the other rows of its batch, so a batch cannot be divided."""
    sequences: int = 1
    """Sequences of tokens that the model reads for each row, in one batch or in two passes."""
    rate_factor: float = 1.0
    """Factor of the methods' default learning rates; docs/tuning.md has its source."""
    forgets_as: Task | None = None
    """The task whose loss on plain texts measures forgetting; None if it cannot be measured."""
    reads: Literal["texts", "images"] = "texts"
    """What its model reads, by a tokenizer or by an image processor."""

    @property
    def scored(self) -> list[MetricName]:
        """The metrics that a verdict can rest on: those with a value for each item."""
        return [name for name in self.metrics if METRICS[name].per_item]

    @property
    def prefers(self) -> bool:
        """Whether it learns which of two answers is preferred."""
        return self.unit == "pair"

    @property
    def labels_texts(self) -> bool:
        """Whether its model returns a label for a text."""
        return self.output == "label" and self.reads == "texts"

    @property
    def generates(self) -> bool:
        """Whether test items are also answered with generated texts."""
        return any(generates(metric) for metric in self.metrics)

    def writes(self, rows: Format) -> bool:
        """Whether the model is also evaluated on generated text, which needs prompts: plain texts have none."""
        return rows != "text" and self.generates


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
            output="label",
            auto="AutoModelForSequenceClassification",
            pipeline="text-classification",
            blockwise=True,
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
            output="tags",
            auto="AutoModelForTokenClassification",
            pipeline="token-classification",
            blockwise=True,
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
            output="text",
            auto="AutoModelForCausalLM",
            pipeline="text-generation",
            decoder=True,
            packs=True,
            blockwise=True,
            forgets_as="causal-lm",
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
            output="text",
            auto="AutoModelForSeq2SeqLM",
            pipeline="text2text-generation",
            encoder_decoder=True,
            forgets_as="seq2seq-lm",
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
            output="embedding",
            auto="AutoModel",
            pipeline="sentence-similarity",
            in_batch=True,
            sequences=2,
        ),
        TaskFacts(
            name="preference",
            title=_("preference tuning"),
            metric="preference_accuracy",
            metrics=(
                "preference_accuracy",
                "likelihood_accuracy",
                "mean_likelihood_accuracy",
                "reward_margin",
                "kl",
            ),
            formats=PREFERENCES,
            rate_factor=0.05,
            unit="pair",
            best_by="loss",
            adds_head=False,
            output="text",
            auto="AutoModelForCausalLM",
            pipeline="text-generation",
            decoder=True,
            blockwise=True,
            sequences=2,
            forgets_as="causal-lm",
        ),
        TaskFacts(
            name="image-classification",
            title=_("classification of images"),
            metric="accuracy",
            metrics=("accuracy", "macro_f1"),
            formats=("labelled-images",),
            unit="item",
            best_by="metric",
            adds_head=True,
            output="label",
            auto="AutoModelForImageClassification",
            pipeline="image-classification",
            reads="images",
        ),
    )
}


def tasks_where(holds: Callable[[TaskFacts], bool]) -> tuple[Task, ...]:
    """The tasks of which something holds."""
    return tuple(name for name, facts in TASKS.items() if holds(facts))


LANGUAGE = frozenset(tasks_where(lambda facts: facts.output == "text"))
"""Tasks whose models answer with a text."""
DECODERS = frozenset(tasks_where(lambda facts: facts.decoder))
"""Those of them whose models continue a prompt or a conversation."""
PICTURES = frozenset(tasks_where(lambda facts: facts.reads == "images"))
ANSWERING = frozenset(tasks_where(lambda facts: facts.output != "embedding"))
"""Tasks whose models answer requests, with a text, a label, or tags of words."""
