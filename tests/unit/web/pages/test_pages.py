"""Every page answers, in every state, with one heading and a title of its own."""

import re

import pytest
from fastapi.testclient import TestClient

PAGES = ["/studies", "/studies/new", "/runs", "/workers"]
FULL_PAGES = [
    *PAGES,
    "/studies?after=3",
    "/studies/new?from_study=3",
    "/runs?sort=score&status=succeeded&method=lora&study=1",
    "/runs?sort=nonsense&status=nonsense&method=nonsense&study=nonsense",
    "/runs?status=queued&sort=peak",
    "/runs/1",
    "/runs/2?spec=json",
    "/runs/16",
    "/runs/17?spec=curl",
    "/runs/25",
    "/runs/30",
]
LANGUAGE_PAGES = [
    "/studies",
    "/studies/5",
    "/studies/6?curve=validation&cost=time",
    "/studies/new?from_study=6",
    "/runs",
    "/runs/46",
    "/runs/54",
    "/runs/55",
]


def check_page(text: str) -> None:
    """What every page has."""
    assert text.count("<h1>") == 1
    assert re.search(r"<title>\S.* – Vezna</title>", text)
    assert "None" not in text
    assert 'style="' not in re.sub(r"<svg.*?</svg>", "", text, flags=re.DOTALL)
    assert "<script>" not in text
    ids = re.findall(r' id="([^"]+)"', text)
    assert len(ids) == len(set(ids))


@pytest.mark.parametrize("path", PAGES)
def test_a_page_of_an_empty_database_says_what_to_do_next(empty: TestClient, path: str) -> None:
    answer = empty.get(path)
    assert answer.status_code == 200
    check_page(answer.text)
    assert re.search(r"vezna (demo|up|submit)|[Pp]repare the (packaged )?sample|Run the sample", answer.text)


@pytest.mark.parametrize("path", FULL_PAGES)
def test_a_page_of_a_filled_database_answers(full: TestClient, path: str) -> None:
    answer = full.get(path)
    assert answer.status_code == 200
    check_page(answer.text)


@pytest.mark.parametrize("path", LANGUAGE_PAGES)
def test_a_page_about_language_models_answers(with_language: TestClient, path: str) -> None:
    answer = with_language.get(path)
    assert answer.status_code == 200
    check_page(answer.text)


def test_the_root_leads_to_the_studies(empty: TestClient) -> None:
    answer = empty.get("/")
    assert (answer.status_code, answer.headers["location"]) == (303, "/studies")


def test_an_empty_home_has_three_ways_in_and_one_filled_button(empty: TestClient) -> None:
    shown = empty.get("/studies").text
    for address in ("/data/files", "/lab/sample", "/data/sources"):
        assert f'action="{address}"' in shown
    assert re.findall(r'class="button"[^>]*>\s*([^<]+)<', shown) == ["Run the sample"]


@pytest.mark.parametrize("path", ["/runs/999", "/studies/new?from_study=999", "/nothing"])
def test_what_is_not_there_is_said_on_a_page(empty: TestClient, path: str) -> None:
    answer = empty.get(path)
    assert answer.status_code == 404
    check_page(answer.text)


def test_the_navigation_says_where_one_is(full: TestClient) -> None:
    assert '<a href="/runs" aria-current="page">' in full.get("/runs").text
    assert '<a href="/runs" aria-current="true">' in full.get("/runs/1").text


def test_a_static_file_may_be_kept_only_under_the_address_with_its_hash(empty: TestClient) -> None:
    address = next(iter(re.findall(r'href="(/static/css/tokens\.css\?v=\w+)"', empty.get("/studies").text)))
    assert "immutable" in empty.get(address).headers["cache-control"]
    assert empty.get(address.partition("?")[0]).headers["cache-control"] == "no-cache"


def test_the_face_is_asked_for_with_the_page_by_the_address_that_the_stylesheet_has(empty: TestClient) -> None:
    [face] = re.findall(r'<link rel="preload"\s+href="([^"]+\.woff2)"', empty.get("/studies").text)
    sheet = empty.get("/static/css/tokens.css").text
    assert face.replace("/static/", "../") in sheet
    answer = empty.get(face)
    assert answer.status_code == 200
    assert answer.headers["cache-control"] == "public, max-age=86400"
