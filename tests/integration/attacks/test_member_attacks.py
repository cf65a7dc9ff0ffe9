"""What a member with a valid account tries on classes, agents, recipes, pushes, addresses and quotas. `private`: all
that is there is private to one member, and another one attacks."""

import asyncio
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from fastmcp.exceptions import ToolError
from pydantic import ValidationError
from sqlalchemy import update

from app.domain.accounts.policy import Role, Scope
from app.domain.errors import Invalid, OverQuota
from app.domain.models.exports import ExportFormat
from app.features.judging.services import judgements
from app.features.judging.tables import JudgementRow
from app.features.lab.services import classes, lessons
from app.features.lab.tables import LabAnswerRow, LabProgressRow
from app.features.quotas.rules import LimitChange
from app.features.quotas.services import quotas
from app.features.recipes.tables import RecipeRunRow
from app.features.shipping.rules.push import HubPush, namespace_refusal
from app.features.shipping.services import parity_checks
from app.features.shipping.tables import HubPushRow, ModelExportRow, ParityCheckRow
from app.features.webhooks.tables import WebhookRow
from app.services.runs import runs
from app.services.users import tokens
from app.services.users.tokens import NewToken
from app.settings import Settings, load
from app.store.database.session import Database
from app.store.files.files import Files
from app.store.tables import RunRow, StudyRow, UploadRow
from app.store.users import queries as user_queries
from tests.features.agents.test_agents import agent, said
from tests.features.quotas.test_quotas import RUN, Account, doing, live, member, submit, submit_study
from tests.features.quotas.test_stored_bytes import MIB, upload
from tests.support.fakes.fakes import SilentBell
from tests.support.filled import exports as filled_exports
from tests.support.rows.accounts import Installation, installed
from tests.support.rows.owners import MARK, MODEL, PrivateInstallation
from vezna.trackers import tensorboard

__all__ = ["member"]
RECIPE = "rank-ladder"
ADDRESSES = [
    "http://127.0.0.1:6379/",
    "http://localhost:5432/",
    "http://169.254.169.254/latest/meta-data",
    "http://[::ffff:169.254.169.254]/",
    "http://0x7f000001/",
    "http://2130706433/",
    "https://hook.example.org:8443/",
    "https://hook.example.org.evil.example/",
    "https://hook.example.org@evil.example/",
    "https://evil.example\\@hook.example.org/",
    "https://evil.example#@hook.example.org/",
    "https://evil.example?@hook.example.org/",
    "https://hook.example.org%2eevil.example/",
    "https://hook.example.org%00.evil.example/",
    "https://ann:word@hook.example.org/",
    "https://[::127.0.0.1]/",
    "https://[::ffff:7f00:1]/",
    "https://[64:ff9b::7f00:1]/",
    "https://0177.0.0.1/",
    "https://127.1/",
    "https://①②⑦.⓪.⓪.①/",
    "https://hook.example.org:0/",
    "https://hook.example.org:443443/",
    "//hook.example.org/",
    "https:hook.example.org",
    "gopher://hook.example.org/",
    "file:///etc/passwd",
]


@pytest.fixture(scope="module")
def private(tmp_path_factory: pytest.TempPathFactory, filled_file: Path) -> Iterator[PrivateInstallation]:
    home = tmp_path_factory.mktemp("attacked")
    (home / "vezna.sqlite").write_bytes(filled_file.read_bytes())
    found = PrivateInstallation(Settings(home=home, login="required", outbound_hosts=["hook.example.org"]))
    yield found
    found.database.dispose()


@pytest.fixture
def team(tmp_path: Path, filled_file: Path) -> Iterator[Installation]:
    with installed(tmp_path, filled_file, outbound_hosts=["hook.example.org"]) as found:
        yield found


def test_no_tool_of_an_agent_reads_or_changes_a_private_study(private: PrivateInstallation) -> None:
    with private.database.transaction() as session:
        secret = tokens.create(session, user_queries.get(session, private.other), NewToken(name="agent",
                               scopes=[Scope.READ, Scope.RUN]))[1]  # fmt: skip

    async def work() -> set[str]:
        async with agent(private.app, secret) as client:
            about_studies = [
                tool for tool in await client.list_tools() if "study_id" in tool.input_schema["properties"]
            ]
            for tool in about_studies:
                values: dict[str, Any] = {"study_id": 1} | ({"count": 1} if tool.name == "add_seeds" else {})
                with pytest.raises(ToolError) as refused:
                    await client.call_tool(tool.name, values)
                assert "no study 1" in str(refused.value) and MARK not in str(refused.value), tool.name
                for way_out in ("1/../../users", "../queue", "1?x=", 1.5, -1):
                    with pytest.raises(ToolError, match="study_id"):
                        await client.call_tool(tool.name, values | {"study_id": way_out})
            for tool_name in ("list_studies", "list_choices"):
                words, found = await said(client, tool_name)
                assert MARK not in words and MARK not in str(found)
            assert not await client.list_resources() and not await client.list_prompts()
            return {tool.name for tool in about_studies}

    assert len(asyncio.run(work())) >= 6


def test_a_token_that_reads_and_a_viewer_change_nothing_by_a_tool(team: Installation) -> None:
    with team.database.reading() as session:
        before = session.query(RunRow).count(), session.query(RunRow).where(RunRow.status == "cancelled").count()
    spec = {
        "name": "x",
        "base_model": "all-MiniLM-L6-v2",
        "dataset": "headlines",
        "arms": [{"method": {"kind": "full"}}],
    }
    changes: dict[str, dict[str, Any]] = {
        "submit_study": {"spec": spec},
        "add_seeds": {"study_id": 2, "count": 1},
        "cancel_study": {"study_id": 2},
    }

    async def work(token: str) -> None:
        async with agent(team.app, token) as client:
            assert set(changes) <= {tool.name for tool in await client.list_tools()}
            assert "Study 2" in (await said(client, "list_studies"))[0]
            for name, values in changes.items():
                with pytest.raises(ToolError, match=r"scope|role|permi"):
                    await client.call_tool(name, values)

    for token in (team.token(Role.ADMIN, Scope.READ), team.token(Role.VIEWER)):
        asyncio.run(work(token))
    with team.database.reading() as session:
        after = session.query(RunRow).count(), session.query(RunRow).where(RunRow.status == "cancelled").count()
    assert before == after


def asked(program: TestClient, method: str, **values: Any) -> Any:
    """What the agent interface answers, as JSON."""
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": values})
    headers = {"accept": "application/json, text/event-stream", "content-type": "application/json"}
    answered = program.post("/mcp", content=body, headers=headers)
    assert answered.status_code < 500, answered.text
    return answered.json()


def words_of(answer: Any) -> str:
    return str(answer.get("error") or [block["text"] for block in answer["result"]["content"]])


def test_every_tool_that_reads_reads_every_kind_of_study(team: Installation) -> None:
    program = team.program(Role.MEMBER)
    with team.database.reading() as session:
        studies = {row.id: row.spec_json for row in session.query(StudyRow)}
    for study, spec in studies.items():
        for tool in ("wait_for_study", "read_verdict", "read_baselines", "read_flips"):
            given = {"study_id": study} | ({"seconds": 0} if tool == "wait_for_study" else {})
            found = words_of(asked(program, "tools/call", name=tool, arguments=given))
            assert "Error calling tool" not in found, (tool, study, found)
        found = words_of(asked(program, "tools/call", name="plan_study", arguments={"spec": spec}))
        assert "Error calling tool" not in found, (study, found)


def test_no_argument_breaks_a_tool(team: Installation) -> None:
    """Each is refused with a sentence, or answered; an internal error would be neither."""
    deep: Any = []
    for _level in range(200):
        deep = [deep]
    hostile: list[Any] = [
        None, True, -1, 0, 2**31, 2**63, 10**400, 1e308, "", "\0", "é", "\ud800", "x" * 200_000, [], {}, deep,
        {"arms": deep}, {"name": "\0", "arms": [{}] * 500}, {"seeds": list(range(2000))}, "1\n", "k\n",
    ]  # fmt: skip

    program, broken = team.program(Role.MEMBER), []
    usual = {"spec": {}, "study_id": 1, "count": 1, "seconds": 0}
    for tool in asked(program, "tools/list")["result"]["tools"]:
        names = tool["inputSchema"]["properties"]
        for name in names:
            for value in hostile:
                given = {known: usual[known] for known in usual if known in names} | {name: value}
                words = words_of(asked(program, "tools/call", name=tool["name"], arguments=given))
                if "Error calling tool" in words or "nternal" in words or words == "[]":
                    broken.append((tool["name"], name, str(value)[:30], words[:200]))
    assert not broken, "\n".join(map(str, broken))


def test_a_tool_does_nothing_by_a_browsers_cookie(team: Installation) -> None:
    """A page of another site could send that; a tool acts by the token of its request alone."""
    call = {"name": "cancel_study", "arguments": {"study_id": 2}}
    body = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": call}
    browser, accept = team.browser(Role.MEMBER), {"accept": "application/json, text/event-stream"}
    away = browser.post("/mcp", json=body, headers=accept | {"sec-fetch-site": "cross-site"})
    assert away.status_code == 403
    here = browser.post("/mcp", json=body, headers=accept)
    assert here.status_code in (401, 403) or here.json()["result"]["isError"], here.text
    with team.database.reading() as session:
        assert session.query(RunRow).where(RunRow.study_id == 2, RunRow.status == "queued").count()


def test_a_stranger_takes_nothing_from_a_class_and_no_learner_acts_as_another(team: Installation) -> None:
    with team.database.transaction() as session:
        row = classes.create(session, "PEFT")
        row.teacher_id = team.ids[Role.ADMIN]
        code, class_id = row.code, row.id
        answer = LabAnswerRow(learner="guest " + "x" * 22, question="q", given_json=["1"], right=True)
        session.add(answer)
        session.flush()
        answer_id = answer.id
    stranger = team.browser(Role.MEMBER)
    stranger.cookies.set("vezna_learner", "x" * 22)
    assert stranger.post(f"/lab/classes/{code}/seed").status_code == 409
    assert stranger.get(f"/lab/join/{code}/charts/pool.svg").status_code == 403
    assert stranger.post(f"/lab/classes/{class_id}/delete").status_code == 404
    chosen = {"study": "plan ranks", "planned_seeds": "3"}
    assert stranger.post(f"/lab/classes/{class_id}/study", data=chosen).status_code in (404, 422)
    assert stranger.get(f"/api/v1/classes/{class_id}").status_code == 404
    assert stranger.post(f"/lab/join/{code}/switch", data={"learner": "guest " + "x" * 22}).status_code == 404
    assert stranger.post(f"/lab/answers/{answer_id}/rating", data={"rating": "3"}).status_code == 404
    for number in (0, -1, 2**63, "1 or 1=1"):
        assert stranger.post(f"/lab/answers/{number}/rating", data={"rating": "3"}).status_code in (404, 422)
    for guess in ("%", "_" * len(code), code.swapcase(), code[:-1], f"{code}%00", "' or '1'='1"):
        assert stranger.get(f"/lab/join/{guess}").status_code in (400, 404), guess
    assert stranger.post(f"/lab/join/{code}", data={"name": "admin@example.org"}).status_code == 303
    report = team.program(Role.ADMIN).get(f"/api/v1/classes/{class_id}").json()
    assert [one["name"] for one in report["learners"]] == ["member@example.org"], "the account names the learner"


def test_no_page_of_the_lab_shows_or_changes_what_is_anothers(private: PrivateInstallation) -> None:
    """Neither private runs and studies, by their numbers too, nor the answers and progress of another learner."""
    owner = f"user {private.ids[Role.MEMBER]}"
    with private.database.transaction() as session:
        answer = LabAnswerRow(learner=owner, question="q", given_json=[MARK], right=True)
        session.add_all([answer, LabProgressRow(learner=owner, topic=MARK)])
        session.flush()
        number = answer.id
    browser = private.browser_of(private.other)
    steps = [f"/lab/{kind}/{topic}" for kind, topics in (("steps", lessons.STEPS), ("pitfalls", lessons.PITFALLS))
             for topic in topics]  # fmt: skip
    assert steps
    for path in ("/lab", "/lab/recap", "/lab/review", "/lab/anki.txt", "/lab/calendar.ics", "/lab/classes", *steps):
        for query in ("", f"?run=1&study=1&study_id=1&run_id=1&model={MODEL}&learner={owner}&answered={number}"):
            answered = browser.get(path + query)
            assert answered.status_code in (200, 303, 404, 422), (path, answered.status_code)
            assert MARK not in answered.text.replace(MODEL, ""), path + query
    assert browser.post(f"/lab/answers/{number}/rating", data={"rating": "1"}).status_code == 404
    other_class = private.lab_class
    for method, path, body in (
        ("GET", f"/api/v1/classes/{other_class}", None),
        ("DELETE", f"/api/v1/classes/{other_class}", None),
        ("POST", f"/api/v1/classes/{other_class}/study", {"plan": "ranks", "planned_seeds": 3}),
    ):
        assert private.of_other().request(method, path, json=body).status_code == 404, path
    mine = private.of_other().post("/api/v1/classes", json={"name": "mine"}).json()["id"]
    chosen = private.of_other().post(f"/api/v1/classes/{mine}/study", json={"study_id": 1, "planned_seeds": 3})
    assert chosen.status_code in (404, 422) and MARK not in chosen.text, "a private study of another is none to choose"


def test_a_recipe_tells_nothing_of_private_studies_that_ran_it(private: PrivateInstallation) -> None:
    """The row holds no valid recipe, so that whatever read it would fail."""
    other = private.of_other()
    with private.database.transaction() as session:
        session.add(RecipeRunRow(study_id=1, recipe=RECIPE, recipe_json={}))
    for path in ("/recipes", f"/recipes/{RECIPE}", "/api/v1/recipes", f"/api/v1/recipes/{RECIPE}"):
        answer = other.get(path)
        assert answer.status_code == 200 and MARK not in answer.text, path
    for path in (f"/api/v1/recipes/{RECIPE}/card", f"/recipes/{RECIPE}/charts/recipe.svg"):
        for query in ("", "?study=2", "?study=1", "?study_id=2"):
            answer = other.get(path + query)
            assert answer.status_code in (404, 422) and MARK not in answer.text, path + query


@pytest.mark.parametrize(
    "name",
    ["acme/../evil/x", "acme/..", "../acme/x", "acme\n/x", "acme/x\0", "acme//x", "acme/x/y", "acme/x?y", "acme%2f/x",
     "https://evil.example/acme/x", "аcme/x", "acme/--x", "acme", "/acme/x", "acme/x#y", "acme@evil/x"],
)  # fmt: skip
def test_a_push_leaves_its_namespace_by_no_spelling(name: str) -> None:
    with pytest.raises(ValidationError):
        HubPush(repository=name)
    for owner in ("acmee", "acm", "acme.", "acme-x"):
        assert namespace_refusal(f"{owner}/x", ["acme"], login=True) is not None


def test_no_member_cancels_or_sees_through_a_push_of_another(team: Installation) -> None:
    with team.database.transaction() as session:
        runs = [session.get_one(RunRow, number) for number in (1, 2)]
        exports = [filled_exports.add(session, run.id, ExportFormat.ADAPTER, "succeeded") for run in runs]
        owner = team.ids[Role.ADMIN]
        session.execute(update(RunRow).values(owner_id=owner))
        session.execute(update(StudyRow).values(owner_id=owner))
        session.execute(update(ModelExportRow).values(owner_id=owner))
        push = HubPushRow(export_id=exports[0], repository="acme/x", card="card", user_id=owner)
        session.add(push)
        session.flush()
        ident = push.id
    member = team.browser(Role.MEMBER)
    for export_id, status in ((exports[0], 403), (exports[1], 404)):
        path = f"/runs/{runs[0].id}/exports/{export_id}/hub/{ident}/cancel"
        assert member.post(path).status_code == status, path
    assert member.post(f"/runs/{runs[1].id}/exports/{exports[0]}/hub/{ident}/cancel").status_code in (403, 404)
    program = team.program(Role.MEMBER)
    assert program.post(f"/api/v1/pushes/{ident}/cancel").status_code == 403
    for number in (0, -1, 2**63, 987654, f"{ident}%0A"):
        assert program.post(f"/api/v1/pushes/{number}/cancel").status_code in (400, 404, 405, 422), number
    shown = program.get(f"/api/v1/pushes/{ident}").json()
    assert not {"card", "receipt", "user_id", "own_token"} & set(shown)
    with team.database.reading() as session:
        assert session.get_one(HubPushRow, ident).status == "queued"
    with team.database.transaction() as session:
        session.execute(update(RunRow).values(private_to=owner))
    for path in (f"pushes/{ident}", f"exports/{exports[0]}/pushes"):
        assert program.get(f"/api/v1/{path}").status_code == 404


@pytest.mark.parametrize("lost", ["sight", "access", "role"])
def test_what_a_user_has_requested_sends_nothing_once_the_user_has_lost_access(team: Installation, lost: str) -> None:
    """To an address that the user has named, or to a judge there."""
    owner, other = team.ids[Role.ADMIN], team.ids[Role.MEMBER]
    with team.database.transaction() as session:
        check = ParityCheckRow(run_id=1, url="https://hook.example.org/v1", model="m", api_key="key", owner_id=other)
        judgement = JudgementRow(
            study_id=1, url=check.url, model="m", rubric="r", sample=2, api_key="key", owner_id=other
        )
        session.add_all([check, judgement])
        session.flush()
        numbers = check.id, judgement.id
        user = user_queries.get(session, other)
        if lost == "sight":
            for table in (RunRow, StudyRow):
                session.execute(update(table).values(owner_id=owner, private_to=owner))
        user.disabled = lost == "access"
        user.role_name = "viewer" if lost == "role" else "member"
    with team.database.transaction() as session:
        assert parity_checks.begin(session, numbers[0]) is None
        assert judgements.begin(session, numbers[1]) is None
    with team.database.reading() as session:
        ended = session.get_one(ParityCheckRow, numbers[0]), session.get_one(JudgementRow, numbers[1])
        assert [(one.status, one.api_key) for one in ended] == [("failed", "")] * 2
        assert all(("private" if lost == "sight" else "disabled") in one.message for one in ended)


@pytest.mark.parametrize("name", ["../../../etc/x", "/etc/x", "..", ".", "a/../../b", "a\\..\\b", "~root"])
def test_a_studys_name_leads_an_export_out_of_no_folder(name: str) -> None:
    folder = Path("/srv/runs")
    assert (folder / tensorboard._file_name(name, " (study 1)")).resolve().parent == folder


@pytest.mark.parametrize(
    "address",
    ["http://ann:secret@mlflow.example:5000", "https://ann@mlflow.example", "mlflow:https://ann:secret@mlflow.example",
     "file:///etc/passwd", "gopher://mlflow.example", "javascript:alert(1)", "databricks://x", "sqlite:///x.db"],
)  # fmt: skip
def test_a_tracker_is_no_address_with_a_password_or_of_another_kind(
    monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    monkeypatch.setenv("VEZNA_TRACKER", address)
    with pytest.raises(Invalid) as refused:
        load()
    assert "secret" not in str(refused.value)


def test_no_user_names_a_tracker(team: Installation) -> None:
    """A study's spec, its note and requests about it lead no export to another address."""
    program = team.program(Role.MEMBER)
    for body in ({"tracker": "http://169.254.169.254"}, {"tracker_export": {"url": "http://169.254.169.254"}}):
        assert program.patch("/api/v1/studies/1", json=body).status_code == 422, body
    for path in ("studies/1/tracker", "studies/1/export", "trackers"):
        assert program.post(f"/api/v1/{path}", json={"to": "http://169.254.169.254"}).status_code in (404, 405)


@pytest.mark.parametrize("url", ADDRESSES)
def test_no_route_takes_an_address_that_no_operator_listed(team: Installation, url: str) -> None:
    program, admin = team.program(Role.MEMBER), team.program(Role.ADMIN)
    for answer in (
        program.post("/api/v1/runs/1/parity-checks", json={"url": url, "model": "m"}),
        program.post("/api/v1/studies/1/judgements", json={"url": url, "model": "m"}),
        admin.post("/api/v1/webhooks", json={"url": url, "events": ["run.finished"]}),
    ):
        assert answer.status_code in (409, 422), (url, answer.text)
    with team.database.reading() as session:
        for table in (ParityCheckRow, JudgementRow, WebhookRow):
            assert session.query(table).count() == 0


def test_two_uploads_at_the_same_time_do_not_both_take_the_last_room(
    member: Account, bell: SilentBell, files: Files
) -> None:
    member.limit(stored_bytes=5 * MIB)

    def send(name: str) -> bool:
        try:
            upload(member, bell, files, 3 * MIB, name)
            return True
        except OverQuota:
            return False

    with ThreadPoolExecutor(4) as pool:
        assert sum(pool.map(send, "abcd")) == 1
    assert member.usage.stored_bytes == 3 * MIB


def test_a_rush_of_uploads_by_every_route_stores_no_more_than_is_left(team: Installation) -> None:
    with team.database.transaction() as session:
        user = user_queries.get(session, team.ids[Role.MEMBER])
        used = quotas.account_of(session, user.id).usage.committed_bytes
        quotas.change_limits(session, user, LimitChange(stored_bytes=used + 3 * MIB))
    programs = [team.program(Role.MEMBER) for _ in range(4)]
    store = Files(team.settings.files)
    before = store.names("uploads")

    def send(number: int) -> int:
        program, content = programs[number % 4], f"text,label\n{number},a\n".encode() + b"b,c\n" * (MIB // 2)
        if number % 3 == 0:
            return program.put(f"/api/v1/uploads/files/{number}.csv", content=content).status_code
        if number % 3 == 1:
            return program.post("/api/v1/uploads", files={"file": (f"{number}.csv", content)}).status_code
        sent = {"file": (f"{number}.jsonl", content)}
        return program.post("/v1/files", files=sent, data={"purpose": "fine-tune"}).status_code

    with ThreadPoolExecutor(4) as pool:
        statuses = list(pool.map(send, range(9)))
    accepted = [status for status in statuses if status < 300]
    assert len(accepted) == 1 and set(statuses) <= {200, 202, 400, 409, 429}, statuses
    assert len(store.names("uploads") - before) == 1, "refused files are removed"


def test_a_rush_of_submissions_and_cancels_takes_no_more_device_time_than_is_left(
    member: Account, bell: SilentBell
) -> None:
    member.limit(device_seconds=3 * RUN)

    def attempt(number: int) -> None:
        try:
            if number % 3:
                run_id = submit(member.db, bell)
                if number % 3 == 1:
                    doing(member.db, lambda session: runs.cancel(session, bell, run_id))
            else:
                submit_study(member.db, bell, seeds=[0])
        except OverQuota:
            pass

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(attempt, range(12)))
    used, reserved = member.numbers
    assert used == 0 and reserved <= 3 * RUN and reserved == RUN * len(live(member.db))


def test_recipes_and_jobs_in_openais_form_take_no_device_time_above_the_limit(team: Installation) -> None:
    with team.database.transaction() as session:
        user = user_queries.get(session, team.ids[Role.MEMBER])
        quotas.change_limits(session, user, LimitChange(device_seconds=1, stored_bytes=1))
        before = session.query(RunRow).count(), session.query(UploadRow).count()
    program = team.program(Role.MEMBER)
    sent = {"files": {"file": ("a.jsonl", b'{"prompt": "a", "completion": "b"}\n')}, "data": {"purpose": "fine-tune"}}
    refused: Any = program.post("/v1/files", **sent)  # type: ignore[arg-type]
    assert refused.status_code in (400, 429), refused.text
    assert program.post(f"/api/v1/recipes/{RECIPE}/runs", json={}).status_code in (409, 422)
    for limits in ({"device_seconds": "unlimited"}, {"stored_bytes": 10**12}):
        for subject in ("member", "member@example.org", "MEMBER@example.org"):
            assert program.patch(f"/api/v1/quotas/{subject}", json=limits).status_code == 403
    with team.database.reading() as session:
        assert (session.query(RunRow).count(), session.query(UploadRow).count()) == before


@pytest.mark.parametrize("text", ["\0", "a\0b", "\ud800", "'; DROP TABLE runs; --", "%", "\\", "\x1b[2J", "9" * 400])
def test_no_text_breaks_a_statement_on_either_database(database: Database, settings: Settings, text: str) -> None:
    """PostgreSQL takes neither NUL nor numbers beyond 64 bits, which SQLite does."""
    found = Installation(settings.model_copy(update={"login": "required"}))
    program, browser = found.program(Role.ADMIN), found.browser(Role.MEMBER)
    name = text.encode("utf-8", "surrogatepass").hex(" ").replace(" ", "%")
    spelled = f"%{name}"
    for path in (
        "datasets",
        "models",
        "runs",
        "studies",
        "uploads",
        "classes",
        "pushes",
        "recipes",
        "ownership/models",
    ):
        assert program.get(f"/api/v1/{path}/{spelled}").status_code < 500, path
    for path in (f"/lab/join/{spelled}", f"/lab/questions/{spelled}", f"/data/{spelled}", f"/v1/files/{spelled}"):
        assert browser.get(path).status_code < 500, path
    for query in ("filter", "q", "action", "subject", "by", "after", "study"):
        for path in ("runs", "studies", "audit", "uploads"):
            assert program.get(f"/api/v1/{path}?{query}={spelled}").status_code < 500, (path, query)
    bodies: list[tuple[str, dict[str, Any]]] = [
        ("/api/v1/classes", {"name": text}),
        ("/api/v1/login", {"email": text, "password": text, "token": {"name": text}}),
        ("/api/v1/models", {"source": text, "name": text}),
        ("/api/v1/uploads", {"source": "hub", "location": text}),
        ("/api/v1/webhooks", {"url": text, "events": [text]}),
        ("/v1/fine_tuning/jobs", {"model": text, "training_file": text}),
    ]
    headers = {"content-type": "application/json"}
    for path, body in bodies:
        answer = program.post(path, content=json.dumps(body), headers=headers)
        assert answer.status_code < 500, (path, answer.text)
    found.database.dispose()
