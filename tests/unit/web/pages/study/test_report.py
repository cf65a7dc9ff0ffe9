"""A study's report and the page of one in which nothing was learned, by HTTP."""

import re
from html import unescape
from html.parser import HTMLParser

import pytest
import yaml
from fastapi.testclient import TestClient

from app.domain.studies.spec import StudySpec
from app.web.http.files.stylesheet import whole_stylesheet
from tests.support import prediction_files
from tests.support.filled import filled
from tests.support.filled import learning as filled_learning
from tests.support.rows.factories import MANY, STATES, seed_study
from tests.support.servers.forms import without_tokens
from tests.unit.web.conftest import database_of, page_words

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


HEADLINE = "Nothing was learned: every arm predicts “positive” for almost all test items"


@pytest.fixture
def study(registered_only: TestClient) -> int:
    with database_of(registered_only).transaction() as session:
        return filled_learning.add(session)


@pytest.mark.slow
def test_the_heading_says_it_and_no_arm_has_a_verdict(registered_only: TestClient, study: int) -> None:
    text = registered_only.get(f"/studies/{study}").text
    assert f"<h1>{HEADLINE}</h1>" in text
    words = page_words(registered_only, f"/studies/{study}")
    assert re.findall(r'class="tab"\s+id="(\w+)"', text) == ["causes"], "the causes come first"
    assert f'href="/studies/new?from_study={study}&amp;remedy=steps"' in text[: text.index('class="facts"')]
    assert "undecided" not in words and "loses less" not in words
    arms = page_words(registered_only, f"/studies/{study}/arms")
    assert "not tested" in arms and "65.4" in arms and "73.4" in arms, "the baselines stand below the arms"
    assert 'id="add-seeds"' not in text


@pytest.mark.parametrize(
    ("remedy", "field", "value"),
    [
        ("steps", "training.num_train_epochs", "8"),
        ("max-length", "training.max_length", "256"),
        ("learning-rate", "tuning.rates", "5"),
    ],
)
def test_a_button_prepares_the_study_that_removes_the_cause(
    registered_only: TestClient, study: int, remedy: str, field: str, value: str
) -> None:
    text = registered_only.get(f"/studies/new?from_study={study}&remedy={remedy}").text
    [tag] = re.findall(rf'<input[^>]* name="{re.escape(field)}"[^>]*>', text)
    assert f'value="{value}"' in tag


def test_an_unknown_remedy_changes_nothing(registered_only: TestClient, study: int) -> None:
    prepared = registered_only.get(f"/studies/new?from_study={study}&remedy=labels")
    assert prepared.status_code == 200 and "drug-reviews" in prepared.text
    unknown, plain = (
        without_tokens(registered_only.get(f"/studies/new?{query}").text)
        for query in (f"from_study={study}&remedy=prayer", f"from_study={study}")
    )
    assert unknown == plain


def test_the_api_answers_the_same(registered_only: TestClient, study: int) -> None:
    answer = registered_only.get(f"/api/v1/studies/{study}/comparison").json()
    learning = answer["learning"]
    assert answer["headline"] == HEADLINE and HEADLINE in answer["summary"]
    assert (learning["helps"], learning["label"], learning["nothing_learned"]) == ("no", "no", True)
    assert learning["criteria"] == ["trivial", "one_label", "no_progress"]
    assert not learning["arms_tested"] and learning["most_predicted"]["full"]["label"] == "positive"
    assert [cause["kind"] for cause in learning["causes"]] == ["steps", "max-length"]
    assert learning["causes"][0]["prepared"] == f"/studies/new?from_study={study}&remedy=steps"
    [lora] = [arm["verdict"] for arm in answer["arms"] if arm["verdict"]]
    assert (lora["kind"], lora["reason"], lora["label"]) == ("none", "not_tested", "not tested")
    assert lora["delta"] == pytest.approx(-2.5 / 379)


def test_runs_of_the_study_compared_freely_have_no_verdict_either(registered_only: TestClient, study: int) -> None:
    answer = registered_only.get(f"/api/v1/compare?study={study}").json()
    [lora] = [arm["verdict"] for arm in answer["arms"] if arm["verdict"]]
    assert (lora["kind"], lora["label"]) == ("none", "not tested")
    assert "not tested" in answer["headline"]
    assert registered_only.get(f"/compare?study={study}").status_code == 200


def test_a_study_that_learned_answers_both_questions(registered_only: TestClient) -> None:
    with database_of(registered_only).transaction() as session:
        number = seed_study(session)
        filled.add_baselines(session, filled.three_arms())
    text = registered_only.get(f"/studies/{number}").text
    assert "Fine-tuning helps" in text and 'id="to-causes"' not in text
    answer = registered_only.get(f"/api/v1/studies/{number}/comparison").json()["learning"]
    assert (answer["helps"], answer["arms_tested"], answer["causes"]) == ("yes", True, [])


@pytest.mark.slow
def test_a_reference_below_tfidf_is_not_tested_though_it_learned(registered_only: TestClient) -> None:
    with database_of(registered_only).transaction() as session:
        number = seed_study(session, accuracy={"full": 0.60, "LoRA r=8": 0.61, "head only": 0.5})
        filled.add_baselines(session, filled.three_arms())
    text = registered_only.get(f"/studies/{number}").text
    assert "<h1>Fine-tuning does not help: the baseline “TF-IDF” reaches 78.5" in text
    assert "Fine-tuning helps" not in text and 'id="to-causes"' not in text


def test_a_run_shows_its_most_frequent_prediction_and_loss_trend(registered_only: TestClient, study: int) -> None:
    runs = registered_only.get(f"/api/v1/studies/{study}").json()["runs"]
    words = page_words(registered_only, f"/runs/{runs[0]}")
    assert "Most frequent prediction “positive” for 100.0 % of the test items" in words
    assert "Training loss, second half still falling" in words
    assert "Best evaluation on validation the first of 2" in words
    learned = registered_only.get(f"/api/v1/runs/{runs[0]}").json()["learned"]
    assert (learned["predicted"], learned["share"], learned["trend"]["kind"]) == ("positive", 1.0, "falling")
    assert learned["progress"] == {"evaluations": 2, "best": 1, "step": 34, "improved": False}
