"""One way to read a number that a person typed, in every form and address."""

import pytest
from fastapi.testclient import TestClient

from app.web.numbers import NotANumber, parse_number, parse_whole


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


def test_a_thousand_in_a_form_is_not_read_as_one(full: TestClient) -> None:
    form = {
        "name": "Mine",
        "base_model": "all-MiniLM-L6-v2",
        "dataset": "bbc-headlines",
        "seeds": "3",
        "margin_points": "1",
        "arms.0.method.kind": "full",
        "training.max_steps": "1,000",
    }
    answer = full.post("/studies", data=form)
    assert answer.status_code == 422
    assert "1,000 may mean 1000 or 1.000" in answer.text
    assert 'id="training-max_steps-error-1"' in answer.text
