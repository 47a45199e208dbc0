"""The paper's Table 1 or 2: each score beside the published value and beside controls that saw no brain, or the wrong one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from boldscribe.config import Config
from boldscribe.errors import UserError
from boldscribe.evaluation import typeset
from boldscribe.evaluation.published import PRINTED, PUBLISHED, RECOMPUTED, published_scores
from boldscribe.evaluation.statistics import METRICS, Estimate, estimate, resamples, total, trial_statistics
from boldscribe.evaluation.trials_used import trials_sentence
from boldscribe.files import atomic
from boldscribe.reproducible import generator

CHANCE = "chance"
VALUES = ["dataset", "row", "subject", "condition", "metric", "value", "low", "high", "n_trials", "note"]
DIFFERENCES = ["dataset", "row", "subject", "control", "metric", "difference", "low", "high", "excludes_zero", "n_trials"]


def make_tables(
    config: Config,
    dataset: str,
    *,
    scores: Sequence[Path],
    labels: Sequence[Path],
    excluded: Sequence[Path],
    csv: Path,
    md: Path,
    tex: Path,
    differences: Path,
    left_out: Path,
) -> None:
    """Make the table of a data set.

    Args:
        config: the experiment.
        dataset: its label.
        scores: per-trial scores of all target subjects and conditions; in a rotation, of each fold.
        labels: clips of all subjects' trials, to say which of them source subjects saw too.
        excluded: trials of all subjects that are left out, to say how many and why.
        csv: every score with its 95 % interval, one per line, in percent: the columns `VALUES`. `row` is the paper's
            (`Subject-1`, ..., `Total`), `subject` our label. Published values and chance are conditions without interval;
            `note` says which published value contradicts the paper's own rows.
        md, tex: the paper's layout, as Markdown and LaTeX.
        differences: model minus control with its 95 % interval, one per line: the columns `DIFFERENCES`.
        left_out: the trials that are left out, one per line.

    Raises:
        UserError: scores of a subject or condition are missing or given twice, or conditions have different trials.
    """
    conditions, subjects = config.conditions(dataset), config.datasets[dataset].targets
    table = _read(scores, subjects, conditions)
    estimates = _estimates(config, dataset, table, subjects, conditions)
    n_trials = {**table[table["condition"] == "model"].groupby("subject").size(), "": int((table["condition"] == "model").sum())}
    rows = {f"Subject-{i}": subject for i, subject in enumerate(subjects, 1)} | {"Total": ""}
    measured = [
        {"row": row, "subject": subject, "condition": condition, "n_trials": n_trials[subject], **cell}
        for row, subject in rows.items()
        for condition in conditions
        for cell in _cells(estimates[subject][condition], "value")
    ]
    contrasts = [
        {"row": row, "subject": subject, "control": condition, "n_trials": n_trials[subject], **cell}
        for row, subject in rows.items()
        for condition in conditions
        if condition != "model"
        for cell in _cells(estimates[subject]["model"] - estimates[subject][condition], "difference")
    ]

    published = published_scores(config.datasets[dataset].table)
    value_table = pd.concat([pd.DataFrame(measured), _chance(table, rows), published], ignore_index=True).assign(dataset=dataset)
    value_table["subject"] = value_table["row"].map(rows)
    metrics = [*typeset.COLUMNS, *METRICS]
    value_table = _sorted(value_table, condition=[*conditions, CHANCE, PUBLISHED, RECOMPUTED, PRINTED], metric=metrics)[VALUES]
    value_table["n_trials"] = value_table["n_trials"].astype("Int64")
    contrast_table = pd.DataFrame(contrasts, columns=DIFFERENCES).assign(dataset=dataset)
    contrast_table = _sorted(contrast_table, control=conditions, metric=metrics)
    contrast_table["excludes_zero"] = (contrast_table["low"] > 0) | (contrast_table["high"] < 0)

    excluded_table = pd.concat([pd.read_parquet(p) for p in excluded], ignore_index=True)
    data = trials_sentence(config, dataset, labels, table, excluded_table)
    for path, frame in ((csv, value_table), (differences, contrast_table), (left_out, excluded_table)):
        with atomic(path) as part:
            frame.to_csv(part, index=False, float_format="%.4f", lineterminator="\n")
    for path, text in (
        (md, typeset.markdown(config, dataset, value_table, contrast_table, data)),
        (tex, typeset.latex(config, dataset, value_table, data)),
    ):
        with atomic(path) as part:
            part.write_text(text)


def _read(paths: Sequence[Path], subjects: Sequence[str], conditions: Sequence[str]) -> pd.DataFrame:
    """Scores of all subjects and conditions, which must have the same trials with the same references under each condition."""
    if not paths:
        raise UserError("scores", "no file given, expected one per validation subject and condition")
    table = pd.concat([pd.read_parquet(p) for p in paths], ignore_index=True)
    where = f"{paths[0].parent}/*.parquet"
    if repeated := sorted(set(table.loc[table.duplicated(["subject", "condition", "trial"]), "subject"])):
        raise UserError(where, f"trials of subject(s) {', '.join(repeated)} are given twice; give each file once")
    for subject in subjects:
        of_subject = table[table["subject"] == subject]
        expected = set(zip(*(of_subject.loc[of_subject["condition"] == "model", c] for c in ("trial", "reference")), strict=True))
        for condition in conditions:
            of_condition = of_subject[of_subject["condition"] == condition]
            if of_condition.empty:
                raise UserError(where, f"no score of sub-{subject}, condition {condition}; run the scores stage for it")
            if set(zip(of_condition["trial"], of_condition["reference"], strict=True)) != expected:
                raise UserError(
                    where,
                    f"sub-{subject}: condition {condition} has other trials or references than the model, "
                    "so that they cannot be compared; score all conditions of the subject again",
                )
    table = table[table["subject"].isin(subjects) & table["condition"].isin(conditions)]
    return table.sort_values(["subject", "condition", "trial"], ignore_index=True)


def _estimates(
    config: Config,
    dataset: str,
    table: pd.DataFrame,
    subjects: Sequence[str],
    conditions: Sequence[str],
) -> dict[str, dict[str, Estimate]]:
    """Scores and resampled scores by subject ('' for the total) and condition."""
    estimates: dict[str, dict[str, Estimate]] = {}
    for subject in subjects:
        of_subject = dict(list(table[table["subject"] == subject].groupby("condition")))
        rng = generator(config.seed, "bootstrap", dataset, subject)
        draws = resamples(len(of_subject["model"]), config.evaluation.bootstrap_samples, rng)
        estimates[subject] = {c: estimate(trial_statistics(of_subject[c]), draws) for c in conditions}
    estimates[""] = {c: total([estimates[s][c] for s in subjects]) for c in conditions}
    return estimates


def _cells(scores: Estimate, name: str) -> list[dict[str, object]]:
    """One entry per metric: its name, value and interval."""
    return [{"metric": m, name: v, "low": a, "high": b} for m, v, a, b in zip(METRICS, scores.value, *scores.interval(), strict=True)]


def _chance(table: pd.DataFrame, rows: Mapping[str, str]) -> pd.DataFrame:
    """Identification of a text that says nothing: 1/2, and 1 of the subject's distinct captions."""
    top_1 = (100 / table.groupby("subject")["reference"].nunique()).to_dict()
    top_1[""] = sum(top_1.values()) / len(top_1)
    chance = [
        (row, metric, value)
        for row, subject in rows.items()
        for metric, value in (("identification_2way", 50.0), ("identification", top_1[subject]))
    ]
    return pd.DataFrame(chance, columns=["row", "metric", "value"]).assign(condition=CHANCE)


def _sorted(table: pd.DataFrame, **orders: Sequence[str]) -> pd.DataFrame:
    """Rows of the table in the paper's order (subjects, then the total), then in the given orders of further columns."""
    rows = sorted(set(table["row"]), key=lambda row: (row == "Total", int(row.partition("-")[2] or 0)))
    position = {name: {value: i for i, value in enumerate(dict.fromkeys(order))} for name, order in {"row": rows, **orders}.items()}
    return table.sort_values(list(position), key=lambda column: column.map(position[str(column.name)]), ignore_index=True)
