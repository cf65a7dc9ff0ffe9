"""The language of an answer: the user's own, else the cookie's, else the one that the client prefers, else English."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from app.domain.accounts.policy import Role
from app.web.http.middleware.language import COOKIE, preferred
from tests.support.rows.accounts import Installation, installed

BULGARIAN = {"accept-language": "bg-BG,bg;q=0.9,en;q=0.8"}
PAGE = "http://127.0.0.1/runs?status=failed"


@pytest.fixture(scope="module")
def installation(tmp_path_factory: pytest.TempPathFactory, filled_file: Path) -> Iterator[Installation]:
    home = tmp_path_factory.mktemp("languages")
    with installed(home, filled_file) as made:
        yield made


@pytest.mark.parametrize(
    ("header", "chosen"),
    [
        ("", "en"),
        ("bg", "bg"),
        ("bg-BG,bg;q=0.9", "bg"),
        ("en-GB,bg;q=0.9", "en"),
        ("en;q=0.2, bg;q=0.7", "bg"),
        ("de, fr;q=0.9", "en"),
        ("de, bg;q=0.5", "bg"),
        ("bg;q=0", "en"),
        ("bg;q=much, *", "en"),
        ("BG", "bg"),
        ("Bg-bg, en;q=0.5", "bg"),
        ("EN-US", "en"),
    ],
)
def test_a_client_prefers_a_language_by_the_weights_of_its_header(header: str, chosen: str) -> None:
    assert preferred(header) == chosen


def test_an_answer_says_in_which_language_it_is_and_by_what_that_varies(installation: Installation) -> None:
    viewer = installation.browser(Role.VIEWER)
    for headers, language, heading in (({}, "en", "Workers"), (BULGARIAN, "bg", "Процеси")):
        answer = viewer.get("/workers", headers=headers)
        assert f'<html lang="{language}">' in answer.text and heading in answer.text
        assert answer.headers["content-language"] == language
        varies = {name.strip() for name in answer.headers["vary"].split(",")}
        assert varies >= {"Accept-Language", "Cookie", "HX-Request"}
    static = viewer.get("/static/favicon.svg", headers=BULGARIAN)
    assert "content-language" not in static.headers and "Cookie" not in static.headers.get("vary", "")


def test_a_choice_holds_for_the_browser_and_for_the_user(installation: Installation) -> None:
    member = installation.browser(Role.MEMBER)
    answer = member.post("/language", data={"language": "bg"}, headers={"referer": PAGE})
    assert answer.headers["location"] == "/runs?status=failed"
    assert member.cookies[COOKIE] == "bg"
    elsewhere = installation.browser(Role.MEMBER)
    assert elsewhere.get("/runs").headers["content-language"] == "bg"
    assert installation.browser(Role.VIEWER).get("/runs").headers["content-language"] == "en"
    elsewhere.post("/language", data={"language": "en"})
    assert member.get("/runs", headers=BULGARIAN).headers["content-language"] == "en", "the user's latest choice"


def test_a_visitor_without_login_chooses_by_cookie(installation: Installation) -> None:
    visitor = installation.anonymous()
    assert visitor.get("/login").headers["content-language"] == "en"
    assert visitor.post("/language", data={"language": "bg"}).headers["location"] == "/studies"
    assert '<html lang="bg">' in visitor.get("/login").text
    assert visitor.post("/language", data={"language": "xx"}).status_code == 404


@pytest.mark.parametrize(
    "page",
    [
        "https://example.org/runs",
        "http://127.0.0.1//example.org",
        "http://127.0.0.1/logout",
        "http://[",
        "http://127.0.0.1",
    ],
)
def test_a_choice_leads_only_to_a_page_of_this_server_that_can_be_opened(installation: Installation, page: str) -> None:
    visitor = installation.anonymous()
    assert (
        visitor.post("/language", data={"language": "en"}, headers={"referer": page}).headers["location"] == "/studies"
    )


def test_errors_of_the_rest_api_are_in_the_language_that_the_client_prefers(installation: Installation) -> None:
    program = installation.program(Role.MEMBER)
    installation.browser(Role.MEMBER).post("/language", data={"language": "bg"})  # pages' alone
    english, bulgarian = (program.get("/api/v1/runs/99999", headers=headers) for headers in ({}, BULGARIAN))
    assert english.headers["content-language"] == "en" and english.json()["title"] == "Not found"
    assert bulgarian.headers["content-language"] == "bg" and bulgarian.json()["title"] == "Не е намерено"
    assert english.json().keys() == bulgarian.json().keys()
    assert bulgarian.json()["type"] == "urn:vezna:notfound"
