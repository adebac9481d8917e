"""The launch form: faults beside their fields as one types, YAML both ways, and a run at the end."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from playwright.sync_api import Page, expect

from opcod.config import parse_config
from tests.browser.conftest import Site
from tests.browser.seeding import Story, seed_run
from tests.integration.service import make_data

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return make_data(tmp_path_factory.mktemp("data"))


@pytest.fixture
def filled(page: Page, site: Site, config: dict[str, Any]) -> Page:
    """The form with an experiment whose data and models exist."""
    page.goto("/experiments/new?preset=tiny")
    page.get_by_role("tab", name="YAML").click()
    page.locator("#yaml").fill(parse_config(config).to_yaml())
    expect(page.get_by_text("are in order")).to_be_visible()
    page.get_by_role("tab", name="Form").click()
    expect(page.locator("#in-students\\.0\\.name")).to_have_value("s1")
    return page


def field(page: Page, path: str) -> Any:
    return page.locator(f'[id="in-{path}"]')


def error(page: Page, path: str) -> Any:
    return page.locator(f'[id="error-{path}"]')


def test_a_fault_shows_beside_its_field_as_one_types_and_goes_when_mended(filled: Page) -> None:
    threshold = field(filled, "method.gate.threshold")
    threshold.fill("-1")
    expect(error(filled, "method.gate.threshold")).to_contain_text("greater than or equal to 0")
    expect(threshold).to_have_attribute("aria-invalid", "true")
    expect(threshold).to_be_focused()
    expect(filled.locator("#launch-check")).to_contain_text("1 thing to mend")
    threshold.fill("many")
    expect(error(filled, "method.gate.threshold")).to_contain_text("valid number")
    threshold.fill("0.3")
    expect(error(filled, "method.gate.threshold")).to_be_empty()
    expect(filled.locator("#launch-check")).to_contain_text("method.gate.threshold")


def test_every_field_says_its_unit_range_and_source(filled: Page) -> None:
    filled.locator("#section-generation summary").click()
    rollouts = filled.locator('[id="field-generation.rollouts"]')
    expect(rollouts).to_contain_text("1 to 256")
    expect(rollouts).to_contain_text("Source: paper.")
    expect(filled.locator('[id="field-generation.max_response_tokens"]')).to_contain_text("tokens")


def test_a_missing_file_and_an_unknown_model_are_told_beside_their_fields(filled: Page, expect_console: list[str]) -> None:
    expect_console.append("422")
    field(filled, "students.1.model").fill("/nowhere/at/all")
    expect(error(filled, "students.1.model")).not_to_be_empty()
    field(filled, "domains.0.train").fill("/nowhere/train.jsonl")
    expect(filled.locator("#launch-check")).to_contain_text("domains.0")
    filled.get_by_role("button", name="Launch").click()
    expect(filled).to_have_url(f"{filled.url}")
    expect(filled.locator("#launch-check")).to_contain_text("to mend")
    filled.locator("#launch-check a").first.click()
    expect(field(filled, "students.1.model")).to_be_focused()


def test_students_come_and_go(filled: Page) -> None:
    filled.get_by_role("button", name="Add a student").click()
    expect(field(filled, "students.2.name")).to_have_value("student3")
    expect(error(filled, "students.2.model")).not_to_be_empty()
    filled.get_by_role("button", name="Remove student 1").click()
    expect(field(filled, "students.0.name")).to_have_value("s2")
    expect(field(filled, "students.1.name")).to_have_value("student3")
    expect(filled.get_by_role("button", name="Remove student 1")).to_have_count(0)


def test_adapters_are_a_switch(filled: Page) -> None:
    filled.locator("#section-compute > summary").click()
    field(filled, "compute.adapters").check()
    expect(field(filled, "compute.adapters.rank")).to_have_value("8")
    filled.get_by_role("tab", name="YAML").click()
    assert yaml.safe_load(filled.locator("#yaml").input_value())["compute"]["adapters"]["rank"] == 8


def test_yaml_and_form_are_two_views_of_one_thing(filled: Page) -> None:
    field(filled, "schedule.rounds").fill("7")
    filled.get_by_role("tab", name="YAML").click()
    text = filled.locator("#yaml").input_value()
    assert parse_config(yaml.safe_load(text)).schedule.rounds == 7
    filled.locator("#yaml").fill(text.replace("rounds: 7", "rounds: 9"))
    filled.get_by_role("tab", name="Form").click()
    expect(field(filled, "schedule.rounds")).to_have_value("9")


def test_yaml_faults_come_with_their_line(filled: Page) -> None:
    filled.get_by_role("tab", name="YAML").click()
    text = filled.locator("#yaml").input_value()
    line = next(number for number, entry in enumerate(text.splitlines(), 1) if "threshold: 0.2" in entry)
    filled.locator("#yaml").fill(text.replace("threshold: 0.2", "threshold: -3"))
    expect(filled.locator("#launch-check")).to_contain_text(f"method.gate.threshold, line {line}")
    filled.locator("#yaml").fill("students: [\n  {name: a\n")
    expect(filled.locator("#launch-check")).to_contain_text("line")
    filled.get_by_role("tab", name="Form").click()
    expect(filled.locator("#yaml")).to_have_value("students: [\n  {name: a\n")


def test_launch_makes_the_run_that_was_filled_in(filled: Page, site: Site) -> None:
    field(filled, "name").fill("From the browser")
    filled.route("**/experiments/validate", lambda _: None)  # the check of what was typed is under way still
    with filled.expect_request("**/experiments/validate"):
        field(filled, "seed").fill("5")
    filled.get_by_role("button", name="Launch").click()
    filled.wait_for_url("**/runs/*")
    filled.unroute("**/experiments/validate")
    expect(filled.get_by_role("heading", name="From the browser")).to_be_visible()
    expect(filled.locator("#run-head .chip").first).to_have_text("Queued")
    filled.get_by_role("link", name="Clone").click()
    expect(field(filled, "seed")).to_have_value("5")
    expect(filled.locator("#launch-check")).to_contain_text("The same as run")


def test_nothing_is_launched_while_something_is_wrong(filled: Page, site: Site, expect_console: list[str]) -> None:
    expect_console.append("422")
    field(filled, "generation.rollouts").evaluate("input => { input.value = '0' }")
    filled.get_by_role("button", name="Launch").click()
    expect(error(filled, "generation.rollouts")).to_be_visible()
    expect(filled.locator("#launch-check")).to_contain_text("1 thing to mend")
    assert "/experiments/new" in filled.url


def test_an_earlier_run_is_a_start(page: Page, site: Site) -> None:
    run_id = seed_run(site.engine, Story(name="Earlier", rounds=4))
    page.goto(f"/runs/{run_id}")
    page.get_by_role("link", name="Clone").click()
    expect(field(page, "schedule.rounds")).to_have_value("4")
    expect(field(page, "name")).to_have_value("Earlier")


def test_presets_are_cards(page: Page, site: Site) -> None:
    page.goto("/experiments/new?preset=tiny")
    card = page.get_by_role("link", name="Tiny")
    expect(card).to_have_attribute("aria-current", "true")
    page.get_by_role("link", name="Demo", exact=False).first.click()
    expect(page.get_by_role("link", name="Demo").first).to_have_attribute("aria-current", "true")


def test_the_form_works_without_scripts(browser: Any, site: Site, config: dict[str, Any], tmp_path: Path) -> None:
    context = browser.new_context(java_script_enabled=False, base_url=site.url)
    page = context.new_page()
    page.goto("/experiments/new?preset=tiny")
    page.locator('[id="in-method.gate.threshold"]').fill("-1")
    page.get_by_role("button", name="Launch").click()
    expect(page.locator('[id="error-method.gate.threshold"]')).to_contain_text("greater than or equal to 0")
    context.close()


def test_what_it_will_take_follows_the_form(page: Page, site: Site) -> None:
    page.goto("/experiments/new?preset=tiny")
    tokens = page.locator("#launch-estimate .figures > div").filter(has_text="Tokens").locator("strong")
    before = tokens.inner_text()
    field(page, "schedule.rounds").fill("20")
    expect(tokens).not_to_have_text(before)
    page.get_by_text("Where the time goes").click()
    expect(page.locator("#estimate-parts meter").first).to_be_visible()
    field(page, "students.0.model").fill("org/unseen")
    expect(page.locator("#launch-estimate")).to_contain_text("The size of org/unseen is not known here")
    field(page, "schedule.rounds").fill("0")
    expect(page.locator("#launch-estimate")).to_have_count(0)


def test_what_is_not_used_is_dimmed_and_says_why(page: Page, site: Site) -> None:
    page.goto("/experiments/new?preset=tiny")
    gate = page.locator('[id="more-method.gate"]')
    expect(gate.locator("> summary")).not_to_contain_text("Not used")
    field(page, "method.algorithm").select_option("sdpo")
    expect(gate.locator("> summary")).to_contain_text("Not used: only OPCoD has tutors")
    expect(gate).to_have_class("more idle")
    field(page, "method.algorithm").select_option("opcod")
    expect(gate).not_to_have_class("more idle")


def test_lines_at_fault_are_marked_in_the_yaml(filled: Page) -> None:
    filled.get_by_role("tab", name="YAML").click()
    text = filled.locator("#yaml").input_value()
    line = next(number for number, entry in enumerate(text.splitlines(), 1) if "threshold: 0.2" in entry)
    filled.locator("#yaml").fill(text.replace("threshold: 0.2", "threshold: -3"))
    mark = filled.locator("#yaml-lines .at-fault")
    expect(mark).to_have_text(str(line))
    filled.locator("#launch-check a").first.click()
    expect(filled.locator("#yaml")).to_be_focused()
    chosen = filled.locator("#yaml").evaluate("box => box.value.slice(box.selectionStart, box.selectionEnd)")
    assert chosen.strip() == "threshold: -3"
    filled.locator("#yaml").fill("students:\n  - {name: a\nseed: 1\n")
    expect(mark).to_have_count(1)


def test_a_look_first_is_followed_beside_the_form_and_can_be_given_up(page: Page, site: Site) -> None:
    page.goto("/experiments/new?preset=tiny")
    page.locator("#in-name").fill("Still here")
    panel = page.locator("#preflight-panel")
    panel.get_by_role("button", name="Look first").click()
    with page.expect_response("**/panel"):
        expect(panel).to_contain_text("No worker is connected")
    expect(page.locator("#in-name")).to_have_value("Still here")
    panel.get_by_role("button", name="Cancel").click()
    expect(panel).to_contain_text("Cancelled")
    expect(page.locator("#in-name")).to_have_value("Still here")
