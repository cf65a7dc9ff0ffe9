"""Groups of runs: which runs are alike, and that chance is counted by seeds. On SQLite and on PostgreSQL."""

from statistics import fmean, stdev
from typing import Any

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from app.domain.comparison.grouping import group_by_seed
from app.domain.methods import FullSpec, HeadOnlySpec
from app.domain.runs.listing.filters import parse
from app.domain.runs.listing.groups import t_quantile
from app.domain.runs.spec import RunSpec
from app.domain.runs.training import TrainingArguments
from app.features.elsewhere.services import imports
from app.services.comparison.runs import compared_runs
from app.services.runs import runs
from app.store.database.session import Database
from app.store.runs import groups as run_groups
from app.store.runs.groups import Group
from app.store.runs.listing import Order
from app.store.tables import BaseModelRow, DatasetRow, RunRow
from tests.support.fakes.fakes import SilentBell
from tests.support.rows.imported_results import as_file, result

T_3 = t_quantile(3)


def submit(session: Session, seed: int, score: float | None, method: Any = None, **values: Any) -> RunRow:
    """A run of full fine-tuning on the registered data; with a score it succeeded."""
    spec = RunSpec(
        base_model="tiny", dataset="small", method=method or FullSpec(), training=TrainingArguments(seed=seed)
    )
    run = runs.submit(session, SilentBell(), spec)
    run.score, run.status = score, "queued" if score is None else "succeeded"
    for name, value in values.items():
        setattr(run, name, value)
    session.flush()
    return run


def groups(database: Database, order: str = "-score", text: str = "") -> list[Group]:
    """All of them, one a page."""
    with database.reading() as session:
        seen: list[Group] = []
        after = None
        while after is not None or not seen:
            part = run_groups.page(
                session,
                parse(text),
                order=Order(order.removeprefix("-"), order.startswith("-")),
                after=after,
                limit=1,
                fields=("score", "train"),
            )
            seen += part.rows
            after = part.next_after
        return seen


@pytest.fixture
def repeated(registered: Database) -> Database:
    """Full fine-tuning with three seeds, of which two were run again, and a head alone with three and no more."""
    with registered.transaction() as session:
        for seed, score in ((0, 0.80), (1, 0.86), (2, 0.90), (0, 0.82), (1, 0.86), (1, 0.89)):
            submit(session, seed, score, train_seconds=10.0 * (seed + 1))
        submit(session, 3, None, status="failed", train_seconds=1.0)
        for seed, score in ((0, 0.84), (1, 0.85), (2, 0.86)):
            submit(session, seed, score, HeadOnlySpec())
    return registered


@pytest.mark.parametrize("order", ["-score", "lower", "-n", "train"])
def test_a_seed_that_was_run_again_is_no_further_seed(repeated: Database, order: str) -> None:
    full, probe = sorted(groups(repeated, order), key=lambda group: group.first.id)
    means = [0.81, fmean([0.86, 0.86, 0.89]), 0.90]
    score = full.spreads["score"]
    assert (score.n, full.scored, dict(full.scoreless)) == (3, 6, {"failed": 1})
    assert score.mean == pytest.approx(fmean(means))
    assert score.sd == pytest.approx(stdev(means))
    assert score.lower == pytest.approx(fmean(means) - T_3 * stdev(means) / 3**0.5)
    assert full.spreads["train"].mean == pytest.approx(fmean([10, 20, 30, 1]))
    assert (probe.spreads["score"].n, probe.scored, probe.scoreless) == (3, 3, {})


def test_groups_are_sorted_by_the_lower_bound_over_seeds(repeated: Database) -> None:
    """By runs instead of seeds the lower bound of the first group would be 0.814, above that of the last, 0.805."""
    with repeated.transaction() as session:
        for seed, score in ((0, 0.805), (1, 0.8051), (2, 0.8049)):
            submit(session, seed, score, FullSpec(), group_key="between")
    assert [group.first.id for group in groups(repeated, "-lower")] == [8, 11, 1]
    bounds = [group.spreads["score"].lower for group in groups(repeated, "-lower")]
    assert bounds == pytest.approx([0.8252, 0.8048, 0.7462], abs=1e-4)
    assert [group.spreads["score"].n for group in groups(repeated, "-n")] == [3, 3, 3]


def test_a_filter_that_leaves_only_the_repeats_shows_their_seeds(repeated: Database) -> None:
    (full,) = groups(repeated, "-lower", "id > 3 and id < 6")
    assert (full.runs, full.spreads["score"].n, full.spreads["score"].mean) == ((4, 5), 2, pytest.approx(0.84))


def test_versions_of_the_data_and_base_models_of_one_name_are_groups_of_their_own(registered: Database) -> None:
    with registered.transaction() as session:
        data, model = session.get_one(DatasetRow, 1), session.get_one(BaseModelRow, 1)
        first = submit(session, 0, 0.8)
        session.add(
            DatasetRow(
                name=data.name,
                title="",
                version=2,
                status="ready",
                content_hash="another",
                file="datasets/other.parquet",
                facts_json=data.facts_json,
            )
        )
        session.flush()
        newer = submit(session, 1, 0.9)
        assert (newer.dataset_id, newer.spec.dataset) == (2, "small")
        by_version = RunSpec(base_model="tiny", dataset="small@1", method=FullSpec())
        same = runs.submit(session, SilentBell(), by_version)
        assert same.group_key == first.group_key != newer.group_key
        twin = BaseModelRow(name="twin", source=model.source, location=model.location, revision=model.revision)
        session.add(twin)
        session.flush()
        of_twin = RunRow(
            arm="full",
            seed=5,
            method_kind="full",
            metric="accuracy",
            learning_rate=first.learning_rate,
            base_model_id=twin.id,
            dataset_id=1,
            spec_json=first.spec_json,
        )
        session.add(of_twin)
        session.flush()
        assert of_twin.group_key not in (first.group_key, newer.group_key)


def test_a_group_is_an_arm_of_a_comparison(registered: Database) -> None:
    with registered.transaction() as session:
        for seed in (0, 1):
            submit(session, seed, 0.8)
            submit(session, seed, 0.7, HeadOnlySpec())
        for collection in ("ours", "theirs"):
            told = [
                result(score=0.5 + seed / 10, seed=seed, device=device, source=f"{seed}.json", steps=100 + seed)
                for seed, device in enumerate(("NVIDIA L4", "NVIDIA A100"))
            ]
            imports.add_results(session, imports.read_files([as_file(*told)]), collection)
        rows = list(session.scalars(select(RunRow).order_by(RunRow.id)))
        arms = [[run.run_id for run in arm] for arm in group_by_seed(compared_runs(session, rows))]
    assert [list(group.runs) for group in sorted(groups(registered), key=lambda group: group.first.id)] == arms
    assert arms == [[1, 3], [2, 4], [5, 6], [7, 8]]
