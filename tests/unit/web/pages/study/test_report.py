"""A study's report, by HTTP: everything that its page has, and nothing that leads out of the file."""

import re
from html import unescape
from html.parser import HTMLParser

import pytest
import yaml
from fastapi.testclient import TestClient

from app.domain.studies.spec import StudySpec
from app.web.http.files.stylesheet import whole_stylesheet
from tests.support import prediction_files
from tests.support.rows.factories import MANY, STATES, seed_study
from tests.unit.web.conftest import database_of

NAMESPACES = ("http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink")


class Reader(HTMLParser):
    """What a document names: elements, addresses, ids."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.addresses: set[str] = set()
        self.ids: list[str] = []
        self.attributes: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _value in attrs}
        for name, value in attrs:
            if name in ("href", "src", "action", "srcset", "xlink:href", "data", "poster", "formaction"):
                self.addresses.add(value or "")
            if name == "id":
                self.ids.append(value or "")


def report(client: TestClient, **options: object) -> str:
    """The report of a study made for it."""
    with database_of(client).transaction() as session:
        found = seed_study(session, **options)  # type: ignore[arg-type]
        prediction_files.add_to_study(session, client.app.state.files, found)  # type: ignore[attr-defined]
    answer = client.get(f"/studies/{found}/report.html")
    assert answer.status_code == 200
    assert answer.headers["content-security-policy"].startswith("default-src 'none'")
    return answer.text


@pytest.mark.by_day
@pytest.mark.parametrize("state", STATES)
def test_nothing_in_it_leads_out_in_any_state(empty: TestClient, state: str) -> None:
    text = report(empty, **STATES[state])
    read = Reader(text)
    assert all(address.startswith("#") for address in read.addresses), read.addresses
    assert {address[1:] for address in read.addresses} <= set(read.ids)
    assert not read.tags & {"script", "link", "img", "form", "button", "input", "iframe", "nav"}
    assert not [name for name in read.attributes if name.startswith(("hx-", "sse-", "on"))]
    assert all(found.startswith(("data:", "#")) for found in re.findall(r'url\("?([^")]+)', text))
    outside = set(re.findall(r"https?://[\w./]+", text)) - set(NAMESPACES) - {"https://picocss.com"}
    assert outside == set(), "the style sheet's licence names its site; nothing else names any"
    assert "@import" not in text
    assert len(read.ids) == len(set(read.ids))


def test_it_has_the_verdict_every_figure_with_its_numbers_and_the_items(empty: TestClient) -> None:
    text = report(empty)
    assert "<h1>LoRA r=8 is enough: it loses less than 2 points against full fine-tuning</h1>" in text
    for name in ("verdict", "trade-off", "trade-off-time", "curves", "curves-validation", "time"):
        assert f'id="numbers-{name}"' in text, name
    assert text.count("<figcaption>") == text.count("</figure>") >= 7
    assert "The same in numbers, MiB" in text
    assert 'id="worse-' in text
    assert "Export" not in text
    assert not re.findall(r"<details(?! [^>]*open)[^>]*>", text)


def test_its_spec_is_the_studys(empty: TestClient) -> None:
    text = report(empty, arms=MANY)
    [spec] = re.findall(r'<pre class="code" tabindex="0">(.*?)</pre>', text, re.DOTALL)
    repeated = StudySpec.model_validate(yaml.safe_load(unescape(spec)))
    assert repeated == StudySpec.model_validate(empty.get("/api/v1/studies/1").json()["spec"])


@pytest.mark.slow
def test_it_shows_what_is_looked_at(empty: TestClient) -> None:
    report(empty)
    text = empty.get("/studies/1/report.html?x=time&curve=validation").text
    places = [text.index(f'id="{name}"') for name in ("numbers-curves", "memory", "numbers-trade-off-memory")]
    assert places == sorted(places)
    assert 'id="numbers-curves-loss"' in text[places[1] :]


def test_the_api_has_the_same_file(empty: TestClient) -> None:
    text = report(empty)
    made = re.compile(r"generated [^<]*")
    assert made.sub("", empty.get("/api/v1/studies/1/report").text) == made.sub("", text)
    assert empty.get("/api/v1/studies/9/report").json()["status"] == 404
    assert empty.get("/studies/9/report.html").status_code == 404


def test_the_style_sheet_needs_no_other_file() -> None:
    css = whole_stylesheet()
    assert css.count("@font-face") == css.count("data:font/woff2;base64,") == 2
    assert "@layer pico {" in css
    assert css.index("@layer pico, tokens") < css.index("@layer pico {")
    assert css.rindex("@media print") > css.index("@media screen {")
