"""How far estimates are off: each completed run of some studios is predicted from all others, and compared with what it took.

    opcod up --home HOME --demo demo          # or any runs of one's own, in one home or several
    python tests/benchmarks/estimate_accuracy.py HOME [HOME ...]

A run is predicted twice: from all other runs (leave one out), and from those alone whose settings differ from its own in more
than name and seed (as a new experiment is). Both are printed, and saved as JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from sqlmodel import col, select  # noqa: E402

from app.db import make_engine, migrate, reading  # noqa: E402
from app.experiments import estimates  # noqa: E402
from app.records import queries  # noqa: E402
from app.tables import RunRow  # noqa: E402
from opcod.estimation.estimate import estimate  # noqa: E402
from opcod.estimation.measured import MeasuredRun  # noqa: E402

FIGURES = ("seconds", "memory_bytes", "disk_bytes", "training_tokens")
WITHIN = 0.25


def gather(homes: Sequence[Path]) -> list[tuple[MeasuredRun, dict[str, float | None]]]:
    """Every measured run with what it took, newest first."""
    found = []
    for home in homes:
        engine = make_engine(f"sqlite:///{home / 'opcod.db'}")
        migrate(engine)
        with reading(engine) as session:
            rows = session.exec(select(RunRow).where(col(RunRow.status) == "completed").order_by(col(RunRow.id).desc())).all()
            for row in rows:
                if (run := estimates.measure(session, row)) is None:
                    continue
                achieved = estimates.of_run(session, queries.run_row(session, row.id or 0)).achieved
                assert achieved is not None
                named = run.model_copy(update={"source": f"{home.name}, {run.source}: {row.name}"})
                found.append((named, achieved.model_dump()))
        engine.dispose()
    return found


def settings(run: MeasuredRun) -> dict[str, Any]:
    """What makes a run another experiment."""
    return {key: value for key, value in run.config.items() if key not in ("name", "seed")}


def compare(runs: Sequence[tuple[MeasuredRun, dict[str, float | None]]], *, unlike: bool) -> list[dict[str, Any]]:
    """Each run predicted from the others; `unlike`: from those with other settings only."""
    lines = []
    for left_out, taken in runs:
        others = [run for run, _ in runs if run is not left_out and not (unlike and settings(run) == settings(left_out))]
        made = estimate(left_out.settings, device=left_out.device, history=others)
        line: dict[str, Any] = {"run": left_out.source, "own_runs": made.basis.own_runs, "figures": {}}
        for name in FIGURES:
            figure, value = getattr(made, name), taken[name]
            if figure.value is None or value is None:
                line["figures"][name] = {"predicted": figure.value, "achieved": value, "reason": figure.reason}
                continue
            off = figure.value / value - 1
            line["figures"][name] = {
                "predicted": figure.value, "low": figure.low, "high": figure.high, "achieved": value, "off": off,
                "in_interval": figure.low <= value <= figure.high,
            }  # fmt: skip
        lines.append(line)
    return lines


def show(title: str, lines: Sequence[dict[str, Any]]) -> None:
    print(f"\n{title}\n{'':58}" + "".join(f"{name:>26}" for name in FIGURES))
    for line in lines:
        cells = []
        for name in FIGURES:
            figure = line["figures"][name]
            if "off" not in figure:
                cells.append("not known")
                continue
            inside = "" if figure["in_interval"] else " !"
            cells.append(f"{figure['predicted']:.4g} / {figure['achieved']:.4g} {100 * figure['off']:+.0f} %{inside}")
        print(f"{line['run'][:56]:58}" + "".join(f"{cell:>26}" for cell in cells))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("homes", nargs="+", type=Path, help="folders of studios, as given to `opcod up`")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results" / "estimate_accuracy.json")
    given = parser.parse_args()
    runs = gather(given.homes)
    if len(runs) < 2:
        sys.exit("There are fewer than two completed runs that were measured.")
    tables = {"leave_one_out": compare(runs, unlike=False), "from_other_settings_only": compare(runs, unlike=True)}
    for title, lines in tables.items():
        show(title.replace("_", " "), lines)
    known = [figure for line in tables["leave_one_out"] for figure in line["figures"].values() if "off" in figure]
    summary = {
        "runs": len(runs),
        "figures": len(known),
        "within_25_percent": sum(abs(figure["off"]) <= WITHIN for figure in known),
        "in_their_90_percent_interval": sum(figure["in_interval"] for figure in known),
    }
    print(f"\nleave one out: {summary['within_25_percent']} of {summary['figures']} figures within 25 %, "
          f"{summary['in_their_90_percent_interval']} within their interval")  # fmt: skip
    machine = {"processor": platform.processor() or platform.machine(), "cores": os.cpu_count()}
    given.output.parent.mkdir(parents=True, exist_ok=True)
    given.output.write_text(json.dumps({"machine": machine, "summary": summary, **tables}, indent=1) + "\n", encoding="utf-8")
    print(f"Saved to {given.output}")


if __name__ == "__main__":
    main()
