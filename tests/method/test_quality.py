"""Data quality: each figure from files of known content, and what is refused."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from boldscribe.config import Config
from boldscribe.data.reasons import AVERAGED, BROKEN, OUTSIDE, UNDESCRIBED, UNUSABLE
from boldscribe.data.trials import EXCLUDED_TYPES
from boldscribe.evaluation.quality import COLUMNS, RARE, write_quality
from boldscribe.machinery.errors import UserError
from boldscribe.machinery.files import save_array


@pytest.fixture
def given(demo: Config, tmp_path: Path) -> dict[str, Any]:
    """Files of all subjects: two runs of four volumes, the first of each without displacement, and ever more trials left out."""
    design = demo.datasets["had"]
    files: dict[str, Any] = {"series": [], "displacement": [], "trials": [], "excluded": []}
    for i, subject in enumerate([*design.train_subjects, *design.validation_subjects]):
        paths = {name: tmp_path / f"sub-{subject}_{name}" for name in files}
        paths |= {name: paths[name].with_suffix(".npy" if name in ("series", "displacement") else ".parquet") for name in files}
        save_array(paths["series"], np.zeros((8, 20 + i), np.float16), subject=subject, runs=[{"run": "01"}, {"run": "02"}])
        moved = np.array([np.nan, 0.1, 0.2, 0.9, np.nan, 0.1, 0.1, 0.1], np.float32)
        save_array(paths["displacement"], moved if i else np.full(8, np.nan, np.float32), axes=["volume"])
        pd.DataFrame({"subject": subject, "trial": range(5), "high_motion": [0, 0.5, 0, 1, 0]}).to_parquet(paths["trials"])
        reasons = [OUTSIDE] * i + [BROKEN] * (i > 0)
        left_out = pd.DataFrame({"subject": subject, "trial": range(5, 5 + len(reasons)), "reason": reasons})
        left_out.reindex(columns=list(EXCLUDED_TYPES)).to_parquet(paths["excluded"])
        for name, path in paths.items():
            files[name].append(path)
    files["checked"], files["csv"] = tmp_path / "had.json", tmp_path / "quality.csv"
    files["checked"].write_text(json.dumps({"missing_responses": {f"{i:02d}": i for i in range(1, 7)}}))
    return files


def test_each_subject_has_its_figures(demo: Config, given: dict[str, Any]) -> None:
    write_quality(demo, "had", **given)
    table = pd.read_csv(given["csv"], dtype={"subject": str})
    assert list(table.columns) == [column for column in COLUMNS if column not in RARE] and table["subject"].tolist() == [
        f"{i:02d}" for i in range(1, 7)
    ]
    assert table["role"].tolist() == ["source"] * 4 + ["target"] * 2
    third = table.iloc[2].to_dict()
    expected = {"runs": 2, "volumes": 8, "voxels": 22, "trials": 5, "trials_left_out": 3, "outside_run": 2, "broken_clip": 1}
    expected |= {"no_response": 0, "other_side_of_split": 0, "missing_responses": 3, "trials_in_high_motion": 2}
    assert {name: third[name] for name in expected} == expected
    known = [third[name] for name in ("displacement_mean", "displacement_max", "volumes_above_limit")]
    np.testing.assert_allclose(known, [0.25, 0.9, 100 / 6], atol=1e-4)
    assert table.loc[0, ["displacement_mean", "displacement_max", "volumes_above_limit"]].isna().all(), "no displacement is known"


def test_rare_reasons_have_a_column_where_there_are_any(demo: Config, given: dict[str, Any]) -> None:
    left_out = pd.DataFrame({"subject": "02", "trial": range(5, 11), "reason": [*UNUSABLE[:3], OUTSIDE, UNDESCRIBED, AVERAGED]})
    left_out.reindex(columns=list(EXCLUDED_TYPES)).to_parquet(given["excluded"][1])
    write_quality(demo, "had", **given)
    table = pd.read_csv(given["csv"], dtype={"subject": str})
    assert list(table.columns) == COLUMNS and table["invalid_event"].tolist() == [0, 3, 0, 0, 0, 0]
    assert table.loc[1, ["outside_run", "no_description", "averaged"]].tolist() == [1, 1, 1]


def test_files_of_another_subject_and_findings_of_an_older_check_are_refused(demo: Config, given: dict[str, Any]) -> None:
    with pytest.raises(UserError, match="subject: found 02, expected 01"):
        write_quality(demo, "had", **{**given, "series": given["series"][1::-1] + given["series"][2:]})
    given["checked"].write_text("{}")
    with pytest.raises(UserError, match=r"missing_responses: found none for 01, 02, .*run check_dataset again"):
        write_quality(demo, "had", **given)
    assert not given["csv"].exists()
