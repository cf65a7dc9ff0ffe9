"""Judgements by a judge model on this machine, from the request to the arms' verdicts, on SQLite and on PostgreSQL."""

import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import typer
from fastapi.testclient import TestClient

from app.broker.queue import JUDGE
from app.domain.accounts.ownership import Viewer, Visibility
from app.domain.comparison.statistics.preference import Preferred
from app.domain.comparison.statistics.verdict import VerdictKind
from app.domain.errors import Conflict, Invalid, NotFound
from app.features.judging import commands as judge_cli
from app.features.judging.rules import RUBRIC, key_of
from app.features.judging.services import judgements
from app.features.judging.services.judgements import JUDGEMENTS
from app.features.judging.tables import JudgementRow, JudgeScoreRow
from app.main import create_app
from app.services.ownership import deletion, stored_secrets
from app.services.ownership.vault import Vault
from app.settings import Settings
from app.store.database.session import Database
from app.store.files.files import Files
from app.store.tables import RunRow, StudyRow, UserRow
from app.words.format import points
from tests.support.fakes.fakes import SilentBell, WorkingBell
from tests.support.filled.filled import add_study
from tests.support.filled.language import studies
from tests.support.servers.forms import form_headers
from tests.support.servers.judged_site import ARMS, KEY, NO_PAUSE, N, Site, answer_of, judged_site, quality
from tests.support.servers.served import served
from worker.asking import answers
from worker.features.judging import node
from worker.features.judging.node import JudgeQueue


@pytest.fixture
def site(database: Database, settings: Settings, files: Files, bell: SilentBell, tmp_path: Path) -> Iterator[Site]:
    with judged_site(database, settings, files, bell, tmp_path) as found:
        yield found


@pytest.mark.slow
def test_a_good_judge_scores_each_different_answer_once_and_its_scores_are_compared(site: Site) -> None:
    judgement_id = site.submit()
    assert (JUDGE, judgement_id) in site.worker.bell.rung  # type: ignore[attr-defined]
    node.judge(site.worker, judgement_id)
    done = site.row(judgement_id)
    assert (done.status, done.message, done.progress) == ("succeeded", "", 1.0)
    different = {(n, quality(arm, seed, n)) for n in range(N) for arm in (0, 1) for seed in (0, 1)}
    found = done.result
    assert found is not None and (found.answers, found.asked, found.unscored) == (len(different), len(different), 0)
    assert len(site.stub.seen) == len(different)
    path, request = site.stub.seen[0]
    assert path == "/v1/chat/completions" and request["temperature"] == 0
    assert request["messages"][0]["content"].startswith(RUBRIC)
    arms = site.arms(done)
    assert list(arms)[:2] == list(ARMS) and arms["full"].corrected is None
    lora = arms[ARMS[1]]
    assert lora.alone is not None and lora.alone.delta == pytest.approx(-0.1)
    assert lora.seeds == 2 and lora.error is None and lora.left_out == 0
    assert lora.corrected == lora.alone, "without ratings the judge's error is unknown"
    node.judge(site.worker, judgement_id)
    assert site.row(judgement_id).epoch == 1, "a second delivery finds nothing to claim"
    again = site.run()
    assert again.result is not None and (again.result.asked, again.result.answers) == (0, len(different))
    assert len(site.stub.seen) == len(different), "a judgement with the same judge and rubric asks for nothing again"
    assert site.run(rubric="Length alone counts.").result.asked == len(different)  # type: ignore[union-attr]
    with TestClient(create_app(site.worker.settings), base_url="http://127.0.0.1") as client:
        page = client.get(f"/studies/{site.study}").text
        assert "The newest of 3 judgements with a result (models: 1, rubrics: 2)." in page
        judged = client.get(f"/api/v1/studies/{site.study}/comparison").json()["judgements"]
        assert judged == {"number": 3, "models": 1, "rubrics": 2}


@pytest.mark.slow
def test_people_who_agree_leave_the_difference_and_widen_the_interval_a_little(site: Site) -> None:
    done = site.run()
    site.rate(lambda _n: Preferred.FIRST)
    lora = site.lora(done)
    assert lora.error is not None and lora.alone is not None and lora.corrected is not None
    rated = sum(answer_of(0, 0, n) != answer_of(1, 0, n) for n in range(N))
    assert lora.error.agreed == lora.error.rated == rated, "equal answers are not rated"
    assert rated < lora.error.items <= N and lora.error.items > N - 10
    assert lora.error.mean == 0
    assert lora.corrected.delta == pytest.approx(lora.alone.delta)
    assert lora.alone.half_width < lora.corrected.half_width < 2 * lora.alone.half_width


@pytest.mark.slow
@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_a_biased_judge_is_corrected_by_people(site: Site) -> None:
    """It takes the worse answers for the better ones; people prefer the other ones."""
    site.judge.of = lambda quality, _item: str(6 - quality)
    done = site.run()
    alone = site.lora(done)
    assert alone.alone is not None and alone.alone.delta > 0
    site.rate(lambda _n: Preferred.FIRST)
    site.rate(lambda _n: Preferred.FIRST, seed=1)
    lora = site.lora(done)
    assert lora.error is not None and lora.error.mean < 0 and lora.error.agreed < lora.error.rated
    assert lora.corrected is not None and lora.corrected.delta < 0
    assert lora.high - lora.low > alone.high - alone.low


@pytest.mark.slow
@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_replies_that_are_no_score_are_counted_named_and_widen_the_interval(site: Site) -> None:
    site.judge.of = lambda quality, item: "Score: 4 out of 5" if item == 7 else "6" if item == 8 else str(quality)
    done = site.run()
    found = done.result
    assert found is not None and found.unscored == sum(
        len({quality(arm, seed, n) for arm in (0, 1) for seed in (0, 1)}) for n in (7, 8)
    )
    assert {(one.item, one.said) for one in found.examples} == {("item-7", "Score: 4 out of 5"), ("item-8", "6")}
    lora = site.lora(done)
    assert lora.alone is not None and lora.alone.items == N - 2 and lora.left_out == pytest.approx(2 / N)
    share = 2 / N
    assert lora.low == pytest.approx((1 - share) * lora.alone.low - share)
    assert lora.high == pytest.approx((1 - share) * lora.alone.high + share)


@pytest.mark.slow
@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_a_judge_that_gives_no_score_or_no_answer_ends_the_judgement_with_the_reason(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.judge.of = lambda _quality, _item: "I like it."
    message = site.failure()
    assert "no score (replies: 10)" in message and message.endswith("The last reply: I like it.")
    assert len(site.stub.seen) < 20
    site.stub.raw = lambda _request: (200, b"<html>", {})
    assert "not that of an OpenAI-compatible server" in site.failure()
    site.stub.raw = lambda _request: (503, b"{}", {})
    assert "(HTTP 503)" in site.failure()
    site.stub.raw = lambda _request: None
    site.stub.key = KEY
    assert "does not accept the API key" in site.failure(api_key="sk-other")
    assert "knows no model other" in site.failure(model="other", api_key=KEY)
    over = threading.Event()
    site.stub.raw = lambda _request: over.wait(30) and None
    monkeypatch.setattr(answers, "REPORT_SECONDS", 0.05)
    monkeypatch.setattr(node, "MOST_SECONDS", 0.3)
    try:
        assert "The judge replied to 0 answers within" in site.failure()
    finally:
        over.set()


@pytest.mark.slow
@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_an_answer_that_the_server_refuses_has_no_score(site: Site) -> None:
    refusal = json.dumps({"error": {"message": "blocked by a filter"}}).encode()
    site.stub.raw = lambda asked: (400, refusal, {}) if "headline 9 of" in asked["messages"][0]["content"] else None
    found = site.run().result
    assert found is not None and found.unscored > 0
    assert {one.item for one in found.examples} == {"item-9"} and "blocked by a filter" in found.examples[0].said


@pytest.mark.slow
def test_a_resumed_judgement_asks_nothing_twice(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answers, "REPORT_SECONDS", 0.0)
    judgement_id = site.submit()

    site.after(20, site.worker.one(JudgeQueue).stop)
    node.judge(site.worker, judgement_id)
    given_back = site.row(judgement_id)
    assert (given_back.status, given_back.attempts) == ("queued", 0)
    with site.worker.database.reading() as session:
        stored = {row.key for row in session.query(JudgeScoreRow)}
    assert 0 < len(stored) <= 24
    before = len(site.stub.seen)
    node.judge(replace(site.worker, of_features={}), judgement_id)
    done = site.row(judgement_id)
    assert done.status == "succeeded" and done.result is not None
    later = {request["messages"][0]["content"] for _path, request in site.stub.seen[before:]}
    assert stored.isdisjoint(key_of(site.stub.url, "judge", text) for text in later)
    assert len(later) == done.result.answers - len(stored)
    assert done.result.asked == done.result.answers


@pytest.mark.slow
def test_a_cancelled_judgement_stops_and_keeps_its_scores_for_the_next(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answers, "REPORT_SECONDS", 0.0)
    judgement_id = site.submit(api_key=KEY)
    stored = site.row(judgement_id).api_key
    assert stored and KEY not in stored and Vault(site.worker.settings).decrypt(stored) == KEY
    assert stored_secrets.rotate(site.worker.database, Vault(site.worker.settings)) == 1
    with pytest.raises(Conflict, match="has not ended"):
        site.submit()

    def cancel() -> None:
        with site.worker.database.transaction() as session:
            JUDGEMENTS.cancel(session, judgement_id)

    site.after(20, cancel)
    node.judge(site.worker, judgement_id)
    ended = site.row(judgement_id)
    assert (ended.status, ended.api_key) == ("cancelled", "") and len(site.stub.seen) < N
    with site.worker.database.reading() as session:
        kept = session.query(JudgeScoreRow).count()
    done = site.run()
    assert done.result is not None and kept > 0 and done.result.asked == done.result.answers - kept


def test_late_replies_are_not_stored_and_a_deleted_study_takes_its_judgements_along(site: Site) -> None:
    judgement_id = site.submit()
    database = site.worker.database
    with database.transaction() as session:
        claim = judgements.begin(session, judgement_id)
        assert claim is not None and judgements.replied(session, claim, "first", 4, "4")
    with database.transaction() as session:
        JUDGEMENTS.cancel(session, judgement_id)
        assert not judgements.replied(session, claim, "late", 4, "4"), "its claim is no longer valid"
    with database.transaction() as session:
        for run in session.query(RunRow).filter(RunRow.status.in_(("queued", "running"))):
            run.status = "cancelled"
        session.flush()
        deletion.delete_study(session, site.worker.files, site.study)
    with database.reading() as session:
        assert session.query(JudgementRow).count() == session.query(JudgeScoreRow).count() == 0


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_studies_without_generated_text_unlisted_hosts_and_bad_input_are_refused(site: Site) -> None:
    with pytest.raises(Invalid, match="VEZNA_OUTBOUND_HOSTS"):
        site.submit(url="http://127.0.0.2:1/v1")
    with site.worker.database.transaction() as session:
        other = add_study(session, studies()[0], hours_ago=1.0)[0].study_id or 0
    with pytest.raises(Invalid, match="No run of study"):
        replace(site, study=other).submit()
    with pytest.raises(NotFound):
        replace(site, study=10**6).submit()
    with TestClient(create_app(site.worker.settings), base_url="http://127.0.0.1/api/v1") as api:
        good = {"url": site.stub.url, "model": "judge"}
        for changes, path in (
            ({"rubric": " "}, "rubric"),
            ({"rubric": "a\0b"}, "rubric"),
            ({"items": 1}, "items"),
            ({"model": ""}, "model"),
            ({"url": "http://user:password@127.0.0.1:8001/v1"}, "url"),
            ({"api_key": "sk-a\r\nx: 1"}, "api_key"),
        ):
            answer = api.post(f"/studies/{site.study}/judgements", json=good | changes)
            assert (answer.status_code, answer.json()["errors"][0]["path"]) == (422, path), answer.text


@pytest.mark.slow
@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_a_private_studys_judgements_are_seen_by_its_owner_alone(site: Site) -> None:
    done = site.run()
    database = site.worker.database
    with database.transaction() as session:
        session.add_all([UserRow(id=n, email=f"{n}@example.org", name="", role_name="member") for n in (1, 2)])
        session.flush()
        for row in (session.get_one(StudyRow, site.study), *session.query(RunRow)):
            row.give(1, Visibility.PRIVATE)
    with database.seen_by(Viewer(1)).reading() as session:
        assert len(judgements.arms_of(session, JUDGEMENTS.get(session, done.id))) == 4
    with database.seen_by(Viewer(2)).reading() as session:
        assert session.query(JudgeScoreRow).count() == 0 and JUDGEMENTS.of(session, site.study) == []
        with pytest.raises(NotFound):
            JUDGEMENTS.get(session, done.id)


@pytest.mark.slow
@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_over_rest_by_command_and_on_the_page(
    site: Site, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    app = create_app(site.worker.settings)
    site.stub.key = KEY

    app.state.doorbell = WorkingBell(task=JUDGE, work=lambda row_id: node.judge(site.worker, row_id, NO_PAUSE))
    monkeypatch.setenv("SERVER_KEY", KEY)
    rubric = tmp_path / "rubric.txt"
    rubric.write_text("5: names the event.\n1: does not.")
    site.judge.of = lambda quality, item: "no" if item % 10 == 7 else str(quality)
    with served(app) as address:
        judge_cli.judge(site.stub.url, site.study, "judge", rubric, 40, "SERVER_KEY", address)
        printed = capsys.readouterr().out
        assert "LoRA r=16: score" in printed and "have no score" in printed and "judge: unknown" in printed
        with pytest.raises(Invalid, match="NO_SUCH_KEY is not set"):
            judge_cli.judge(site.stub.url, site.study, "judge", None, None, "NO_SUCH_KEY", address)
        with pytest.raises(Invalid, match="cannot be read as text"):
            judge_cli.judge(site.stub.url, site.study, "judge", tmp_path / "none", None, "", address)
        with pytest.raises((typer.Exit, Exception), match="does not accept the API key"):
            judge_cli.judge(site.stub.url, site.study, "judge", None, None, "", address)
    app.state.doorbell = SilentBell()
    site.rate(lambda _n: Preferred.FIRST)
    with TestClient(app, base_url="http://127.0.0.1") as client:
        first, failed = client.get(f"/api/v1/studies/{site.study}/judgements").json()
        assert "api_key" not in first and (first["items"], first["sample"], failed["status"]) == (40, 40, "failed")
        lora = next(arm for arm in first["arms"] if arm["arm"] == ARMS[1])
        assert lora["error"]["items"] > 10 and lora["low"] < lora["delta"] < lora["high"]
        assert lora["verdict"] in set(VerdictKind)
        assert client.post(f"/api/v1/judgements/{first['id']}/cancel").status_code == 409
        client.headers.update(form_headers(app))
        address = f"/studies/{site.study}/judge"
        assert f'href="{address}"' in client.get(f"/studies/{site.study}").text
        page = client.get(address).text
        shown = f"{points(lora['delta'])} ({points(lora['low'])} to {points(lora['high'])})"
        middle = points((lora["low"] + lora["high"]) / 2)
        assert shown in page and not shown.startswith(middle), "as REST and the command have it"
        assert "agrees with people on" in page and "What the judge wrote instead of a score" in page
        assert "does not accept the API key" in page and KEY not in page
        sent = {"url": site.stub.url, "model": "judge", "items": "", "rubric": "a\r\nb", "api_key": KEY}
        for _click in range(2):
            answer = client.post(address, data=sent | {"idempotency_key": "k"}, follow_redirects=False)
            assert (answer.status_code, answer.headers["location"]) == (303, f"{address}#results")
        third = client.get(f"/api/v1/studies/{site.study}/judgements").json()[-1]
        assert (third["rubric"], third["status"], third["arms"]) == ("a\nb", "queued", [])
        assert client.post(address, data=sent | {"idempotency_key": "l"}).status_code == 409
        client.post(f"{address}/{third['id']}/cancel")
        assert client.get(f"/api/v1/judgements/{third['id']}").json()["status"] == "cancelled"
        for wrong, why in (
            ({"url": "nowhere"}, "This is not an address of a web server"),
            ({"rubric": "x" * 5000}, ""),
        ):
            bad = client.post(address, data=sent | wrong)
            assert bad.status_code == 422 and why in bad.text and KEY not in bad.text
