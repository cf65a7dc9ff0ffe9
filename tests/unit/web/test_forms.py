"""Forms: numbers, ranges, addresses, errors; and a page on paper."""

from typing import Any

import pytest
from pydantic import Field as Bounded
from pydantic import ValidationError, create_model
from starlette.requests import Request

from app.domain.studies.tuning.search_space import DimensionSpec, SearchSpace
from app.web.address import Address
from app.web.forms.errors import sentences
from app.web.forms.fields import Field
from app.web.http.errors import field_errors
from app.web.numbers import NotANumber, parse_number, parse_whole
from app.web.templating import on_paper
from app.words import i18n
from app.words.studies.tuning import space_text

DIMENSION = Field("learning_rate", "dimension", optional=True)
SPACE = {
    "learning_rate": DimensionSpec(values=(0.001, 0.5)),
    "r": DimensionSpec(values=(4, 8, 16)),
    "weight_decay": DimensionSpec(low=1e-4, high=0.01, log=True),
    "num_train_epochs": DimensionSpec(low=1, high=10),
}


@pytest.fixture
def bulgarian() -> Any:
    i18n.speak("bg")
    yield
    i18n.speak(i18n.DEFAULT)


@pytest.mark.parametrize(
    ("typed", "read"),
    [
        ("4, 8, 16", ["4", "8", "16"]),
        ("4,8,16", ["4", "8", "16"]),
        ("4,8", ["4", "8"]),
        ("0,5", ["0.5"]),
        ("0,001; 0,002", ["0.001", "0.002"]),
        ("0,01 0,02", ["0.01", "0.02"]),
        ("1e-4,1e-3", ["1e-4", "1e-3"]),
        ("0.1,0.2", ["0.1", "0.2"]),
        ("1e-4 to 0,01 log", {"low": "1e-4", "high": "0.01", "log": True}),
        ("от 1e-4 до 0,01, логаритмично", {"low": "1e-4", "high": "0.01", "log": True}),
        ("от 1 до 10, линейно", {"low": "1", "high": "10", "log": False}),
    ],
)
def test_values_and_ranges_are_read(typed: str, read: object) -> None:
    assert DIMENSION.read(typed) == read


@pytest.mark.usefixtures("bulgarian")
def test_a_comma_between_digits_is_the_decimal_sign_where_the_language_has_it() -> None:
    assert DIMENSION.read("2,5") == ["2.5"]
    assert DIMENSION.read("4,8,16") == ["4", "8", "16"]


@pytest.mark.usefixtures("bulgarian")
@pytest.mark.parametrize("name", SPACE)
def test_what_a_page_shows_can_be_typed_again(name: Any) -> None:
    shown = space_text(SearchSpace.model_validate({name: SPACE[name]}))
    label_and_values = shown.split(" ")
    starts = next(place for place, word in enumerate(label_and_values) if word[0].isdigit() or word == "от")
    found = DIMENSION.read(" ".join(label_and_values[starts:]))
    assert getattr(SearchSpace.model_validate({name: found}), name) == SPACE[name]


@pytest.mark.parametrize(
    ("bound", "sentence"),
    [
        ({"gt": 7}, "Must be above 7"),
        ({"ge": 8}, "Must be 8 or more"),
        ({"lt": 7}, "Must be below 7"),
        ({"le": 6}, "Must be 6 or less"),
        ({"multiple_of": 2}, "Must be a multiple of 2"),
    ],
)
def test_a_number_beyond_its_bound_says_what_it_must_be(bound: dict[str, Any], sentence: str) -> None:
    spec = create_model("Spec", r=(int, Bounded(**bound)))
    with pytest.raises(ValidationError) as wrong:
        spec(r=7)
    [page], [program] = sentences(wrong.value.errors()), field_errors(wrong.value.errors())
    assert page == program
    assert (page.path, page.message, page.remedy) == ("r", sentence, "")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0.5", 0.5),
        ("0,5", 0.5),
        (" 2e-5 ", 2e-5),
        ("2,5e-5", 2.5e-5),
        ("0,001", 0.001),
        ("1.000", 1.0),
        ("1000", 1000),
        ("1 000", 1000),
        ("1\u202f000\u202f000", 1_000_000),
        ("1,000,000", 1_000_000),
        ("1.000.000", 1_000_000),
        ("1,234.5", 1234.5),
        ("1.234,5", 1234.5),
        ("1 234,5", 1234.5),
        ("1234,500", 1234.5),
        ("\u22120.5", -0.5),
        (".5", 0.5),
    ],
)
def test_a_number_is_read_as_it_was_meant(text: str, value: float) -> None:
    assert parse_number(text) == value


@pytest.mark.parametrize("text", ["1,000", "12,000", "-1,500"])
def test_a_number_that_may_mean_two_things_is_rejected_with_both(text: str) -> None:
    with pytest.raises(NotANumber, match=text.replace(",", "")) as raised:
        parse_number(text)
    assert text.replace(",", ".") in str(raised.value)


@pytest.mark.parametrize("text", ["", "nan", "inf", "1e9999", "0x10", "1,00,000", "1 00", "one", "1.2.3", "1_0", "--1"])
def test_what_is_no_number_is_rejected(text: str) -> None:
    with pytest.raises(NotANumber):
        parse_number(text)


def test_a_whole_number_has_no_decimals() -> None:
    assert parse_whole("1 000") == 1000
    for text in ("1.5", "1,000", "1e3", "9" * 30):
        with pytest.raises(NotANumber):
            parse_whole(text)


def at(query: str) -> Address:
    """As a request would have it."""
    return Address.of(Request({"type": "http", "query_string": query.encode(), "headers": []}), "/studies/1")


def test_a_change_keeps_the_other_words() -> None:
    address = at("sort=memory&x=time")
    assert address.to({"x": "file"}, "trade-off") == "/studies/1?sort=memory&x=file#trade-off"
    assert address.to({"sort": ""}) == "/studies/1?x=time"
    assert address.to({"sort": "", "x": None}) == "/studies/1"
    assert address.beside("x", "y") == [("sort", "memory")]


def test_empty_words_say_nothing() -> None:
    assert at("hour=&tasks=7").words == "?tasks=7"
    assert at("").words == ""


def test_words_are_quoted() -> None:
    assert at("currency=%26%22").to({"x": "a b"}) == "/studies/1?currency=%26%22&x=a+b"


DRAWING = '<svg viewBox="0 0 1 1"><clipPath id="c"/><use href="#k" /></svg>'


@pytest.mark.parametrize(
    ("page", "paper"),
    [
        ("<p>a &amp; b &#8211; c</p>", "<p>a &amp; b &#8211; c</p>"),
        ('<p><a href="/runs/1">run <b>1</b></a>.</p>', "<p>run <b>1</b>.</p>"),
        ('<a href="#arms">Arms</a>', '<a href="#arms">Arms</a>'),
        ('<a class="button quiet" href="/x">Go</a>!', "!"),
        ("<div><form><div><form></form></div><button>x</button></form>y</div>", "<div>y</div>"),
        ('<nav class="toc"><ul><li>a</li></ul></nav>b', "b"),
        ('<div data-screen><div>a</div><div>b</div></div>c', "c"),
        ('<link rel="next" href="/x">a<br>b<input name="q">c', "a<br>bc"),
        ("<details><summary>Numbers</summary>1</details>", "<details open><summary>Numbers</summary>1</details>"),
        ("<details open>1</details>", "<details open>1</details>"),
        ('<p hx-get="/x" sse-swap="y" class="z &quot;">a</p>', '<p class="z &quot;">a</p>'),
        (DRAWING, DRAWING),
        ("<p>&lt;script&gt;x&lt;/script&gt;</p>", "<p>&lt;script&gt;x&lt;/script&gt;</p>"),
        ("<script>alert(1)</script>a", "a"),
    ],
)  # fmt: skip
def test_what_needs_a_server_goes_and_the_rest_stays(page: str, paper: str) -> None:
    assert on_paper(page) == paper
