"""The pitfalls of memory and of freezing: what they request, and what they show of the answers."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import select

from app.domain.accounts.policy import Role
from app.domain.methods import FullSpec, LeanFullSpec, LoraSpec
from app.domain.resources.devices import GIB
from app.domain.resources.estimate import EstimateRequest
from app.features.lab.computations import FreezingRequest
from app.features.lab.pages.topics.memory import BATCH_SIZES
from app.store.database.session import Database
from app.store.tables import EstimateRow
from tests.support.filled.lab import CARD
from tests.support.rows.accounts import Installation, installed
from tests.support.rows.estimates import estimate
from tests.support.rows.lab import FREEZING as MEASURED
from tests.support.rows.lab import answered

MEMORY, FREEZING = "/lab/pitfalls/memory", "/lab/pitfalls/freezing"


@pytest.fixture(scope="module")
def installation(tmp_path_factory: pytest.TempPathFactory, filled_file: Path) -> Iterator[Installation]:
    """The filled database, which requires a login."""
    home = tmp_path_factory.mktemp("lab-pitfalls")
    with installed(home, filled_file) as made:
        yield made


@pytest.fixture(scope="module")
def viewer(installation: Installation) -> TestClient:
    return installation.browser(Role.VIEWER)


def estimated(database: Database, peak_of_full_row: float, known: set[str]) -> list[EstimateRequest]:
    """Answer what waits: full fine-tuning takes so much a row, LoRA half as much, every other setting a tenth."""
    waiting = select(EstimateRow).where(EstimateRow.kind == "run", EstimateRow.key.not_in(known))
    found = []
    with database.transaction() as session:
        for row in session.scalars(waiting):
            request = row.request
            assert isinstance(request, EstimateRequest)
            plain = request.training.gradient_accumulation_steps == 1 and not request.training.gradient_checkpointing
            part = {FullSpec: 1, LoraSpec: 0.5}.get(type(request.method), 0.1) if plain else 0.1
            peak = int(part * peak_of_full_row * request.training.per_device_train_batch_size)
            row.status, row.result_json = "ready", estimate(peak).model_dump(mode="json")
            found.append(request)
    return found


def test_the_estimate_shows_where_full_fine_tuning_ends_and_what_helps(
    installation: Installation, viewer: TestClient
) -> None:
    page = viewer.get(f"{MEMORY}?{CARD}").text
    assert '<option value="T4" selected>T4, 16.0\N{NO-BREAK SPACE}GiB</option>' in page
    assert "A run may use 14.7" in page and "rows of 256 tokens" in page
    assert "Estimate both methods" in page and "Estimated peak memory" not in page
    with installation.database.reading() as reading:
        known = set(reading.scalars(select(EstimateRow.key)))
    sent = viewer.post(f"{MEMORY}/compute", data={"query": CARD})
    assert (sent.status_code, sent.headers["location"]) == (303, f"{MEMORY}?{CARD}#run")
    assert 'hx-trigger="every 2s"' in viewer.get(f"{MEMORY}?{CARD}").text
    asked = estimated(installation.database, GIB / 10, known)
    sizes = [(type(one.method), one.training.per_device_train_batch_size) for one in asked]
    assert sorted(size for _method, size in sizes) == sorted([*BATCH_SIZES, *BATCH_SIZES])
    assert {one.device for one in asked} == {"cuda"} and {one.training.max_length for one in asked} == {256}
    page = viewer.get(f"{MEMORY}?{CARD}").text
    assert "On T4, full fine-tuning of all-MiniLM-L6-v2 ends at a batch size of 256." in page
    assert len(re.findall("does not fit", page)) == 3 and "6.4\N{NO-BREAK SPACE}GiB" in page
    assert "LoRA hardly differs there" not in page  # it takes half as much
    assert "What helps at a batch size of 256" in page and "Estimate what helps" in page
    viewer.post(f"{MEMORY}/compute", data={"query": CARD})
    helps = estimated(installation.database, GIB / 10, known | {one.key for one in asked})
    assert LeanFullSpec in {type(one.method) for one in helps} and helps
    page = viewer.get(f"{MEMORY}?{CARD}").text
    assert "Gradient checkpointing: about a third more time" in page and "Estimate what helps" not in page
    assert page.index("Gradient checkpointing: about") < page.index("LoRA instead of full fine-tuning")


def test_what_an_unfrozen_base_does_is_shown_beside_a_frozen_one(
    installation: Installation, viewer: TestClient
) -> None:
    assert "Train both" in viewer.get(FREEZING).text
    assert viewer.post(f"{FREEZING}/compute", data={"query": ""}).status_code == 303
    with installation.database.reading() as reading:
        waiting = select(EstimateRow).where(EstimateRow.kind == "lab", EstimateRow.status == "queued")
        request = reading.scalars(waiting).one().request
        assert isinstance(request, FreezingRequest) and request.labels == 5 and request.files["rows_file"]
    with installation.database.transaction() as session:
        answered(session, MEASURED)
    page = viewer.get(FREEZING).text
    assert "stops the run" in page and "passed" in page and "base.w is trainable" in page
    assert ">0 of 101<" in page and ">101 of 101<" in page and ">64 of 150<" in page
    assert ">23,000,000<" in page and ">176\N{NO-BREAK SPACE}MiB<" in page and "Train both" not in page
    spoken = viewer.get(FREEZING, headers={"accept-language": "bg"}).text
    assert "Проверката на замразяването" in spoken and ">64 от 150<" in spoken
    assert viewer.post("/lab/pitfalls/modules/compute", data={"query": ""}).status_code == 409
