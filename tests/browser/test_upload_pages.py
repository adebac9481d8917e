"""Bringing a domain: files chosen, columns mapped, faults mended, saved, and an experiment with it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.browser.seeding import HOSTILE

pytestmark = pytest.mark.browser


def lines(start: int, count: int) -> str:
    rows = [
        {"nr": n, "Question": f"Question {n}: {HOSTILE}\n\nA: this\nB: that", "other": "zzzz", "Answer": "AB"[n % 2]}
        for n in range(start, start + count)
    ]
    return "".join(json.dumps(row) + "\n" for row in rows)


def test_files_become_a_domain_and_the_domain_an_experiment(page: Page, tmp_path: Path, expect_console: list[str]) -> None:
    expect_console.append("422")
    train, test, broken = tmp_path / "letters.train.jsonl", tmp_path / "test.jsonl", tmp_path / "broken.jsonl"
    train.write_text(lines(0, 60), encoding="utf-8")
    test.write_text(lines(50, 40), encoding="utf-8")
    broken.write_text(lines(0, 2) + '{"Question": \n', encoding="utf-8")

    page.goto("/domains")
    page.get_by_label("Train").set_input_files(train)
    page.get_by_label("Test").set_input_files(broken)
    page.get_by_role("button", name="Upload and map columns").click()
    expect(page.locator("#error-test")).to_contain_text("broken.jsonl:3 is no valid JSON")

    page.get_by_label("Train").set_input_files(train)
    page.get_by_label("Test").set_input_files(test)
    page.get_by_role("button", name="Upload and map columns").click()
    expect(page.get_by_role("heading", name="What stands where")).to_be_visible()
    expect(page.locator("#in-prompt")).to_have_value("1")
    expect(page.get_by_label("Name of the domain")).to_have_value("letters")
    save = page.get_by_role("button", name="Save the domain")
    expect(save).to_be_disabled()

    page.locator("#in-answer").select_option("2")
    expect(page.locator("#upload-check")).to_contain_text("100 rows", use_inner_text=True)
    page.locator("#in-answer").select_option("3")
    page.get_by_label("Drop what leaks between splits").check()
    expect(page.locator("#upload-check")).to_contain_text("Mended")
    expect(page.locator(".sample li").first).to_contain_text("<script>")
    save.click()

    expect(page.get_by_role("heading", name="letters")).to_be_visible()
    expect(page.locator("main")).to_contain_text("questions dropped that stood in another split: 10")
    page.get_by_role("link", name="Use in an experiment").click()
    expect(page.locator("#launch-check")).to_contain_text("are in order")
    expect(page.locator('[id="in-domains.0.name"]')).to_have_value("letters")

    page.goto("/experiments/new?preset=tiny")
    page.get_by_text("Add from the library").click()
    page.get_by_role("button", name="letters").click()
    expect(page.locator('[id="in-domains.2.name"]')).to_have_value("letters")

    page.goto("/domains")
    page.locator("tbody tr", has_text="letters").click()
    page.get_by_role("button", name="Delete").click()
    expect(page.get_by_text("No domains yet")).to_be_visible()
