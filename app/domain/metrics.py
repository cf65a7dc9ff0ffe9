"""The metrics of tasks. A metric is a row of `METRICS`, computed by its tasks."""

from typing import Literal

from pydantic import BaseModel, ConfigDict

from app.domain.messages import _

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
    "preference_accuracy",
    "likelihood_accuracy",
    "mean_likelihood_accuracy",
    "reward_margin",
    "kl",
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
    percentage: bool = True
    """It lies between 0 and 1 and is written in percent."""


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
            percentage=False,
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
        MetricFacts(
            name="preference_accuracy",
            title=_("preference accuracy"),
            per_item=True,
            definition=_(
                "share of pairs whose chosen answer has the higher reward: with DPO the log-probability minus the base "
                "model's, with ORPO the mean log-probability per token; a tie counts ½, as every pair does for DPO's "
                "base model"
            ),
        ),
        MetricFacts(
            name="likelihood_accuracy",
            title=_("likelihood accuracy"),
            per_item=True,
            definition=_("share of pairs whose chosen answer has the higher log-probability, summed over its tokens"),
        ),
        MetricFacts(
            name="mean_likelihood_accuracy",
            title=_("mean likelihood accuracy"),
            per_item=True,
            definition=_("share of pairs whose chosen answer has the higher mean log-probability per token"),
        ),
        MetricFacts(
            name="reward_margin",
            title=_("reward margin"),
            per_item=False,
            definition=_(
                "reward of the chosen answer minus that of the rejected one, mean over pairs; a reward is beta times "
                "the log-probability minus the base model's with DPO, and the mean log-probability per token with ORPO"
            ),
            percentage=False,
        ),
        MetricFacts(
            name="kl",
            title=_("KL(trained ‖ base)"),
            per_item=False,
            higher_is_better=False,
            definition=_(
                "Kullback-Leibler divergence Σ q·log(q/p) of the next token, q by the trained and p by the base model, "
                "in nats per answer token of the first test pairs; over the base model's 64 most probable tokens and "
                "all others as one, so a lower bound"
            ),
            percentage=False,
        ),
    )
}


def generates(metric: MetricName) -> bool:
    """Whether a metric needs generated text, for which plain `text` rows have no prompt."""
    return metric in ("exact_match", "rouge_l")
