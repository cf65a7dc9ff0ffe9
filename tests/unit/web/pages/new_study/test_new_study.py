"""Planning a study: what was typed stays, errors land at their fields, and the memory fit beside it."""

import asyncio
import html
import json
import re
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import select
from starlette.datastructures import FormData
from starlette.types import Message
from structlog.testing import capture_logs

from app.broker.queue import ESTIMATE, TRAIN
from app.domain.data.dataset import SAMPLE_DATASET
from app.domain.methods import LoraSpec
from app.domain.models.base_model import SAMPLE_MODEL
from app.domain.runs.training import TrainingArguments
from app.domain.studies.arms import ArmSpec
from app.samples import samples as sample
from app.store.runs import queries as runs
from app.store.studies import queries as studies
from app.store.tables import RunRow, WorkerRow
from app.web.pages.new_study.form import StudyForm, read_change
from tests.support.filled import estimates as filled_estimates
from tests.support.rows.factories import plain
from tests.support.rows.factories import plain as without_breaks
from tests.unit.web.conftest import database_of

FORM: dict[str, str] = {
    "name": "Headlines",
    "base_model": SAMPLE_MODEL,
    "dataset": SAMPLE_DATASET,
    "margin_points": "2",
    "seeds": "3",
    "reference": "",
    "training.num_train_epochs": "3",
    "training.per_device_train_batch_size": "16",
    "training.max_length": "64",
    "arms.0.method.kind": "full",
    "arms.0.learning_rate": "5e-5",
    "arms.1.method.kind": "lora",
    "arms.1.method.r": "8",
    "arms.1.method.lora_alpha": "16",
    "arms.1.method.target_modules": "query, value",
    "arms.1.learning_rate": "1e-3",
}
NO_SUCH_LAYER = "BertForSequenceClassification has no linear module &#39;q_proj&#39;"


def typed(**change: str) -> StudyForm:
    """The form with some fields typed otherwise (`__` for a dot)."""
    return StudyForm.typed(FormData(list((FORM | {k.replace("__", "."): v for k, v in change.items()}).items())))


def test_a_form_becomes_a_study_with_its_runs_queued(registered_only: TestClient) -> None:
    answer = registered_only.post("/studies", data=FORM)
    assert (answer.status_code, answer.headers["location"]) == (303, "/studies/1")
    with database_of(registered_only).reading() as session:
        assert studies.get(session, 1).spec.margin_points == 2
        assert [run.arm for run in runs.of_study(session, 1)] == ["full", "LoRA r=8"] * 3
    rung = [task for task, _id in registered_only.app.state.doorbell.rung]  # type: ignore[attr-defined]
    assert rung == [TRAIN] * 6 + [ESTIMATE] * 3, "the runs, and the baselines"


@pytest.mark.parametrize(
    ("path", "text", "message"),
    [
        ("name", "", ""),
        ("margin_points", "wide", ""),
        ("seeds", "0", ""),
        ("seeds", "many", ""),
        ("seeds", "101", ""),
        ("seeds", "0, 1, 1", ""),
        ("training.num_train_epochs", "0", ""),
        ("training.max_steps", "1,000", "1,000 may mean 1000 or 1.000"),
        ("arms.0.learning_rate", "nan", ""),
        ("arms.1.method.target_modules", "q_proj", NO_SUCH_LAYER),
        ("base_model", "nothing", ""),
    ],
)
def test_a_wrong_field_keeps_what_was_typed(registered_only: TestClient, path: str, text: str, message: str) -> None:
    answer = registered_only.post("/studies", data=FORM | {path: text})
    assert answer.status_code == 422
    assert "<title>Error: " in answer.text
    field = path.replace(".", "-")
    summary = answer.text.split('id="errors"')[1].split("</div>")[0]
    assert f'<a href="#{field}">{message}' in summary
    assert f'id="{field}-error-1">{message}' in answer.text
    if path != "base_model":
        shown = re.search(rf'<input id="{field}"[^>]*>', answer.text)
        assert shown
        assert f'value="{text}"' in shown[0]
        assert 'aria-invalid="true"' in shown[0]
    with database_of(registered_only).reading() as session:
        assert runs.count_by_status(session)["queued"] == 0


@pytest.mark.parametrize(
    ("change", "unfolded"),
    [({}, False), ({"tuning.kind": "grid"}, True), ({"alternative": "equivalence"}, True), ({"name": ""}, True)],
)
def test_more_choices_are_folded_until_a_form_uses_them(
    registered_only: TestClient, change: dict[str, str], unfolded: bool
) -> None:
    """Also after an edit, which sends the default of every select."""
    form = FORM | {"training.max_length": "128", "alternative": "non-inferiority", "tuning.kind": "none"} | change
    answer = registered_only.post("/studies" if "name" in change else "/studies/new", data=form)
    assert ('id="more-choices" open' in answer.text) == unfolded
    assert 'id="more-choices">' in registered_only.get("/studies/new").text


@pytest.mark.parametrize("reference", ["nope", "2", "00002", "-1", "9" * 30])
def test_a_reference_that_is_no_arm_is_refused(registered_only: TestClient, reference: str) -> None:
    answer = registered_only.post("/studies", data=FORM | {"reference": reference})
    assert answer.status_code == 422
    assert 'href="#reference"' in answer.text
    with database_of(registered_only).reading() as session:
        assert studies.by_name(session, FORM["name"]) is None


@pytest.mark.parametrize(
    ("action", "arms"),
    [
        ("add:lora", ["full", "LoRA r=8", "LoRA r=16"]),
        ("add:head-only", ["full", "LoRA r=8", "head only"]),
        ("add:nonsense", ["full", "LoRA r=8"]),
        ("copy:1", ["full", "LoRA r=8", "LoRA r=16"]),
        ("copy:0", ["full", "full", "LoRA r=8"]),
        ("remove:0", ["LoRA r=8"]),
        ("remove:7", ["full", "LoRA r=8"]),
        ("nonsense", ["full", "LoRA r=8"]),
    ],
)
def test_buttons_edit_the_arms_without_scripts(registered_only: TestClient, action: str, arms: list[str]) -> None:
    answer = registered_only.post("/studies/new", data=FORM | {"do": action})
    assert answer.status_code == 200
    assert re.findall(r'<legend class="hidden">Arm (.*)</legend>', answer.text) == arms


def test_copies_are_named_apart(registered_only: TestClient) -> None:
    form = typed().edited("copy:1").edited("copy:1").edited("copy:2").edited("copy:3")
    assert len(set(form.titles)) == len(form.arms) == 6


@pytest.mark.parametrize(("text", "seeds"), [("3", [0, 1, 2]), ("4, 9", [4, 9]), ("7,", [7]), ("1", [0])])
def test_seeds_are_a_number_or_a_list(text: str, seeds: list[int]) -> None:
    assert typed(seeds=text).spec().seeds == seeds


def test_a_comma_is_read_as_a_decimal_point() -> None:
    assert typed(margin_points="1,5").spec().margin_points == 1.5


def test_what_no_form_has_is_dropped() -> None:
    assert typed(arms__1__method__bogus="1", training__bogus="2", bogus="3").spec() == typed().spec()


def test_a_study_is_repeated_with_all_that_it_said(full: TestClient) -> None:
    spec = sample.study().model_copy(
        update={
            "seeds": [7],
            "training": TrainingArguments(bf16=True, warmup_steps=10, weight_decay=0.1, max_length=32),
            "arms": [ArmSpec(method=LoraSpec(r=4, use_dora=True, lora_dropout=0.1), weight_decay=0.0, name="mine")],
            "reference": "",
        }
    )
    again = StudyForm.of(spec).spec()
    assert again.owed() == spec.owed()
    text = full.get("/studies/new?from_study=3").text
    assert "DoRA r=64" in text
    assert 'value="7,"' in text


def test_what_it_would_take_is_worked_out(registered_only: TestClient) -> None:
    text = registered_only.post("/studies/plan", data=FORM).text
    assert "Start 6 runs" in text
    assert "75,653" in text
    assert "22,715,141" in text
    assert "not known yet" in text
    assert "2 arms × 3 seeds" in text


def test_times_are_estimated_from_past_runs_of_the_same_kind(full: TestClient) -> None:
    text = full.post("/studies/plan", data=FORM).text
    assert "about 4 min 6" in text.replace("\xa0", " ")
    assert "Times are from past runs on x86, 2 cores" in text
    assert "not known yet" in full.post("/studies/plan", data=FORM | {"training.max_length": "99"}).text


def test_times_of_different_devices_are_not_added_up(full: TestClient) -> None:
    with database_of(full).transaction() as session:
        for run in session.scalars(select(RunRow).where(RunRow.method_kind == "lora")):
            run.device_name = "NVIDIA L4"
    text = full.post("/studies/plan", data=FORM).text
    assert "not known yet" in text
    assert "Times are from past runs on different devices" in text
    unlike = full.post("/studies/plan", data=FORM | {"training.max_length": "99"}).text
    assert "Times are known once a similar run has finished" in unlike


def test_a_study_that_would_end_undecided_is_warned_of_with_two_ways_out(registered_only: TestClient) -> None:
    warned = registered_only.post("/studies/plan", data=FORM | {"margin_points": "1.5"}).text
    assert "Probably undecided" in warned
    for action in re.findall(r'value="((?:seeds|margin):[\d.]+)"', warned):
        page = registered_only.post("/studies/new", data=FORM | {"margin_points": "1.5", "do": action}).text
        assert "Probably undecided" not in page
    assert "undecided" not in registered_only.post("/studies/plan", data=FORM | {"margin_points": "5"}).text


def test_a_study_starts_with_the_default_margin_that_its_plan_showed(registered_only: TestClient) -> None:
    """A run that ended between plan and start gave it another one."""
    form = FORM | {"margin_points": ""}
    page = registered_only.post("/studies/plan", data=form).text
    [shown] = re.findall(r'name="shown_margin" value="([\d.]+)"', page)
    assert f"Margin {float(shown):.1f}" in without_breaks(page)
    other = str(float(shown) + 0.5)  # as though it had been shown before that run ended
    registered_only.post("/studies", data=form | {"shown_margin": other})
    registered_only.post("/studies", data=form)
    registered_only.post("/studies", data=FORM | {"shown_margin": other})
    with database_of(registered_only).reading() as session:
        margins = [studies.get(session, number).spec.margin_points for number in (1, 2, 3)]
    assert margins == [float(other), float(shown), 2]


def test_an_unfinished_form_is_planned_as_far_as_it_goes(registered_only: TestClient) -> None:
    answer = registered_only.post("/studies/plan", data={"arms.0.method.kind": "lora", "arms.0.method.r": "x"})
    assert answer.status_code == 200
    assert "Incomplete" in answer.text


@pytest.mark.parametrize(
    ("action", "where"), [("seeds:5", 'id="seeds"'), ("margin:2.5", 'id="margin_points"'), ("remove:1", 'id="add"')]
)
def test_an_edit_leaves_the_keyboard_at_what_it_changed(registered_only: TestClient, action: str, where: str) -> None:
    text = registered_only.post("/studies/new", data=FORM | {"do": action}).text
    page = re.sub("<dialog.*?</dialog>", "", text, flags=re.DOTALL)  # a dialog has one of its own
    assert [where in tag for tag in re.findall(r"<[^>]*\sautofocus[^>]*>", page)] == [True]


def test_the_yaml_starts_the_same_study(registered_only: TestClient) -> None:
    text = registered_only.post("/studies/new", data=FORM | {"do": "yaml"}).text
    assert "vezna submit study.yaml" in text
    assert "target_modules: [query, value]" in text


def test_markup_that_was_typed_is_only_text(registered_only: TestClient) -> None:
    change: dict[str, Any] = {"name": '"><script>alert(1)</script>', "arms.1.name": "<b>%(x)s</b>"}
    text = registered_only.post("/studies/new", data=FORM | change | {"do": "plan"}).text
    assert "<script>alert" not in text
    assert "<b>%(x)s" not in text


def test_a_browser_that_asks_anew_before_it_was_read_is_no_mistake(registered_only: TestClient) -> None:
    sent: list[Message] = []

    async def left() -> Message:
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        sent.append(message)

    headers = [(b"host", b"testserver"), (b"content-type", b"application/x-www-form-urlencoded")]
    scope = {"type": "http", "method": "POST", "path": "/studies/plan", "query_string": b"", "headers": headers}
    with capture_logs() as lines:
        asyncio.run(registered_only.app(scope | {"app": registered_only.app}, left, send))
    assert [message["status"] for message in sent if "status" in message] == [400]
    assert [line for line in lines if line["log_level"] == "error"] == []


def test_another_way_to_tune_comes_with_its_own_defaults(registered_only: TestClient) -> None:
    form = FORM | {"tuning.kind": "halving", "tuning.of": "grid", "tuning.rates": "3", "tuning.factor": "3"}
    text = without_breaks(registered_only.post("/studies/new", data=form).text)
    assert re.search(r'name="tuning.rates"\s+value="6"', text)
    assert re.search(r'name="tuning.eta"\s+value="3"', text)
    assert "6 configurations for 33 % of the budget, then 2 for all of it" in text


def test_a_tuned_study_is_repeated_with_its_tuning(registered_only: TestClient) -> None:
    form = FORM | {"tuning.kind": "halving", "tuning.of": "halving", "tuning.rates": "8", "tuning.eta": "2"}
    form["train_together"] = "trials_and_seeds"
    study = registered_only.post("/studies", data=form, follow_redirects=False).headers["location"].rpartition("/")[2]
    text = registered_only.get(f"/studies/new?from_study={study}").text
    assert re.search(r'name="tuning.rates"\s+value="8"', text)
    assert re.search(r'name="tuning.eta"\s+value="2"', text)
    assert re.search(r'<option value="trials_and_seeds" selected>', text)
    page = without_breaks(registered_only.get(f"/studies/{study}/conditions").text)
    assert "LoRA trials, and seeds after the first of an arm may, on one frozen base model" in page


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
