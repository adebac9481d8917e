"""The laws of the house that no linter checks."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.mutations import MUTATIONS, table

ROOT = Path(__file__).parents[2]
TORCH_FREE = [
    "app.main",
    "app.cli",
    "opcod.config",
    "opcod.events",
    "opcod.tasks.questions",
    "opcod.tasks.verifiers",
    "opcod.tasks.demo",
    "opcod.feedback.review",
    "opcod.feedback.gating",
    "opcod.evaluation.pareto",
]


@pytest.mark.parametrize("module", TORCH_FREE)
def test_importing_what_the_web_image_runs_leaves_torch_out(module: str) -> None:
    script = f"import sys, {module}; print(*sorted({{'torch', 'transformers', 'peft', 'datasets'}} & set(sys.modules)))"
    result = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert result.stdout.split() == []


def tracked_files() -> list[Path]:
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return [ROOT / name for name in listed.split("\0") if name]


def test_no_tracked_text_names_a_path_of_the_machine_it_was_written_on() -> None:
    local = re.compile(r"(?<![\w.~-])/(?:root|work|home/\w+|Users/\w+)/[\w.-]")
    found = []
    for path in tracked_files():
        if not path.is_file() or "vendor" in path.parts:
            continue
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        found += [
            f"{path.relative_to(ROOT)}:{number}: {line.strip()[:100]}"
            for number, line in enumerate(text.splitlines(), 1)
            if local.search(line) and path.name != Path(__file__).name
        ]
    assert found == []


@pytest.mark.parametrize(
    ("pattern", "folder", "files"),
    [
        (r"pickle\.loads?\(|trust_remote_code=True|(?<![.\w])(?:eval|exec)\(", "opcod", "*.py"),
        (r"torch\.load\((?![^)]*weights_only=True)", "opcod", "*.py"),
        (r"pickle\.loads?\(|(?<![.\w])(?:eval|exec)\(", "app", "*.py"),
        (r"\|\s*safe\b|autoescape\s+false", "templates", "*.html"),
    ],
)
def test_doors_that_would_let_a_model_or_an_upload_run_code_stay_shut(pattern: str, folder: str, files: str) -> None:
    texts = {path: path.read_text(encoding="utf-8") for path in (ROOT / folder).rglob(files)}
    assert [str(path.relative_to(ROOT)) for path, text in texts.items() if re.search(pattern, text)] == []


def broad_handlers(source: str) -> list[int]:
    """Lines of handlers that catch everything and do not raise it again."""
    return [
        node.lineno
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.ExceptHandler)
        and (node.type is None or {"Exception", "BaseException"} & {name.id for name in ast.walk(node.type) if isinstance(name, ast.Name)})
        and not (isinstance(node.body[-1], ast.Raise) and node.body[-1].exc is None)
    ]


def test_only_what_must_go_on_catches_everything() -> None:
    """Task runners, sinks, and what is done for ever, which log it. Anywhere else `except Exception` would hide our own faults."""
    allowed = {"worker/training.py", "worker/job.py", "worker/sinks.py", "worker/desk.py", "app/processes/recurring.py"}
    found = {
        f"{path.relative_to(ROOT)}:{line}"
        for package in ("opcod", "app", "worker")
        for path in (ROOT / package).rglob("*.py")
        if str(path.relative_to(ROOT)) not in allowed
        for line in broad_handlers(path.read_text(encoding="utf-8"))
    }
    assert found == set()


def test_the_documents_name_files_and_tests_that_exist() -> None:
    assert table() in (ROOT / "docs/method.md").read_text(encoding="utf-8")
    named = {(path, name) for mutation in MUTATIONS for path, _, name in [mutation.test.partition("::")]}
    for document in [*(ROOT / "docs").glob("*.md"), ROOT / "README.md", ROOT / "CONTRIBUTING.md"]:
        text = document.read_text(encoding="utf-8")
        named |= {(path, "") for path in re.findall(r"`((?:opcod|app|worker|tests|examples|docs)/[\w./-]*\.(?:py|md|yaml))`", text)}
    for path, name in sorted(named):
        assert (ROOT / path).is_file(), path
        assert name.split("::")[-1] in (ROOT / path).read_text(encoding="utf-8"), f"{path}::{name}"


def test_every_fault_of_the_list_can_still_be_put_in() -> None:
    for mutation in MUTATIONS:
        assert (ROOT / mutation.file).read_text(encoding="utf-8").count(mutation.old) == 1, mutation.what
