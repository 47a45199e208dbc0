"""The paper's Table 1 or 2: each score next to the published value and all controls, with intervals, tests and verdicts."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from tqdm import tqdm

from boldscribe.config import Config
from boldscribe.descriptions import CAPTIONS
from boldscribe.evaluation.comparisons import CHANCE, DIFFERENCES, TESTS, difference_cells, judged, permutation_cells, value_cells
from boldscribe.evaluation.copying import copying
from boldscribe.evaluation.label_swaps import drawn_swaps, swapped_differences
from boldscribe.evaluation.latex import latex
from boldscribe.evaluation.metrics import METRICS, WAYS, in_order
from boldscribe.evaluation.notes import notes, title
from boldscribe.evaluation.permutation import permuted_scores
from boldscribe.evaluation.published import PRINTED, PUBLISHED, RECOMPUTED, published_scores
from boldscribe.evaluation.score_tables import Subject, read_left_out, read_scores, read_signatures, read_subjects, read_warnings
from boldscribe.evaluation.statistics import Floats, metrics_of, rows
from boldscribe.evaluation.trials_used import trials_sentence
from boldscribe.evaluation.typeset import Page, markdown
from boldscribe.evaluation.verdicts import ALARM, alarms, verdicts
from boldscribe.machinery.files import atomic
from boldscribe.machinery.reproducible import generator

VALUES = [
    *("dataset", "row", "subject", "condition", "metric", "value", "low", "high", "low_trials", "high_trials", "n_trials", "note"),
]


def make_tables(
    config: Config,
    dataset: str,
    references: str = CAPTIONS,
    /,
    *,
    scores: Sequence[Path],
    pairs: Sequence[Path],
    labels: Sequence[Path],
    excluded: Sequence[Path],
    csv: Path,
    md: Path,
    tex: Path,
    differences: Path,
    tests: Path,
    left_out: Path,
) -> None:
    """Make the table of a data set.

    Args:
        config: the experiment.
        dataset: its label.
        references: what the scores were computed against: captions, with the published values, or people's sentences.
        scores: per-trial scores of all target subjects and conditions; in a rotation, of each fold.
        pairs: the same scores for each text against the reference of each trial of the same subject and instruction.
        labels: clips of all subjects' trials, to report which of them source subjects also saw.
        excluded: excluded trials of all subjects, to report how many and why.
        csv: every score, one per line, in percent: the columns `VALUES`. `row` is the paper's (`Subject-1`, ..., `Total`), `subject`
            our label. `low` and `high` end the 95 % interval over subjects and trials, `low_trials` and `high_trials` that over trials of
            these subjects. Published values and chance are conditions without an interval; `note` marks published values that
            contradict the paper's own rows, and null controls that raise an alarm.
        md, tex: the paper's layout, as Markdown and LaTeX.
        differences: model minus control with both intervals, effect size (d_z) and share of trials won, one per line: `DIFFERENCES`.
        tests: permutation tests of the model against each control, and of each condition against chance: the columns `TESTS`.
        left_out: the excluded trials, one per line; those without a reference have no run.

    Raises:
        UserError: scores or pairs of a subject or condition are missing or given twice, or conditions have different trials.
    """
    conditions, subjects = config.conditions(dataset, references), config.datasets[dataset].targets
    table = read_scores(scores, subjects, conditions)
    metrics = metrics_of(table.columns)
    names = {f"Subject-{i}": subject for i, subject in enumerate(subjects, 1)} | {"Total": ""}
    own = read_subjects(pairs, table, labels, subjects, conditions)
    measured, contrasts = bootstrap_rows(config, dataset, names, own, conditions, metrics)
    tested = judged(permutation_rows(config, dataset, names, own, conditions, metrics), contrasts, config.evaluation.significance)
    copied = copying(config, table, references)
    raised = alarms(tested, references) | copied
    unfit = [f"{ALARM}: {warning}" for warning in read_warnings(scores)]
    for alarm in [*unfit, *raised.values()]:
        logging.getLogger(__name__).warning("%s%s: %s", dataset, references, alarm)
    measured["note"] = [raised.get(c, "") if row == "Total" else "" for c, row in zip(measured["condition"], measured["row"], strict=True)]

    published = published_scores(config.datasets[dataset].table)[: None if references == CAPTIONS else 0]
    values = pd.concat([measured, _chance(table, names, metrics), published], ignore_index=True).assign(dataset=dataset)
    order = list(dict.fromkeys([*in_order([*METRICS, *metrics]), *metrics]))
    values = _sorted(values, condition=[*conditions, CHANCE, PUBLISHED, RECOMPUTED, PRINTED], metric=order)
    values["subject"] = values["row"].map(names)
    values["n_trials"] = values["n_trials"].astype("Int64")

    left_out_table = pd.concat([*(pd.read_parquet(p) for p in excluded), *read_left_out(scores)], ignore_index=True)
    data = trials_sentence(config, dataset, labels, table, left_out_table)
    page = Page(
        title(config, dataset, references),
        [*(f"{alarm}." for alarm in [*unfit, *copied.values()]), *verdicts(config, tested, references)],
        values,
        contrasts,
        tested,
        notes(config, dataset, values, read_signatures(scores[0]), data, references),
    )
    # six digits preserve a small p; no other number needs more than four decimals
    for path, frame, digits in (
        (csv, values[VALUES], "%.4f"),
        (differences, contrasts[DIFFERENCES], "%.4f"),
        (tests, tested[TESTS], "%.6g"),
    ):
        with atomic(path) as part:
            in_words = (
                {"kind": frame["kind"].replace("null", "null control")} if "kind" in frame else {}
            )  # "null" would be read as a missing value
            frame.assign(**in_words).to_csv(part, index=False, float_format=digits, lineterminator="\n")
    with atomic(left_out) as part:
        left_out_table.to_csv(part, index=False, lineterminator="\n")
    for path, text in ((md, markdown(page)), (tex, latex(page, f"{dataset}{references}"))):
        with atomic(path) as part:
            part.write_text(text)


def bootstrap_rows(
    config: Config, dataset: str, names: Mapping[str, str], own: Sequence[Subject], conditions: Sequence[str], metrics: Sequence[str]
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Compute scores of each row and condition with their intervals, and differences between the model and each control."""
    rng = generator(config.seed, "bootstrap", dataset)
    measured: list[dict[str, Any]] = []
    contrasts: list[dict[str, Any]] = []
    all_rows = rows([subject.statistics_TCK for subject in own], config.evaluation.bootstrap_samples, rng)
    for i, ((name, subject), row) in enumerate(zip(names.items(), tqdm(all_rows, "bootstrap", len(names), mininterval=5), strict=True)):
        place = {"dataset": dataset, "row": name, "subject": subject, "n_trials": sum(row.n_trials)}
        per_trial = [s.statistics_TCK for s in (own if name == "Total" else [own[i]])]
        measured += [{**place, **cell} for cell in value_cells(row, conditions, metrics)]
        contrasts += [{**place, **cell} for cell in difference_cells(row, per_trial, conditions, metrics)]
    table = pd.DataFrame(contrasts, columns=DIFFERENCES)
    table["excludes_zero"] = (table["low"] > 0) | (table["high"] < 0)
    return pd.DataFrame(measured), table


def permutation_rows(
    config: Config, dataset: str, names: Mapping[str, str], own: Sequence[Subject], conditions: Sequence[str], metrics: Sequence[str]
) -> pd.DataFrame:
    """Test each row; a permutation of all subjects permutes each of them, and the total is the mean of their scores."""
    entries: list[dict[str, Any]] = []
    n, level = config.evaluation.permutations, config.evaluation.significance
    swaps = drawn_swaps([subject.clips for subject in own], n, generator(config.seed, "label swaps", dataset))
    total_NCM: Floats | float = 0.0
    total_NDM: Floats | float = 0.0
    for i, (name, label) in enumerate(tqdm(names.items(), "permutations", mininterval=5)):
        if i < len(own):
            rng = generator(config.seed, "permutations", dataset, label)
            permuted_NCM = permuted_scores(own[i].pairs_PCK, own[i].pair_of, own[i].instructions, n, rng)
            swapped_NDM = swapped_differences(own[i].statistics_TCK, swaps[i])
            total_NCM, total_NDM = total_NCM + permuted_NCM / len(own), total_NDM + swapped_NDM / len(own)
        else:
            permuted_NCM, swapped_NDM = np.asarray(total_NCM), np.asarray(total_NDM)
        cells = permutation_cells(permuted_NCM, swapped_NDM, conditions, metrics, level)
        entries += [{"dataset": dataset, "row": name, "subject": label, **cell} for cell in cells]
    return pd.DataFrame(entries)


def _chance(table: pd.DataFrame, names: Mapping[str, str], metrics: Sequence[str]) -> pd.DataFrame:
    """Return chance level of identification: 1 / number of candidates; for top-1, these are all of the subject's distinct captions."""
    distinct = table.groupby("subject")["reference"].nunique()
    ways = {m: int(found[1]) for m in metrics if (found := WAYS.fullmatch(m))}
    chance = []
    for row, subject in names.items():
        candidates = distinct if row == "Total" else distinct[[subject]]
        chance += [(row, m, 100 / k) for m, k in ways.items() if k <= candidates.min()]
        chance.append((row, "identification", float((100 / candidates).mean())))
    return pd.DataFrame(chance, columns=["row", "metric", "value"]).assign(condition=CHANCE)


def _sorted(table: pd.DataFrame, **orders: Sequence[str]) -> pd.DataFrame:
    """Sort rows into the paper's order (subjects, then the total), then by the given orders of further columns."""
    of_rows = sorted(set(table["row"]), key=lambda row: (row == "Total", int(row.partition("-")[2] or 0)))
    position = {name: {value: i for i, value in enumerate(dict.fromkeys(order))} for name, order in {"row": of_rows, **orders}.items()}
    return table.sort_values(list(position), key=lambda column: column.map(position[str(column.name)]), ignore_index=True)
