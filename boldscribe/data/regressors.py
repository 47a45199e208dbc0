"""Confounds of a preprocessed run: the table that belongs to it, and the regressors that the configuration chooses."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from boldscribe.config.data_settings import Bold
from boldscribe.data.drift import cosines
from boldscribe.data.preprocessed import companion
from boldscribe.machinery.errors import UserError
from boldscribe.machinery.table_files import read_table

MOTION = ("trans_x", "trans_y", "trans_z", "rot_x", "rot_y", "rot_z")
TISSUES = ("csf", "white_matter")
# names and choices as in nilearn's load_confounds
TERMS = {
    "basic": ("",),
    "power2": ("", "_power2"),
    "derivatives": ("", "_derivative1"),
    "full": ("", "_derivative1", "_power2", "_derivative1_power2"),
}
DISPLACEMENT = "framewise_displacement"
MAY_LACK = ("echo", "part", "space", "res", "den", "cohort")


def confounds_path(bold: Path) -> Path:
    """Return the confounds table of a preprocessed image; it may lack entities of the image, such as `echo` and `space`.

    Raises:
        UserError: there is none.
    """
    path = companion(bold, "confounds", ("timeseries", "regressors"), (".tsv",), MAY_LACK)
    if path is None:
        raise UserError(str(bold), "confounds: found none, expected fMRIPrep's desc-confounds_timeseries.tsv next to it; preprocess again")
    return path


def read_confounds(bold: Path, n_volumes: int, tr: float, settings: Bold) -> tuple[pd.DataFrame, NDArray[np.bool_], NDArray[np.float32]]:
    """Read the regressors that the configuration chooses, steady-state volumes, and framewise displacement (mm).

    Columns are those of nilearn's `load_confounds` with motion, high_pass and wm_csf, sorted by name. A derivative has no value at its
    first volume; there it gets that of the next. Volumes before the steady state are not used, so that their values do not matter.

    Args:
        bold: preprocessed image.
        n_volumes: its number of volumes.
        tr: its TR (s).
        settings: choice of regressors.

    Raises:
        UserError: no table, missing columns, n/a or text in a column, or a number of rows that differs from that of volumes.
    """
    path = confounds_path(bold)
    table = read_table(path).reset_index(drop=True)
    if len(table) != n_volumes:
        raise UserError(str(path), f"confounds: found {len(table)} rows, expected {n_volumes}, one per volume; preprocess the run again")
    drifts = [c for c in map(str, table) if c.startswith("cosine")]
    if cosines(n_volumes, tr).size and not drifts:
        raise UserError(str(path), "confounds: found no cosine columns, expected them as the high-pass filter; preprocess the run again")
    wanted = [f"{name}{term}" for name in MOTION for term in TERMS[settings.motion]]
    wanted += [f"{name}{term}" for name in TISSUES for term in TERMS[settings.tissue]] if settings.tissue else []
    if absent := [c for c in [*wanted, DISPLACEMENT] if c not in table]:
        raise UserError(str(path), f"confounds: found no column {', '.join(absent)}, expected it; {_remedy(absent)}")
    early = [c for c in map(str, table) if c.startswith("non_steady_state")]
    steady = ~(table[early].apply(pd.to_numeric, errors="coerce").fillna(0) != 0).any(axis=1).to_numpy()
    chosen = table[sorted([*wanted, *drifts])]
    if problems := [p for c in chosen if (p := _column_problem(chosen[c], steady))]:
        raise UserError(str(path), *problems)
    # values of unused volumes do not matter
    filled = chosen.apply(pd.to_numeric, errors="coerce").replace([np.inf, -np.inf], np.nan).bfill().fillna(0.0)
    displacement = pd.to_numeric(table[DISPLACEMENT], errors="coerce").to_numpy(np.float32)
    return filled, steady, displacement


def _column_problem(column: pd.Series, steady: NDArray[np.bool_]) -> str | None:
    """Return what is wrong with a regressor: text, or volumes without a finite value other than the first of a derivative."""
    name = str(column.name)
    values = pd.to_numeric(column, errors="coerce").to_numpy(float)
    text = column[column.notna() & np.isnan(values)]
    if len(text):
        return f"{name}: found {text.iloc[0]!r} in row {text.index[0] + 1}, expected numbers; preprocess the run again"
    empty = steady & ~np.isfinite(values)
    if not steady.any() or not empty.any():
        return None
    if empty[steady].all():
        return f"{name}: found n/a in all rows, expected numbers; {_remedy([name])}"
    if "_derivative" in name:
        empty[int(steady.argmax())] = False
    rows = np.flatnonzero(empty) + 1
    if not len(rows):
        return None
    return f"{name}: found n/a in rows {_ranges(rows.tolist())}, expected a number for each volume; {_remedy([name])}"


def _ranges(rows: Sequence[int]) -> str:
    """Write row numbers briefly: `3, 30-33`."""
    runs = [[row for _, row in group] for _, group in groupby(enumerate(rows), lambda pair: pair[1] - pair[0])]
    return ", ".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs[:10])


def _remedy(columns: Sequence[str]) -> str:
    """Return the setting that goes on without these columns, if there is one."""
    plain = {*MOTION, *TISSUES}
    if any(c.startswith(TISSUES) for c in columns):
        less = "null" if plain & set(columns) else "basic"
        return f"to go on without it, set bold.tissue: {less}; or preprocess the run again"
    if any(c.startswith(MOTION) for c in columns) and not plain & set(columns):
        return "to go on without it, set bold.motion: basic; or preprocess the run again"
    return "preprocess the run again, or remove it"
