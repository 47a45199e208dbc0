"""Tables that put the scores into context: Stage I retrieval, noise ceiling, data quality, leakage."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pandas as pd

from boldscribe.machinery.errors import UserError

ENCODERS = {
    ("model", "fmri"): "the model's",
    ("noise", "noise"): "trained on noise",
    ("model", "noise"): "the model's, on noise",
    ("untrained", "fmri"): "untrained",
}
# Key of the leakage report → title of the trials that test trials share clips with.
SHARED = {
    "training": "training",
    "adaptation": "adaptation runs, unlabelled",
    "adaptation_of_same_subject": "adaptation runs of the same subject",
}
WORDS = {"fd": "FD", "snr": "SNR", "tsnr": "tSNR", "dvars": "DVARS", "n": "number of"}
KINDS_SHARED = {"stimulus": "a clip", "part": "another part of its video", "near": "a part seconds apart"}


@dataclass(frozen=True)
class Table:
    """A table of the page.

    Attributes:
        caption: what it shows, and for how many.
        head: column titles.
        rows: cells as text; the first of a row is its heading.
        words: indices of the text columns, which are left-aligned.
    """

    caption: str
    head: list[str]
    rows: list[list[str]]
    words: frozenset[int]


@dataclass(frozen=True)
class Part:
    """A part of a data set's section: anchor, title, sentences, tables."""

    id: str
    title: str
    sentences: list[str] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)


@dataclass(frozen=True)
class Leakage:
    """The page's content on leakage: alarms, and a part of the section if there was a report."""

    alarms: list[str]
    parts: list[Part]


def retrieval_table(paths: Sequence[Path]) -> Table | None:
    """Return the Stage I retrieval scores per subject and encoder, each next to chance; with several folds, a total of each.

    Raises:
        UserError: a table cannot be read, or a column is missing.
    """
    if not paths:
        return None
    columns = {"row", "subject", "encoder", "data", "metric", "value", "chance", "p", "n_candidates"}
    table = pd.concat([_read(path, columns).assign(fold=i) for i, path in enumerate(paths, 1)])
    metrics = list(dict.fromkeys(table["metric"]))
    rows = []
    for (fold, row, encoder, data), group in table.groupby(["fold", "row", "encoder", "data"], sort=False):
        entries = group.set_index("metric")
        label = f"{row} (sub-{entries['subject'].iloc[0]})" if row != "Total" else "Total"
        label += f", fold {fold}" if len(paths) > 1 else ""
        n = entries["n_candidates"].iloc[0]
        cells = [
            f"{entries.loc[m, 'value']:.1f} ({entries.loc[m, 'chance']:.1f}; p {_p(entries.loc[m, 'p'])})" if m in entries.index else "–"
            for m in metrics
        ]
        rows.append([label, ENCODERS.get((str(encoder), str(data)), str(encoder)), *cells, _cell(n)])
    caption = (
        "Which of the subject's test clips do the fMRI tokens of a trial belong to, before any text is generated? Value (chance; "
        "uncorrected p of a permutation test). Top-k and 2-way in percent; ranks start at 1, lower is better. Encoders that know "
        "nothing about the clip must be at chance."
    )
    return Table(caption, ["Subject", "Encoder", *map(_title, metrics), "Candidates"], rows, frozenset({0, 1}))


def noise_ceiling(paths: Sequence[Path]) -> list[Part]:
    """Return how well one response to a clip predicts another, which limits any decoder; empty if there is no such table.

    The ceiling depends only on the data. Folds differ only in the runs that they exclude, so the first fold's table is shown for all.

    Raises:
        UserError: the table cannot be read, or a column is missing.
    """
    if not paths:
        return []
    table = _read(paths[0], {"subject", "comparison", "note"})
    notes = [f"{note[0].upper()}{note[1:]}." for note in dict.fromkeys(table["note"].dropna())]
    measured = table[table["comparison"] != "none"].drop(columns=["dataset", "note"], errors="ignore").dropna(axis=1, how="all")
    caption = (
        "How well one response to a clip predicts another response to it, over voxels (correlation; p95, p99: percentiles of the voxels), "
        "and how often it identifies its clip (identification, %)"
    )
    return [Part("ceiling", "Noise ceiling", notes, [_as_table(measured, caption)] if len(measured) else [])]


def quality(paths: Sequence[Path], left_out: Table) -> Part:
    """Return motion, missing responses and excluded trials. With several folds, each subject is shown as a target."""
    caption = "Each subject's data: displacement is framewise, in mm; volumes above the limit in percent"
    found = [_read(path, {"subject"}).drop(columns="dataset", errors="ignore") for path in paths]
    own = [table[table["role"] == "target"] for table in found] if len(found) > 1 else found
    tables = [_as_table(pd.concat(own), caption)] if found else []
    sentences = [] if left_out.rows else ["No trial is excluded."]
    return Part("quality", "Data quality", sentences, [*tables, *([left_out] if left_out.rows else [])])


def left_out_table(left_out: pd.DataFrame) -> Table:
    """Count the excluded trials by subject, role and reason."""
    counts = left_out.groupby(["subject", "role", "reason"]).size() if len(left_out) else pd.Series(dtype=int)
    rows = [[f"sub-{subject}", str(role), str(reason), str(n)] for (subject, role, reason), n in counts.items()]  # type: ignore[misc]
    return Table(f"Excluded trials: {len(left_out)}", ["Subject", "Role", "Reason", "Trials"], rows, frozenset({0, 1, 2}))


def leakage(paths: Sequence[Path]) -> Leakage:
    """Return what test trials share with training, one part per fold, with an alarm where a strict split failed to prevent it.

    Raises:
        UserError: a report cannot be read, or is no leakage report.
    """
    if len(paths) == 1:
        return _leakage(paths[0])
    found = [_leakage(path) for path in paths]
    parts = [replace(p, id=f"{p.id}-{i}", title=f"{p.title}, fold {i}") for i, one in enumerate(found, 1) for p in one.parts]
    return Leakage([f"Fold {i}: {alarm}" for i, one in enumerate(found, 1) for alarm in one.alarms], parts)


def _leakage(path: Path) -> Leakage:
    try:
        report = json.loads(path.read_text())
        split, n_test, found = report["split"], report["trials"]["test"], list(report["findings"])
        shared = {title: {kind: values["count"] for kind, values in report[key].items()} for key, title in SHARED.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(str(path), f"expected a leakage report (docs/leakage.md): {error!r}; run the leakage stage again") from None
    rows = [[title, *(f"{int(counts[kind])} of {n_test}" for kind in KINDS_SHARED)] for title, counts in shared.items()]
    head = ["Test trials that share with", *KINDS_SHARED.values()]
    table = Table(f"What the {n_test} test trials share with other trials; split “{split}”", head, rows, frozenset({0}))
    of_training = shared[SHARED["training"]]
    alarms = []
    if split == "strict" and of_training["stimulus"] + of_training["part"]:
        alarms.append(
            f"The split is strict, but training included {int(of_training['stimulus'])} test clips, and other parts of the videos of "
            f"{int(of_training['part'])} more. The scores of these trials may reflect recognition."
        )
    return Leakage(alarms, [Part("leakage", "Leakage", found, [table])])


def _as_table(table: pd.DataFrame, caption: str) -> Table:
    """Convert a small table as it is, with numbers rounded for reading."""
    words = frozenset(i for i, column in enumerate(table) if not pd.api.types.is_numeric_dtype(table[column]))
    rows = [[_cell(value) for value in row] for row in table.itertuples(index=False)]
    return Table(caption, [_title(str(column)) for column in table], rows, words)


def _read(path: Path, columns: set[str]) -> pd.DataFrame:
    try:
        table = pd.read_csv(path, dtype={"subject": str, "run": str, "row": str})
    except (OSError, ValueError) as error:
        raise UserError(str(path), f"expected a table (.csv): {error}; rerun the step that makes it") from None
    if missing := sorted(columns - set(table)):
        raise UserError(str(path), f"no column {', '.join(missing)}; found {', '.join(map(str, table))}; rerun the step that makes it")
    return table


def _p(value: float) -> str:
    return "< 0.001" if value < 0.001 else f"{value:.3f}" if value < 0.1 else f"{value:.2f}"


def _title(column: str) -> str:
    text = " ".join(WORDS.get(word, word) for word in column.split("_"))
    return text[0].upper() + text[1:]


def _cell(value: Any) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.0f}" if value == round(value) else f"{value:.3g}" if abs(value) < 100 else f"{value:.1f}"
    return str(value)
