"""A report as Markdown, CSV or LaTeX. What people and models named is escaped for each."""

from __future__ import annotations

import re
from collections.abc import Sequence

from app.records.exports import csv_lines
from app.shapes import Interval, Report, ReportRun

LONGEST_CELL = 200

_LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}",
}  # fmt: skip


def markdown(report: Report) -> str:
    """The whole report as tables."""
    run, table = report.run, report.table
    parts = [
        f"# {_md(run.name)}",
        f"Run {run.id}, {_md(run.algorithm)}, {run.status}. Mutual Pareto improvement: **{_word(run.verdict.mutual_improvement)}**.",
        f"## Scores\n\navg@k on {table.split} questions in %, with 95 % bootstrap intervals over questions.\n\n"
        + _md_table(_scores(report)),
    ]
    if len(table.runs) > 1:
        rows = [["run", "setting", f"run {run.id}", "there"]]
        rows += [
            [f"run {one.run_id}", f"`{item.setting}`", str(item.here), str(item.there)] for one in table.runs for item in one.differences
        ]
        parts.append("## What differs\n\n" + (_md_table(rows) if len(rows) > 1 else "Nothing but the runs' names."))
    if report.gate_decisions:
        rows = [["round", "tutor", "strategy", "gap", "τ", "may tutor on"]]
        rows += [
            [str(one.round), one.tutor, one.strategy, f"{one.gap:.3f}", f"{one.threshold:g}", ", ".join(one.domains) or "none: shut"]
            for one in report.gate_decisions
        ]
        parts.append("## Gate\n\n" + _md_table(rows))
    if report.outcomes:
        whole = sum(report.outcomes.values())
        rows = [["outcome", "feedbacks", "share"]]
        rows += [[f"`{name}`", str(count), f"{100 * count / whole:.1f} %"] for name, count in sorted(report.outcomes.items())]
        parts.append("## Feedback by outcome\n\n" + _md_table(rows))
    if report.break_rescue:
        rows = [["round", "tutee", "tutor", "wrong of the group", "broken of right", "rescued of wrong"]]
        rows += [
            [
                str(one.round),
                one.tutee,
                one.tutor,
                "all" if one.difficulty is None else f"{one.difficulty[0]}-{one.difficulty[1]}",
                f"{one.broken} of {one.correct_before}",
                f"{one.rescued} of {one.wrong_before}",
            ]
            for one in report.break_rescue
        ]
        parts.append("## Break and rescue\n\n" + _md_table(rows))
    parts.append(
        "## Time\n\n" + _md_table([["run", "held by workers"], *([_column(one), _duration(one.wall_seconds)] for one in table.runs)])
    )
    return "\n\n".join(parts) + "\n"


def csv(report: Report) -> bytes:
    """The table of scores, one line for each student, domain and run; fractions, not percent."""
    rows: list[list[object]] = [
        ["student", "domain", "native", "split", "run_id", "run", "algorithm", "stage", "score", "low", "high", "questions", "samples"]
    ]
    table = report.table
    for line in table.scores:
        scores = [
            ("initial", table.runs[0], line.initial),
            *(("latest", run, score) for run, score in zip(table.runs, line.latest, strict=True)),
        ]
        for stage, run, score in scores:
            if score is not None:
                whose = [line.student, line.domain, line.native, table.split, run.run_id, run.name, run.algorithm, stage]
                rows.append([*whose, score.score, score.low, score.high, score.questions, score.samples])
    return csv_lines(rows)


def latex(report: Report) -> str:
    """The table of scores for a paper; needs the package booktabs."""
    head, *rows = _scores(report)
    lines = [
        f"% Run {report.run.id} of OPCoD Studio: avg@k on {report.table.split} questions in percent, 95% bootstrap intervals.",
        r"\begin{tabular}{ll" + "r" * (len(head) - 2) + "}",
        r"\toprule",
        " & ".join(_tex(cell) for cell in head) + r" \\",
        r"\midrule",
        *(" & ".join(_tex(cell) for cell in row) + r" \\" for row in rows),
        r"\bottomrule",
        r"\end{tabular}",
    ]
    return "\n".join(lines) + "\n"


def _scores(report: Report) -> list[list[str]]:
    """Table 1: a line for each student and domain, a column for the start and one for each run."""
    table = report.table
    rows = [["student", "domain", "initial", *(_column(run) for run in table.runs), "majority"]]
    for line in table.scores:
        majority = "" if line.majority_baseline is None else f"{100 * line.majority_baseline:.1f}"
        domain = f"{line.domain} (native)" if line.native else line.domain
        rows.append([line.student, domain, _cell(line.initial), *(_cell(score, line.initial) for score in line.latest), majority])
    return rows


def _column(run: ReportRun) -> str:
    return f"{run.name} ({run.algorithm}, run {run.run_id})"


def _cell(score: Interval | None, before: Interval | None = None) -> str:
    if score is None:
        return "--"
    change = "" if before is None else f" {100 * (score.score - before.score):+.1f}"
    return f"{100 * score.score:.1f}{change} ({100 * score.low:.1f}-{100 * score.high:.1f})"


def _md_table(rows: Sequence[Sequence[str]]) -> str:
    head, *below = rows
    return "\n".join("| " + " | ".join(_md(cell) for cell in row) + " |" for row in (head, ["---"] * len(head), *below))


def _md(text: str) -> str:
    """Text as a Markdown cell: no markup of its own takes effect, save ours in backticks."""
    text = _one_line(text)
    if re.fullmatch(r"`[\w.@/-]+`|-{3}", text):
        return text
    return re.sub(r"([\\`*_{}\[\]<>#|~&!])", r"\\\1", text)


def _tex(text: str) -> str:
    return "".join(_LATEX.get(character, character) for character in _one_line(text).replace("τ", "tau"))


def _one_line(text: str) -> str:
    text = "".join(character if character.isprintable() else " " for character in text)
    return text if len(text) <= LONGEST_CELL else text[: LONGEST_CELL - 1] + "…"


def _word(value: bool | None) -> str:
    return {True: "yes", False: "no", None: "not known yet"}[value]


def _duration(seconds: float | None) -> str:
    if seconds is None:
        return "not yet"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"
