"""The list of runs: filters, orders, columns, groups, a baseline, files, pages; all of it in the address."""

import csv
import re
from html import unescape
from urllib.parse import quote, unquote

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import select, update

from app.domain.runs.listing.annotations import Annotation
from app.domain.runs.listing.filters import Is, parse
from app.domain.studies.tuning.tuning import FIRST_SEED
from app.features.elsewhere.services import imports
from app.services.runs import annotations
from app.store.runs import groups as run_groups
from app.store.runs.columns import SORTABLE
from app.store.runs.listing import Order, count, page
from app.store.tables import RunRow
from app.web.pages.runs.form import CHOICES, DEFAULT
from app.words.format import hundred
from tests.support.rows.imported_results import as_file, result
from tests.unit.web.conftest import database_of

ALL = 37


def shown(text: str) -> list[int]:
    """Ids of the runs of a page, in order."""
    return [int(found) for found in re.findall(r'<a href="/runs/(\d+)">Run \d+</a>', text.partition("<tbody>")[2])]


def runs_like(client: TestClient, text: str) -> list[int]:
    """Ids of the runs that a filter lets through, newest first."""
    return shown(client.get(f"/runs?filter={quote(text)}").text)


def links(text: str) -> set[str]:
    """Where a page leads."""
    return {unquote(link).replace("+", " ") for link in re.findall(r'href="([^"]+)"', unescape(text))}


def table(text: str) -> list[dict[str, str]]:
    """A CSV file by its head."""
    return list(csv.DictReader(text.splitlines()))


@pytest.mark.by_day
@pytest.mark.parametrize("falls", [True, False])
@pytest.mark.parametrize("field", SORTABLE)
def test_every_order_reaches_every_run_once_page_by_page(full: TestClient, field: str, falls: bool) -> None:
    with database_of(full).reading() as session:
        order = Order(field, falls)
        whole = page(session, order=order, limit=100, fields=(field,)).rows
        values = [run.values[field] for run in whole]
        known = [n for n in values if n is not None]
        assert known == sorted(known, reverse=falls)
        assert values[: len(known)] == known, "runs without the number come last"
        seen: list[int] = []
        after = None
        while after is not None or not seen:
            part = page(session, parse("id > 0"), order=order, after=after, limit=4)
            seen += [run.id for run in part.rows]
            after = part.next_after
        assert seen == [run.id for run in whole]


@pytest.mark.parametrize(
    ("text", "ids"),
    [
        ("study = 1 and method = lora", [8, 5, 2]),
        ("running", [16]),
        ("failed", [25]),
        ("not succeeded and not queued and not cancelled", [25, 16]),
        ('(study = 3 or study = 1) and arm = "LoRA r=8"', [8, 5, 2]),
        ('study_name ~ "two RANKS" and rank in (4)', [26]),
        ("failure = out_of_memory", [25]),
        ("device ~ X86 and study = 1 and method = full", [7, 4, 1]),
        ("peak > 300 MiB and study = 1", [7, 4, 1]),
        ("score = 2 %", []),
        ("study = 3 and accuracy > 0 and not method = lora", []),
        ("id = 99999999999999999999999", None),
        ("id < 9999999999999 and id <= 2", [2, 1]),
        ("seed != 7 and study = 3", []),
        ("model = all-MiniLM-L6-v2 and data != nothing and id < 2", [1]),
        ("task = causal-lm", []),
        ("started_at > 2200-01-01", []),
        ("started_at > 2020-01-01 and study = 1 and seed = 0", [3, 2, 1]),
        ('arm ~ "100%" or arm ~ "_"', []),
        ("""arm = "x' OR 1=1 --\"""", []),
    ],
)
def test_a_filter_lets_through_what_it_says(full: TestClient, text: str, ids: list[int] | None) -> None:
    if ids is None:
        assert "too large" in full.get(f"/runs?filter={quote(text)}").text
    else:
        assert runs_like(full, text) == ids


def test_a_run_without_a_value_fulfils_no_comparison_and_every_not_of_one(full: TestClient) -> None:
    without = set(range(1, ALL + 1)) - set(runs_like(full, "score >= 0"))
    assert 25 in without
    assert set(runs_like(full, "not score >= 0")) == without
    assert set(runs_like(full, "not (score < 0.85 or score >= 0.85)")) == without
    assert set(runs_like(full, "not token_accuracy > 0")) == set(range(1, ALL + 1))


def test_a_column_of_bytes_has_one_unit_by_its_largest_value(full: TestClient) -> None:
    address = "/runs?columns=peak&filter=study+%3D+1"
    heading = re.compile(r"Peak memory</a><span>(\w+)</span>")
    assert heading.findall(full.get(address).text) == ["MiB"]
    with database_of(full).transaction() as session:
        session.execute(update(RunRow).where(RunRow.id == 1).values(peak_bytes=36 * 2**30))
    text = full.get(address).text
    assert heading.findall(text) == ["GiB"]
    assert '<td class="num">36.0</td>' in text and '<td class="num">0.1</td>' in text
    grouped = full.get(f"{address}&group=seed").text
    assert heading.findall(grouped) == ["GiB"]


def test_a_mistake_stands_below_the_filter_with_its_place(full: TestClient) -> None:
    answer = full.get("/runs?filter=acuracy+%3E+0.9&sort=-score&columns=seed")
    assert answer.status_code == 200
    assert "<code>acuracy</code> is not a field. Did you mean <code>accuracy</code>?" in answer.text
    assert "<mark>acuracy &gt; 0.9</mark>\n^" in answer.text
    assert 'value="acuracy &gt; 0.9"' in answer.text
    assert '<input type="hidden" name="sort" value="-score">' in answer.text
    assert shown(answer.text) == []
    assert full.get("/runs.csv?filter=acuracy").status_code == 422


def test_older_links_become_a_filter(full: TestClient) -> None:
    text = full.get("/runs?status=succeeded&method=lora&study=1").text
    assert shown(text) == [8, 5, 2]
    assert 'value="status = &#34;succeeded&#34; and method = &#34;lora&#34; and study = 1"' in text
    assert shown(full.get("/runs?sort=nonsense&columns=nonsense&baseline=x&open=x").text) == list(range(ALL, 0, -1))


def test_everything_stays_in_the_address_when_one_thing_changes(full: TestClient) -> None:
    text = full.get("/runs?filter=study+%3D+1&columns=score,peak&baseline=1&sort=-score").text
    assert "9 runs" in text
    found = links(text)
    assert "/runs?filter=study = 1&columns=score,peak&baseline=1&sort=peak" in found
    assert "/runs?filter=study = 1&columns=score,peak&baseline=1&sort=score" in found
    assert "/runs?filter=study = 1&sort=-score&columns=score,peak" in found
    assert "/runs.csv?filter=study = 1&sort=-score&columns=score,peak&baseline=1" in found
    assert "/runs?filter=study = 1&columns=score,peak&baseline=1&group=seed" in found


def test_the_order_in_force_is_told_to_a_screen_reader_and_turns_round(full: TestClient) -> None:
    text = full.get("/runs?sort=-score").text
    assert text.count("aria-sort=") == 1
    assert 'aria-sort="descending"><a href="/runs?sort=score">' in text
    assert 'aria-sort="ascending"><a href="/runs?sort=-peak">' in full.get("/runs?sort=peak").text


def test_columns_are_chosen_by_boxes_or_by_a_word(full: TestClient) -> None:
    for address in ("/runs?columns=seed&columns=peak", "/runs?columns=seed,peak"):
        head = full.get(address).text.partition("<thead>")[2].partition("</thead>")[0]
        assert head.count("<th") == 3
        assert "Peak memory" in head and "Seed" in head
    every = full.get(f"/runs?columns={','.join(CHOICES)}").text
    assert every.partition("</thead>")[0].count('<th scope="col"') == len(CHOICES) + 1
    assert f"Columns: {len(DEFAULT)} of {len(CHOICES)}" in full.get("/runs").text


def test_a_baseline_stands_beside_every_number(full: TestClient) -> None:
    text = full.get("/runs?filter=study+%3D+1&baseline=1&columns=score,peak,seed,status").text
    rows = text.partition("<tbody>")[2].split("</tr>")
    lora = next(row for row in rows if 'href="/runs/2"' in row)
    assert '<td class="num">150<small>37\N{NO-BREAK SPACE}%</small></td>' in lora
    assert re.search(r'<td class="num">[\d.]+<small>[+−]?[\d.]+</small></td>', lora)
    assert '<td class="num">0</td>' in lora, "a seed is a name"
    own = next(row for row in rows if 'href="/runs/1"' in row)
    assert "baseline</span>" in own and "unpin" in own
    assert full.get("/runs?baseline=9999").status_code == 200


def cells(text: str, run: int) -> list[str]:
    """A run's numbers, each with what stands below it and why."""
    rows = text.partition("<tbody>")[2].split("</tr>")
    row = next(row for row in rows if f'href="/runs/{run}"' in row or f"open={run}" in row or f'value="{run}"' in row)
    return [" ".join(re.sub("<[^>]*?title=\"([^\"]*)\"[^>]*>|<[^>]+>", r" \1 ", cell).split()) for cell in re.findall(
        r'<td class="num">(.*?)</td>', row
    )]  # fmt: skip


@pytest.mark.parametrize("grouped", ["", "&group=seed"])
def test_what_does_not_compare_with_the_baseline_has_a_dash_and_a_reason(full: TestClient, grouped: str) -> None:
    with database_of(full).transaction() as session:
        files = imports.read_files([as_file(result(dataset="MetaMathQA", label="Elsewhere"))])
        (elsewhere,) = imports.add_results(session, files, "others").added
        moved = session.get_one(RunRow, 2)
        moved.device_name, moved.precision = "NVIDIA L4", "bf16"
    address = f"/runs?filter=id+in+(1,2,3,{elsewhere})&baseline=1&columns=score,peak,train,trainable{grouped}"
    text = full.get(address).text
    held = "Not compared with the baseline:"
    others = [cell for cell in cells(text, elsewhere) if "Not compared" in cell]
    assert [cell.partition(held)[2].strip() for cell in others] == [
        "the dataset differs, or is unknown –",
        "the device differs, or is unknown –",
        "the device differs, or is unknown –",
    ]
    moved_cells = [cell for cell in cells(text, 2) if cell.endswith("–") and "Not compared" in cell]
    assert len(moved_cells) == 2 and all("the device differs" in cell for cell in moved_cells)
    assert not any("Not compared" in cell for cell in cells(text, 3) + cells(text, 1))
    assert any(cell.startswith("121 30") for cell in cells(text, 3)), "same device: 30 % of the memory"
    rows = table(full.get(address.replace("/runs?", "/runs.csv?")).text)
    peak = {row.get("run") or row["first_run"]: row["peak_bytes_minus_baseline"] for row in rows}
    score = {row.get("run") or row["first_run"]: row["score_minus_baseline"] for row in rows}
    assert (peak["2"], peak[str(elsewhere)], score[str(elsewhere)]) == ("", "", "")
    assert peak["3"] and score["2"] and score["3"]


def test_the_seed_of_a_trial_is_told_as_one_of_the_trials(full: TestClient) -> None:
    with database_of(full).transaction() as session:
        session.execute(update(RunRow).where(RunRow.id == 2).values(trial_round=0, seed=FIRST_SEED + 1))
    text = full.get("/runs?filter=id+in+(1,2)&columns=seed").text
    assert (cells(text, 2), cells(text, 1)) == (["trial 1 1,000,001"], ["0"])


def test_groups_are_runs_alike_but_for_the_seed(full: TestClient) -> None:
    text = full.get("/runs?group=seed&filter=study+%3D+1").text
    rows = text.partition("<tbody>")[2].split("</tr>")[:-1]
    assert "9 runs in 3 groups" in text
    assert len(rows) == 3
    with database_of(full).reading() as session:
        (group,) = run_groups.page(
            session, parse("study = 1 and method = full"), order=Order("score", True), fields=("score", "peak")
        ).rows
        scores = list(session.scalars(select(RunRow.score).where(RunRow.id.in_(group.runs))))
    mean = sum(scores) / 3
    sd = (sum((score - mean) ** 2 for score in scores) / 2) ** 0.5
    assert group.spreads["score"].mean == pytest.approx(mean)
    assert group.spreads["score"].sd == pytest.approx(sd)
    assert group.spreads["score"].lower == pytest.approx(mean - 4.302653 * sd / 3**0.5)
    assert group.runs == (1, 4, 7)
    assert f"{hundred(mean)} <span" in text and f'<td class="num">{hundred(group.spreads["score"].lower)}</td>' in text
    assert 'value="1,4,7"' in text


def test_groups_show_the_seeds_that_they_are_ordered_by_and_what_more_they_have(full: TestClient) -> None:
    with database_of(full).transaction() as session:
        for number, values in {2: {"status": "failed", "score": None}, 4: {"seed": 0}, 3: {"score": None}}.items():
            session.execute(update(RunRow).where(RunRow.id == number).values(**values))
    text = full.get("/runs?group=seed&sort=-n&filter=study+%3D+1").text
    assert "Seeds" in text.partition("<thead>")[2].partition("</thead>")[0]
    said = re.findall(r'<td class="num">(\d)(?:<small>([^<]*)</small>)?</td>', text.partition("<tbody>")[2])
    assert said == [("2", "1 without a score"), ("2", "1 failed"), ("2", "1 repeat")]
    rows = table(full.get("/runs.csv?group=seed&sort=-n&filter=study+%3D+1").text)
    assert sorted((row["arm"], row["runs"], row["score_n"]) for row in rows) == [
        ("LoRA r=8", "3", "2"), ("full", "3", "2"), ("head only", "3", "2")
    ]  # fmt: skip


def test_a_group_opens_in_place(full: TestClient) -> None:
    closed = full.get("/runs?group=seed&filter=study+%3D+1").text
    assert shown(closed) == []
    (toggle,) = (link for link in links(closed) if link.endswith("open=1"))
    assert shown(full.get(toggle).text) == [1, 4, 7]


@pytest.mark.parametrize("field", ["score", "lower", "n", "peak", "train", "learning_rate"])
@pytest.mark.parametrize("falls", [True, False])
def test_groups_come_in_any_order_page_by_page(full: TestClient, field: str, falls: bool) -> None:
    with database_of(full).reading() as session:
        order = Order(field, falls)
        whole = run_groups.page(session, order=order, limit=100, fields=("score", field)).rows
        numbers = []
        for group in whole:
            score = group.spreads["score"]
            numbers.append({"lower": score.lower, "n": score.n}.get(field, group.spreads.get(field, score).mean))
        known = [n for n in numbers if n is not None]
        assert known == pytest.approx(sorted(known, reverse=falls))
        assert numbers[: len(known)] == known
        seen: list[str] = []
        after = None
        while after is not None or not seen:
            part = run_groups.page(session, order=order, after=after, limit=2)
            seen += [group.key for group in part.rows]
            after = part.next_after
        assert seen == [group.key for group in whole]
        assert (count(session, None), len(seen)) == run_groups.count(session, None)


def test_the_file_has_every_row_that_the_filter_lets_through(full: TestClient) -> None:
    answer = full.get("/runs.csv?filter=succeeded&sort=peak&columns=score,peak,tag,study&baseline=1")
    rows = table(answer.text)
    assert answer.headers["content-type"].startswith("text/csv")
    assert list(rows[0]) == [
        "run", "arm", "study", "study_name", "score", "score_minus_baseline", "peak_bytes", "peak_bytes_minus_baseline",
        "tag",
    ]  # fmt: skip
    peaks = [int(row["peak_bytes"]) for row in rows]
    assert peaks == sorted(peaks)
    with database_of(full).reading() as session:
        assert len(rows) == count(session, Is("succeeded"))
    assert next(row for row in rows if row["run"] == "1")["score_minus_baseline"] == "0.0"


def test_the_file_of_groups_has_means_and_deviations(full: TestClient) -> None:
    rows = table(full.get("/runs.csv?group=seed&filter=study+%3D+1&columns=score,peak,seed,model").text)
    assert list(rows[0]) == [
        "first_run", "arm", "runs", "score_n", "score_lower", "model", "score_mean", "score_sd", "peak_bytes_mean",
        "peak_bytes_sd",
    ]  # fmt: skip
    assert [row["runs"] for row in rows] == ["3", "3", "3"]


def test_ticked_runs_and_groups_are_compared_in_the_order_of_the_page(full: TestClient) -> None:
    answer = full.get("/runs/selection?run=1,4,7&run=2&run=4")
    assert (answer.status_code, answer.headers["location"]) == (303, "/compare?runs=1,4,7,2")
    assert "No run is selected" in full.get("/runs/selection").text


def test_tags_are_shown_and_found_also_those_of_a_study(full: TestClient) -> None:
    with database_of(full).transaction() as session:
        annotations.annotate_run(session, 2, Annotation(tags=["paper", "<b>"], note="Mended the tokenizer"))
        annotations.annotate_study(session, 3, Annotation(tags=["old paper"]))
    text = full.get("/runs?filter=tag+%3D+paper").text
    assert shown(text) == [2]
    assert '<span class="tag">paper</span>' in text and '<span class="tag">&lt;b&gt;</span>' in text
    assert runs_like(full, "tag ~ paper") == [28, 27, 26, 25, 2]
    assert 2 not in runs_like(full, "tag != paper") and len(runs_like(full, "not tag = paper")) == ALL - 1
    assert runs_like(full, 'note ~ "TOKENIZER"') == [2]


def test_an_empty_place_asks_for_the_beginning(full: TestClient) -> None:
    for address in ("/runs", "/studies"):
        assert full.get(f"{address}?after=").status_code == 200
        assert full.get(f"{address}?after=x").status_code == 422
        assert full.get(f"{address}?after={10**30}").status_code == 422
    assert full.get(f"/runs?study={10**30}").status_code == 200
    assert full.get("/runs?sort=-score&after=9999").status_code == 404
    assert full.get("/runs?group=seed&after=9999").status_code == 404
