"""Every control of the pages on which there is nothing yet: where it leads, or what it says is missing."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.conftest import Site, served

pytestmark = pytest.mark.slow


class Empty(NamedTuple):
    """A page on which there is nothing yet: every link and button of its content."""

    says: str
    links: dict[str, str]
    """Where each leads."""
    buttons: tuple[str, ...] = ()
    """Pressed by the tests below."""


EMPTY = {
    "/studies": Empty("No studies yet", {"Plan a study": "/studies/new"}, ("Prepare the sample",)),
    "/studies?after=1": Empty("There are no older studies", {"Newest studies": "/studies"}),
    "/runs": Empty("No runs yet", {"Plan a study": "/studies/new", "Import results": "/imports"}),
    "/data": Empty("No data yet", {}, ("Upload", "Fetch")),
    "/models": Empty(
        "No models yet",
        {"Registry": "/registry"},
        ("Register all-MiniLM-L6-v2", "Register SmolLM2-135M-Instruct", "Register digits-vit", "Register"),
    ),
    "/registry": Empty(
        "No registered models yet",
        {"Models": "/models", "Webhooks": "/webhooks", "Succeeded runs": "/runs?status=succeeded"},
    ),
    "/workers": Empty("No worker has reported in the last day", {"New study": "/studies/new"}),
    "/imports": Empty("No imported results yet", {"Runs": "/runs"}, ("Import",)),
    "/compare": Empty(
        "No run is selected yet",
        {"Runs": "/runs", "All runs": "/runs", "imported collections": "/imports"},
        ("Compare",),
    ),
}
REFUSED = [
    ("/data", "Fetch", "Enter a hub id or a directory", "#location"),
    ("/models", "Register", "Enter a hub id or a directory", "#location"),
    ("/imports", "Import", "Choose at least one file of results", "#files"),
]
"""A button that is pressed with nothing filled in, what it says, and the field that its refusal leads to."""


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory, migrated_file: Path) -> Iterator[Site]:
    """The application on a database with nothing in it, into which nothing here writes."""
    with served(tmp_path_factory.mktemp("empty"), migrated_file) as site:
        yield site


@pytest.fixture
def bare(empty: Site, chromium: Browser) -> Iterator[Page]:
    """A window on it."""
    context = chromium.new_context(base_url=empty.url, viewport={"width": 1280, "height": 900})
    yield context.new_page()
    context.close()


@pytest.mark.nightly
def test_an_empty_page_says_so_and_each_of_its_links_leads_on(bare: Page) -> None:
    main = bare.get_by_role("main")
    for address, page in EMPTY.items():
        bare.goto(address)
        expect(main).to_contain_text(page.says)
        assert sorted(main.get_by_role("link").all_inner_texts()) == sorted(page.links), address
        assert sorted(main.locator("button:visible").all_inner_texts()) == sorted(page.buttons), address
        for name, path in page.links.items():
            bare.goto(address)
            main.get_by_role("link", name=name, exact=True).click()
            bare.wait_for_url(f"**{path}")
            expect(bare.locator("h1")).to_be_visible()


def test_a_button_that_is_pressed_with_nothing_filled_in_says_what_it_needs(bare: Page) -> None:
    for address, name, says, field in REFUSED:
        bare.goto(address)
        bare.get_by_role("button", name=name, exact=True).click()
        expect(bare.locator("#errors")).to_be_focused()
        expect(bare.locator("#errors")).to_contain_text(says)
        bare.locator("#errors a").click()
        expect(bare.locator(field)).to_be_focused()
    bare.goto("/data")
    bare.get_by_role("button", name="Upload", exact=True).click()
    expect(bare.get_by_role("alert")).to_have_text("Choose a file first")
    expect(bare.locator("#file")).to_be_focused()


def test_a_comparison_of_nothing_asks_again_and_names_a_run_that_is_not_there(bare: Page) -> None:
    bare.goto("/compare")
    button = bare.get_by_role("button", name="Compare", exact=True)
    button.click()
    bare.wait_for_url("**/compare?runs=")
    expect(bare.locator("main h2")).to_have_text("No run is selected yet")
    bare.get_by_label("Ids of runs").fill("7")
    button.click()
    expect(bare.locator("main h2")).to_have_text("There is no run 7.")


def test_the_form_of_a_study_leads_to_what_it_needs_first_and_starts_nothing_without(bare: Page) -> None:
    needs = {"Register a model, or a packaged one": "/models", "Add data": "/data"}
    for name, path in needs.items():
        bare.goto("/studies/new")
        bare.get_by_role("link", name=name).click()
        bare.wait_for_url(f"**{path}")
    for name in ("Start", "Show as YAML"):
        bare.goto("/studies/new")
        bare.get_by_role("button", name=name, exact=True).click()
        expect(bare.locator("#errors li")).to_have_text(
            ["Name of the study: Must not be empty", "Base model: Choose a base model", "Dataset: Choose a dataset"]
        )
        for field in ("name", "base_model", "dataset"):
            bare.locator(f"#errors a[href='#{field}']").click()
            expect(bare.locator(f"#{field}")).to_be_focused()


def test_arms_come_and_go_before_there_is_a_model(bare: Page) -> None:
    bare.goto("/studies/new")
    arms = bare.locator("fieldset.arm")
    bare.get_by_role("button", name="Copy full").click()
    expect(arms).to_have_count(4)
    bare.get_by_role("button", name="Remove head only").click()
    expect(arms).to_have_count(3)
    bare.click("#add")
    bare.click("#add-bitfit")
    expect(arms).to_have_count(4)
    expect(bare.locator("#plan")).to_contain_text("Incomplete")


def test_the_packaged_sample_is_registered_by_its_button(
    tmp_path: Path, migrated_file: Path, chromium: Browser
) -> None:
    with served(tmp_path, migrated_file) as site:
        page = chromium.new_page(base_url=site.url)
        page.goto("/models")
        page.get_by_role("button", name="Register all-MiniLM-L6-v2").click()
        page.wait_for_url("**/models/all-MiniLM-L6-v2")
        expect(page.get_by_role("main")).to_contain_text("Inspecting the model")
        page.goto("/models")
        expect(page.locator("#models tbody th")).to_contain_text("all-MiniLM-L6-v2")
        expect(page.get_by_role("button", name="Register all-MiniLM-L6-v2")).to_have_count(0)
        page.close()
