"""Configuration that cannot work: refused when it is read, or when a run starts, with the remedy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from boldscribe.config import Config, check_experiment
from boldscribe.config.brain_size import fitting_grid, share_outside
from boldscribe.data import runs
from boldscribe.data.placement import place_in_grid
from boldscribe.data.template import load_template, output_grid
from boldscribe.machinery.configuration import merge
from boldscribe.machinery.errors import UserError
from boldscribe.planning.dataset_counts import Design
from boldscribe.planning.feasibility import check_feasible, fitting_holdout, size_problems


def changed(config: Config, changes: dict[str, Any]) -> Config:
    return Config.model_validate(merge(config.model_dump(by_alias=True), changes))


@pytest.mark.parametrize(
    ("resolution", "grid"), [(2.0, (32, 40, 32)), (2.0, (72, 88, 72)), (3.0, (48, 56, 40)), (4.0, (32, 40, 32)), (6.0, (32, 40, 32))]
)
def test_the_share_of_a_brain_that_a_grid_cuts_off(resolution: float, grid: tuple[int, int, int]) -> None:
    """Against the template's mask, placed as a series is."""
    shape, affine = output_grid(resolution)
    _, inside = place_in_grid(load_template(shape, affine).mask.ravel().nonzero()[0].astype("int32"), shape, grid)
    share = 1 - inside.mean()
    assert share_outside(grid, resolution) == pytest.approx(share, abs=0.01 if share < 0.1 else 0.1)


@pytest.mark.parametrize("resolution", [1.0, 2.0, 2.5, 3.3, 4.0, 6.0, 12.0])
@pytest.mark.parametrize("stages", [3, 4])
def test_a_fitting_grid_contains_a_brain_and_is_the_smallest(resolution: float, stages: int) -> None:
    grid = fitting_grid(resolution, stages)
    assert share_outside(grid, resolution) == 0 and all(n % 2**stages == 0 for n in grid)
    for axis in range(3):
        smaller = [n - 2**stages * (i == axis) for i, n in enumerate(grid)]
        assert share_outside(smaller, resolution) > 0


@pytest.mark.parametrize("engine", ["embedded", "apptainer", "bare"])
def test_a_grid_that_cuts_off_the_brain_is_refused_when_the_configuration_is_read(demo: Config, engine: str) -> None:
    preprocessing = {"engine": engine, "resolution": 2.0}
    with pytest.raises(UserError, match=r"tokenizer\.grid: found \[32, 40, 32\], which cuts off about 77% of a brain .* 2 mm") as caught:
        check_experiment(changed(demo, {"preprocessing": preprocessing}))
    assert "expected at least [80, 96, 88] for 3 stages" in str(caught.value)
    check_experiment(changed(demo, {"preprocessing": preprocessing, "tokenizer": {"grid": [80, 96, 88]}}))
    check_experiment(demo)


def design(clips: int, trials: int, adapt: int = 400, origin: str = "simulated") -> Design:
    return Design(4, 2, {"train": trials, "adapt": adapt, "test": 40}, 100.0, {"train": clips, "test": 40, "all": 40}, origin)


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (design(400, 400), []),
        (design(20, 400), [r"stage1.holdout: found 0.1 of the 20 source clips of had, which is 2 clips", "set it to 0.2 or more"]),
        (design(2, 400), ["found 2 clips shown to source subjects, expected at least 8"]),
        (design(40, 32), ["stage1.batch_size: found 32, expected at most 28, the training trials of had"]),
        (design(400, 400, adapt=7), ["stage2.batch_size x stage2.accumulate: found 8, expected at most 7, the adaptation trials of had"]),
        (design(2, 2, origin="assumed"), []),
    ],
)
def test_holdout_and_batches_fit_the_clips_and_trials(demo: Config, found: Design, words: list[str]) -> None:
    problems = size_problems(demo, "had", found)
    assert len(problems) == bool(words), problems
    assert all(word in problems[0] for word in words)


@pytest.mark.parametrize("clips", [8, 9, 13, 20, 24, 39, 40, 41, 400])
def test_the_holdout_that_is_proposed_is_accepted_and_leaves_half(demo: Config, clips: int) -> None:
    config = changed(demo, {"stage1": {"holdout": fitting_holdout(clips), "batch_size": 2}, "stage2": {"batch_size": 1}})
    assert size_problems(config, "had", design(clips, clips)) == []
    assert round(fitting_holdout(clips) * clips) <= max(clips // 2, round(0.1 * clips))


def test_an_experiment_is_judged_by_all_its_data_sets_and_folds(demo: Config) -> None:
    check_feasible(demo)
    check_feasible(Config())
    small = changed(demo, {"datasets": {"urgen": {"simulated": {"trials_per_run": 3}, "leave_out": 2}}})
    with pytest.raises(UserError) as caught:
        check_feasible(small)
    assert [problem.split(":")[0] for problem in caught.value.problems] == ["urgenfold01", "urgenfold02"]


@pytest.mark.parametrize(("size", "shape"), [(2.0, (97, 115, 97)), (2.0, (91, 109, 91)), (3.0, (65, 77, 65)), (6.0, (33, 39, 33))])
def test_the_grid_is_judged_by_the_masks_of_ready_derivatives(
    demo: Config, monkeypatch: pytest.MonkeyPatch, size: float, shape: tuple[int, int, int]
) -> None:
    affine = np.diag([size, size, size, 1.0])
    affine[:3, 3] = [-size * (n // 2) + middle for n, middle in zip(shape, (-0.5, -18.5, 17.5), strict=True)]
    mask = load_template(shape, affine).mask
    monkeypatch.setattr(runs, "read_runs", lambda *_: [])
    monkeypatch.setattr(runs, "common_mask", lambda _: (mask, affine))
    plain = {"simulated": None, "derivatives_dir": "fmriprep", "bids_dir": "nowhere"}
    config = changed(demo, {"preprocessing": {"engine": "derivatives"}, "datasets": {"had": plain}})
    check_feasible(changed(config, {"tokenizer": {"grid": list(fitting_grid(size, 3))}}))
    if size == 6.0:
        check_feasible(config)
        return
    with pytest.raises(UserError, match=r"which cuts off \d\d% of the brain of sub-01 in fmriprep; expected at least") as caught:
        check_feasible(config)
    assert str(list(fitting_grid(size, 3))) in str(caught.value)
