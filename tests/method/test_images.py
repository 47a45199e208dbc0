"""Headers and sidecars as programs leave them: superfluous dimensions, slice times."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from boldscribe.data.images import load_image, save_image
from boldscribe.data.timing import times_along_axis
from boldscribe.machinery.errors import UserError

CUBIC = np.diag([2.0, 2.0, 2.0, 1.0])


@pytest.mark.parametrize(
    ("shape", "ndim", "expected"),
    [
        ((8, 8, 8, 1), 3, (8, 8, 8)),
        ((8, 8, 8, 1, 1), 3, (8, 8, 8)),
        ((8, 8, 1, 1), 3, (8, 8, 1)),
        ((1, 8, 8), 3, (1, 8, 8)),
        ((4, 5, 3, 6, 1), 4, (4, 5, 3, 6)),
        ((4, 5, 3, 1, 6), 4, (4, 5, 3, 6)),
        ((4, 5, 3, 1), 4, (4, 5, 3, 1)),
        ((4, 5, 3, 1, 1), 4, (4, 5, 3, 1)),
    ],
)
@pytest.mark.parametrize("dtype", ["float32", "int16"])
def test_superfluous_dimensions_are_dropped(
    tmp_path: Path, shape: tuple[int, ...], ndim: int, expected: tuple[int, ...], dtype: str
) -> None:
    data = np.random.default_rng(0).integers(0, 99, shape).astype(float)
    save_image(tmp_path / "a.nii.gz", data, 3 * CUBIC, dtype=dtype)
    image = load_image(tmp_path / "a.nii.gz", ndim)
    assert image.shape == expected and len(image.header.get_zooms()) == ndim and image.get_filename() == str(tmp_path / "a.nii.gz")
    np.testing.assert_allclose(image.get_fdata(), data.reshape(expected), atol=2e-3)


@pytest.mark.parametrize(("shape", "ndim"), [((4, 5, 3), 4), ((4, 5, 3, 2), 3), ((4, 5, 3, 2, 2), 4), ((4, 5), 3)])
def test_other_dimensions_are_refused(tmp_path: Path, shape: tuple[int, ...], ndim: int) -> None:
    save_image(tmp_path / "a.nii.gz", np.ones(shape), CUBIC)
    with pytest.raises(UserError, match=f"expected {ndim} dimensions"):
        load_image(tmp_path / "a.nii.gz", ndim)


@pytest.mark.parametrize(
    ("sidecar", "expected"),
    [
        ({}, ([], 2)),
        ({"SliceTiming": None, "SliceEncodingDirection": None}, ([], 2)),
        ({"SliceTiming": [0, 1], "SliceEncodingDirection": "k-"}, ([1, 0], 2)),
        ({"SliceTiming": [0, 1], "SliceEncodingDirection": "j"}, ([0, 1], 1)),
        ({"SliceTiming": [0, 1], "SliceEncodingDirection": 3}, "SliceEncodingDirection: found 3"),
        ({"SliceTiming": {"0": 1}}, "SliceTiming: found {'0': 1}"),
        ({"SliceTiming": [0, "1"]}, "SliceTiming: found"),
    ],
)
def test_slice_times_in_the_order_of_the_array(sidecar: dict[str, Any], expected: Any) -> None:
    if isinstance(expected, str):
        with pytest.raises(UserError, match=expected):
            times_along_axis(sidecar, Path("bold.nii.gz"))
    else:
        assert times_along_axis(sidecar, Path("bold.nii.gz")) == expected
