"""Data in a browser: files are dropped and sent with a bar, a mapping follows what is chosen, all by keyboard too."""

from pathlib import Path

import pytest
from playwright.sync_api import Page, Route, expect

from app.settings import Settings
from app.store.data import queries as datasets
from tests.browser.conftest import Site
from tests.support.ingested import context, dataset, upload
from worker.ingest import tasks
from worker.nodes.context import Context

pytestmark = pytest.mark.slow

CSV = b"text,label,split\n" + b"".join(
    b"good thing %d,1,train\nbad thing %d,0,%s\n" % (i, i, b"test" if i % 5 == 0 else b"train") for i in range(60)
)
DROP = """([target, name, text]) => {
  const dropped = new DataTransfer();
  dropped.items.add(new File([text], name, {type: "text/csv"}));
  const how = {bubbles: true, cancelable: true, dataTransfer: dropped};
  for (const kind of ["dragenter", "dragover", "drop"])
    document.querySelector(target).dispatchEvent(new DragEvent(kind, how));
}"""


@pytest.fixture
def here(site: Site, tmp_path: Path) -> Context:
    """A worker's context on the site."""
    return context(Settings(home=tmp_path), site.database, site.files)


def test_files_are_dropped_named_and_sent_and_the_page_follows_their_reading(page: Page, here: Context) -> None:
    page.goto("/data")
    expect(page.get_by_text("Drop files here or choose them.")).to_be_visible()
    page.evaluate(DROP, [".drop", "reviews.csv", CSV.decode()])
    expect(page.locator(".chosen li")).to_have_text("reviews.csv, 2.5 KiB")
    expect(page.locator("#upload")).to_be_focused()
    page.keyboard.press("Enter")
    page.wait_for_url("**/data/uploads/1")
    expect(page.get_by_text("Reading the files")).to_be_visible()
    tasks.read(here, 1)
    expect(page.get_by_role("heading", name="Dataset")).to_be_visible()
    expect(page.get_by_label("Name", exact=True)).to_have_value("reviews")


def test_a_file_may_be_sent_by_keyboard_and_what_is_wrong_is_said_there(page: Page) -> None:
    page.goto("/data")
    page.locator("#upload").focus()
    page.keyboard.press("Enter")
    expect(page.locator("[data-error]")).to_have_text("Choose a file first")
    expect(page.locator("#file")).to_be_focused()
    page.set_input_files("#file", {"name": "empty.csv", "mimeType": "text/csv", "buffer": b""})
    page.locator("#upload").press("Enter")
    expect(page.locator("#errors")).to_be_focused()
    expect(page.locator("#errors")).to_contain_text("empty.csv is empty")
    expect(page).to_have_title("Error: Data – Vezna")
    page.set_input_files("#file", {"name": "a.csv", "mimeType": "text/csv", "buffer": CSV})  # what was swapped in works
    expect(page.locator(".chosen li")).to_have_text("a.csv, 2.5 KiB")
    page.locator("#upload").click()
    page.wait_for_url("**/data/uploads/1")


def test_what_is_too_large_is_not_sent(page: Page) -> None:
    page.goto("/data")
    page.evaluate("document.querySelector('[data-upload]').dataset.most = 1000")
    page.set_input_files("#file", {"name": "a.csv", "mimeType": "text/csv", "buffer": CSV})
    expect(page.locator("[data-error]")).to_contain_text("2.5 KiB exceeds")
    page.route("**/data/files", lambda route: pytest.fail("it was sent"))
    page.locator("#upload").click()
    expect(page.locator("#file")).to_be_focused()


def test_sending_can_be_stopped_and_a_broken_connection_is_said(page: Page) -> None:
    held: list[Route] = []
    page.route("**/data/files", lambda route: held.append(route))
    page.goto("/data")
    page.set_input_files("#file", {"name": "a.csv", "mimeType": "text/csv", "buffer": CSV})
    page.locator("#upload").click()
    expect(page.locator("#stop-upload")).to_be_visible()
    expect(page.locator("#upload")).to_be_disabled()
    page.locator("#stop-upload").click()
    expect(page.locator("#upload")).to_be_enabled()
    expect(page.locator("[data-sending]")).to_be_hidden()
    page.unroute("**/data/files")
    page.route("**/data/files", lambda route: route.abort())
    page.locator("#upload").click()
    expect(page.locator("[data-error]")).to_have_text("The connection was lost and nothing was stored. Try again.")


def test_the_form_of_a_mapping_follows_its_choices(page: Page, here: Context) -> None:
    row = upload(here, {"reviews.csv": CSV})
    page.goto(f"/data/uploads/{row.id}")
    expect(page.get_by_label("Splits", exact=True)).to_have_value("column:split")
    expect(page.get_by_label("test", exact=True)).to_have_value("test")
    page.get_by_label("Splits", exact=True).select_option("random")
    expect(page.get_by_label("Test", exact=True)).to_have_value("0.1")
    expect(page.locator("#splitting-names")).to_have_count(0)
    page.get_by_label("Format").select_option("text")
    expect(page.locator("#mapping-columns-label")).to_have_count(0)
    expect(page.locator(".htmx-settling")).to_have_count(0)
    page.get_by_label("Format").select_option("labelled")
    page.locator("#show-label-names").click()
    page.get_by_label("1", exact=True).fill("good")
    page.get_by_label("Name", exact=True).fill("mine")
    page.get_by_label("Name", exact=True).press("Enter")
    page.wait_for_url("**/data/mine%401")
    expect(page.get_by_text("Preparing the dataset")).to_be_visible()
    with here.database.reading() as session:
        made = datasets.versions(session, "mine")[0]
    tasks.prepare(here, made.id)
    expect(page.get_by_text("2: 0, good")).to_be_visible()


def test_a_version_is_looked_at_and_deleted_by_keyboard(page: Page, here: Context) -> None:
    made = dataset(here, upload(here, {"reviews.csv": CSV + b"good thing 1,1,train\n"}), "reviews")
    page.goto(f"/data/{made.reference}")
    page.locator("[id^=show-rows]").first.press("Enter")
    expect(page.locator("details[open] .excerpts dd").first).to_be_visible()
    page.locator("#show-labels").press("Enter")
    expect(page.locator("#numbers-labels table")).to_be_visible()
    page.locator("#max_length").fill("7")
    page.locator("#max_length").press("Enter")
    page.wait_for_url("**max_length=7**")
    page.locator("#to-delete").press("Enter")
    page.locator("#delete").press("Enter")
    page.wait_for_url("**/data")
    expect(page.get_by_role("heading", name="Uploads without a dataset")).to_be_visible()


def test_g_and_d_go_to_the_data(page: Page) -> None:
    page.goto("/runs")
    page.keyboard.press("g")
    page.keyboard.press("d")
    page.wait_for_url("**/data")
