"""Sweep the gate's threshold tau over a preset and print a table.

    opcod up &                                          # or any studio: OPCOD_URL, and OPCOD_TOKEN where people sign in
    python examples/sweep_tau.py --preset tiny --tau 0.05 --tau 0.2 --tau 0.4

Every value is a run in the queue; the table says how often each gate was open, what the students scored
on test questions before and after, and whether both improved. With several seeds, each tau has a line a seed.
"""

from __future__ import annotations

import argparse
from statistics import fmean

from app.client import Client
from app.shapes import Run, SweepDetail

TAU = "method.gate.threshold"


def main() -> None:
    """Launch, wait, print."""
    parser = argparse.ArgumentParser(description="Sweep the gate's threshold and print a table.")
    parser.add_argument("--preset", default="tiny", help="what every point is made from (tiny takes about half a minute each)")
    parser.add_argument("--tau", type=float, action="append", help="a threshold; repeat it for more")
    parser.add_argument("--seed", type=int, action="append", help="a seed; repeat it for more")
    parser.add_argument("--timeout", type=float, help="give up after so many seconds")
    given = parser.parse_args()

    with Client() as studio:
        sweep = studio.launch_sweep(
            {"name": "tau", "preset": given.preset, "grid": {TAU: given.tau or [0.0, 0.1, 0.2, 0.4], "seed": given.seed or [0]}}
        )
        print(f"{sweep.progress.points} runs: {studio.url}/sweeps/{sweep.id}\n")
        print_table(studio, studio.wait_for_sweep(sweep.id, timeout=given.timeout))


def print_table(studio: Client, sweep: SweepDetail) -> None:
    """One line a point."""
    head = f"{'tau':>6} {'seed':>5}  {'status':<10} {'gates open':>10}  {'before':>7} {'after':>7} {'change':>7}  both improved"
    print(head)
    for point in sweep.points:
        run = point.run
        if run is None:
            continue
        gates = list(studio.gate_decisions(run.id))
        opened = f"{sum(bool(gate.domains) for gate in gates)} of {len(gates)}"
        before, after = mean_scores(run)
        change = "" if before is None or after is None else f"{100 * (after - before):+.1f}"
        verdict = {True: "yes", False: "no", None: "not known"}[run.verdict.mutual_improvement]
        print(
            f"{point.values[TAU]:>6g} {point.values['seed']:>5}  {run.status:<10} {opened:>10}  "
            f"{percent(before):>7} {percent(after):>7} {change:>7}  {verdict}"
        )


def mean_scores(run: Run) -> tuple[float | None, float | None]:
    """Mean over students and domains on test questions, before training and after it."""
    before = [score for student in run.students for score in student.scores.initial.values()]
    after = [score for student in run.students for score in (student.scores.final or {}).values()]
    return (fmean(before) if before else None, fmean(after) if after else None)


def percent(value: float | None) -> str:
    """A fraction in percent."""
    return "" if value is None else f"{100 * value:.1f}"


if __name__ == "__main__":
    main()
