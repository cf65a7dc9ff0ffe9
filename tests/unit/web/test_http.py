"""Files that are sent, and the status of a form that is shown again."""

import hashlib
import re
from collections.abc import Iterator

import pytest
from fastapi.testclient import TestClient

from app.domain.errors import Conflict, Invalid, OverQuota, Unavailable, VeznaError
from app.domain.messages import Message
from app.store.runs import queries as runs
from app.web.http.errors import status_of
from app.web.http.files.static import STATIC
from tests.support.filled import estimates as filled_estimates
from tests.unit.web.conftest import database_of

PAGES = ("/studies/1", "/studies/5", "/studies/1?x=time&curve=validation", "/runs/2", "/runs/25", "/runs/46")
MAP = "/models/all-MiniLM-L6-v2/map?methods=full&methods=lora&device=RTX+3060&batch_sizes=1+64"
BEGINNING = {"csv": b"", "svg": b"<svg", "png": b"\x89PNG"}


def figures(text: str) -> Iterator[str]:
    """Each figure of a page that has a drawing."""
    for figure in re.findall(r'<figure class="figure[^>]*>.*?</figure>', text, re.DOTALL):
        if '<div class="chart' in figure:
            yield figure


def check(client: TestClient, path: str) -> int:
    """Look at every figure of a page; how many there are."""
    found = list(figures(client.get(path).text))
    for figure in found:
        name = re.sub("<[^>]*>", "", figure).strip()[:60]
        for ending, begins in BEGINNING.items():
            [address] = re.findall(rf'href="([^"]+\.{ending}[^"]*)"', figure)
            answer = client.get(address.replace("&amp;", "&"))
            assert answer.status_code == 200, (path, name, address)
            assert answer.content.startswith(begins), (path, name, address)
            assert len(answer.content) > 20, (path, name, address)
            if ending == "svg":
                assert not re.search(r"<path(?![^>]* d=)", answer.text), (path, name, "draws a line of no points")
    return len(found)


@pytest.mark.by_day
@pytest.mark.slow
@pytest.mark.parametrize("path", PAGES)
def test_every_figure_has_csv_svg_and_png(with_language: TestClient, path: str) -> None:
    with database_of(with_language).transaction() as session:
        filled_estimates.run_out_of_memory(session, runs.get(session, 25))
    assert check(with_language, path) > 0, "the page has figures"


@pytest.mark.slow
def test_the_figures_of_a_map_have_them_too(with_language: TestClient) -> None:
    with_language.get(MAP)
    while filled_estimates.answer_requests(database_of(with_language)):
        with_language.get(MAP)
    assert check(with_language, MAP) > 0


VENDOR = STATIC / "vendor"
LINES = [
    line.split("  ") for line in (VENDOR / "CHECKSUMS").read_text().splitlines() if line and not line.startswith("#")
]


@pytest.mark.parametrize(("digest", "path", "package", "source"), LINES)
def test_a_vendored_file_is_untouched(digest: str, path: str, package: str, source: str) -> None:
    assert hashlib.sha256((VENDOR / path).read_bytes()).hexdigest() == digest
    assert "@" in package[1:]
    assert source


def test_every_vendored_file_is_listed_and_comes_with_its_licence() -> None:
    there = {str(file.relative_to(VENDOR)) for file in VENDOR.rglob("*") if file.is_file()}
    listed = {path for _digest, path, _package, _source in LINES}
    assert there == listed | {"CHECKSUMS"}
    for directory in {path.partition("/")[0] for path in listed}:
        assert list((VENDOR / directory).glob("LICENSE*"))


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (Invalid.field("url", Message("It is no address")), 422),
        (Conflict(Message("Another one is running.")), 409),
        (OverQuota(Message("The quota has no room.")), 409),
        (Unavailable(Message("The files store does not answer.")), 503),
    ],
)
def test_a_form_that_is_shown_again_has_the_status_of_its_error(error: VeznaError, status: int) -> None:
    assert status_of(error) == status
