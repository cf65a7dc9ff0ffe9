"""Confounders in words: what differs, for which arms, and what that rules out."""

from collections.abc import Sequence

from app.domain.comparison.fairness.confounders import UNKNOWN, Confounder, ConfounderKind
from app.domain.comparison.model import AnyComparison
from app.words.format import join_names
from app.words.i18n import gettext as _
from app.words.i18n import marked, ngettext

MOST_NAMED = 4
"""A sentence names at most so many arms, then says how many more there are."""
MOST_VALUES = 6

DIFFERS = {
    ConfounderKind.TEST_ITEMS: marked("the test items differ"),
    ConfounderKind.METRIC: marked("the metric differs"),
    ConfounderKind.METRIC_VERSION: marked("the metric's definition differs by version"),
    ConfounderKind.NO_ITEMS: marked("the test items of some are unknown"),
    ConfounderKind.SPLITS: marked("the splits are not known to be the same"),
    ConfounderKind.METRIC_UNPROVEN: marked("what computes the metric is not stated"),
    ConfounderKind.TASK: marked("the task differs"),
    ConfounderKind.BASE_MODEL: marked("the base model differs"),
    ConfounderKind.DATASET: marked("the dataset differs"),
    ConfounderKind.DATASET_VERSION: marked("the dataset version differs"),
    ConfounderKind.DEVICE: marked("the device differs"),
    ConfounderKind.PRECISION: marked("the precision differs"),
    ConfounderKind.MEMORY_MEASURE: marked("memory was measured in different ways"),
    ConfounderKind.OVERLAP: marked("runs overlapped on one worker"),
    ConfounderKind.SHARED_HOST: marked("runs overlapped on different GPUs of one worker"),
    ConfounderKind.WORKER: marked("the worker differs"),
    ConfounderKind.LIBRARIES: marked("library versions differ"),
    ConfounderKind.TRAIN_FRACTION: marked("the share of the training rows differs"),
    ConfounderKind.BUDGET: marked("the training budget differs"),
    ConfounderKind.BATCH_SIZE: marked("the batch size differs"),
    ConfounderKind.WARMUP: marked("the warmup differs"),
    ConfounderKind.WEIGHT_DECAY: marked("the weight decay differs"),
    ConfounderKind.IMPORTED: marked("some results are imported"),
    ConfounderKind.ELSEWHERE: marked("some runs were trained elsewhere"),
    ConfounderKind.MIXED_SETTINGS: marked("the settings differ between seeds of an arm"),
    ConfounderKind.MISSING_SEEDS: marked("declared seeds have no result"),
    ConfounderKind.NO_NEWS: marked("a script has not been heard from for 15 minutes or longer"),
    ConfounderKind.TRIED_AGAIN: marked("runs that failed or were cancelled were trained again"),
    ConfounderKind.REFERENCE: marked("the study predeclared another reference"),
    ConfounderKind.UNTUNED: marked("learning rates were not tuned"),
    ConfounderKind.ONE_SEED: marked("some arms have one seed"),
}
APPLIES_TO_ALL = {
    ConfounderKind.NO_ITEMS: marked("the test items are unknown"),
    ConfounderKind.IMPORTED: marked("all results are imported"),
    ConfounderKind.ELSEWHERE: marked("all runs were trained elsewhere"),
    ConfounderKind.ONE_SEED: marked("every arm has one seed"),
}
"""Instead, where it applies to every arm."""
CONSEQUENCES = {
    ConfounderKind.TEST_ITEMS: marked("no verdict between arms tested on different items"),
    ConfounderKind.METRIC: marked("no verdict between scores of different metrics"),
    ConfounderKind.METRIC_VERSION: marked("no verdict between scores by different definitions"),
    ConfounderKind.NO_ITEMS: marked("no verdict about them"),
    ConfounderKind.SPLITS: marked("no verdict until every run reports the same hashes of train and test"),
    ConfounderKind.METRIC_UNPROVEN: marked("no verdict until every run reports its metric_version"),
    ConfounderKind.TASK: marked("a difference may come from the task, not from the method"),
    ConfounderKind.BASE_MODEL: marked("a difference may come from the base model, not from the method"),
    ConfounderKind.DATASET: marked("a difference may come from the data, not from the method"),
    ConfounderKind.DATASET_VERSION: marked("a difference may come from the data, not from the method"),
    ConfounderKind.DEVICE: marked("memory and times cannot be compared"),
    ConfounderKind.PRECISION: marked("memory and times cannot be compared"),
    ConfounderKind.MEMORY_MEASURE: marked("memory cannot be compared"),
    ConfounderKind.OVERLAP: marked("times cannot be compared"),
    ConfounderKind.SHARED_HOST: marked("small differences in time may come from the processors that they shared"),
    ConfounderKind.WORKER: marked("times cannot be compared"),
    ConfounderKind.LIBRARIES: marked("small differences in memory and time may come from them"),
    ConfounderKind.TRAIN_FRACTION: marked("a difference may come from more training rows, not from the method"),
    ConfounderKind.BUDGET: marked("a difference may come from longer training, not from the method"),
    ConfounderKind.BATCH_SIZE: marked("a difference in score, memory or time may come from it, not from the method"),
    ConfounderKind.WARMUP: marked("a difference may come from it, not from the method"),
    ConfounderKind.WEIGHT_DECAY: marked("a difference may come from it, not from the method"),
    ConfounderKind.IMPORTED: marked("Vezna has not verified them"),
    ConfounderKind.ELSEWHERE: marked("Vezna shows what their scripts reported and has verified none of it"),
    ConfounderKind.MIXED_SETTINGS: marked("its variance may come from them, not from the seeds"),
    ConfounderKind.MISSING_SEEDS: marked("the verdict may change once they have run"),
    ConfounderKind.NO_NEWS: marked("it may have been killed, and its run may get no result"),
    ConfounderKind.TRIED_AGAIN: marked(
        "the last run of each seed counts, which is fair only if no score was the reason"
    ),
    ConfounderKind.REFERENCE: marked("this one was chosen after the runs, and no interval corrects for that choice"),
    ConfounderKind.UNTUNED: marked("another rate could change any score"),
    ConfounderKind.ONE_SEED: marked("the variance over seeds is unknown, so a difference is a hint at best"),
}


def what_differs(confounder: Confounder, comparison: AnyComparison) -> str:
    """`the device differs`, `every arm has one seed`."""
    applies_to_all = len(confounder.arms) == len(comparison.arms) and confounder.kind in APPLIES_TO_ALL
    return _((APPLIES_TO_ALL if applies_to_all else DIFFERS)[confounder.kind])


def consequence(confounder: Confounder) -> str:
    """What it rules out: `memory and times cannot be compared`."""
    return _(CONSEQUENCES[confounder.kind])


def affected_arms(confounder: Confounder, comparison: AnyComparison) -> str:
    """`x86: full and LoRA r=8; NVIDIA L4: DoRA`; empty where it applies to all arms alike."""
    values = list(confounder.values.items())
    if [value for value, _arms in values] == [""]:
        every = set(confounder.arms) == {arm.title for arm in comparison.arms}
        return "" if every else name_arms(confounder.arms)
    parts = [
        f"{_('unknown') if value == UNKNOWN else value}: {name_arms(arms)}" for value, arms in values[:MOST_VALUES]
    ]
    if (more := len(values) - MOST_VALUES) > 0:
        parts.append(ngettext("%(num)s more value", "%(num)s more values", more))
    return "; ".join(parts)


def confounder_text(confounder: Confounder, comparison: AnyComparison) -> str:
    """All of it: `the device differs: memory and times cannot be compared (x86: full; NVIDIA L4: DoRA)`."""
    text = f"{what_differs(confounder, comparison)}: {consequence(confounder)}"
    arms = affected_arms(confounder, comparison)
    return f"{text} ({arms})" if arms else text


def name_arms(arms: Sequence[str]) -> str:
    """`full, LoRA and 3 more`."""
    if len(arms) <= MOST_NAMED + 1:
        return join_names(arms)
    more = ngettext("%(num)s more", "%(num)s more", len(arms) - MOST_NAMED)
    return join_names([*arms[:MOST_NAMED], more])


FILTERS = (what_differs, consequence, affected_arms)
