"""Students are brought, taught and asked, in a browser."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from playwright.sync_api import Page, expect
from sqlalchemy import update
from sqlmodel import col

from app.db import now, writing
from app.experiments import experiments
from app.experiments.experiments import check_experiment
from app.tables import JobRow
from opcod.students.references import DEMO_FOLDER
from tests.browser.conftest import Site
from tests.browser.seeding import HOSTILE

pytestmark = pytest.mark.browser

SCORE = {"score": 0.41, "low": 0.3, "high": 0.52, "questions": 46, "samples": 2, "majority_baseline": 0.1}


@pytest.fixture(scope="module", autouse=True)
def domains(site: Site) -> None:
    with writing(site.engine) as session:
        experiments.create(session, check_experiment(None, "tiny", {}))


def tell(site: Site, job_id: int, steps: int, **more: Any) -> None:
    """What a worker would have told after so many steps."""
    losses = [3.0 / (1 + step / 10) for step in range(steps)]
    numbers = list(range(1, steps + 1))
    curve = {"width": 1, "first": numbers, "last": numbers, "mean": losses, "low": losses, "high": losses}
    log = [{"at": now().isoformat(), "text": f"Step {steps}. {HOSTILE}"}]
    result = {"phase": "Fine-tuning", "step": steps, "steps": 60, "eta_seconds": 30.0, "curve": curve, "log": log, "before": SCORE}
    values = {"state": "running", "started_at": now(), "lease_until": now() + timedelta(hours=1), "progress": steps / 60}
    with writing(site.engine) as session:
        session.exec(update(JobRow).where(col(JobRow.id) == job_id).values(**values | {"result": result | more.pop("result", {})} | more))


def test_a_student_is_uploaded_taught_live_and_asked_beside_another(page: Page, site: Site, expect_console: list[str]) -> None:
    expect_console.append("422 (Unprocessable")
    page.goto("/students")
    page.get_by_role("link", name="Add a student").click()
    register = page.locator("#student-register")
    register.get_by_label("Name").fill("two words")
    register.get_by_label("Model", exact=False).first.fill("/no/such/folder")
    register.get_by_role("button", name="Register").click()
    expect(page.locator("#error-register-name")).to_contain_text("Letters, digits")
    upload = page.locator("#student-upload")
    upload.get_by_label("Name").fill("beginner")
    upload.get_by_label("Files").set_input_files([str(file) for file in (DEMO_FOLDER / "novice").iterdir()])
    upload.get_by_role("button", name="Upload").click()
    expect(page.get_by_role("heading", name="beginner")).to_be_visible()
    expect(page.locator("dl.facts")).to_contain_text("356\u2009448")

    page.get_by_role("link", name="Teach it").click()
    expect(page.locator("#student-models option").first).to_be_attached()
    page.get_by_label("Name").fill("smith")
    page.get_by_label("Domain").select_option(index=1)
    page.get_by_label("Epochs").fill("many")
    page.get_by_role("button", name="Make it").click()
    expect(page.locator("[id='error-sft.epochs']")).to_contain_text("valid integer")
    page.get_by_label("Epochs").fill("3")
    page.get_by_role("button", name="Make it").click()
    expect(page.locator(".chip")).to_have_text("Waiting for a worker")
    job_id = int(page.url.rpartition("/")[2])
    tell(site, job_id, 20)
    expect(page.locator(".run-progress-text")).to_contain_text("step 20 of 60")
    expect(page.locator(".chart canvas")).to_be_visible()
    expect(page.locator(".chart-legend .value")).to_have_text("1.03")
    tell(
        site,
        job_id,
        60,
        state="completed",
        ended_at=now(),
        result={"phase": "Done", "after": SCORE | {"score": 0.8, "low": 0.7, "high": 0.9}},
    )
    expect(page.locator(".chart-legend .value")).to_have_text("0.435")
    expect(page.locator(".look-verdict")).to_contain_text("+39.0 points. The intervals are apart.")
    expect(page.locator("#specialist-live")).not_to_have_attribute("hx-trigger", "every 1s")

    page.goto("/chats")
    page.locator("#chat-domain").select_option(index=1)
    expect(page.locator("#chat-question-id option").first).to_contain_text("?")
    page.get_by_label("Temperature").fill("0")
    page.get_by_role("button", name="Ask").click()
    chat = page.locator(".chat-one").first
    expect(chat).to_contain_text("waiting…")
    number = int((chat.get_attribute("id") or "").removeprefix("chat-"))
    sample = {"text": f"**So** $x^2$. {HOSTILE}", "tokens": 9, "truncated": False, "correct": False, "extracted": HOSTILE}
    answers = [{"samples": [sample], "prompt_tokens": 5, "seconds": 0.4}] * 2
    with writing(site.engine) as session:
        session.exec(update(JobRow).where(col(JobRow.id) == number).values(state="completed", result={"answers": answers}, ended_at=now()))
    expect(chat.locator(".chat-side")).to_have_count(2)
    expect(chat.locator(".chat-side math").first).to_be_attached()
    expect(chat.locator(".mark[data-correct='false']")).to_have_count(2)
    expect(page.locator("#chat-list")).not_to_have_attribute("hx-trigger", "every 1s")
    page.set_viewport_size({"width": 360, "height": 800})
    for address in ("/students", "/students/new", "/students/1", "/specialists/new", f"/specialists/{job_id}", "/chats"):
        page.goto(address)
        assert page.evaluate("document.documentElement.scrollWidth") <= 360, address
