"""Baselines of a study: requested with it, computed once for all studies on the same rows, kept for good."""

from datetime import timedelta

from app.domain.comparison.baselines import StoredBaseline
from app.domain.data.baselines import Baseline, BaselineRequest
from app.domain.methods import FullSpec, LoraSpec
from app.domain.runs.training import TrainingBudget
from app.domain.studies.arms import ArmSpec
from app.domain.studies.spec import StudySpec
from app.services.ownership import deletion
from app.services.resources import estimates
from app.services.studies import studies
from app.store.data import queries as datasets
from app.store.database.session import Database
from app.store.files.files import Files
from app.store.tables import EstimateRow, now
from tests.support.fakes.fakes import SilentBell

ARMS = [ArmSpec(method=FullSpec()), ArmSpec(method=LoraSpec(target_modules=["query"]))]


def spec(**changes: object) -> StudySpec:
    values = {"name": "s", "base_model": "tiny", "dataset": "small", "arms": ARMS, "seeds": [0, 1]}
    return StudySpec.model_validate(values | changes)


def submitted(database: Database, bell: SilentBell, **changes: object) -> int:
    with database.transaction() as session:
        return studies.submit(session, bell, spec(**changes)).id


def known(database: Database, study_id: int) -> list[StoredBaseline]:
    with database.reading() as session:
        return [result.stored for result in studies.comparison(session, study_id).baselines]


def waiting(database: Database) -> list[EstimateRow]:
    with database.reading() as session:
        return list(session.query(EstimateRow).where(EstimateRow.kind == "baseline").order_by(EstimateRow.id))


def answer(row: EstimateRow) -> Baseline:
    request = row.request
    assert isinstance(request, BaselineRequest)
    scores = {"accuracy": [1.0, 0.0] * 4}
    return Baseline(
        kind=request.kind, metrics={}, scores=scores, items_hash="h", trained_rows=24, train_rows=24, seconds=0.1
    )


def test_a_study_requests_its_baselines_and_shares_them(registered: Database, bell: SilentBell) -> None:
    first, second = submitted(registered, bell), submitted(registered, bell, name="again", seeds=[5])
    assert [row.request.kind for row in waiting(registered)] == ["most-frequent", "tfidf", "embeddings"]  # type: ignore[union-attr]
    assert known(registered, first) == known(registered, second)
    assert [one.status for one in known(registered, first)] == ["working"] * 3


def test_another_max_length_changes_what_reads_with_the_model_only(registered: Database, bell: SilentBell) -> None:
    submitted(registered, bell)
    submitted(registered, bell, training=TrainingBudget(max_length=17))
    assert sorted(row.request.kind for row in waiting(registered)) == [  # type: ignore[union-attr]
        "embeddings", "embeddings", "most-frequent", "tfidf",
    ]  # fmt: skip


def test_an_answer_and_a_reason_are_shown_with_the_study(registered: Database, bell: SilentBell) -> None:
    study = submitted(registered, bell)
    with registered.transaction() as session:
        for row in waiting(registered)[:2]:
            claimed = estimates.begin(session, row.id)
            assert claimed is not None
            if claimed.id == waiting(registered)[0].id:
                assert estimates.ready(session, bell, claimed, answer(claimed))
            else:
                assert estimates.failed(session, bell, claimed, "All training rows have the same label.")
    trivial, tfidf, embeddings = known(registered, study)
    assert (trivial.status, trivial.baseline and trivial.baseline.scores["accuracy"][:2]) == ("ready", [1.0, 0.0])
    assert (tfidf.status, tfidf.message) == ("failed", "All training rows have the same label.")
    assert embeddings.status == "working"


def test_baselines_are_kept_where_other_estimates_are_forgotten(registered: Database, bell: SilentBell) -> None:
    submitted(registered, bell)
    later = now() + estimates.REMEMBER + timedelta(days=1)
    with registered.transaction() as session:
        estimates.ring_again(session, bell, later, later)
    assert len(waiting(registered)) == 3


def test_a_study_from_before_has_none(registered: Database, bell: SilentBell) -> None:
    study = submitted(registered, bell)
    with registered.transaction() as session:
        session.query(EstimateRow).where(EstimateRow.kind == "baseline").delete()
    assert known(registered, study) == []


def test_a_dataset_takes_its_baselines_along(registered: Database, bell: SilentBell, files: Files) -> None:
    study = submitted(registered, bell)
    with registered.transaction() as session:
        studies.cancel(session, bell, study)
        deletion.delete_study(session, files, study)
        dataset = datasets.by_name(session, "small")
        assert dataset
        deletion.delete_dataset(session, files, dataset.id)
    assert waiting(registered) == []


def test_a_failed_baseline_is_requested_again_with_more_seeds(registered: Database, bell: SilentBell) -> None:
    study = submitted(registered, bell)
    with registered.transaction() as session:
        for row in session.query(EstimateRow):
            row.status, row.message = "failed", "The hub cannot be reached."
            row.created_at = row.created_at - 2 * estimates.AGAIN
    with registered.transaction() as session:
        studies.add_seeds(session, bell, study, 1)
    assert [one.status for one in known(registered, study)] == ["working"] * 3
