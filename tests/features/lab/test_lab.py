"""The Lab: answers, reviews that come back, the plan of the course, languages, and the files for other programs."""

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from babel.messages.pofile import read_po
from icalendar import Calendar
from sqlalchemy.orm import Session

from app.domain.accounts.ownership import Viewer
from app.domain.accounts.policy import Role
from app.domain.errors import Invalid
from app.features.lab.pages import files
from app.features.lab.pages.context import question_page
from app.features.lab.queries import learner as rows
from app.features.lab.rules.questions import Need, OpenQuestion, Topic
from app.features.lab.rules.review import NEW_PER_DAY, Rating
from app.features.lab.services import learner as lab
from app.features.lab.services import lessons
from app.settings import ROOT
from app.store.database.ownership import VIEWER
from app.store.database.session import Database
from app.store.tables import now
from app.web.shell import PLACES
from app.words.i18n import LOCALES, gettext, speak
from tests.support.filled.filled import fill
from tests.support.rows.accounts import Installation, installed

NOON = datetime(2026, 12, 1, 12, tzinfo=UTC)
LEARNER = "user 7"


@pytest.fixture
def session(database: Database) -> Iterator[Session]:
    with database.transaction() as writing:
        yield writing


@pytest.fixture(scope="module")
def installation(tmp_path_factory: pytest.TempPathFactory, migrated_file: Path) -> Iterator[Installation]:
    with installed(tmp_path_factory.mktemp("lab"), migrated_file) as found:
        yield found


def answered(session: Session, question_id: str, rating: Rating, at: datetime, learner: str = LEARNER) -> None:
    given = lab.give(session, learner, question_id, ["0"], 1.0)
    given.answered_at = at
    lab.rate(session, learner, given.id, rating, at)


def test_a_question_comes_back_when_it_is_due_and_not_before(session: Session) -> None:
    answered(session, "attention", Rating.EASY, NOON)
    due = rows.cards(session, LEARNER)["attention"].due_at
    assert due - NOON >= timedelta(days=1)
    for at, comes in ((due - timedelta(seconds=1), False), (due, True)):
        assert ("attention" in [found.id for found in lab.queue(session, LEARNER, at).due]) is comes
    assert "attention" not in [found.id for found in lab.queue(session, LEARNER, due).new]
    before = rows.cards(session, LEARNER)["attention"].due_at - NOON
    answered(session, "attention", Rating.GOOD, due)
    card = rows.cards(session, LEARNER)["attention"]
    assert (card.reviews, card.due_at - due > before) == (2, True)


def test_the_plan_of_the_course_starts_with_the_first_answer(session: Session) -> None:
    assert [item.due_at for item in lab.queue(session, LEARNER, NOON).plan] == [None] * 4
    answered(session, "attention", Rating.EASY, NOON)
    for days, planned in ((0, []), (1, ["review-1"]), (3, ["review-1", "review-2"])):
        due = [found.id for found in lab.queue(session, LEARNER, NOON + timedelta(days=days)).due]
        assert [name for name in due if name.startswith("review-")] == planned
    answered(session, "review-1", Rating.GOOD, NOON + timedelta(days=1))
    after = lab.queue(session, LEARNER, NOON + timedelta(days=1))
    assert [item.done for item in after.plan] == [True, False, False, False]
    assert "review-1" not in [found.id for found in after.due]


def test_new_questions_are_limited_by_day_and_those_of_the_plan_are_not(session: Session) -> None:
    first = lab.queue(session, LEARNER, NOON).new
    assert [found.id for found in first[:3]] == ["before-1", "before-2", "before-3"]
    assert [found.course for found in first[3:]] == list(range(1, 8))
    assert len(first) == NEW_PER_DAY
    for found in first[:4]:
        answered(session, found.id, Rating.EASY, NOON)
    assert len(lab.queue(session, LEARNER, NOON).new) == NEW_PER_DAY - 4
    answered(session, "review-1", Rating.EASY, NOON)
    assert len(lab.queue(session, LEARNER, NOON).new) == NEW_PER_DAY - 4
    assert len(lab.queue(session, LEARNER, NOON + timedelta(days=1)).new) == NEW_PER_DAY
    assert len(lab.queue(session, "user 8", NOON).new) == NEW_PER_DAY


def test_a_second_rating_of_an_answer_changes_nothing(session: Session) -> None:
    given = lab.give(session, LEARNER, "attention", ["0"], None)
    lab.rate(session, LEARNER, given.id, Rating.EASY, NOON)
    due = rows.cards(session, LEARNER)["attention"].due_at
    lab.rate(session, LEARNER, given.id, Rating.AGAIN, NOON)
    assert (given.rating, rows.cards(session, LEARNER)["attention"].due_at) == (Rating.EASY, due)


def test_a_wrong_answer_can_only_come_again(session: Session) -> None:
    wrong = lab.give(session, LEARNER, "attention", ["1"], None)
    assert wrong.right is False
    shown = question_page(session, LEARNER, "attention", wrong.id)
    assert [rating for rating, _time in shown.ratings] == [Rating.AGAIN]
    for rating in (Rating.HARD, Rating.GOOD, Rating.EASY):
        with pytest.raises(Invalid, match="The answer was not right"):
            lab.rate(session, LEARNER, wrong.id, rating, NOON)
    lab.rate(session, LEARNER, wrong.id, Rating.AGAIN, NOON)
    assert wrong.rating == Rating.AGAIN
    topic = Topic.RANK
    lessons.answer(session, LEARNER, topic, lessons.library()[topic].question, ["3"], None)
    assert topic not in lessons.finished(session, LEARNER)


def test_what_a_learner_knew_before_is_compared_at_the_end_and_asked_once(installation: Installation) -> None:
    learner = installation.browser(Role.VIEWER)
    question = lab.question("before-3")
    assert isinstance(question, OpenQuestion)
    sent = learner.post("/lab/questions/before-3", data={"answer": "Rent one."})
    page = learner.get(sent.headers["location"]).text
    assert "Your answer is kept" in page and "Next question" in page
    assert question.model.en not in page and "How well did you remember it?" not in page
    assert question.model.en in learner.get("/lab/recap").text
    with installation.database.reading() as reading:
        name = f"user {installation.ids[Role.VIEWER]}"
        for days in (0, 400):
            queue = lab.queue(reading, name, now() + timedelta(days=days))
            assert "before-3" not in [known.id for known in queue.questions]


@pytest.mark.slow
def test_questions_about_own_runs_are_asked_where_runs_fit(session: Session) -> None:
    assert [lab.facts(session, need) for need in Need] == [None] * 3
    fill(session)
    trainable, memory, difference = (lab.facts(session, need) for need in Need)
    assert trainable and memory and difference
    assert trainable.answer == pytest.approx(100 * trainable.values["trainable"] / trainable.values["total"])
    assert memory.answer == pytest.approx(100 * memory.values["lora"] / memory.values["full"])
    choices = {choice.when for choice in lab.question("own-difference").choices}
    assert difference.answer in choices == {"enough", "better", "worse", "undecided"}
    answer = lab.give(session, LEARNER, "own-memory", [str(memory.answer)], float(memory.answer))
    assert (answer.right, answer.facts_json["values"]) == (True, dict(memory.values))


def test_a_learners_own_runs_and_studies_come_before_newer_ones_of_others(database: Database) -> None:
    with database.transaction() as session:
        fill(session)
        first, *_between, last = sorted(rows.newest_studies(session, 100), key=lambda study: study.id)
        oldest, *_between, newest = sorted(rows.newest_runs(session, 1000), key=lambda run: run.id)
        for row, owner in ((first, 7), (last, 8), (oldest, 7), (newest, 8)):
            row.owner_id = owner
        found = [(first.id, oldest.id), (last.id, newest.id)]
        for user, (study, run) in zip((7, 8, 9), (*found, found[1]), strict=True):
            session.info[VIEWER] = Viewer(user)
            studies, runs = rows.newest_studies(session, 100), rows.newest_runs(session, 1000)
            assert (studies[0].id, runs[0].id) == (study, run)


def test_files_for_anki_and_calendars_can_be_read(session: Session) -> None:
    lines = [line for line in files.anki("en").splitlines() if not line.startswith("#")]
    assert len(lines) == len([found for found in lab.library().values() if not found.needs])
    assert {line.count("\t") for line in lines} == {2}
    answered(session, "attention", Rating.EASY, NOON)
    events = Calendar.from_ical(files.calendar(lab.queue(session, LEARNER, NOON), NOON)).walk("VEVENT")
    assert len(events) >= 4 and events[0].decoded("dtstart") > NOON.date()
    assert len({str(event["uid"]) for event in events}) == len(events)


def test_a_learner_answers_rates_and_goes_on(installation: Installation) -> None:
    member, viewer = installation.browser(Role.MEMBER), installation.browser(Role.VIEWER)
    begun = viewer.get("/lab/review")
    assert (begun.status_code, begun.headers["location"]) == (303, "/lab/questions/before-1")
    shown = viewer.post("/lab/questions/quiz-4", data={"choice": "0"})
    assert shown.status_code == 303
    result = viewer.get(shown.headers["location"]).text
    assert "That is right" in result and "r is the number of rows of A" in result
    [answer_id] = re.findall(r"answer=(\d+)", shown.headers["location"])
    rating = f"/lab/answers/{answer_id}/rating"
    assert member.get(f"/lab/questions/quiz-4?answer={answer_id}").status_code == 404
    assert member.post(rating, data={"rating": "3"}).status_code == 404
    assert viewer.post(rating, data={"rating": "9"}).status_code == 422
    assert viewer.post(rating, data={"rating": "3"}).headers["location"] == "/lab/review"
    with installation.database.reading() as reading:
        assert list(rows.cards(reading, f"user {installation.ids[Role.VIEWER]}")) == ["quiz-4"]
    assert installation.anonymous().get("/lab").status_code == 303


def test_the_recap_shows_what_a_learner_wrote_before_and_what_is_done(installation: Installation) -> None:
    learner, other = installation.browser(Role.ADMIN), installation.browser(Role.MEMBER)
    for words in ("At first.", "Later."):
        assert learner.post("/lab/questions/before-1", data={"answer": words}).status_code == 303
    learner.post("/lab/questions/before-2", data={"answer": ""})
    with installation.database.transaction() as writing:
        name = f"user {installation.ids[Role.ADMIN]}"
        lessons.answer(writing, name, Topic.RANK, lessons.library()[Topic.RANK].question, ["0"], None)
    page = learner.get("/lab/recap").text
    assert "At first." in page and "Later." not in page and "You answered in your head." in page
    assert re.findall(r'href="/lab/questions/(before-\d)"', page) == ["before-3"]
    assert len(lessons.recap()) == 7 and {*lessons.STEPS, *lessons.PITFALLS} == {
        topic for line in lessons.recap() for topic in line.topics
    }
    blank = other.get("/lab/recap").text
    assert page.count('href="/lab/pitfalls/rank"') == page.count("s-succeeded") - blank.count("s-succeeded") == 2
    assert "2 of 3 questions answered" in learner.get("/lab").text
    assert "At first." not in blank


@pytest.mark.parametrize(
    ("question", "form", "status", "says"),
    [
        ("attention", {}, 422, "Nothing is chosen"),
        ("scale", {"answer": "many"}, 422, "Must be a number"),
        ("scale", {"answer": ""}, 422, "The number is missing"),
        ("block-order", {"rank-0": "1", "rank-1": "1"}, 422, "The order is incomplete"),
        ("own-memory", {"answer": "40"}, 409, "there is none that fits"),
        ("nothing", {"answer": "40"}, 404, "There is no question nothing"),
    ],
)
def test_an_answer_that_is_none_is_refused(
    installation: Installation, question: str, form: dict[str, str], status: int, says: str
) -> None:
    answer = installation.browser(Role.VIEWER).post(f"/lab/questions/{question}", data=form)
    assert (answer.status_code, says in answer.text) == (status, True)


def test_every_sentence_of_the_lab_is_translated() -> None:
    with (LOCALES / "bg" / "LC_MESSAGES" / "messages.po").open("rb") as file:
        known = {message.id[0] if isinstance(message.id, tuple) else message.id for message in read_po(file)}
    sources = [*(ROOT / "templates" / "features" / "lab").rglob("*.html"), ROOT / "app/features/lab/words.py"]
    used = {
        text
        for source in sources
        for text in re.findall(r'(?:\b_|marked|ngettext)\(\s*"([^"]+)"', source.read_text(encoding="utf-8"))
    }
    used |= {place.name for place in PLACES}
    assert len(used) > 40 and used - known == set()
    speak("bg")
    try:
        assert gettext("Next question") == "Следващ въпрос"
    finally:
        speak("en")
