"""Baselines: cheap, deterministic predictors of a dataset's test items. A fine-tuned model that does not beat them has
learned nothing that was worth its cost.

A baseline is computed once per dataset version, and per base model where it uses one. It is requested and stored like
a resource estimate.
"""

from collections.abc import Iterator
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from app.domain.messages import Message, _
from app.domain.resources.estimate import key_of
from app.domain.tasks import TASKS, Format, MetricName, Task, tasks_where

BASELINES_VERSION = 1
"""Raised when a baseline of the same request may differ."""
MOST_TRAINED_ROWS = 50_000
"""Training rows that TF-IDF and embeddings learn from; of a larger split, as many drawn at random with a fixed seed."""

FEW_SHOT_EXAMPLES, FEW_SHOT_SEED = 4, 0
"""Training examples in a few-shot prompt, and what draws them."""

BaselineKind = Literal[
    "most-frequent",
    "tfidf",
    "embeddings",
    "pixels",
    "most-frequent-tag",
    "random-tags",
    "word-tag",
    "most-frequent-answer",
    "first-sentence",
    "zero-shot",
    "few-shot",
    "random-passage",
    "bm25",
    "random-answer",
    "longer-answer",
]


class BaselineFacts(BaseModel):
    """A baseline: its title, its definition, and what it applies to."""

    model_config = ConfigDict(frozen=True)

    kind: BaselineKind
    title: Message
    note: Message
    """A few words beside the title."""
    definition: Message
    tasks: tuple[Task, ...]
    metrics: tuple[MetricName, ...]
    """Metrics of a verdict that it is scored by."""
    uses_model: bool = False
    """It depends on the base model, not on the rows alone."""
    trivial: bool = False
    """It reads nothing of an item, or is the model without training: a model that learned anything beats it."""
    requested: bool = True
    """It is computed for itself; else its scores come with the runs."""
    learns: bool = False
    """It is trained, on at most `MOST_TRAINED_ROWS` rows."""


_RETRIEVAL: tuple[MetricName, ...] = ("recall_at_1", "recall_at_5", "mrr_at_10")
_PREFERENCE: tuple[MetricName, ...] = ("preference_accuracy", "likelihood_accuracy", "mean_likelihood_accuracy")

BASELINES: dict[BaselineKind, BaselineFacts] = {
    facts.kind: facts
    for facts in (
        BaselineFacts(
            kind="most-frequent",
            title=_("most frequent label"),
            note=_("for every item"),
            definition=_("the most frequent label of the training rows, for every item"),
            tasks=tasks_where(lambda task: task.output == "label"),
            metrics=("accuracy",),
            trivial=True,
        ),
        BaselineFacts(
            kind="tfidf",
            title=_("TF-IDF"),
            note=_("logistic regression"),
            definition=_("logistic regression on TF-IDF of words and of character n-grams"),
            tasks=tasks_where(lambda task: task.labels_texts),
            metrics=("accuracy",),
            learns=True,
        ),
        BaselineFacts(
            kind="pixels",
            title=_("pixels"),
            note=_("logistic regression"),
            definition=_("logistic regression on the pixels of the images, squeezed to 16 × 16"),
            tasks=tasks_where(lambda task: task.output == "label" and task.reads == "images"),
            metrics=("accuracy",),
            learns=True,
        ),
        BaselineFacts(
            kind="embeddings",
            title=_("frozen embeddings"),
            note=_("logistic regression"),
            definition=_("logistic regression on the base model's mean-pooled hidden states"),
            tasks=tasks_where(lambda task: task.output == "label"),
            metrics=("accuracy",),
            uses_model=True,
            learns=True,
        ),
        BaselineFacts(
            kind="most-frequent-tag",
            title=_("most frequent tag"),
            note=_("for every word"),
            definition=_("the most frequent tag of the training words, for every word"),
            tasks=tasks_where(lambda task: task.output == "tags"),
            metrics=("item_entity_f1", "tag_accuracy"),
            trivial=True,
        ),
        BaselineFacts(
            kind="random-tags",
            title=_("random tags"),
            note=_("as frequent as in training"),
            definition=_("each word's tag drawn at random, with the shares of the tags in the training rows"),
            tasks=tasks_where(lambda task: task.output == "tags"),
            metrics=("item_entity_f1", "tag_accuracy"),
            trivial=True,
        ),
        BaselineFacts(
            kind="word-tag",
            title=_("tag of the word"),
            note=_("without its context"),
            definition=_(
                "the most frequent tag of each word in the training rows; of an unseen word the most frequent tag"
            ),
            tasks=tasks_where(lambda task: task.output == "tags"),
            metrics=("item_entity_f1", "tag_accuracy"),
        ),
        BaselineFacts(
            kind="most-frequent-answer",
            title=_("most frequent answer"),
            note=_("for every item"),
            definition=_("the most frequent completion of the training rows, for every item"),
            tasks=tasks_where(lambda task: task.generates),
            metrics=("exact_match",),
            trivial=True,
        ),
        BaselineFacts(
            kind="first-sentence",
            title=_("first sentence"),
            note=_("of the prompt"),
            definition=_("the first sentence of the prompt, as the answer"),
            tasks=tasks_where(lambda task: task.generates),
            metrics=("rouge_l",),
        ),
        BaselineFacts(
            kind="zero-shot",
            title=_("zero-shot"),
            note=_("base model, before training"),
            definition=_("the base model before training, evaluated with the runs"),
            tasks=tasks_where(lambda task: task.generates),
            metrics=("token_accuracy", "exact_match", "rouge_l"),
            uses_model=True,
            trivial=True,
            requested=False,
        ),
        BaselineFacts(
            kind="few-shot",
            title=_("few-shot"),
            note=_("%(examples)s examples in the prompt", examples=FEW_SHOT_EXAMPLES),
            definition=_(
                "the base model's answer after up to %(examples)s training examples in its prompt",
                examples=FEW_SHOT_EXAMPLES,
            ),
            tasks=tasks_where(lambda task: task.generates and task.decoder),
            metrics=("exact_match", "rouge_l"),
            uses_model=True,
        ),
        BaselineFacts(
            kind="random-passage",
            title=_("random order"),
            note=_("of the passages"),
            definition=_("the passages in an order that is drawn at random for each query"),
            tasks=tasks_where(lambda task: task.output == "embedding"),
            metrics=_RETRIEVAL,
            trivial=True,
        ),
        BaselineFacts(
            kind="bm25",
            title=_("BM25"),
            note=_("word overlap"),
            definition=_("the passages by BM25 of the query's words (k1 = 1.2, b = 0.75)"),
            tasks=tasks_where(lambda task: task.output == "embedding"),
            metrics=_RETRIEVAL,
        ),
        BaselineFacts(
            kind="random-answer",
            title=_("random answer"),
            note=_("of each pair"),
            definition=_("one answer of each pair, drawn at random"),
            tasks=tasks_where(lambda task: task.prefers),
            metrics=_PREFERENCE,
            trivial=True,
        ),
        BaselineFacts(
            kind="longer-answer",
            title=_("answer length"),
            note=_("longer or shorter"),
            definition=_("the longer answer of each pair, or the shorter one if training pairs mostly prefer that"),
            tasks=tasks_where(lambda task: task.prefers),
            metrics=_PREFERENCE,
        ),
    )
}


def baselines_of(task: Task, rows: Format, metric: MetricName) -> list[BaselineKind]:
    """The baselines that a study requests, in the order in which they are shown."""
    return [kind for kind, reason in _expected(task, rows, metric) if reason is None]


def not_applicable(task: Task, rows: Format, metric: MetricName) -> dict[BaselineKind, Message]:
    """The baselines of the task that a study cannot have, and why."""
    return {kind: reason for kind, reason in _expected(task, rows, metric) if reason is not None}


def _expected(task: Task, rows: Format, metric: MetricName) -> Iterator[tuple[BaselineKind, Message | None]]:
    """The baselines of a metric, and few-shot for every language model, each with the reason why it does not apply."""
    generates = TASKS[task].generates
    for facts in BASELINES.values():
        few_shot = facts.kind == "few-shot" and generates
        if few_shot and task not in facts.tasks:
            yield facts.kind, _("only causal language models have it")
        elif not facts.requested or task not in facts.tasks or not (metric in facts.metrics or few_shot):
            continue
        elif generates and rows != "prompt-completion":
            yield facts.kind, _("the data have no prompts with completions")
        elif metric not in facts.metrics:
            yield facts.kind, _("token accuracy scores no generated text")
        else:
            yield facts.kind, None


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


ADDED_FIELDS = ("max_new_tokens", "train_fraction")
"""Fields of a request that the first version did not have."""


class BaselineRequest(_Value):
    """Everything that determines a baseline."""

    version: int = BASELINES_VERSION
    kind: BaselineKind
    dataset_file: str
    dataset_format: Format
    dataset_hash: str
    labels: list[str] = Field(default_factory=list)
    location: str = ""
    """Directory or hub id of the base model, for a baseline that uses it."""
    revision: str = ""
    fingerprint: str = ""
    """The commit, or the hash of the files, at that location."""
    hub_user: int | None = None
    """The user whose hub token opens the base model; None where it needs none."""
    max_length: int = Field(default=0, ge=0, le=131072)
    """Tokens of a text that a baseline with the base model reads."""
    max_new_tokens: int = Field(default=0, ge=0, le=131072)
    """For a baseline that generates."""
    train_fraction: float = Field(default=1.0, gt=0, le=1)
    """Share of the training rows that it learns from."""

    @property
    def key(self) -> str:
        """SHA-256 over all of it. Fields that were added later count unless they have their default, so that baselines
        that were stored before stay valid."""
        defaults = {name for name in ADDED_FIELDS if getattr(self, name) == type(self).model_fields[name].default}
        return key_of(self, without=defaults)


class Baseline(_Value):
    """The answer to a `BaselineRequest`."""

    kind: BaselineKind
    metrics: dict[MetricName, float]
    scores: dict[MetricName, list[float]]
    """One number per test item, from 0 to 1, by metric."""
    items_hash: str
    """SHA-256 of the items' names in order."""
    trained_rows: int
    train_rows: int
    """Training rows that it could learn from: of the dataset, or of the share that was requested."""
    seconds: float
