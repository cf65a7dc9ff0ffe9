"""The acceptance of the whole: a study over nine methods on the sample model and its data, run from the browser to its
verdict. A part of the headlines and a few steps are enough to see that all of them get there."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from app.domain.data.dataset import SAMPLE_DATASET, Split
from app.domain.models.base_model import SAMPLE_MODEL
from app.samples import samples as sample
from app.services.data import datasets as dataset_service
from app.store.database.session import Database
from app.store.files.files import Files
from tests.support.servers.running_stack import RunningStack, await_model, prepare, start

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

ADDED = ("last-layers", "bitfit", "ia3", "bottleneck-adapter", "lora-from-scratch", "vera")
"""Beside those that a new study begins with: full, LoRA, head only."""
ARMS = (
    "full",
    "LoRA r=8",
    "head only",
    "last 2 layers",
    "BitFit",
    "(IA)³",
    "adapters m=64 (houlsby)",
    "LoRA from scratch r=8",
    "VeRA r=256",
)
ROWS: dict[Split, int] = {"train": 64, "validation": 32, "test": 128}
SEEDS = 1
"""Studies with several are taken to their verdicts by `test_study_from_form.py`, with smaller models."""
VERDICT_MS = 600_000


@pytest.fixture
def vezna(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[RunningStack]:
    """Every process, the packaged model inspected, the headlines registered."""
    settings = prepare(tmp_path, monkeypatch)
    labels, everything = sample.headlines()
    rows = [row for split, most in ROWS.items() for row in [r for r in everything if r.split == split][:most]]
    database = Database(settings.database)
    with database.transaction() as session:
        dataset_service.register(
            session,
            Files(settings.files),
            name=SAMPLE_DATASET,
            title=sample.TITLE,
            form="labelled",
            labels=labels,
            rows=rows,
        )
    database.dispose()
    with start(settings, models=()) as found:
        assert found.api.post("/models", json={"name": SAMPLE_MODEL, "source": "sample"}).status_code == 202
        await_model(found.api, SAMPLE_MODEL)
        yield found


@pytest.mark.nightly
def test_nine_methods_are_compared_on_the_sample_from_the_form_to_the_verdict(
    vezna: RunningStack, chromium: Browser
) -> None:
    context = chromium.new_context(base_url=vezna.stack.url, viewport={"width": 1280, "height": 900})
    page = context.new_page()
    page.goto("/studies/new")
    for name, sample_of_it in (("base_model", SAMPLE_MODEL), ("dataset", SAMPLE_DATASET)):
        expect(page.locator(f"input[name={name}][value='{sample_of_it}']")).to_be_checked()
    page.click("#add")
    for place, kind in enumerate(ADDED, start=3):
        page.click(f"#add-{kind}")
        expect(page.locator("fieldset.arm")).to_have_count(place + 1)
    fold_out(page, f"arm-{ARMS.index('LoRA r=8')}")
    page.locator("[name='arms.1.method.layers_to_transform']").fill("4, 5")
    fold_out(page, f"arm-{ARMS.index('(IA)³')}")
    page.locator("[name='arms.5.method.feedforward_modules']").fill("output.dense")
    fold_out(page, "budget")
    page.locator('[name="training.max_steps"]').fill("4")
    page.get_by_label("max_length").fill("16")
    page.get_by_label("Name of the study").fill("Nine methods")
    page.get_by_label("Seeds").fill(str(SEEDS))
    page.get_by_label("Seeds").press("Tab")
    page.get_by_role("button", name=f"Start {len(ARMS) * SEEDS} runs").click()
    page.wait_for_url("**/studies/1")
    expect(page.locator("#progress")).to_have_count(0, timeout=VERDICT_MS)
    expect(page.locator(".verdict h1")).to_contain_text("full fine-tuning")
    found = vezna.api.get("/studies/1/comparison").json()
    runs = [vezna.api.get(f"/runs/{run}").json() for run in vezna.api.get("/studies/1").json()["runs"]]
    assert [run["failure"] for run in runs if run["failure"]] == []
    assert [(arm["title"], arm["statuses"]) for arm in found["arms"]] == [
        (title, {"succeeded": SEEDS}) for title in ARMS
    ]
    for title in ARMS:
        expect(page.locator("#arms tbody th").filter(has_text=title).first).to_be_visible()
    expect(page.locator("#conditions tr").filter(has_text="layers_to_transform")).to_contain_text("4, 5")
    expect(page.locator("#conditions tr").filter(has_text="feedforward_modules")).to_contain_text("output.dense")
    context.close()


def fold_out(page: Page, key: str) -> None:
    """What is behind a disclosure."""
    page.click(f"#{key}-more > summary")
