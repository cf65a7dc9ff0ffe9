"""The registry over REST and at the command line."""

import json
from collections.abc import Iterator

import pytest
from fastapi.testclient import TestClient

from app.cli.client import Client
from app.domain.comparison.fairness.export_gate import GateOutcome
from app.domain.errors import Invalid, NotFound
from app.domain.models.exports import ExportFormat
from app.features.shipping.cli import registry as cli
from tests.support.filled.exports import add, gate
from tests.support.servers.served import served
from tests.unit.web.conftest import database_of

SUCCEEDED = 2


@pytest.fixture
def exports(full: TestClient) -> tuple[int, int]:
    """An export that passed, and one that failed."""
    with database_of(full).transaction() as session:
        return (
            add(session, SUCCEEDED, ExportFormat.ADAPTER, "succeeded", gate(GateOutcome.PASS, 0.0, 0.003)),
            add(session, SUCCEEDED, ExportFormat.MERGED_BFLOAT16, "succeeded", gate(GateOutcome.FAIL, -0.06, 0.02)),
        )


def register(client: TestClient, name: str, **body: object) -> dict[str, object]:
    answer = client.post(f"/api/v1/registry/{name}/versions", json=body)
    assert answer.status_code == 201, answer.text
    return dict(answer.json())


def test_a_champion_is_read_by_its_name(full: TestClient, exports: tuple[int, int]) -> None:
    assert full.get("/api/v1/registry").json() == []
    assert full.get("/api/v1/registry/headlines/champion").status_code == 404
    version = register(full, "headlines", export=exports[0])
    assert (version["version"], version["stage"], version["gate"]) == (1, "candidate", "pass")
    missing = full.get("/api/v1/registry/headlines/champion")
    assert (missing.status_code, missing.json()["detail"]) == (
        404,
        "headlines has no champion. Promote one of its versions.",
    )
    address = "/api/v1/registry/headlines/versions/1/stage"
    body = {"stage": "champion", "reason": "measured", "revision": version["revision"]}
    promoted = full.post(address, json=body, headers={"Idempotency-Key": "k"})
    assert promoted.status_code == 200, promoted.text
    again = full.post(address, json=body, headers={"Idempotency-Key": "k"})
    assert again.json() == promoted.json() and again.headers["idempotency-replayed"] == "true"
    champion = full.get("/api/v1/registry/headlines/champion").json()
    assert champion == promoted.json()
    assert (champion["export_id"], champion["run_id"], champion["study_id"]) == (exports[0], SUCCEEDED, 1)
    [model] = full.get("/api/v1/registry").json()
    assert (model["champion"], model["revision"]) == (1, 2)
    assert [change["after"] for change in model["versions"][0]["changes"]] == ["candidate", "champion"]
    receipt = full.get("/api/v1/registry/headlines/versions/1/receipt")
    assert receipt.content == full.get(f"/api/v1/exports/{exports[0]}/receipt").content
    outdated = full.post(address, json={"stage": "retired", "revision": 1})
    assert outdated.status_code == 409
    assert "version 1 became champion. Read it again." in outdated.json()["detail"]
    refused = full.delete(f"/api/v1/exports/{exports[0]}")
    assert refused.status_code == 409 and "Retire that version first" in refused.json()["detail"]


def test_a_failed_export_is_refused_without_a_reason(full: TestClient, exports: tuple[int, int]) -> None:
    answer = full.post("/api/v1/registry/small/versions", json={"export": exports[1], "stage": "champion"})
    assert answer.status_code == 422
    assert answer.json()["errors"] == [
        {
            "path": "reason",
            "message": "The gate of this export is fail, so it needs a reason",
            "remedy": "Write why it may be used all the same, or choose an export that passes",
        }
    ]
    assert register(full, "small", export=exports[1], stage="champion", reason="a demo")["gate"] == "fail"


@pytest.mark.parametrize("name", ["two words", ".hidden", "x" * 101, "a%2Fb", "%E2%80%AEx"])
def test_a_name_that_cannot_stand_in_an_address_is_refused(
    full: TestClient, exports: tuple[int, int], name: str
) -> None:
    answer = full.post(f"/api/v1/registry/{name}/versions", json={"export": exports[0]})
    assert answer.status_code in (404, 422) and not full.get("/api/v1/registry").json()


@pytest.fixture
def url(full: TestClient) -> Iterator[str]:
    """The address of a server that the command line reaches."""
    with served(full.app) as address:  # type: ignore[arg-type]
        yield address


def test_the_command_line_registers_promotes_and_lists(
    url: str, exports: tuple[int, int], capsys: pytest.CaptureFixture[str]
) -> None:
    cli.list_all(url=url)
    assert "No registered models" in capsys.readouterr().out
    cli.register("headlines", exports[0], url=url)
    assert f"Registered headlines 1: candidate, run {SUCCEEDED}, adapter" in capsys.readouterr().out
    with pytest.raises(NotFound, match="has no champion"):
        cli.champion("headlines", url=url)
    cli.promote("headlines", 1, reason="measured", url=url)
    cli.champion("headlines", url=url, as_json=True)
    assert json.loads(capsys.readouterr().out.split("\n", 1)[1])["stage"] == "champion"
    with pytest.raises(Invalid):
        cli.register("headlines", exports[1], url=url)
    cli.list_all("headlines", url=url)
    printed = capsys.readouterr().out
    assert "candidate → champion" in printed and "measured" in printed
    assert Client(url).get("/registry/headlines")["champion"] == 1
