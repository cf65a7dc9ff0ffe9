"""The study of a class: who starts which seed, what is pooled, and when there is a verdict."""

import re
from collections.abc import Iterator
from pathlib import Path
from threading import Thread

import pytest
from sqlalchemy.orm import Session

from app.domain.accounts.policy import Role
from app.domain.errors import Conflict, Invalid
from app.features.lab.pool_figure import pool_figure
from app.features.lab.queries import classes as rows
from app.features.lab.rules.classes import ClassStudy, Joining
from app.features.lab.services import class_pool, class_studies, classes
from app.features.lab.services.class_pool import Pool
from app.features.lab.tables import LabClassRow, LabClassSeedRow, LabClassStudyRow
from app.services.ownership import deletion
from app.settings import Settings
from app.store.database.session import Database
from app.store.files.files import Files
from app.store.tables import StudyRow
from tests.support.fakes.fakes import SilentBell
from tests.support.filled import lab as filled_lab
from tests.support.filled.filled import add_study, register, still_alive, three_arms
from tests.support.rows.accounts import Installation
from tests.support.rows.tuned_studies import add_tuned_study


@pytest.fixture
def school(database: Database) -> Iterator[Database]:
    """The sample's model and data, and a class that runs a study of them, with a verdict of three seeds."""
    with database.transaction() as session:
        register(session)
        chosen = add_study(session, three_arms(), hours_ago=2)[0].study_id
        row = classes.create(session, "PEFT")
        class_studies.choose(session, row.id, ClassStudy(study_id=chosen, planned_seeds=3))
    yield database


def the_class(session: Session) -> LabClassRow:
    row, _learners = classes.of_teacher(session)[0]
    return row


def started(db: Database, settings: Settings, number: int) -> int:
    """The study of a learner who has joined and started a seed."""
    with db.transaction() as session:
        code = the_class(session).code
        classes.join(session, code, f"user {number}", Joining(name=f"Learner {number}"))
    return filled_lab.started(db, settings, code, f"user {number}")


def ended(db: Database, study_id: int, minutes: float, *, failed: str = "") -> None:
    """The runs of a study have ended."""
    with db.transaction() as session:
        filled_lab.ended(session, study_id, minutes, failed=failed)


def pooled(db: Database) -> Pool:
    """The results after a sweep."""
    with db.transaction() as session:
        class_pool.take_verdicts(session)
    with db.reading() as session:
        found = class_pool.pool(session, the_class(session).id)
    assert found
    return found


def test_each_learner_runs_one_seed_and_the_interval_narrows(school: Database, settings: Settings) -> None:
    own = [started(school, settings, number) for number in (1, 2, 3, 4)]
    with school.reading() as session:
        specs = [session.get_one(StudyRow, study_id).spec for study_id in own]
        assert [spec.seeds for spec in specs] == [[0], [1], [2], [3]]
        assert len({spec.model_copy(update={"seeds": [0], "name": ""}).model_dump_json() for spec in specs}) == 1
    for minutes, study_id in ((9, own[0]), (1, own[1])):
        ended(school, study_id, minutes)
    pool = pooled(school)
    assert (pool.started, pool.complete, pool.comparison, pool.others) == (4, (1, 0), None, ())
    ended(school, own[3], 2)
    ended(school, own[2], 30)
    pool = pooled(school)
    assert pool.complete == (1, 3, 0, 2) and [step.seeds for step in pool.steps] == [2, 3, 4]
    assert pool.comparison and sorted(pool.comparison.spec.seeds) == [0, 1, 3]
    for arm in pool.others:
        widths = [step.differences[arm.title].high - step.differences[arm.title].low for step in pool.steps]
        assert widths[0] > widths[1]
        assert arm.difference and arm.difference.low == pytest.approx(pool.steps[1].differences[arm.title].low)
    before = [arm.verdict for arm in pool.others]
    ended(school, started(school, settings, 5), 60)
    assert [arm.verdict for arm in pooled(school).others] == before


@pytest.mark.slow
def test_failed_and_withdrawn_seeds_are_counted_beside(school: Database, settings: Settings, files: Files) -> None:
    own = [started(school, settings, number) for number in (1, 2, 3, 4)]
    ended(school, own[0], 1, failed="full")
    for study_id in own[1:]:
        ended(school, study_id, 2)
    pool = pooled(school)
    assert (pool.complete, pool.failed, pool.withdrawn, pool.interim_looks) == ((1, 2, 3), 1, 0, 0)
    with school.transaction() as session:
        deletion.delete_study(session, files, own[1])
        classes.leave(session, the_class(session).code, "user 3")
    pool = pooled(school)
    assert (pool.started, pool.complete, pool.withdrawn, pool.comparison) == (4, (3,), 2, None)
    for learner in (2, 3):  # nor does leaving and joining again give another seed
        with pytest.raises(Conflict, match="already started"):
            started(school, settings, learner)


@pytest.mark.slow
def test_a_withdrawn_seed_is_not_replaced_unseen(school: Database, settings: Settings) -> None:
    own = [started(school, settings, number) for number in (1, 2, 3, 4)]
    for minutes, study_id in enumerate(own[:3]):
        ended(school, study_id, minutes)
    with school.reading() as session:  # complete, but no sweep has taken the verdict
        before = class_pool.pool(session, the_class(session).id)
    assert before and len(before.complete) == 3 and before.comparison is None
    assert [step.seeds for step in before.steps] == [2], "the interval with three would be the verdict's"
    first = pooled(school).comparison
    assert first and (first.spec.seeds, first.confidence) == ([0, 1, 2], 0.95)
    with school.transaction() as session:
        classes.leave(session, the_class(session).code, "user 2")
    pool = pooled(school)
    assert (pool.complete, pool.comparison, pool.interim_looks) == ((0, 2), None, 1)
    assert "99" in pool_figure(pool).note and "95" not in pool_figure(pool).note
    ended(school, own[3], 9)
    second = pooled(school).comparison
    assert second and second.spec.seeds == [0, 2, 3] and second.interim_looks == 1
    assert second.confidence == pytest.approx(0.99) == pooled(school).confidence
    confidences = {found.confidence for step in pooled(school).steps for found in step.differences.values()}
    assert min(confidences) >= 0.99 - 1e-9, "also with fewer seeds"
    with school.reading() as session:
        chosen = rows.study(session, the_class(session).id)
        assert chosen and chosen.verdicts_json == [[0, 1, 2], [0, 2, 3]]


def test_a_class_that_fails_does_not_stop_the_others(school: Database, settings: Settings) -> None:
    own = [started(school, settings, number) for number in (1, 2, 3)]
    with school.transaction() as session:
        broken = classes.create(session, "Broken")
        class_studies.choose(session, broken.id, ClassStudy(study_id=1, planned_seeds=2))
        chosen = rows.study(session, broken.id)
        assert chosen
        chosen.spec_json = {}
        session.add_all(LabClassSeedRow(class_id=broken.id, seed=n, study_id=own[n]) for n in range(2))
    for study_id in own:
        ended(school, study_id, 1)
    with school.transaction() as session:
        assert class_pool.take_verdicts(session) == 1
        assert class_pool.take_verdicts(session) == 0


def test_a_class_whose_verdict_is_in_force_is_not_locked(
    school: Database, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = [started(school, settings, number) for number in (1, 2, 3)]
    study, locked = rows.study, []

    def noted(session: Session, class_id: int, *, lock: bool = False) -> LabClassStudyRow | None:
        locked.extend([class_id] * lock)
        return study(session, class_id, lock=lock)

    monkeypatch.setattr(rows, "study", noted)
    for number, study_id in enumerate(own):
        with school.transaction() as session:
            class_pool.take_verdicts(session)
            assert locked == [], f"{number} of three are complete"
        ended(school, study_id, number)
    for _sweep in range(2):
        pooled(school)
    assert len(locked) == 1


def test_two_learners_at_once_get_different_seeds(school: Database, settings: Settings) -> None:
    found: list[int] = []
    threads = [Thread(target=lambda n=n: found.append(started(school, settings, n))) for n in (1, 2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    with school.reading() as session:
        assert sorted(row.seed for row in rows.seeds(session, the_class(session).id)) == [0, 1]
        assert len(set(found)) == 2


def test_the_study_is_fixed_once_a_seed_has_started(school: Database, settings: Settings) -> None:
    with school.transaction() as session:
        row = the_class(session)
        other = add_study(session, three_arms().model_copy(update={"name": "Another"}), hours_ago=1)[0].study_id
        class_studies.choose(session, row.id, ClassStudy(study_id=other, planned_seeds=2))
        assert pooled_name(session, row.id) == "Another"
    with school.transaction() as session, pytest.raises(Invalid, match="searches hyperparameters"):
        tuned = add_tuned_study(session, finals=False)
        class_studies.choose(session, row.id, ClassStudy(study_id=tuned, planned_seeds=2))
    with school.transaction() as session, pytest.raises(Invalid, match="One study is needed"):
        class_studies.choose(session, row.id, ClassStudy(planned_seeds=2))
    with school.reading() as session, pytest.raises(Conflict, match="not in this class"):
        class_studies.start(school, SilentBell(), settings, session, row.code, "user 9", lambda *_: 0)
    started(school, settings, 1)
    with school.transaction() as session, pytest.raises(Conflict, match="is fixed"):
        class_studies.choose(session, row.id, ClassStudy(study_id=other, planned_seeds=5))


def pooled_name(session: Session, class_id: int) -> str:
    found = class_pool.pool(session, class_id)
    assert found
    return found.spec.name


def test_replaced_data_is_refused(school: Database, settings: Settings) -> None:
    with school.transaction() as session:
        study = rows.study(session, the_class(session).id)
        assert study
        study.dataset_id += 1
    with pytest.raises(Conflict, match="has been replaced"):
        started(school, settings, 1)
    with school.reading() as session:
        assert session.query(LabClassSeedRow).count() == 0


@pytest.mark.slow
def test_a_class_runs_a_study_by_its_pages(tmp_path: Path, filled_file: Path) -> None:
    (tmp_path / "vezna.sqlite").write_bytes(filled_file.read_bytes())
    installation = Installation(Settings(home=tmp_path, login="required"))
    member, viewer, admin = (installation.browser(role) for role in (Role.MEMBER, Role.VIEWER, Role.ADMIN))
    with installation.database.transaction() as session:
        still_alive(session)
    address = member.post("/lab/classes", data={"name": "Together"}).headers["location"]
    page = member.get(address).text
    link = re.search(r"/lab/join/[\w-]+", page)
    assert link and 'value="plan:full-or-lora"' in page
    assert member.post(f"{address}/study", data={"study": "1", "planned_seeds": "1"}).status_code == 422
    assert member.post(f"{address}/study", data={"study": "1", "planned_seeds": "2"}).status_code == 303
    assert "0 of 2 seeds are complete" in member.get(address).text
    seed = address.rpartition("/")[0] + f"/{link[0].rpartition('/')[2]}/seed"
    for browser in (member, viewer, admin):
        browser.post(link[0])
    assert viewer.post(seed).status_code == 403 and "Your role may read only" in viewer.get(link[0]).text
    assert "Start your seed, 3 runs" in member.get(link[0]).text
    own = [browser.post(seed).headers["location"] for browser in (member, admin)]
    assert member.post(seed).status_code == 409
    assert "Your seed is number 0." in member.get(link[0]).text
    for place, study in enumerate(own):
        ended(installation.database, int(study.rpartition("/")[2]), place)
    page = viewer.get(link[0]).text
    assert "2 seeds are complete. The verdict and its interval appear once" in page
    assert "The first interval comes with the verdict." in page and "with 2 seeds" not in page
    assert viewer.get(f"{link[0]}/charts/pool.csv").text.count("\n") == 1, "the names of the columns alone"
    with installation.database.transaction() as session:
        assert class_pool.take_verdicts(session) == 1
    page = viewer.get(link[0]).text
    assert "The verdict of the first 2 complete seeds." in page and "with 2 seeds" in page
    number = address.rpartition("/")[2]
    pool = installation.program(Role.MEMBER).get(f"/api/v1/classes/{number}").json()["pool"]
    assert (pool["complete"], len(pool["intervals"]), len(pool["verdicts"])) == (2, 2, 2)
    assert pool["verdict_seeds"] == [0, 1] and min(one["confidence"] for one in pool["intervals"]) >= 0.95
    chart = f"{link[0]}/charts/pool.csv"
    assert "difference" in viewer.get(chart).text
    viewer.post(f"{link[0]}/leave")
    refused = viewer.get(chart)
    assert refused.status_code == 403 and "You are not in this class" in refused.text
    assert "difference" in member.get(chart).text
    hidden = f"/api/v1/ownership/studies/{own[1].rpartition('/')[2]}"
    assert admin.patch(hidden, json={"visibility": "private"}).status_code in (200, 204), "made private"
    pool = installation.program(Role.MEMBER).get(f"/api/v1/classes/{number}").json()["pool"]
    assert (pool["complete"], pool["withdrawn"], pool["verdicts"]) == (1, 1, None)
    assert (pool["interim_looks"], pool["confidence"]) == (1, pytest.approx(0.99))
    assert "The verdict was taken back" in member.get(address).text
    installation.database.dispose()
