"""Judges that reply badly, and what happens to a judgement meanwhile: nothing leaks, hangs or is written twice."""

import json
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from threading import Barrier, BrokenBarrierError, Event
from typing import Any

import pytest

from app.domain.errors import NotFound
from app.features.judging.queries.judgements import known
from app.features.judging.services.judgements import JUDGEMENTS
from app.features.judging.tables import JudgementRow
from app.services.ownership import deletion
from app.settings import Settings
from app.store.database.session import Database
from app.store.files.files import Files
from app.store.tables import RunRow
from tests.support.fakes.fakes import SilentBell
from tests.support.servers.judged_site import KEY, NO_PAUSE, Site, judged_site
from worker.asking import answers
from worker.features.judging import node
from worker.features.judging.node import JudgeQueue

REFUSAL = json.dumps({"error": {"message": "blocked by a filter"}}).encode()


@pytest.fixture
def site(database: Database, settings: Settings, files: Files, bell: SilentBell, tmp_path: Path) -> Iterator[Site]:
    with judged_site(database, settings, files, bell, tmp_path) as found:
        yield found


def refuse_one_item(asked: dict[str, Any]) -> tuple[int, bytes, dict[str, str]] | None:
    return (400, REFUSAL, {}) if "headline 9 of" in asked["messages"][0]["content"] else None


@pytest.mark.slow
@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_a_later_judgement_of_which_the_server_refuses_all_that_is_left_succeeds(site: Site) -> None:
    site.stub.raw = refuse_one_item
    first = site.run().result
    again = site.run()
    assert (again.status, again.message) == ("succeeded", "")
    assert first is not None and again.result is not None
    assert again.result.asked == again.result.unscored == first.unscored > 0
    assert again.result.runs == first.runs


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_a_judgement_without_any_score_fails_however_few_answers_there_are(site: Site) -> None:
    site.judge.of = lambda _quality, _item: "Good!"
    message = site.failure(items=2)
    assert "no score" in message and "Good!" in message and "larger model" in message


@pytest.mark.slow
@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_an_empty_reply_is_named_as_such(site: Site) -> None:
    site.judge.of = lambda _quality, _item: "  "
    assert "(empty)" in site.failure()
    site.judge.of = lambda quality, item: "" if item == 7 else str(quality)
    found = site.run().result
    assert found is not None and {one.said for one in found.examples} == {"(empty)"}


@pytest.mark.slow
@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_a_reply_without_content_has_no_score(site: Site) -> None:
    """A server that keeps reasoning apart sends null if it used up max_tokens before the answer."""
    empty = json.dumps({"choices": [{"message": {"role": "assistant", "content": None}}]}).encode()
    site.stub.raw = lambda asked: (200, empty, {}) if "headline 9 of" in asked["messages"][0]["content"] else None
    found = site.run().result
    assert found is not None and {(one.item, one.said) for one in found.examples} == {("item-9", "(empty)")}
    site.stub.raw = lambda _asked: (200, json.dumps({"choices": [{"message": {"role": "assistant"}}]}).encode(), {})
    assert "it has no text at choices[0].message.content" in site.failure(rubric="Another.")


@pytest.mark.slow
@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_what_a_judge_writes_cannot_steer_a_terminal_and_never_shows_the_key(site: Site) -> None:
    site.stub.key = KEY
    long = "x" * (node.MOST_SAID - 5)
    site.judge.of = lambda quality, item: (
        f"\x1b[31mred\u202e\r\n{KEY}" if item == 7 else f"{long}{KEY}" if item == 8 else str(quality)
    )
    found = site.run(api_key=KEY).result
    assert found is not None
    said = {one.item: one.said for one in found.examples}
    assert said["item-7"] == "[31mred ***" and said["item-8"] == f"{long}***"
    site.judge.of = lambda _quality, _item: f"Bearer {KEY}"
    message = site.failure(api_key=KEY, rubric="Another.")
    assert "***" in message and KEY not in message


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_a_judgement_shows_signs_of_life_while_it_reads_the_runs_files(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    judgement_id = site.submit()
    read, files = node.rows, []

    def cancelled(file: Path, most: int) -> list[Any]:
        files.append(file)
        with site.worker.database.transaction() as session:
            JUDGEMENTS.cancel(session, judgement_id)
        return read(file, most)

    monkeypatch.setattr(node, "rows", cancelled)
    node.judge(site.worker, judgement_id, NO_PAUSE)
    assert site.row(judgement_id).status == "cancelled" and len(files) == 1 and site.stub.seen == []


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_answers_that_are_too_long_together_are_refused_before_anything_is_sent(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(node, "MOST_BYTES", 20_000)
    assert "Judge fewer items" in site.failure()
    assert site.stub.seen == []
    monkeypatch.setattr(node, "MOST_BYTES", 2_000)
    assert "Judge fewer items" in site.failure()


@pytest.mark.slow
def test_a_study_that_is_deleted_meanwhile_takes_no_judgement(site: Site) -> None:
    database = site.worker.database
    with database.transaction() as session:
        for run in session.query(RunRow).filter(RunRow.status.in_(("queued", "running"))):
            run.status = "cancelled"
    deleted, checked = Event(), Event()

    def delete() -> None:
        with database.transaction() as session:
            deletion.delete_study(session, site.worker.files, site.study)
            session.flush()
            deleted.set()
            checked.wait(1)

    with ThreadPoolExecutor(2) as pool:
        deleting = pool.submit(delete)
        assert deleted.wait(10)
        with pytest.raises(NotFound):
            pool.submit(site.submit).result(30)
        deleting.result(30)
    with database.reading() as session:
        assert session.query(JudgementRow).count() == 0


def test_a_study_that_is_deleted_while_a_judge_replies_ends_the_judgement(site: Site) -> None:
    database = site.worker.database
    with database.transaction() as session:
        for run in session.query(RunRow).filter(RunRow.status.in_(("queued", "running"))):
            run.status = "cancelled"
    judgement_id = site.submit(api_key=KEY)

    def delete() -> None:
        with database.transaction() as session:
            deletion.delete_study(session, site.worker.files, site.study)

    site.after(20, delete)
    node.judge(site.worker, judgement_id, NO_PAUSE)
    with database.reading() as session, pytest.raises(NotFound):
        JUDGEMENTS.get(session, judgement_id)


@pytest.mark.slow
@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_two_workers_at_once_judge_once(site: Site) -> None:
    judgement_id = site.submit()
    other = replace(site.worker, of_features={})
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda worker: node.judge(worker, judgement_id, NO_PAUSE), (site.worker, other)))
    done = site.row(judgement_id)
    assert done.status == "succeeded" and (done.epoch, done.attempts) == (1, 1)
    assert done.result is not None and len(site.stub.seen) == done.result.answers


def break_off(site: Site, after: int) -> None:
    """Have the judge's server fail once it has got so many requests."""
    site.stub.raw = lambda _request: (200, b"x" * (1 << 20), {}) if len(site.stub.seen) > after else None


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_a_server_that_fails_before_any_score_is_named_with_what_it_wrote(site: Site) -> None:
    site.judge.of = lambda _quality, _item: "I like it."
    break_off(site, 5)
    message = site.failure()
    assert "longer than" in message and "no score (replies: " in message
    assert message.endswith("The last reply: I like it.")


@pytest.mark.slow
@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_a_resumed_judgement_knows_that_the_server_has_answered(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(node, "FIRST", 1000)
    site.judge.of = lambda _quality, _item: "I like it."
    judgement_id = site.submit()

    def stored() -> int:
        with site.worker.database.reading() as session:
            return len(known(session, site.study, judgement_id))

    def stop() -> None:
        deadline = time.monotonic() + 30
        while not stored() and time.monotonic() < deadline:
            time.sleep(0.01)
        site.worker.one(JudgeQueue).stop()

    site.after(3, stop)
    node.judge(site.worker, judgement_id, NO_PAUSE)
    for left in (thread for thread in threading.enumerate() if thread.name == "parity"):
        left.join(30)
    before = stored()
    assert site.row(judgement_id).status == "queued" and before > 0
    site.judge.of = lambda quality, _item: str(quality)
    refusals = iter([(400, REFUSAL, {})])
    site.stub.raw = lambda _request: next(refusals, None)
    node.judge(replace(site.worker, of_features={}), judgement_id, NO_PAUSE)
    done = site.row(judgement_id)
    assert (done.status, done.message) == ("succeeded", "")
    assert done.result is not None and done.result.unscored == before + 1


@pytest.mark.slow
@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_a_server_that_fails_later_is_named_and_its_scores_are_kept(site: Site) -> None:
    break_off(site, 20)
    message = site.failure()
    assert "longer than" in message and "its scores are kept" in message
    site.stub.raw = lambda _request: None
    found = site.run().result
    assert found is not None and found.unscored == 0 and found.asked < found.answers - 10
    site.stub.raw = lambda _request: (200, b"x" * (1 << 20), {})
    assert "are kept" not in site.failure(rubric="Another.")


@pytest.mark.parametrize(("seconds", "most"), [(300.0, 2), (0.0, 1)])
@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_a_server_that_needs_long_for_the_first_answer_gets_one_request_at_a_time(
    site: Site, monkeypatch: pytest.MonkeyPatch, seconds: float, most: int
) -> None:
    monkeypatch.setattr(answers, "SECONDS", seconds)
    together = Barrier(2)

    def meet(_request: dict[str, Any]) -> None:
        if len(site.stub.seen) > 1 and not met:
            try:
                together.wait(0.3)
                met.append(2)
            except BrokenBarrierError:
                met.append(1)

    met: list[int] = []
    site.stub.raw = meet
    site.run(items=5)
    assert max(met) == most
