"""Addresses: what one part of a page asks for leaves what others asked for."""

from starlette.requests import Request

from app.web.address import Address


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
