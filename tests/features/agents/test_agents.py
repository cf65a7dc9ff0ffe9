"""An agent plans, submits and reads a study by MCP, as its user, and its looks at results are counted."""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx2
import pytest
from fastapi import FastAPI
from fastmcp import Client
from fastmcp.client.transports import StreamableHttpTransport
from fastmcp.exceptions import ToolError

from app.domain.accounts.policy import Role, Scope
from app.domain.runs.status import RunStatus
from app.main import create_app
from app.settings import ROOT, Settings
from app.store.database.session import Database
from app.store.runs import queries as runs
from tests.integration.web.test_api import STUDY, finish
from tests.support.fakes.fakes import SilentBell
from tests.support.rows.accounts import Installation

HERE = "http://127.0.0.1"


@asynccontextmanager
async def agent(app: FastAPI, token: str = "") -> AsyncIterator[Client[Any]]:
    """An MCP client of an application that runs."""

    def connected(**options: Any) -> httpx2.AsyncClient:
        options.pop("transport", None)
        return httpx2.AsyncClient(transport=httpx2.ASGITransport(app=app, client=("10.0.0.9", 5)), **options)

    headers = {"Authorization": f"Bearer {token}"} if token else {}
    transport = StreamableHttpTransport(f"{HERE}/mcp", headers=headers, httpx_client_factory=connected)
    async with app.router.lifespan_context(app), Client(transport) as client:
        yield client


async def said(client: Client[Any], tool: str, **values: Any) -> tuple[str, dict[str, Any]]:
    """The sentences of a tool's answer, and its data."""
    answer = await client.call_tool(tool, values)
    assert answer.structured_content is not None
    return "\n".join(block.text for block in answer.content), answer.structured_content


@pytest.fixture
def app(registered: Database, settings: Settings) -> FastAPI:
    made = create_app(settings)
    made.state.doorbell = SilentBell()
    return made


@pytest.mark.slow
def test_an_agent_goes_from_the_plan_to_the_verdict(app: FastAPI, registered: Database) -> None:
    async def work() -> None:
        async with agent(app) as client:
            assert len(await client.list_tools()) == 11
            assert "tiny" in (await said(client, "list_choices"))[0]
            words, plan = await said(client, "plan_study", spec=STUDY)
            assert "4 runs" in words and plan["plan"]["runs"] == 4 and "would decide" in words
            assert (await said(client, "list_studies"))[1]["items"] == [], "planning queues nothing"
            assert "Study 1 is queued" in (await said(client, "submit_study", spec=STUDY))[0]
            assert "0 of 4 runs" in (await said(client, "wait_for_study", study_id=1, seconds=0))[0]
            for run, accuracy in enumerate((0.5, 0.75, 0.5, 0.75), start=1):
                await asyncio.to_thread(finish, registered, run, accuracy)
            assert "is finished" in (await said(client, "wait_for_study", study_id=1))[0]
            words, verdict = await said(client, "read_verdict", study_id=1)
            assert verdict["headline"] in words and "not the final verdict" not in words
            assert (await said(client, "read_baselines", study_id=1))[1]["learning"] == verdict["learning"]

    asyncio.run(work())


def test_several_agents_ask_at_once(app: FastAPI) -> None:
    async def work() -> None:
        async with agent(app) as client:
            answers = await asyncio.gather(*(said(client, "list_studies") for _agent in range(8)))
            assert {words for words, _data in answers} == {"There are no studies yet."}

    asyncio.run(work())


def test_a_refusal_says_which_field_and_what_to_do(app: FastAPI) -> None:
    async def work() -> None:
        async with agent(app) as client:
            with pytest.raises(ToolError, match=r"base_model: .*\n?"):
                await client.call_tool("submit_study", {"spec": STUDY | {"base_model": "absent"}})
            with pytest.raises(ToolError, match="There is no study 7"):
                await client.call_tool("read_verdict", {"study_id": 7})
            with pytest.raises(ToolError, match="study_id"):
                await client.call_tool("read_verdict", {"study_id": 0})

    asyncio.run(work())


def test_an_agent_that_adds_seeds_until_it_wins_is_held_to_a_higher_confidence(
    app: FastAPI, registered: Database
) -> None:
    """The same four seeds with the same scores, once planned and once in three looks, of which the agent stops at the
    first that it wins."""

    async def settle(client: Client[Any], study: int) -> dict[str, Any]:
        ids = (await said(client, "wait_for_study", study_id=study, seconds=0))[1]["runs"]
        for run in ids:
            with registered.reading() as session:
                row = runs.get(session, run)
                waits, reference = row.status == RunStatus.QUEUED, row.spec.method.kind == "full"
            if waits:
                await asyncio.to_thread(finish, registered, run, 0.5 if reference else 1.0)
        return (await said(client, "read_verdict", study_id=study))[1]

    async def work() -> None:
        async with agent(app) as client:
            spec = STUDY | {"margin_points": 1}
            await said(client, "submit_study", spec=spec | {"seeds": [0, 1, 2, 3]})
            assert (await settle(client, 1))["arms"][1]["verdict"]["reason"] == "above_zero"
            await said(client, "submit_study", spec=spec)
            confidences = []
            for look in range(3):
                if look:
                    words, _study = await said(client, "add_seeds", study_id=2, count=1)
                    assert f"Interim looks: {look}" in words
                found = await settle(client, 2)
                confidences.append(found["confidence"])
                if look and found["arms"][1]["verdict"]["reason"] == "above_zero":
                    pytest.fail(f"the agent won at look {look}")
            assert confidences == pytest.approx([0.95, 0.99, 0.998])

    asyncio.run(work())


def test_an_agent_that_cancels_the_rest_once_it_wins_is_held_to_a_higher_confidence(
    app: FastAPI, registered: Database
) -> None:
    async def work() -> None:
        async with agent(app) as client:
            submitted = (
                await said(client, "submit_study", spec=STUDY | {"margin_points": 1, "seeds": [0, 1, 2, 3, 4]})
            )[1]
            for run in submitted["runs"]:
                with registered.reading() as session:
                    spec = runs.get(session, run).spec
                if spec.training.seed < 4:
                    await asyncio.to_thread(finish, registered, run, 0.5 if spec.method.kind == "full" else 1.0)
            assert (await said(client, "read_verdict", study_id=1))[1]["arms"][1]["verdict"]["reason"] == "above_zero"
            words, _study = await said(client, "cancel_study", study_id=1)
            assert "Interim looks: 1" in words and "99 %" in words
            found = (await said(client, "read_verdict", study_id=1))[1]
            assert found["complete"] and found["arms"][1]["verdict"]["kind"] == "undecided"

    asyncio.run(work())


def test_a_tool_may_what_its_token_may(settings: Settings) -> None:
    team = Installation(settings.model_copy(update={"login": "required"}))
    reader = team.token(Role.MEMBER, Scope.READ)

    async def work() -> None:
        async with agent(team.app, reader) as client:
            assert (await said(client, "list_studies"))[1]["items"] == []
            with pytest.raises(ToolError, match="run"):
                await client.call_tool("submit_study", {"spec": STUDY})

    asyncio.run(work())
    with team.anonymous() as visitor:
        assert visitor.post("/mcp", json={"jsonrpc": "2.0", "id": 1, "method": "tools/list"}).status_code == 401


@pytest.mark.nightly
def test_the_command_speaks_mcp_over_standard_input_and_output() -> None:
    """Without a server, so that the answer of a tool says so."""
    ask = [
        {"method": "initialize", "id": 1, "params": {"protocolVersion": "2025-06-18", "capabilities": {},
         "clientInfo": {"name": "t", "version": "1"}}},
        {"method": "notifications/initialized"},
        {"method": "tools/call", "id": 2, "params": {"name": "list_studies", "arguments": {}}},
    ]  # fmt: skip
    command = [sys.executable, "-m", "app.cli", "mcp", "--url", "http://127.0.0.1:9"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment, text=True
    ) as process:
        assert process.stdin is not None and process.stdout is not None
        for line in ask:
            process.stdin.write(json.dumps({"jsonrpc": "2.0"} | line) + "\n")
            process.stdin.flush()
        answers = [json.loads(process.stdout.readline()) for _line in range(2)]
        process.stdin.close()
        process.wait(30)
    assert answers[0]["result"]["serverInfo"]["name"] == "Vezna"
    assert "does not answer" in answers[1]["result"]["content"][0]["text"]
