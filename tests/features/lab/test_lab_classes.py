"""Classes of the Lab: who joins, who teaches, and what a teacher sees of learners."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from sqlalchemy.orm import Session

from app.domain.accounts.audit import AuditFilter
from app.domain.accounts.ownership import Viewer
from app.domain.accounts.policy import Role
from app.domain.accounts.users import NewUser
from app.domain.errors import Conflict, Invalid, NotFound
from app.features.lab.pages.learner import COOKIE
from app.features.lab.queries import classes as rows
from app.features.lab.rules.classes import Joining
from app.features.lab.rules.questions import Topic
from app.features.lab.services import classes, lessons
from app.features.lab.services import learner as lab
from app.main import create_app
from app.services.users import audit, users
from app.settings import Settings
from app.store.database import migrate
from app.store.database.session import Database
from tests.support.rows.accounts import Installation, installed, with_form_token

WRONG, OTHER = "a-a-study", "test-or-validation"


@pytest.fixture
def session(database: Database) -> Iterator[Session]:
    with database.transaction() as writing:
        yield writing


@pytest.fixture(scope="module")
def installation(tmp_path_factory: pytest.TempPathFactory, migrated_file: Path) -> Iterator[Installation]:
    with installed(tmp_path_factory.mktemp("classes"), migrated_file) as found:
        yield found


def joined(session: Session, code: str, number: int, *, progress: bool = False, answers: bool = False) -> str:
    """A learner who has joined."""
    learner = f"user {number}"
    joining = Joining(name=f"Learner {number}", shares_progress=progress, shares_answers=answers)
    classes.join(session, code, learner, joining)
    return learner


def wrong_place(question: str) -> str:
    """A choice that is not right."""
    asked = lab.question(question)
    return next(str(place) for place in range(4) if place not in asked.right())  # type: ignore[union-attr]


def test_a_teacher_sees_what_each_learner_shares_and_no_more(session: Session) -> None:
    row = classes.create(session, "PEFT, autumn")
    open_one = joined(session, row.code, 1, progress=True)
    closed_one = joined(session, row.code, 2, answers=True)
    for learner in (open_one, closed_one):
        right = [str(place) for place in lab.question(WRONG).right()]  # type: ignore[union-attr]
        lessons.answer(session, learner, Topic.VALIDATION, WRONG, right, None)
        lab.give(session, learner, WRONG, [wrong_place(WRONG)], None)
        lab.give(session, learner, OTHER, [str(min(lab.question(OTHER).right()))], None)  # type: ignore[union-attr]
    shown, hidden = classes.report(session, row.id).learners
    assert (shown.shares, shown.steps, shown.pitfalls, shown.answered, shown.right) == (True, 0, 1, 2, 1)
    assert (hidden.name, hidden.shares, hidden.finished, hidden.answered) == ("Learner 2", False, frozenset(), 0)
    classes.leave(session, row.code, open_one)
    assert [one.name for one in classes.report(session, row.id).learners] == ["Learner 2"]


def test_wrong_answers_are_counted_once_five_learners_have_answered(session: Session) -> None:
    row = classes.create(session, "PEFT")
    right = [str(place) for place in lab.question(WRONG).right()]  # type: ignore[union-attr]
    for number in range(1, 7):
        learner = joined(session, row.code, number, answers=number < 6)
        for _again in range(2):
            lab.give(session, learner, WRONG, right if number == 2 else [wrong_place(WRONG)], None)
        if number < 5:
            lab.give(session, learner, OTHER, [wrong_place(OTHER)], None)
        if number == 4:
            assert classes.report(session, row.id).wrong == ()
    report = classes.report(session, row.id)
    assert report.sharing_answers == 5
    found = [(wrong.question.id, wrong.learners, wrong.answering) for wrong in report.wrong]
    assert found == [(WRONG, 4, 5)]  # four have answered the other question, of whom each would be one of four
    assert report.wrong[0].given == (wrong_place(WRONG),)
    lab.give(session, "user 6", OTHER, [wrong_place(OTHER)], None)  # who does not share
    assert len(classes.report(session, row.id).wrong) == 1


def test_names_differ_and_joining_again_changes_what_is_shared(session: Session) -> None:
    row = classes.create(session, "PEFT")
    learner = joined(session, row.code, 1, progress=True)
    with pytest.raises(Invalid, match="already has a learner"):
        classes.join(session, row.code, "user 2", Joining(name="learner 1"))
    joined(session, row.code, 1)
    member = rows.member(session, row.id, learner)
    assert member and not member.shares_progress and len(rows.members(session, row.id)) == 1
    with pytest.raises(NotFound, match="leads to no class"):
        joined(session, "no such code", 1)


def test_a_full_class_takes_no_more(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(classes, "MOST_MEMBERS", 1)
    row = classes.create(session, "PEFT")
    joined(session, row.code, 1)
    joined(session, row.code, 1, progress=True)
    with pytest.raises(Conflict, match="maximum"):
        joined(session, row.code, 2)


def test_only_the_teacher_and_admins_see_a_class(installation: Installation) -> None:
    member, viewer, admin = (installation.browser(role) for role in (Role.MEMBER, Role.VIEWER, Role.ADMIN))
    assert viewer.post("/lab/classes", data={"name": "Mine"}).status_code == 403
    assert member.post("/lab/classes", data={"name": " "}).status_code == 422
    made = member.post("/lab/classes", data={"name": "Adapters"})
    address = made.headers["location"]
    page = member.get(address).text
    link = re.search(r"/lab/join/[\w-]+", page)
    assert link and "No learner has joined yet" in page
    assert (viewer.get(address).status_code, admin.get(address).status_code) == (404, 200)
    assert "Classes you teach" in member.get("/lab/classes").text
    seen = admin.get("/lab/classes").text
    assert "Classes of other teachers" in seen and "Classes you teach" not in seen and address in seen
    with installation.database.transaction() as session:
        other = users.create(session, NewUser(email="second@example.org", role=Role.MEMBER)).id
    class_id = int(address.rpartition("/")[2])
    with installation.database.seen_by(Viewer(other)).transaction() as session:
        assert classes.of_teacher(session) == []
        for act in (classes.report, classes.delete):
            with pytest.raises(NotFound, match="no class"):
                act(session, class_id)
    assert "member@example.org invites you" in viewer.get(link[0]).text
    assert viewer.post(link[0], data={"shares_progress": "true"}).status_code == 303
    assert "viewer@example.org" in member.get(address).text
    assert "You are in this class as viewer@example.org" in viewer.get(link[0]).text
    assert "Adapters" in viewer.get("/lab/classes").text and address not in viewer.get("/lab/classes").text
    assert viewer.post(f"{link[0]}/leave").status_code == 303
    assert "viewer@example.org" not in member.get(address).text
    assert viewer.get("/lab/join/unknown").status_code == 404
    assert member.post(f"{address}/delete").status_code == 303
    assert (member.get(address).status_code, viewer.get(link[0]).status_code) == (404, 404)
    recorded = [entry.action for entry in audit.entries(installation.database, AuditFilter(action="class"), 0)]
    assert recorded == ["class.create", "class.join", "class.leave", "class.delete"]


def test_the_numbers_over_rest(installation: Installation) -> None:
    program, viewer = installation.program(Role.MEMBER), installation.browser(Role.VIEWER)
    made = program.post("/api/v1/classes", json={"name": "REST"}).json()
    assert program.post("/api/v1/classes", json={"name": ""}).status_code == 422
    viewer.post(f"/lab/join/{made['code']}")
    [listed] = program.get("/api/v1/classes").json()
    assert (listed["name"], listed["learners"]) == ("REST", 1)
    report = program.get(f"/api/v1/classes/{made['id']}").json()
    [learner] = report["learners"]
    assert learner == {
        **{"name": "viewer@example.org", "shares_progress": False},
        **dict.fromkeys(("steps", "pitfalls", "answered", "right")),
    }
    assert (report["sharing_answers"], report["wrong_answers"]) == (0, None)
    assert viewer.get("/api/v1/classes").json() == []
    assert viewer.get(f"/api/v1/classes/{made['id']}").status_code == 404
    assert program.delete(f"/api/v1/classes/{made['id']}").status_code == 204
    assert program.get(f"/api/v1/classes/{made['id']}").status_code == 404


def test_without_accounts_learners_have_names_in_their_browsers(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    migrate.upgrade(Database(settings.database))
    app = create_app(settings)

    def browser() -> TestClient:
        return with_form_token(TestClient(app, base_url="http://127.0.0.1", follow_redirects=False))

    teacher, ana, boris = browser(), browser(), browser()
    address = teacher.post("/lab/classes", data={"name": "Evening class"}).headers["location"]
    link = re.search(r"/lab/join/[\w-]+", teacher.get(address).text)
    assert link
    assert ana.post(link[0], data={"name": ""}).status_code == 422 and COOKIE not in ana.cookies
    assert ana.post(link[0], data={"name": "Ana", "shares_progress": "true"}).status_code == 303
    question = lessons.library()[Topic.VALIDATION].question
    ana.post("/lab/pitfalls/validation", data={"choice": "1"})
    assert boris.post(link[0], data={"name": "ana"}).status_code == 422
    boris.post(link[0], data={"name": "Boris", "shares_progress": "true"})
    report = teacher.get(f"/api/v1/classes/{address.rpartition('/')[2]}").json()
    assert [(one["name"], one["answered"]) for one in report["learners"]] == [("Ana", 1), ("Boris", 0)]
    with app.state.database.reading() as session:
        keys = {one.name: one.learner for one in rows.members(session, report["id"])}
        assert not rows.last_answers(session, [""]) and rows.last_answers(session, [keys["Ana"]])[0][1] == question
    assert "Continue as Ana" in boris.get(link[0]).text
    assert boris.post(f"{link[0]}/switch", data={"learner": "guest nobody"}).status_code == 404
    boris.post(f"{link[0]}/switch", data={"learner": keys["Ana"]})
    assert "You are in this class as Ana" in boris.get(link[0]).text
    boris.post(f"{link[0]}/switch", data={"learner": ""})
    assert "Join the class" in boris.get(link[0]).text
    assert "Evening class" in ana.get("/lab/classes").text
    app.state.database.dispose()
