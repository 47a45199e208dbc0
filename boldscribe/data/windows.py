"""Trial windows: a few volumes of a cleaned series, scattered from its voxels into the grid of the 3-D CNN."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from boldscribe.config.brain_size import LARGEST_LOSS
from boldscribe.data.placement import place_in_grid, voxels_path
from boldscribe.data.presentations import first_volumes
from boldscribe.machinery.errors import UserError
from boldscribe.machinery.files import load_array


@lru_cache(maxsize=128)
def _opened(path: Path) -> NDArray[Any]:
    """Open a series as a memory map; the cache bounds how many of a thousand subjects' files are open at once."""
    return load_array(path)[0]


@dataclass(frozen=True)
class Series:
    """A subject's cleaned series and where its voxels lie in the tokenizer's grid.

    Attributes:
        path: `sub-XX_bold.npy`.
        shape: volumes, voxels.
        place: (K,) flat index in the grid of the voxels inside it.
        inside: (voxels,) mask of these voxels.
    """

    path: Path
    shape: tuple[int, int]
    place: NDArray[np.int32]
    inside: NDArray[np.bool_]

    @property
    def bold_TV(self) -> NDArray[Any]:
        """The series, memory-mapped."""
        return _opened(self.path)


class Windows(Dataset[tuple[Tensor, int]]):
    """Windows of the trials of one or more subjects; only the index is held in memory.

    Args:
        series: `sub-XX_bold.npy` of every subject in `trials` (docs/data.md).
        trials: rows of `sub-XX_trials.parquet`, of any subjects and roles of one data set; their order defines the index.
        grid: voxels of the tokenizer; the template grid is cropped or padded to it symmetrically (`place_in_grid`).
        names: name in `trials` of the subject of each series; by default the one in its header.

    Attributes:
        trials: the table, with index 0 to N - 1.
        series: by subject.

    Raises:
        UserError: a subject without series, series on different grids, windows of different lengths, a window outside its
            series, or a grid that cuts off more than 5 % of a brain.
    """

    def __init__(self, series: Sequence[Path], trials: pd.DataFrame, grid: Sequence[int], names: Sequence[str] | None = None) -> None:
        self.trials = trials.reset_index(drop=True)
        self.grid = (int(grid[0]), int(grid[1]), int(grid[2]))
        self.series: dict[str, Series] = {}
        affines = {}
        for i, path in enumerate(series):
            bold_TV, header = load_array(path)
            voxels = np.load(voxels_path(path), allow_pickle=False)
            place, inside = place_in_grid(voxels, header["grid_shape"], self.grid)
            if inside.mean() < 1 - LARGEST_LOSS:
                raise UserError(
                    str(path),
                    f"tokenizer.grid: found {self.grid}, which cuts off {1 - inside.mean():.0%} of the brain in "
                    f"{tuple(header['grid_shape'])}; expected a grid that contains it; enlarge tokenizer.grid or preprocessing.resolution",
                )
            name = names[i] if names else header["subject"]
            self.series[name] = Series(path, (len(bold_TV), len(voxels)), place.astype(np.int32), inside)
            affines[str(path)] = (header["affine"], header["grid_shape"])
        if len({str(a) for a in affines.values()}) > 1:
            raise UserError(
                next(iter(affines)),
                f"affine or grid_shape differs from that of {list(affines)[-1]}; preprocess all subjects in one space and resolution",
            )
        lengths = self.trials["n_volumes"].unique()
        if len(lengths) > 1:
            raise UserError("trials", f"n_volumes: found {sorted(lengths)}, expected one length; write all trials again")
        self.n_volumes = int(lengths[0]) if len(lengths) else 0
        self._check_windows()

    def _check_windows(self) -> None:
        for subject, rows in self.trials.groupby("subject", observed=True):
            if str(subject) not in self.series:
                found = ", ".join(self.series) or "none"
                raise UserError(f"sub-{subject}", f"series: found {found}, expected one for this subject; write it (bold_series)")
            n_rows = self.series[str(subject)].shape[0]
            first = np.concatenate(first_volumes(rows))
            if first.min() < 0 or first.max() + self.n_volumes > n_rows:
                raise UserError(
                    f"sub-{subject}", f"first_volume: windows extend beyond the {n_rows} volumes of the series; write the trials again"
                )

    def __len__(self) -> int:
        return len(self.trials)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        """Return the window of a trial, float32 (T, X, Y, Z), zero outside the brain, the mean of its presentations, and the index."""
        return self.load([index])[0], index

    def load(self, indices: Sequence[int] | Tensor) -> Tensor:
        """Load the windows of several trials at once, float32 (B, T, X, Y, Z)."""
        rows = self.trials.iloc[[int(i) for i in indices]]
        x_BTN = np.zeros((len(rows), self.n_volumes, int(np.prod(self.grid))), np.float32)
        for x_TN, subject, shown in zip(x_BTN, rows["subject"], first_volumes(rows), strict=True):
            one = self.series[subject]
            for first in shown:
                x_TN[:, one.place] += one.bold_TV[first : first + self.n_volumes][:, one.inside]
            if len(shown) > 1:
                x_TN /= len(shown)
        return torch.from_numpy(x_BTN).view(len(rows), self.n_volumes, *self.grid)
