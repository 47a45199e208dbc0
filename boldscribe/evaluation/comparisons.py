"""Comparison of the model with each control, and of each condition with chance: differences, effect sizes and tests.

Against a null control, which knows nothing of the clips, a claim requires both of two findings. The model's texts tell the trial's clip
from others better than the control's do (references are permuted, `permutation.py`), and they score higher. The first can occur with a
lower score; the second can be due to style. Against any other condition, which knows something of the clip too, the question is which of
the two scores higher, in either direction (labels are swapped within trials, `label_swaps.py`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from boldscribe.conditions import CONDITIONS
from boldscribe.evaluation.permutation import Test, detectable, permutation_test
from boldscribe.evaluation.statistics import SENTENCE_BLEU, Floats, Row, bounded, effect_size, trials_won

CHANCE = "chance"
ANY = "any"
DIFFERENCES = [
    *("dataset", "row", "subject", "control", "kind", "metric", "difference", "low", "high", "low_trials", "high_trials"),
    *("effect_size", "trials_won", "excludes_zero", "n_trials"),
]
TESTS = [
    *("dataset", "row", "subject", "condition", "against", "kind", "metric", "statistic", "expected", "detectable"),
    *("p", "p_max", "p_holm", "beats"),
]


def value_cells(row: Row, conditions: Sequence[str], metrics: Sequence[str]) -> list[dict[str, Any]]:
    """Return a row's scores with both intervals, clipped to the range of each score: one entry per condition and metric."""
    names = ("value", "low", "high", "low_trials", "high_trials")
    arrays = (row.value_CM, *bounded(row.over_subjects(), metrics), *bounded(row.over_trials(), metrics))
    return [
        {"condition": condition, "metric": metric, **{name: array[c, m] for name, array in zip(names, arrays, strict=True)}}
        for c, condition in enumerate(conditions)
        for m, metric in enumerate(metrics)
    ]


def difference_cells(row: Row, means_STCM: Sequence[Floats], conditions: Sequence[str], metrics: Sequence[str]) -> list[dict[str, Any]]:
    """Return the model minus each control: one entry per control and metric, with both intervals and effect sizes over trials.

    Args:
        row: scores, the model's first.
        means_STCM: per-trial scores of each of the row's subjects, in the order of `metrics` without corpus-level ones, for which the
            effect size of the sentence-level ones is used.
        conditions, metrics: names.
    """
    per_trial = [metrics.index(SENTENCE_BLEU.get(metric, metric)) for metric in metrics]
    less = row.first_less_others()
    of_trials = [means_TCM[:, :1] - means_TCM[:, 1:] for means_TCM in means_STCM]
    sizes = (effect_size(of_trials)[:, per_trial], trials_won(of_trials)[:, per_trial])
    names = ("difference", "low", "high", "low_trials", "high_trials", "effect_size", "trials_won")
    arrays = (less.value_CM, *less.over_subjects(), *less.over_trials(), *sizes)
    return [
        {
            "control": control,
            "kind": CONDITIONS[control].kind,
            "metric": metric,
            **{name: array[c, m] for name, array in zip(names, arrays, strict=True)},
        }
        for c, control in enumerate(conditions[1:])
        for m, metric in enumerate(metrics)
    ]


def permutation_cells(
    permuted_NCM: Floats, swapped_NDM: Floats, conditions: Sequence[str], metrics: Sequence[str], significance: float
) -> list[dict[str, Any]]:
    """Test the model against each control, and each condition against chance: one entry per metric, and one for any of them.

    The model and a condition that is no null control are tested in both directions.

    Args:
        permuted_NCM: a row's scores, first under the true pairing, then under permutations; the model's come first.
        swapped_NDM: the model's scores less each other condition's, first with the true labels, then with labels swapped.
        conditions, metrics: names. A metric that is missing in the row (NaN) is not tested.
        significance: level of the tests, for the smallest difference that they can detect (after Bonferroni).
    """
    given = [m for m in range(len(metrics)) if np.isfinite(permuted_NCM[0, :, m]).all()]
    permuted_NCM, swapped_NDM = permuted_NCM[:, :, given], swapped_NDM[:, :, given]
    names = [metrics[m] for m in given]
    informed = sum(CONDITIONS[control].kind != "null" for control in conditions[1:])
    entries = []
    for c, control in enumerate(conditions[1:], 1):
        place = {"condition": conditions[0], "against": control, "kind": CONDITIONS[control].kind}
        if CONDITIONS[control].kind == "null":
            entries += _entries(place, names, permutation_test(permuted_NCM[:, 0] - permuted_NCM[:, c]))
            continue
        for direction, one in ((1, place), (-1, {**place, "condition": control, "against": conditions[0]})):
            less_NM = direction * swapped_NDM[:, c - 1]
            entries += _entries(one, names, permutation_test(less_NM), detectable(less_NM, significance / (2 * informed)))
    for c, condition in enumerate(conditions):
        place = {"condition": condition, "against": CHANCE, "kind": CONDITIONS[condition].kind}
        entries += _entries(place, names, permutation_test(permuted_NCM[:, c]))
    return entries


def _entries(place: Mapping[str, str], metrics: Sequence[str], test: Test, smallest_M: Floats | None = None) -> list[dict[str, Any]]:
    smallest_M = np.full(len(metrics), np.nan) if smallest_M is None else smallest_M
    names = ("metric", "statistic", "expected", "detectable", "p", "p_max")
    columns = zip(metrics, test.statistic, test.expected, smallest_M, test.p, test.p_max, strict=True)
    entries = [{**place, **dict(zip(names, values, strict=True))} for values in columns]
    largest, p = test.any
    return [*entries, {**place, "metric": ANY, "statistic": largest, "expected": np.nan, "detectable": np.nan, "p": p, "p_max": p}]


def holm(p_C: Floats) -> Floats:
    """Correct p-values for their number (Holm 1979): the k-th smallest of C times C - k + 1, and never below the one before it.

    Like statsmodels' `multipletests`, which collects garbage on each call and so takes minutes for the thousand families of a table.
    """
    order_C = np.argsort(p_C)
    corrected_C = np.maximum.accumulate(p_C[order_C] * np.arange(len(p_C), 0, -1))
    return np.minimum(corrected_C, 1)[np.argsort(order_C)]


def judged(tests: pd.DataFrame, differences: pd.DataFrame, significance: float) -> pd.DataFrame:
    """Add `p_holm` and `beats` to the tests.

    `p_holm` corrects `p_max` for the number of comparisons in a row of the table (Holm 1979). The model's comparisons with null
    controls, and with other conditions in both directions, are two families; so are null controls and other conditions against chance.
    The model against chance is a family of one. A hypothesis covers all metrics of a comparison, so the correction holds over
    comparisons and metrics.

    `beats` means significant; for the model against a null control, the interval of the difference over trials must also lie above 0.
    For any metric, at least one of them must beat.
    """
    kind = tests["kind"].where(tests["kind"].isin(["model", "null"]), "other")
    tests = tests.assign(family=kind + tests["against"].eq(CHANCE).map({True: " against chance", False: ""}))
    groups = tests.groupby(["row", "metric", "family"], sort=False)["p_max"]
    tests["p_holm"] = groups.transform(lambda p: holm(p.to_numpy()))
    ends = differences.set_index(["row", "control", "metric"])["low_trials"].astype(float)
    lows = ends.reindex(pd.MultiIndex.from_frame(tests[["row", "against", "metric"]])).to_numpy()
    tests["beats"] = (tests["p_holm"] < significance) & (tests["against"].eq(CHANCE) | tests["kind"].ne("null") | (lows > 0))
    single = tests["metric"] != ANY
    any_beats = tests["beats"].where(single, False).groupby([tests[c] for c in ("row", "condition", "against")]).transform("any")
    tests["beats"] = tests["beats"].where(single, any_beats)
    return tests.drop(columns="family")
