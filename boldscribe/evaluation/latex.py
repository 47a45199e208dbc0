"""LaTeX version of a table: sideways floats of one page each, first all subjects together, then a few subjects per float."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pandas as pd

from boldscribe.evaluation.comparisons import ANY, CHANCE
from boldscribe.evaluation.notes import EXPECTED, MARK
from boldscribe.evaluation.published import PUBLISHED
from boldscribe.evaluation.typeset import LOST, STAR, Page, columns_of, expected_scores, group_of, name_of, number
from boldscribe.evaluation.verdicts import p_text

SUBJECTS_PER_TABLE = 8
HIGHEST = "highest of null controls"
Line = tuple[str, list[str]]  # heading above it (a group, a subject, or none), and its cells


def latex(page: Page, label: str) -> str:
    """Typeset all subjects together under all conditions, then each subject's model next to the best null control; notes as a list.

    Requires the packages booktabs, graphicx and rotating. Markdown and CSV contain every number of every subject.
    """
    columns = columns_of(page.values)
    subjects = [row for row in dict.fromkeys(page.values["row"]) if row != "Total"]
    floats = [
        _float(
            f"{page.title}. {' '.join(page.verdicts)}",
            f"tab:{label}",
            ["Condition", *columns.values(), "p", "p own clip"],
            list(_total(page)),
        )
    ]
    for start in range(0, len(subjects), SUBJECTS_PER_TABLE):
        some = subjects[start : start + SUBJECTS_PER_TABLE]
        lines = [line for subject in some for line in _subject(page, subject)]
        caption = f"{page.title}. {some[0]} to {some[-1]}: the model, the highest score of any null control, and what the paper prints."
        floats.append(_float(caption, f"tab:{label}:{some[0].lower()}", ["Condition", *columns.values(), "p own clip"], lines))
    items = "\n".join(rf"\item {escape(note)}" for note in page.notes)
    return "\n\n".join([*floats, "\\begin{itemize}\\footnotesize\n" + items + "\n\\end{itemize}"]) + "\n"


def _total(page: Page) -> Iterator[Line]:
    """Yield a line per condition, and both intervals below the model's, with marks of who beats whom."""
    columns = columns_of(page.values)
    values, tests = (
        page.values[page.values["row"] == "Total"],
        page.tests[page.tests["row"] == "Total"].set_index(["condition", "against", "metric"]),
    )
    for condition, group in values.groupby("condition", sort=False):
        entries: dict[Any, Any] = {entry["metric"]: entry for entry in group.to_dict("records")}
        name = str(condition)
        against = "" if name == CHANCE else name
        both = {STAR: ("model", against), LOST: (against, "model")}
        marks = {m: "".join(mark for mark, pair in both.items() if tests["beats"].get((*pair, m), False)) for m in columns}
        against_it = [tests["p_holm"][key] for key in ((*pair, ANY) for pair in both.values()) if key in tests.index]
        own = tests["p_holm"].get((name, CHANCE, ANY))
        ps = [p_text(min(against_it)) if against_it else "", "" if own is None else p_text(own)]
        yield group_of(name), [name_of(name), *(_number(entries.get(m), marks[m]) for m in columns), *ps]
        if name == "model":
            for over, low, high in (("over subjects", "low", "high"), ("over trials", "low_trials", "high_trials")):
                yield "", [f"  95 % {over}", *(_ends(entries.get(m), low, high) for m in columns), "", ""]
        if name == CHANCE and (expected := expected_scores(page.tests, "Total")):
            yield "", [EXPECTED, *(number(expected.get(m)) for m in columns), "", ""]


def _subject(page: Page, row: str) -> Iterator[Line]:
    """Yield the model, the highest null control in each score, and the published value of a subject."""
    columns = columns_of(page.values)
    values = page.values[page.values["row"] == row]
    own = page.tests[(page.tests["row"] == row) & (page.tests["against"] == CHANCE) & (page.tests["metric"] == ANY)].set_index("condition")[
        "p_holm"
    ]
    of_nulls = values[values["condition"].map(lambda c: group_of(c) == group_of("llm"))].groupby("metric")["value"].max()
    shown = {name: group.set_index("metric")["value"] for name, group in values.groupby("condition")} | {HIGHEST: of_nulls}
    for i, name in enumerate(n for n in ("model", HIGHEST, PUBLISHED) if len(shown.get(n, []))):
        cells = [_number({"value": shown[name].get(m)}, "") for m in columns]
        yield row if i == 0 else "", [name, *cells, p_text(own["model"]) if name == "model" else ""]


def _number(entry: Any, mark: str) -> str:
    if entry is None or pd.isna(entry["value"]):
        return ""
    wrong = not pd.isna(entry.get("note")) and entry.get("note")
    return number(entry["value"], MARK if wrong else mark)


def _ends(entry: Any, low: str, high: str) -> str:
    return "" if entry is None or pd.isna(entry[low]) else f"{entry[low]:.1f}, {entry[high]:.1f}"


def _float(caption: str, label: str, header: Sequence[str], lines: Sequence[Line]) -> str:
    body, previous = [], ""
    for group, cells in lines:
        if group not in ("", previous):
            body += [r"\midrule", rf"\multicolumn{{{len(header)}}}{{l}}{{\textit{{{escape(group)}}}}} \\"]
        previous = group or previous
        body.append(" & ".join(escape(cell) for cell in cells) + r" \\")
    heads = [rf"\rotatebox{{60}}{{{escape(head)}}}" if i else escape(head) for i, head in enumerate(header)]
    return "\n".join(
        [
            r"\begin{sidewaystable}",
            r"\centering",
            rf"\caption{{{escape(caption)}}}",
            rf"\label{{{label}}}",
            r"\resizebox{\textwidth}{!}{%",
            rf"\begin{{tabular}}{{l{'r' * (len(header) - 1)}}}",
            r"\toprule",
            " & ".join(heads) + r" \\",
            r"\midrule",
            *body,
            r"\bottomrule",
            r"\end{tabular}}",
            r"\end{sidewaystable}",
        ]
    )


def escape(text: str) -> str:
    """Escape plain text for LaTeX."""
    special = {
        "\\": r"\textbackslash{}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        MARK: r"$^\dagger$",
        LOST: r"$^\ddagger$",
        "−": "$-$",
        "<": "$<$",
        ">": "$>$",
    }
    return "".join(special.get(c, rf"\{c}" if c in "&%$#_{}" else c) for c in text)
