"""Remarks of `boldscribe init` on designs that work, but should be known before they are run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from boldscribe.config import Config
from boldscribe.config.data_settings import Dataset
from boldscribe.data.event_checks import RunEvents
from boldscribe.data.images import save_image
from boldscribe.starting.design_remarks import design_remarks, registration_remarks


def events_of(actions: str, gap: float, clips: str | None = None) -> pd.DataFrame:
    """Events of a run, by the letters of its actions and clips."""
    return pd.DataFrame({"onset": np.arange(len(actions)) * gap, "trial_type": list(actions), "stim_file": list(clips or actions)})


DESIGN = Dataset(train_subjects=["01"], validation_subjects=["02"], adaptation_runs=["01"], test_runs=["02"])
UNIQUE, OTHERS = ("".join(map(chr, range(first, first + 40))) for first in (300, 400))


@pytest.mark.parametrize(
    ("source", "target", "expected"),
    [
        (events_of("abcd" * 10, 8, UNIQUE), events_of("abcd" * 10, 8, OTHERS), []),
        (events_of("abcd" * 10, 4, UNIQUE), events_of("abcd" * 10, 4, OTHERS), ["trials back to back: one every 4 s"]),
        (events_of("a" * 20 + "b" * 20, 8, UNIQUE), events_of("ab" * 20, 8, OTHERS), []),
        (events_of("a" * 20 + "b" * 20, 8, UNIQUE), events_of("b" * 20 + "a" * 20, 8, OTHERS), ["block design: 97% of"]),
        (events_of("abcd" * 10, 8), events_of("efgh" * 10, 8), ["repeated stimuli: a clip is shown 10 to 10 times to a subject (mean 10)"]),
        (events_of("abcd" * 10, 8, UNIQUE), events_of("abcd" * 10, 8, UNIQUE), ["shared stimuli: 40 of 40 test clips"]),
        (events_of("abcd" * 10, 8, UNIQUE), events_of("abcd" * 2, 8, "ABCDEFGH"), ["test trials: 8 of sub-02; fewer than 20"]),
    ],
)
def test_what_should_be_known_of_a_design_is_said(source: pd.DataFrame, target: pd.DataFrame, expected: list[str]) -> None:
    events = {"01": {"01": RunEvents(Path(), source)}, "02": {"02": RunEvents(Path(), target)}}
    remarks = design_remarks(DESIGN, events, Config().bold, 2.0)
    assert len(remarks) == len(expected) and all(map(str.startswith, remarks, expected)), remarks


@pytest.mark.parametrize(
    ("shape", "zoom", "words"),
    [((64, 64, 1, 3), 3.0, "3 mm thick (64 x 64 x 1 voxels)"), ((8, 8, 8, 3), 25.0, "voxels of 25 mm"), ((64, 64, 40, 3), 3.0, "")],
)
def test_images_that_cannot_be_registered_are_told(shape: tuple[int, ...], zoom: float, words: str, tmp_path: Path) -> None:
    paths = [tmp_path / f"sub-0{i}_task-x_bold.nii.gz" for i in (1, 2)]
    for path in paths:
        save_image(path, np.zeros(shape, np.float32), np.diag([zoom, zoom, zoom, 1]), tr=2.0)
    remarks = registration_remarks([*paths, tmp_path / "absent_T1w.nii.gz"])
    assert len(remarks) == bool(words) and all(words in remark and "and 1 more" in remark for remark in remarks)
