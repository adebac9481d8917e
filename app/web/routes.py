"""All pages, and the page that says what went wrong."""

from __future__ import annotations

from dataclasses import dataclass

from fastapi import APIRouter, Request
from fastapi.responses import Response

from app.api.problems import Problem
from app.templating import render
from app.web import (
    access_routes,
    api_page,
    chat_routes,
    compare_routes,
    inspect_routes,
    launch_routes,
    library_routes,
    preflight_routes,
    queue_routes,
    replay_routes,
    run_routes,
    settings_routes,
    specialist_routes,
    storage_routes,
    students_routes,
    sweep_routes,
    upload_routes,
)
from app.web.deps import wants_fragment
from app.web.method_page import method_page

router = APIRouter()
router.include_router(run_routes.router)
router.include_router(storage_routes.router)
router.include_router(launch_routes.router)
router.include_router(preflight_routes.router)
router.include_router(inspect_routes.router)
router.include_router(queue_routes.router)
router.include_router(sweep_routes.router)
router.include_router(compare_routes.router)
router.include_router(library_routes.router)
router.include_router(upload_routes.router)
router.include_router(students_routes.router)
router.include_router(specialist_routes.router)
router.include_router(chat_routes.router)
router.include_router(replay_routes.router)
router.include_router(api_page.router)
router.include_router(access_routes.router)
router.include_router(settings_routes.router)


@router.get("/docs/method")
def method(request: Request) -> Response:
    """The product's words, and the method itself."""
    return render(request, "pages/method.html", method=method_page())


@dataclass(frozen=True, slots=True)
class ErrorPage:
    """Something that went wrong, in words."""

    status: int
    title: str
    detail: str
    advice: str
    faults: tuple[tuple[str, str, str], ...]


TITLES = {
    401: "Sign in first",
    403: "Not for you",
    404: "Not here",
    409: "Not now",
    422: "That does not fit",
    500: "Our mistake",
    503: "Not reachable",
    507: "No room left",
}


def problem_page(request: Request, problem: Problem) -> Response:
    """An error as a page in the studio's look; as a fragment for htmx, which shows it in place."""
    faults = tuple((item.field, item.message, item.advice) for item in problem.errors or ())
    detail = "There is no such page." if problem.status == 404 and problem.detail == "Not Found" else problem.detail
    page = ErrorPage(problem.status, TITLES.get(problem.status, problem.title), detail, problem.advice or "", faults)
    template = "partials/error.html" if wants_fragment(request) else "pages/error.html"
    return render(request, template, error=page, status=problem.status)
