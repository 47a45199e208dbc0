"""Files of fMRI tokens, written by `boldscribe.models.encoding` and read without torch, which choosing a caption by them does not need."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from boldscribe.machinery.errors import UserError
from boldscribe.machinery.files import load_array


def read_fmri_tokens(path: Path, role: str) -> tuple[NDArray[np.float32], pd.DataFrame]:
    """Read tokens (trials, L, d), and `subject, trial` of each row.

    Raises:
        UserError: the tokens are of another role.
    """
    array, header = load_array(path)
    if header["role"] != role:
        raise UserError(str(path), f"role: found {header['role']!r}, expected {role!r}; pass the tokens of that role")
    return array.astype(np.float32), pd.DataFrame({"subject": header["subjects"], "trial": header["trials"]})


def tokens_of(path: Path, role: str, trials: pd.DataFrame) -> NDArray[np.float32]:
    """Read the fMRI tokens of trials of a role, in the order of `trials`: (trials, L, d).

    Raises:
        UserError: the tokens are of another role, or a trial has none.
    """
    z_NLD, rows = read_fmri_tokens(path, role)
    position = trials[["subject", "trial"]].merge(rows.assign(row=range(len(rows))), on=["subject", "trial"], how="left")["row"]
    if lacking := int(position.isna().sum()):
        raise UserError(str(path), f"found no tokens for {lacking} of {len(trials)} {role} trials; encode again")
    return z_NLD[position.to_numpy(np.int64)]
