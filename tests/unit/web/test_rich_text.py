"""Markdown, formulas and chemistry: rendered where they are meant, harmless whatever they are."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.web.marking import Passage, feedback_spans, passage, prompt_spans
from app.web.rich_text import mathml, rich
from app.web.word_diff import LONGEST, word_diff
from tests.hostile import PAYLOADS

ALLOWED = re.compile(r"strong|em|code|blockquote|pre|ul|ol|li|p|hr|br|table|thead|tbody|tr|th|td|mark|del|ins|span|m[a-z]+|none")
HARMLESS = re.compile(
    r"class|start|display|aria-label|mathvariant|stretchy|fence|separator|form|accent|accentunder|movablelimits|largeop|symmetric|[lr]space"
    r"|minsize|maxsize|linethickness|width|height|depth|voffset|columnalign|rowalign|columnspacing|rowspacing|columnlines|rowlines|notation"
    r"|scriptlevel|displaystyle"
)


class Reader(HTMLParser):
    """Elements, their attributes and the text of a rendering."""

    def __init__(self) -> None:
        super().__init__()
        self.faults: list[str] = []
        self.open: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if not ALLOWED.fullmatch(tag) or any(not HARMLESS.fullmatch(name) for name, _ in attrs):
            self.faults.append(f"{tag} {attrs}")
        self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.faults.append(f"/{tag}")

    def handle_data(self, data: str) -> None:
        self.text += data


def read(text: str | Passage) -> Reader:
    shown = passage(text) if isinstance(text, str) else text
    reader = Reader()
    reader.feed(str(rich(shown) or ""))
    reader.close()
    return reader


@pytest.mark.parametrize(
    ("text", "has"),
    [
        ("**bold**", "<strong>bold</strong>"),
        ("**No**, $x$ is *so*", "<strong>No</strong>, <math"),
        ("**No**: *on*", "<strong>No</strong>: <em>on</em>"),
        ("**CC(=O)[O-]** *CC*", "<strong>CC(=O)[O-]</strong> *CC*"),
        ("one\ntwo *three*", "one<br />\ntwo <em>three</em>"),
        ("# Title\n\n*x*", '<p class="heading">Title</p>'),
        ("mass is $\\frac{m}{V}$", "<mfrac>"),
        ("mass is \\(m_1\\)", "<msub>"),
        ("$$\nx^2\n$$", 'display="block"'),
        ("it costs $5 and $6 *now*", "$5 and $6"),
        ("snake_case_name and *x*", "snake_case_name"),
        ("```\n<b>\n```", "<pre><code>&lt;b&gt;\n</code></pre>"),
        ("*x* [a](javascript:alert(1))", "[a](javascript:alert(1))"),
        ("*x* ![a](https://elsewhere/a.png)", "![a](https://elsewhere/a.png)"),
        ("*x* &lt;b&gt; \\*kept\\* \\{", "&amp;lt;b&amp;gt; *kept* \\{"),
        ("|a|b|\n|-|-:|\n|1|2|", '<td class="end">2</td>'),
        ("$\\frac{$", '<code class="tex">$\\frac{$</code>'),
    ],
)
def test_what_is_meant_is_rendered_and_all_else_stays(text: str, has: str) -> None:
    assert has in str(rich(passage(text)))


@pytest.mark.parametrize(
    "smiles", ["C*C(=O)O*C", "CC(=O)O[C@H]1CC\\C=C/C1", "F/C(*)=C(*)/F", "c1cc(*)ccc1[N+](=O)[O-]", "[Na+].[Cl-]", "C$C*C*C(=O)"]
)
def test_chemistry_keeps_every_character(smiles: str) -> None:
    assert smiles in read(f"*So* {smiles} reacts with {smiles}, and {smiles}.").text


def test_marks_stay_on_what_they_mark() -> None:
    raw = "<concept>den*sity*</concept> **The answer is (B).** It is $x$."
    shown = passage(raw, feedback_spans(raw, "den*sity*", ["The answer is (B)."]))
    html = str(rich(shown))
    assert '<strong><del class="cut">The answer is (B).</del></strong>' in html
    assert '<mark class="concept">den</mark><em><mark class="concept">sity</mark></em>' in html
    assert read(shown).faults == []


def test_plain_text_is_not_rendered() -> None:
    assert rich(passage("<reasoning>\n  iron is 8;\n  8 + 3 = 11\n</reasoning>")) is None


@pytest.mark.parametrize("payload", PAYLOADS, ids=lambda payload: payload.name)
def test_hostile_text_becomes_nothing_else(payload: object) -> None:
    text = payload.text[:20_000]  # type: ignore[attr-defined]
    for wrapped in (text, f"*x*\n{text}", f"$\\text{{{text[:500]}}}$", f"`{text[:500]}` | ** [x]({text[:500]})"):
        assert read(wrapped).faults == []


@settings(max_examples=150, deadline=None)
@given(st.text("ab*_`#|$\\[](){}<>&!~-+=.1 \n\ue000\ue001\ue00f\ue010^", max_size=120), st.lists(st.integers(0, 120), max_size=4))
def test_any_text_becomes_well_formed_markup_of_allowed_elements(text: str, cuts: list[int]) -> None:
    spans = [(min(pair), max(pair), "cut") for pair in zip(cuts[::2], cuts[1::2], strict=False)]
    assert read(passage(text, spans)).faults == []  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "tex", ["\\frac" * 200, "{" * 900, "\\left(" * 150, "x_1_2", "^", "\\begin{a}", "\\\\" * 400, "\\sqrt[", "\\", "&" * 900]
)
def test_what_is_no_latex_is_shown_as_it_is(tex: str) -> None:
    mathml(tex, block=False)
    assert read(f"${tex}$ *x*").faults == []


def test_parts_of_a_prompt_are_told_apart_even_without_their_end() -> None:
    prompt = "system\nWhat is it?\n\nCorrect solution:\n\n" + "step " * 20 + "\n\nFeedback:\n\nmind the sign\n\nSolve."
    spans = prompt_spans(prompt, "What is it?", "step " * 60, "mind the sign")
    assert [(prompt[start:end].strip(), mark) for start, end, mark in spans] == [
        ("What is it?", "question"),
        (("step " * 20).strip(), "solution"),
        ("mind the sign", "feedback"),
    ]


@settings(max_examples=60, deadline=None)
@given(st.text("ab \n.", max_size=60), st.text("ab \n.", max_size=60))
def test_both_sides_keep_their_text_and_agree_outside_their_marks(left: str, right: str) -> None:
    one, other = word_diff(left, right)
    assert (one.text, other.text) == (left, right)
    same = ["".join(piece.text for piece in side.pieces if not piece.mark) for side in (one, other)]
    assert same[0] == same[1]


def test_long_texts_are_compared_as_far_as_stated() -> None:
    one, other = word_diff("word " * 10_000, "another " * 10_000)
    assert one.cut
    assert other.cut
    assert len(one.text) == LONGEST
