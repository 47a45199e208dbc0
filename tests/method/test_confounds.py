"""Regressors of ready derivatives: those of nilearn, and none invented."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from nilearn.interfaces.fmriprep import load_confounds

from boldscribe.config.data_settings import Bold
from boldscribe.data.regressors import read_confounds
from boldscribe.machinery.errors import UserError
from tests.method.ready_dataset import (
    MOTION,
    N_VOLUMES,
    TR,
    bold_of,
    change_confounds,
    confounds_of,
    experiment,
    preflight,
)


@pytest.mark.parametrize("motion", ["basic", "power2", "derivatives", "full"])
@pytest.mark.parametrize("tissue", [None, "basic", "power2", "derivatives", "full"])
def test_regressors_are_those_of_nilearn(root: Path, motion: str, tissue: str | None) -> None:
    change_confounds(root, lambda table: table.assign(non_steady_state_outlier00=np.eye(1, N_VOLUMES)[0]))
    confounds_of(root).with_suffix(".json").write_text("{}")
    strategy = ["motion", "high_pass", *(["wm_csf"] if tissue else [])]
    expected, rows = load_confounds(str(bold_of(root)), strategy=strategy, motion=motion, wm_csf=tissue or "basic", demean=False)
    found, steady, displacement = read_confounds(bold_of(root), N_VOLUMES, TR, Bold(motion=motion, tissue=tissue))
    pd.testing.assert_frame_equal(found, expected[sorted(expected)], check_exact=True)
    assert np.flatnonzero(steady).tolist() == list(rows) and len(displacement) == N_VOLUMES


def lacking(column: str, rows: Any) -> Callable[[pd.DataFrame], None]:
    def change(table: pd.DataFrame) -> None:
        table.loc[rows, column] = np.nan

    return change


@pytest.mark.parametrize(
    ("settings", "change", "message"),
    [
        ({}, lacking("trans_x", range(29, 33)), "trans_x: found n/a in rows 30-33, expected a number for each volume"),
        ({}, lacking("rot_z", [39]), "rot_z: found n/a in rows 40"),
        ({}, lacking("white_matter", [0]), "white_matter: found n/a in rows 1, .*bold.tissue: null"),
        ({}, lacking("cosine00", [3, 7, 8]), "cosine00: found n/a in rows 4, 8-9"),
        (
            {"motion": "derivatives"},
            lacking("trans_y_derivative1", [0, 1]),
            "trans_y_derivative1: found n/a in rows 2, .*bold.motion: basic",
        ),
        ({}, lacking("csf", slice(None)), "csf: found n/a in all rows, .*bold.tissue: null"),
        ({"tissue": "full"}, lacking("csf_power2", slice(None)), "csf_power2: found n/a in all rows, .*bold.tissue: basic"),
    ],
)
def test_confounds_are_never_invented(root: Path, settings: dict[str, str], change: Callable[[pd.DataFrame], None], message: str) -> None:
    change_confounds(root, change)
    with pytest.raises(UserError, match=message):
        preflight(experiment(root, bold=settings))


@pytest.mark.parametrize(
    ("settings", "change"),
    [
        ({"motion": "full", "tissue": "derivatives"}, lambda table: None),
        ({"tissue": None}, lacking("csf", slice(None))),
        ({}, lacking("csf_derivative1", range(5, 9))),
        ({}, lambda table: table.assign(non_steady_state_outlier00=np.eye(1, N_VOLUMES)[0], csf=table["csf"].where(table.index > 0))),
    ],
)
def test_confounds_that_are_not_used_may_lack_values(root: Path, settings: dict[str, Any], change: Callable[[pd.DataFrame], Any]) -> None:
    """Derivatives at the first volume, columns that are not chosen, and volumes before the steady state."""
    change_confounds(root, change)
    found, steady, _ = read_confounds(bold_of(root), N_VOLUMES, TR, Bold.model_validate(settings))
    assert np.isfinite(found.to_numpy()).all() and set(MOTION) <= set(found) and steady.sum() in (N_VOLUMES, N_VOLUMES - 1)
