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
        f"Run {run.id}, {_md(run.algorithm)}, {run.status}{f', preset {_md(report.preset)}' if report.preset else ''}. "
        f"Mutual Pareto improvement: **{_word(run.verdict.mutual_improvement)}**.",
        f"## Scores\n\navg@k on {table.split} questions in %, with 95 % bootstrap intervals over questions.\n\n"
        + _md_table(_scores(report)),
    ]
    if report.reference and report.reference.scores:
        parts.append(f"## The paper's scores\n\nNot measured here: {_md(report.reference.source)}, %.\n\n" + _md_table(_paper(report)))
    if len(table.runs) > 1:
        parts.append("## Beside other runs\n\n" + _md_table(_ablation(report)))
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
        parts.append("## Feedback by outcome\n\n" + _md_table(_outcomes(report)))
    if report.difficulty:
        parts.append("## Break and rescue by difficulty\n\nAll rounds together, %.\n\n" + _md_table(_difficulty(report)))
    if report.break_rescue:
        rows = [["round", "tutee", "tutor", "wrong of the group", "broken of right", "rescued of wrong"]]
        rows += [
            [
                str(one.round),
                one.tutee,
                one.tutor,
                range_of(one.difficulty),
                f"{one.broken} of {one.correct_before}",
                f"{one.rescued} of {one.wrong_before}",
            ]
            for one in report.break_rescue
        ]
        parts.append("## Break and rescue by round\n\n" + _md_table(rows))
    parts.append("## Time\n\n" + _md_table(_times(report)))
    if report.changed:
        rows = [["setting", "here", f"preset {report.preset}"]]
        rows += [[f"`{item.setting}`", str(item.here), str(item.there)] for item in report.changed]
        parts.append("## What differs from the preset\n\n" + _md_table(rows))
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
    paper = report.reference
    for known in paper.scores if paper else ():
        for algorithm in ("initial", "grpo", "sdpo", "opcod"):
            whose = [known.student, known.domain, "", "test", "", f"paper: {paper.source if paper else ''}", algorithm, "paper"]
            rows.append([*whose, getattr(known, algorithm), "", "", "", ""])
    return csv_lines(rows)


def latex(report: Report) -> str:
    """The tables of scores for a paper: this run's, the other runs', and what the paper measured; needs the package booktabs."""
    said = f"avg@k on {report.table.split} questions in percent, 95% bootstrap intervals"
    parts = [_tabular(f"Run {report.run.id} of OPCoD Studio: {said}.", _scores(report), 2)]
    if len(report.table.runs) > 1:
        parts.append(_tabular(f"Beside other runs: {said}.", _ablation(report), 2))
    if report.reference and report.reference.scores:
        parts.append(_tabular(f"Not measured here: {report.reference.source}, percent.", _paper(report), 2))
    return "\n".join(parts)


def _tabular(comment: str, table: Sequence[Sequence[str]], texts: int) -> str:
    """A table whose first columns are text."""
    head, *rows = table
    lines = [
        f"% {_one_line(comment)}",
        r"\begin{tabular}{" + "l" * texts + "r" * (len(head) - texts) + "}",
        r"\toprule",
        " & ".join(_tex(cell) for cell in head) + r" \\",
        r"\midrule",
        *(" & ".join(_tex(cell) for cell in row) + r" \\" for row in rows),
        r"\bottomrule",
        r"\end{tabular}",
    ]
    return "\n".join(lines) + "\n"


def _scores(report: Report) -> list[list[str]]:
    """Table 1: a line for each student and domain, before training and after it."""
    rows = [["student", "domain", "initial", report.run.algorithm, "majority"]]
    for line in report.table.scores:
        majority = "" if line.majority_baseline is None else f"{100 * line.majority_baseline:.1f}"
        domain = f"{line.domain} (native)" if line.native else line.domain
        rows.append([line.student, domain, _cell(line.initial), _cell(line.latest[0], line.initial), majority])
    return rows


def _ablation(report: Report) -> list[list[str]]:
    """A line for each run: what it has otherwise than this one, its scores, and its verdict."""
    table = report.table
    rows = [["run", "differs in", *(f"{line.student}, {line.domain}" for line in table.scores), "mutual"]]
    for place, run in enumerate(table.runs):
        apart = "; ".join(f"{item.setting.rpartition('.')[2]} {item.there}" for item in run.differences) or ("" if place else "this run")
        rows.append([_column(run), apart, *(_cell(line.latest[place]) for line in table.scores), _word(run.mutual_improvement)])
    return rows


def _paper(report: Report) -> list[list[str]]:
    rows = [["student", "domain", "initial", "GRPO", "SDPO", "OPCoD"]]
    for one in report.reference.scores if report.reference else ():
        rows.append([one.student, one.domain, *(f"{100 * value:.1f}" for value in (one.initial, one.grpo, one.sdpo, one.opcod))])
    return rows


def _outcomes(report: Report) -> list[list[str]]:
    """Shares in the first round, in the last, and in all; beside them the paper's where the run is made from its preset."""
    paper, rounds = report.reference, report.outcomes_by_round
    columns = [("first round", rounds[0].outcomes), ("last round", rounds[-1].outcomes)] if len(rounds) > 1 else []
    rows = [["outcome", "feedbacks", "share", *(name for name, _ in columns), *(["paper, first", "paper, last"] if paper else [])]]
    for name, count in sorted(report.outcomes.items(), key=lambda item: -item[1]):
        shares = [_share(count, sum(report.outcomes.values())), *(_share(of.get(name, 0), sum(of.values())) for _, of in columns)]
        theirs = [f"{100 * of.get(name, 0):.1f} %" for of in (paper.outcomes_first_round, paper.outcomes_last_round)] if paper else []
        rows.append([f"`{name}`", str(count), *shares, *theirs])
    return rows


def _difficulty(report: Report) -> list[list[str]]:
    rows = [["tutors", "wrong of the group", "break rate", "broken of right", "rescue rate", "rescued of wrong"]]
    paper = {one.difficulty: one for one in report.reference.break_rates} if report.reference else {}
    if paper:
        rows[0].append("paper's break rate, cognizant and not")
    for one in report.difficulty:
        tutors = {None: "all", True: "cognizant", False: "not cognizant"}[one.cognizant]
        theirs = paper.get(one.difficulty)
        rows.append(
            [
                tutors,
                range_of(one.difficulty),
                _share(one.broken, one.correct_before),
                f"{one.broken} of {one.correct_before}",
                _share(one.rescued, one.wrong_before),
                f"{one.rescued} of {one.wrong_before}",
                *([f"{100 * theirs.cognizant:.2f} and {100 * theirs.incognizant:.2f}" if theirs else ""] if paper else []),
            ]
        )
    return rows


def _times(report: Report) -> list[list[str]]:
    rows = [["what", "time"]]
    rows += [[f"{_column(one)}, held by workers", _duration(one.wall_seconds)] for one in report.table.runs]
    took = report.step_time
    for name, part in (("a step", took.all_steps), ("a step with feedback", took.with_feedback), ("a step without", took.without_feedback)):
        if part is not None:
            rows.append([name, f"{part.seconds:.3g} s over {part.steps} steps"])
    paper = report.reference.step_seconds if report.reference else None
    if paper:
        parts = f"{paper.with_feedback:g} with feedback, {paper.without_feedback:g} without"
        rows += [["the paper's step, OPCoD", f"{paper.opcod:g} s ({parts})"], ["the paper's step, SDPO", f"{paper.sdpo:g} s"]]
    return rows


def range_of(difficulty: tuple[int, int] | None) -> str:
    """A difficulty in words."""
    if difficulty is None:
        return "all"
    return str(difficulty[0]) if difficulty[0] == difficulty[1] else f"{difficulty[0]}-{difficulty[1]}"


def _share(count: int, whole: int) -> str:
    return f"{100 * count / whole:.1f} %" if whole else "--"


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
