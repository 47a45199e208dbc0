"""Noise ceiling: how well a response to a clip predicts another response to the same clip, within a subject or across subjects.

A decoder cannot extract more about a clip than its responses reproduce. If a clip is shown to a subject several times, the two
halves of its repeats are compared. If several subjects saw the same clips, each subject is compared with the mean of the others
(leave-one-out inter-subject correlation: Nastase et al. 2019). The pattern of a trial is the mean of its window's volumes, at all
voxels of the brain. Voxels are not selected, since selection by these responses would inflate the result.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from boldscribe.data.placement import voxels_path
from boldscribe.data.presentations import first_volumes
from boldscribe.evaluation.identification import identification
from boldscribe.machinery.errors import UserError
from boldscribe.machinery.files import atomic, load_array

Array = NDArray[np.float32]
LEAST_STIMULI = 3  # with fewer, a correlation is meaningless
FALSE_DISCOVERIES = 0.05  # expected share among the voxels declared reliable
COLUMNS = [
    *("dataset", "subject", "comparison", "stimuli", "repeats", "voxels", "median", "p95", "p99", "spearman_brown_median"),
    *("spearman_brown_p95", "spearman_brown_p99", "reliable_voxels", "identification", "identification_2way", "chance", "note"),
]
WITHIN, OF_TEST, ACROSS = "repeats of a subject", "repeats of its test clips", "other subjects"
NO_REPEATS = "no stimulus repeats: each clip was seen by one subject once, so that the noise ceiling of these data is unknown"


@dataclass(frozen=True)
class Trials:
    """Trials of a subject, with the series that contains their windows.

    Attributes:
        table: `role, stim_file, first_volume, n_volumes` of each presentation.
        bold_TV: the cleaned series.
        voxels: (V,) flat index of each voxel in its grid.
    """

    table: pd.DataFrame
    bold_TV: NDArray[Any]
    voxels: NDArray[np.int32]

    @property
    def counts(self) -> pd.Series:
        """Number of times that each clip was seen."""
        return self.table["stim_file"].value_counts()

    def patterns(self, clips: Sequence[str], voxels: NDArray[np.int32], take: slice) -> Array:
        """Compute the mean response to each clip over some of its repeats, (clips, voxels).

        Args:
            clips: each seen at least once.
            voxels: flat indices, a subset of the subject's.
            take: slice of the repeats of a clip, in order of presentation.
        """
        columns = np.searchsorted(self.voxels, voxels)
        by_clip = dict(list(self.table.groupby("stim_file")))
        return np.stack([self._mean(by_clip[clip].iloc[take])[columns] for clip in clips])

    def _mean(self, trials: pd.DataFrame) -> Array:
        windows = [
            self.bold_TV[a : a + n].mean(0, dtype=np.float32) for a, n in zip(trials["first_volume"], trials["n_volumes"], strict=True)
        ]
        return np.asarray(np.mean(windows, axis=0), np.float32)


def write_reliability(dataset: str, *, series: Sequence[Path], trials: Sequence[Path], labels: Sequence[Path], output: Path) -> None:
    """Write a row per subject and comparison: `COLUMNS` (docs/data.md), or one row that states that nothing repeats.

    Args:
        dataset: label.
        series, trials, labels: of all subjects, in the same order.
        output: the table (.csv).

    Raises:
        UserError: files of different subjects, or trials without a label.
    """
    subjects = dict(_read(*files) for files in zip(series, trials, labels, strict=True))
    rows = [*_within(subjects), *_across(subjects)] or [{"comparison": "none", "note": NO_REPEATS}]
    table = pd.DataFrame(rows).reindex(columns=COLUMNS).assign(dataset=dataset)
    with atomic(output) as part:
        table.to_csv(part, index=False, float_format="%.4f", lineterminator="\n")


def _read(series: Path, trials: Path, labels: Path) -> tuple[str, Trials]:
    """Read a subject's label and trials, in order of presentation."""
    bold_TV, header = load_array(series)
    index, known = pd.read_parquet(trials), pd.read_parquet(labels)
    table = index.merge(known, on=["subject", "trial"], validate="one_to_one").sort_values("trial", ignore_index=True)
    found = {*index["subject"], *known["subject"], header["subject"]}
    if len(found) != 1 or len(table) != len(index):
        raise UserError(
            f"{series}, {trials}, {labels}",
            f"found subjects {', '.join(sorted(found))} and {len(table)} labels for {len(index)} trials, expected one subject with a label "
            "for each trial; write trials and labels again",
        )
    shown = table.assign(first_volume=pd.Series(first_volumes(table), dtype=object)).explode("first_volume")
    return str(header["subject"]), Trials(shown, bold_TV, np.load(voxels_path(series), allow_pickle=False))


def _within(subjects: Mapping[str, Trials]) -> list[dict[str, Any]]:
    """Compare each subject's even repeats with its odd ones: of all clips, and of those in testing, which may repeat more often."""
    rows = []
    for subject, every in subjects.items():
        tested = every.table[every.table["role"] == "test"]
        for comparison, trials in ((WITHIN, every), (OF_TEST, replace(every, table=tested))):
            counts = trials.counts
            clips = sorted(counts.index[counts >= 2])
            if len(clips) >= LEAST_STIMULI:
                n = int(counts[clips].min()) // 2 * 2
                halves = [trials.patterns(clips, trials.voxels, slice(start, n, 2)) for start in (0, 1)]
                rows.append({"subject": subject, "comparison": comparison, "repeats": n, **compare(*halves, lengthened=True)})
    return rows


def _across(subjects: Mapping[str, Trials]) -> list[dict[str, Any]]:
    """Compare each subject with the mean of all others, on the clips and voxels that all have."""
    clips = sorted(set.intersection(*(set(t.table["stim_file"]) for t in subjects.values())))
    if len(subjects) < 2 or len(clips) < LEAST_STIMULI:
        return []
    voxels = reduce(np.intersect1d, [t.voxels for t in subjects.values()])
    total = sum(t.patterns(clips, voxels, slice(None)) for t in subjects.values())
    rows = []
    for subject, trials in subjects.items():
        own = trials.patterns(clips, voxels, slice(None))
        others = np.asarray((total - own) / (len(subjects) - 1), np.float32)
        repeats = int(trials.counts[clips].min())
        rows.append({"subject": subject, "comparison": ACROSS, "repeats": repeats, **compare(own, others, lengthened=False)})
    return rows


def compare(a_CV: Array, b_CV: Array, *, lengthened: bool) -> dict[str, Any]:
    """Measure the agreement of two measurements of the responses to the same clips.

    Args:
        a_CV, b_CV: responses to clips, voxel by voxel.
        lengthened: whether they are halves of one measurement, whose reliability follows from the Spearman-Brown formula.

    Returns:
        numbers of stimuli and voxels; quantiles over voxels of the correlation over clips, and their Spearman-Brown correction
        2r / (1 + r) where r is above 0; share of voxels that correlate (false discovery rate 5 %); the noise ceiling, which is the
        identification (%) of the clip of each pattern of a among those of b by their correlation over voxels; and its chance level.
    """
    a_CV, b_CV = _standardised(a_CV), _standardised(b_CV)
    varies = (a_CV.any(0)) & (b_CV.any(0))
    a_CV, b_CV = a_CV[:, varies], b_CV[:, varies]
    n = len(a_CV)
    r_V = (a_CV * b_CV).mean(0)
    quantiles = np.quantile(r_V, [0.5, 0.95, 0.99])
    lengthened_r = np.where(lengthened & (quantiles > 0), 2 * quantiles / (1 + quantiles), np.nan)
    identified = {name: np.diag(c_CC).mean() for name, c_CC in identification(np.corrcoef(a_CV, b_CV)[:n, n:], [2]).items()}
    return {
        "stimuli": n,
        "voxels": len(r_V),
        **dict(zip(("median", "p95", "p99"), quantiles, strict=True)),
        **dict(zip(("spearman_brown_median", "spearman_brown_p95", "spearman_brown_p99"), lengthened_r, strict=True)),
        "reliable_voxels": float((stats.false_discovery_control(_p_of(r_V, n)) < FALSE_DISCOVERIES).mean()),
        **identified,
        "chance": 100 / n,
    }


def _standardised(x_CV: Array) -> Array:
    """Scale to mean 0 and SD 1 over clips; 0 where nothing varies."""
    deviation = x_CV.std(0)
    return np.asarray((x_CV - x_CV.mean(0)) / np.where(deviation > 1e-6, deviation, np.inf), np.float32)


def _p_of(r_V: Array, n: int) -> NDArray[np.float64]:
    """Return the one-sided p of a correlation over n independent clips (Student's t)."""
    r = np.clip(r_V.astype(np.float64), -1 + 1e-9, 1 - 1e-9)
    return np.asarray(stats.t.sf(r * np.sqrt((n - 2) / (1 - r**2)), n - 2))
