"""The memory fit beside the form of a new study: what each arm needs, which workers and GPUs fit it, and savings."""

import html
import json
import re

import pytest
from fastapi.testclient import TestClient

from app.domain.models.base_model import SAMPLE_MODEL
from app.store.runs import queries as runs
from app.store.tables import WorkerRow
from app.web.pages.new_study.form import StudyForm, read_change
from tests.support.filled import estimates as filled_estimates
from tests.support.rows.factories import plain
from tests.unit.web.conftest import database_of
from tests.unit.web.pages.new_study.test_new_study import FORM, typed

ROOM_FOR_ALL, ROOM_FOR_LORA = 8 * 2**30, 1100 * 2**20


def planned(client: TestClient, **change: str) -> str:
    """The panel, once everything that it asks for has been worked out."""
    text = client.post("/studies/plan", data=FORM | change).text
    while filled_estimates.answer_requests(database_of(client)):
        text = client.post("/studies/plan", data=FORM | change).text
    return plain(html.unescape(text))


def sign_on(client: TestClient, name: str, memory: int) -> None:
    """A worker on a CPU."""
    with database_of(client).transaction() as session:
        session.add(WorkerRow(name=name, device="cpu", device_name="x86", memory_bytes=memory, cores=2))


def test_an_estimate_is_asked_for_and_looked_for_until_it_is_there(registered_only: TestClient) -> None:
    sign_on(registered_only, "cpu-1", ROOM_FOR_ALL)
    text = registered_only.post("/studies/plan", data=FORM).text
    assert re.search(r"\d estimates in progress\.", text)
    [poll] = re.findall(r'<div hx-post="/studies/plan"[^>]*hx-vals="([^"]*)"', text)
    again = json.loads(html.unescape(poll))
    assert again["arms.1.method.r"] == "8"
    assert registered_only.post("/studies/plan", data=again).status_code == 204
    filled_estimates.answer_requests(database_of(registered_only))
    settled = registered_only.post("/studies/plan", data=again)
    assert settled.status_code == 200
    assert "in progress" not in settled.text
    assert "hx-vals" not in settled.text


def test_each_arm_shows_its_peak_its_band_and_what_that_rests_on(registered_only: TestClient) -> None:
    sign_on(registered_only, "cpu-1", ROOM_FOR_ALL)
    text = planned(registered_only)
    assert re.search(r"<b>\d{3} MiB</b>", text)
    assert re.search(r"\d{3} to \d{3} MiB, assumed", text)
    assert "cpu-1: 6.5 GiB usable" in text
    assert text.count('class="split"') == 2
    assert "GPUs: all arms fit from the RTX 3060 up" in text
    assert "every arm fits" in text
    assert [size for size in re.findall(r"file ([\d.]+ MiB)", text)] == ["86.7 MiB", "0.29 MiB"]


def test_what_does_not_fit_has_memory_savings_ranked_by_what_they_save(registered_only: TestClient) -> None:
    sign_on(registered_only, "cpu-1", ROOM_FOR_LORA)
    text = planned(registered_only)
    assert "does not fit" in text
    savings = [float(size) for size in re.findall(r"saves ([\d.]+) MiB", text)]
    assert len(savings) > 3
    assert savings == sorted(savings, reverse=True)
    actions = re.findall(r'value="(set:0:[^>]*?)"\s+formaction', text)
    assert 'set:0:{"training.gradient_checkpointing":true}' in actions
    page = registered_only.post("/studies/new", data=FORM | {"do": actions[0]}).text
    assert re.findall(r'<legend class="hidden">Arm (.*)</legend>', page) == ["LoRA r=8"]
    assert re.search(r'<h2 id="plan-head"[^>]*autofocus', page)


def test_a_way_out_for_all_arms_changes_the_budget() -> None:
    form = typed().edited('set:1:{"training.per_device_train_batch_size":4,"training.gradient_accumulation_steps":4}')
    training = form.spec().training
    assert (training.per_device_train_batch_size, training.gradient_accumulation_steps) == (4, 4)
    assert [arm.title for arm in form.arms] == ["full", "LoRA r=8"]


def test_a_saving_changes_what_an_arm_overrides_at_the_arm() -> None:
    form = typed(**{"arms.1.per_device_train_batch_size": "64"})
    before = form.spec().training
    form = form.edited(
        'set:1:{"training.per_device_train_batch_size":16,"training.gradient_accumulation_steps":4,'
        '"training.gradient_checkpointing":true}'
    )
    full, lora = form.spec().arms
    assert lora.overrides == {"per_device_train_batch_size": 16, "gradient_accumulation_steps": 4}
    assert full.overrides == {}
    assert form.spec().training == before.model_copy(update={"gradient_checkpointing": True})


def test_another_method_keeps_what_the_arm_overrides_and_searches() -> None:
    own = {"train_fraction": "0.5", "weight_decay": "0.1", "search.batch_size": "8, 16", "search.r": "4, 8"}
    form = typed(**{f"arms.1.{name}": text for name, text in own.items()} | {"tuning.kind": "grid"})
    quantized = form.edited('set:1:{"method":{"kind":"qlora"}}').arms[1]
    assert (quantized.kind, {name: quantized.values[name] for name in own}) == ("qlora", own)
    whole = form.edited('set:1:{"method":{"kind":"head-only"}}').arms[1]
    assert {name: whole.values[name] for name in own} == own | {"search.r": ""}, "a head has no rank"


def test_a_way_out_to_a_method_that_is_there_leaves_the_arm_out() -> None:
    form = typed().edited('set:0:{"method":{"kind":"lora"}}')
    assert [arm.title for arm in form.arms] == ["LoRA r=8"]
    other = typed().edited('set:0:{"method":{"kind":"qlora"}}')
    assert [arm.kind for arm in other.arms] == ["qlora", "lora"]


@pytest.mark.parametrize(
    "text",
    ["", "nonsense", "[1]", '{"method": 1}', '{"method": {"kind": "nothing"}}', '{"training.x": [1]}', "[" * 9999],
)
def test_what_is_no_way_out_sets_nothing(text: str) -> None:
    assert read_change(text) == (None, {})
    assert typed().changed(0, text).spec() == typed().spec()


def test_what_fits_no_live_worker_is_queued_only_if_one_insists(registered_only: TestClient) -> None:
    sign_on(registered_only, "cpu-1", ROOM_FOR_LORA)
    assert 'id="insist"' in planned(registered_only)
    refused = registered_only.post("/studies", data=FORM)
    assert refused.status_code == 422
    assert (
        '<a href="#insist">No live worker has enough memory</a>. Apply a memory saving, or tick the box.'
        in refused.text
    )
    with database_of(registered_only).reading() as session:
        assert runs.count_by_status(session)["queued"] == 0
    ticked = registered_only.post("/studies/plan", data=FORM | {"insist": "true"}).text
    assert re.search(r'<input type="checkbox"\s+id="insist"[^>]*checked', ticked)
    assert registered_only.post("/studies", data=FORM | {"insist": "true"}).status_code == 303


def test_a_form_is_opened_from_a_run_with_a_way_out(full: TestClient) -> None:
    text = full.get("/studies/new", params={"from_run": 25, "set": '{"training.gradient_checkpointing": true}'}).text
    assert re.search(r'id="training-gradient_checkpointing"[^>]*checked', text)
    assert "DoRA r=64" in text
    with database_of(full).transaction() as session:
        runs.get(session, 2).study_id = None
        spec = runs.get(session, 2).spec
    alone = full.get("/studies/new", params={"from_run": 2}).text
    assert "Run 2, changed" in alone
    again = StudyForm.of_run(spec, "again").spec().owed()[0].spec
    assert again.model_copy(update={"metric": spec.metric}) == spec
    assert again.base_model == SAMPLE_MODEL
