"""`make audit`: are advisories known against what we install? Asked of PyPI by pip-audit, for every pinned version.

A known one ends with status 1. An index that cannot be reached, or that knows nothing of advisories, is said and fails nothing:
the check is for machines with a way out.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
LONGEST_SECONDS = 180
PATIENCE_SECONDS = 10


def report(dependencies: list[dict[str, Any]]) -> tuple[str, int]:
    """What pip-audit found, in words, and the exit status."""
    advisories = [
        f"{found['name']} {found['version']}: {flaw['id']}{_mended(flaw)}" for found in dependencies for flaw in found.get("vulns", [])
    ]
    unknown = sorted(found["name"] for found in dependencies if "skip_reason" in found)
    checked = len(dependencies) - len(unknown)
    if advisories:
        return "\n".join([f"{len(advisories)} known advisories:", *advisories]), 1
    if not checked:
        return "not checked: offline, or the index has no advisories", 0
    some = f"; not known to it: {', '.join(unknown)}" if unknown else ""
    return f"no advisory is known against {checked} dependencies{some}", 0


def audit(requirements: Path) -> tuple[str, int]:
    """Ask about every pinned version in the file."""
    with tempfile.TemporaryDirectory() as folder:
        answer = Path(folder) / "answer.json"
        options = ["--no-deps", "--disable-pip", "--progress-spinner", "off", "--timeout", str(PATIENCE_SECONDS), "--format", "json"]
        command = [sys.executable, "-m", "pip_audit", "--requirement", str(requirements), *options, "--output", str(answer)]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=LONGEST_SECONDS)
        except subprocess.TimeoutExpired:
            return f"not checked: offline, or the index took longer than {LONGEST_SECONDS} s", 0
        if answer.is_file() and answer.stat().st_size:
            return report(json.loads(answer.read_text(encoding="utf-8"))["dependencies"])
    last = (done.stderr.strip().splitlines() or ["no answer"])[-1]
    if "No module named" in last:
        return f"{last}: run `make install`", 1
    return f"not checked: offline ({last[:200]})", 0


def _mended(flaw: dict[str, Any]) -> str:
    return f", mended in {', '.join(flaw['fix_versions'])}" if flaw.get("fix_versions") else ""


if __name__ == "__main__":
    words, status = audit(ROOT / "constraints.txt")
    print(f"audit: {words}")
    sys.exit(status)
