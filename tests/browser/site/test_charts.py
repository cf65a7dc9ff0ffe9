"""What one can do with a study's table and charts: each control, its address, and no need of scripts."""

import pytest
from playwright.sync_api import Page, expect

pytestmark = pytest.mark.slow


def arms(page: Page) -> list[str]:
    """The arms of the table, from the top. The base model and the baselines follow them."""
    rows = page.locator("#arms table.arms tbody tr")
    aside = [("aside" in (row.get_attribute("class") or "")) for row in rows.all()]
    assert aside == sorted(aside) and any(aside)
    return [
        name.strip() for name in page.locator("#arms table.arms tbody tr:not(.aside) .method span").all_inner_texts()
    ]


@pytest.mark.nightly
def test_a_column_sorts_both_ways_and_the_base_model_stays_last(page: Page) -> None:
    page.goto("/studies/1")
    assert arms(page) == ["full", "LoRA r=8", "head only"]
    page.click("#sort-memory")
    expect(page.locator("#arms table.arms tbody tr").first).to_contain_text("head only")
    assert arms(page) == ["head only", "LoRA r=8", "full"]
    assert page.url.endswith("/studies/1?sort=memory")
    expect(page.locator("#arms [aria-sort]")).to_have_attribute("aria-sort", "ascending")
    expect(page.locator("#sort-memory")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("#arms [aria-sort]")).to_have_attribute("aria-sort", "descending")
    assert arms(page) == ["full", "LoRA r=8", "head only"]
    expect(page.locator("#arms table.arms tr.reference")).to_contain_text("full")
    page.go_back()
    expect(page.locator("#arms [aria-sort]")).to_have_attribute("aria-sort", "ascending")
    page.click("#unsorted")
    expect(page.locator("#arms [aria-sort]")).to_have_count(0)


@pytest.mark.nightly
def test_the_trade_off_is_drawn_over_the_axes_that_one_chooses(page: Page) -> None:
    page.goto("/studies/1/costs?sort=memory")
    page.focus("#axis-x")
    page.select_option("#axis-x", "trainable")
    expect(page.locator("#trade-off .chart .wide").first).to_contain_text("Trainable parameters")
    expect(page.locator("#axis-x")).to_be_focused()
    assert page.url.endswith("/studies/1/costs?sort=memory&y=score&x=trainable")
    page.select_option("#axis-y", "time")
    expect(page.locator("#trade-off .chart .wide").first).to_contain_text("Train time, s")
    page.click("#to-arms")
    expect(page.locator("#sort-memory")).to_be_visible()
    assert arms(page)[0] == "head only", "the table keeps its order"
    page.click("#to-costs")
    assert page.locator("#trade-off-csv").get_attribute("href") == "/studies/1/charts/trade-off.csv?x=trainable&y=time"
    page.reload()
    expect(page.locator("#axis-y")).to_have_value("time")
    page.select_option("#axis-x", "time")
    expect(page.locator("#trade-off")).to_contain_text("choose two different ones")


@pytest.mark.nightly
def test_curves_are_drawn_as_one_chooses(page: Page) -> None:
    page.goto("/studies/1?x=time")
    page.click("#show-over-training")
    page.select_option("#by", "time")
    expect(page.locator("#over-training .chart .wide")).to_contain_text("Time in training, s")
    page.select_option("#curve", "gradient")
    expect(page.locator("#over-training figcaption")).to_contain_text("clipped")
    page.select_option("#smooth", "0.9")
    expect(page.locator("#about-curves")).to_contain_text("(factor 0.9)")
    assert page.url.endswith("/studies/1?x=time&curve=gradient&by=time&smooth=0.9")
    page.click("#to-costs")
    expect(page.locator("#axis-x")).to_have_value("time")
    page.click("#to-arms")
    page.select_option("#curve", "validation")
    expect(page.locator("#smooth")).to_have_count(0)
    page.select_option("#curve", "loss")
    expect(page.locator("#smooth")).to_have_value("0.9")
    page.click("#show-curves")
    expect(page.locator("#numbers-curves table")).to_be_visible()
    page.select_option("#by", "epoch")
    expect(page.locator("#over-training .chart .wide")).to_contain_text("Epoch")
    expect(page.locator("#numbers-curves table")).to_be_visible()


def test_a_study_under_way_keeps_what_one_looks_at_when_a_run_ends(page: Page) -> None:
    page.goto("/studies/2?sort=memory")
    page.click("#show-over-training")
    page.select_option("#curve", "memory")
    expect(page.locator("#over-training .chart .wide")).to_contain_text("Memory after each step")
    assert "/studies/2?sort=memory&curve=memory" in (page.locator("#live").get_attribute("hx-get") or "")
