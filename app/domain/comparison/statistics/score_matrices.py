"""Per-item scores of a study's runs as matrices, seeds × items."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from app.domain.comparison.model import RunOutcome
from app.domain.comparison.statistics.clusters import Clusters


def common_items(runs: Sequence[RunOutcome]) -> str | None:
    """The hash of the test items that most runs have scores on."""
    hashes = Counter(run.items_hash for run in runs if run.scores is not None)
    return hashes.most_common(1)[0][0] if hashes else None


def matrices(by_arm: Mapping[str, Sequence[RunOutcome]], items_hash: str | None) -> dict[str, NDArray[np.float64]]:
    """Scores by arm, [S, N]. Runs on other test items are left out: they cannot be paired."""
    rows = {
        title: [run.scores for run in runs if run.scores is not None and run.items_hash == items_hash]
        for title, runs in by_arm.items()
    }
    return {title: np.stack(parts) for title, parts in rows.items() if parts}


def common_clusters(runs: Iterable[RunOutcome], items_hash: str | None) -> Clusters | None:
    """Clusters of the items with this hash, the fewest that a run has. Runs without groups, and those of before
    clusters were stored, have none."""
    own = (run.clusters for run in runs if run.clusters and run.items_hash == items_hash)
    return min(own, key=len, default=None)


def base_scores(done: Sequence[RunOutcome], items: int | None) -> NDArray[np.float64] | None:
    """Scores of the base model before training, [S, N]: seeds differ only by the new head, so one run a seed."""
    by_seed = {r.seed: r.base_scores for r in done if r.base_scores is not None and len(r.base_scores) == items}
    return np.stack(list(by_seed.values())) if by_seed else None
