"""From the verdict of a study to the champion of a registered model and its receipt, as a user clicks."""

import pytest
from playwright.sync_api import Page, expect

from app.domain.comparison.fairness.export_gate import GateOutcome
from app.domain.models.exports import ExportFormat
from app.features.shipping.rules.receipts import Envelope
from app.features.shipping.services.signing import public_key, verified
from tests.browser.conftest import Site
from tests.support.filled.exports import add, gate

pytestmark = pytest.mark.slow
RUN = 2


@pytest.mark.nightly
def test_from_the_verdict_to_the_champion_and_its_receipt(page: Page, site: Site) -> None:
    with site.database.transaction() as session:
        add(session, RUN, ExportFormat.MERGED_FLOAT32, "succeeded", gate(GateOutcome.PASS, -0.002, 0.004))
        undecided = add(
            session, RUN, ExportFormat.MERGED_BFLOAT16, "succeeded", gate(GateOutcome.UNDECIDED, -0.011, 0.014)
        )
    page.goto("/studies/1")
    expect(page.locator(".verdict h1")).to_be_visible()
    page.locator("#to-runs").click()
    page.locator(f'a[href="/runs/{RUN}"]').first.click()
    exports = page.locator("#exports")
    row = exports.get_by_role("row").filter(has_text="Merged, float32")
    row.get_by_role("link", name="Register").click()
    page.get_by_label("Name").fill("headlines")
    page.get_by_role("button", name="Register").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("headlines")
    expect(page.get_by_text("No version is the champion.")).to_be_visible()

    page.get_by_label("champion").check()
    page.get_by_label("Reason").fill("answers as the run did")
    page.get_by_role("button", name="Change stage").click()
    expect(page.get_by_text("Version 1 is the champion.")).to_be_visible()
    expect(page.locator("#history")).to_contain_text("answers as the run did")
    assert page.request.get("/api/v1/registry/headlines/champion").json()["run_id"] == RUN
    with page.expect_download() as download:
        page.get_by_role("link", name="Receipt version 1").click()
    envelope = Envelope.parse(download.value.path().read_bytes())
    key = page.request.get("/api/v1/receipt-key").json()["pem"]
    receipt = verified(envelope, [public_key(key.encode())]).predicate
    assert (receipt.run, receipt.format, receipt.gate.outcome) == (RUN, ExportFormat.MERGED_FLOAT32, GateOutcome.PASS)

    page.goto(f"/runs/{RUN}/exports/{undecided}/register")
    page.get_by_label("Name").fill("headlines")
    page.get_by_role("button", name="Register").click()
    expect(page.get_by_role("alert")).to_contain_text("The gate of this export is undecided, so it needs a reason")
    page.get_by_label("Reason").fill("200 more items agreed")
    page.get_by_label("champion").check()
    page.get_by_role("button", name="Register").click()
    expect(page.get_by_text("Version 2 is the champion.")).to_be_visible()
    expect(page.locator("#history")).to_contain_text("Replaced by version 2.")
