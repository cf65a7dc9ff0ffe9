"""Runs and studies keep the version that they began with, and a version stays while they do."""

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from app.domain.data.dataset import TextRow, item_name
from app.domain.errors import Conflict, Invalid
from app.domain.methods import FullSpec, HeadOnlySpec
from app.domain.runs.spec import RunSpec
from app.domain.studies.arms import ArmSpec
from app.domain.studies.spec import StudySpec
from app.services.data import datasets
from app.services.ownership import deletion
from app.services.runs import attempts, runs
from app.services.studies import studies
from app.store.data import queries as rows_of_data
from app.store.database.session import Database
from app.store.files.files import Files
from app.store.runs import queries as run_rows
from app.store.tables import DatasetRow, RunRow, now
from tests.support.fakes.fakes import SilentBell

STUDY = StudySpec(name="s", base_model="tiny", dataset="small", arms=[ArmSpec(method=FullSpec())], seeds=[0])


def newer(session: Session, name: str = "small") -> DatasetRow:
    """A second version: the same rows will do."""
    first = rows_of_data.by_name(session, name)
    assert first is not None
    row = DatasetRow(
        name=name,
        version=2,
        content_hash=first.content_hash,
        file=first.file,
        facts_json=first.facts_json,
        seen_at=now(),
    )
    session.add(row)
    session.flush()
    return row


def used(session: Session) -> list[int | None]:
    return list(session.scalars(select(RunRow.dataset_id).order_by(RunRow.id)))


def test_a_study_goes_on_with_the_version_that_it_began_with(registered: Database, bell: SilentBell) -> None:
    with registered.transaction() as session:
        study = studies.submit(session, bell, STUDY)
        second = newer(session)
        studies.add_seeds(session, bell, study.id, 1)
        studies.add_arm(session, bell, study.id, ArmSpec(method=HeadOnlySpec()))
        assert set(used(session)) == {study.dataset_id}
        assert study.spec.dataset == "small"
        fresh = runs.submit(session, bell, RunSpec(base_model="tiny", dataset="small", method=FullSpec()))
        old = runs.submit(session, bell, RunSpec(base_model="tiny", dataset="small@1", method=FullSpec()))
        assert (fresh.dataset_id, old.dataset_id) == (second.id, study.dataset_id)
        assert runs.view(session, fresh.id).dataset == "small, version 2"
        with pytest.raises(Invalid, match="There is no dataset 'small@3'"):
            runs.submit(session, bell, RunSpec(base_model="tiny", dataset="small@3", method=FullSpec()))


def test_a_version_that_is_used_stays_and_says_by_how_many(
    registered: Database, bell: SilentBell, files: Files
) -> None:
    with registered.transaction() as session:
        study = studies.submit(session, bell, STUDY)
        second = newer(session)
        with pytest.raises(Conflict, match=r"small@1 is in use \(studies: 1, runs: 1\)"):
            deletion.delete_dataset(session, files, study.dataset_id)
        assert rows_of_data.used_by(session, second.id) == (0, 0)
        deletion.delete_dataset(session, files, second.id)
        file = rows_of_data.get(session, study.dataset_id).file
    assert files.exists(file)  # the other version has the same rows


def test_forgetting_is_measured_on_the_texts_of_when_it_was_asked_for(
    registered: Database, bell: SilentBell, files: Files
) -> None:
    texts = [TextRow(item_name(str(i)), "test", f"text {i}") for i in range(4)]
    with registered.transaction() as session:
        datasets.register(session, files, name="general", title="", form="text", rows=texts)
        run = runs.submit(session, bell, RunSpec(base_model="tiny", dataset="small", method=FullSpec()))
        run.spec_json = run.spec_json | {"general_text": "general", "task": "causal-lm"}
    with registered.transaction() as session:
        first = rows_of_data.by_name(session, "general")
        second = newer(session, "general")
        second.file = "datasets/other.parquet"
        assert first is not None
        with pytest.raises(Conflict, match=r"forgetting on general \(1\)"):
            deletion.delete_dataset(session, files, first.id)
        claimed = attempts.claim(session, run.id, "w1", 45)
        assert claimed is not None and claimed.general_file == first.file
        assert run_rows.get(session, run.id).spec.general_text == "general"
