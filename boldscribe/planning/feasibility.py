"""Settings that cannot work with a data set: too few clips or trials, no descriptions, another grid. Found before anything is computed."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from boldscribe.config import Config
from boldscribe.config.brain_size import LARGEST_LOSS, fitting_grid
from boldscribe.config.data_settings import Dataset
from boldscribe.data.layout import name_parts, run_files
from boldscribe.machinery.errors import UserError
from boldscribe.planning.dataset_counts import Design, designs_of

SMALLEST_HOLDOUT = 4  # clips; with fewer, a held-out retrieval rank has so few values that early stopping is a matter of luck
ASSUMED = "assumed"


def check_feasible(config: Config) -> None:
    """Refuse settings that do not fit the data sets; data that are not known yet, or cannot be read, are left to their own check.

    It is called when a run starts rather than in the check of a data set, on which preprocessing depends: a smaller batch must not
    preprocess anything again.

    Raises:
        UserError: a problem of `size_problems`; captions are to be given, and none is for any clip; or the tokenizer's grid cuts off the
            brain of ready derivatives.
    """
    problems = []
    for name in config.whole_datasets:
        designs = designs_of(config, name)
        for fold in config.folds(name):
            problems += size_problems(config, fold, designs[fold])
        problems += [*_description_problems(config, name), *_grid_problems(config, name)]
    if problems:
        raise UserError("configuration", *problems)


def size_problems(config: Config, dataset: str, design: Design) -> list[str]:
    """Return the problems of a data set or fold: too few held-out clips, or batches larger than the trials they are drawn from.

    Args:
        config: the experiment (`stage1`, `stage2`).
        dataset: name of the data set or fold.
        design: its numbers of clips and trials.
    """
    if design.origin == ASSUMED:
        return []
    s1, s2 = config.stage1, config.stage2
    clips, trials = design.clips["train"], design.trials["train"]
    if clips < 2 * SMALLEST_HOLDOUT:
        return [
            f"{dataset}: found {clips} clips shown to source subjects, expected at least {2 * SMALLEST_HOLDOUT}, half of them to hold out; "
            "name more train_subjects, or use a data set with more clips"
        ]
    problems = []
    if (held := max(2, round(s1.holdout * clips))) < SMALLEST_HOLDOUT:
        problems.append(
            f"stage1.holdout: found {s1.holdout:g} of the {clips} source clips of {dataset}, which is {held} clips, expected at least "
            f"{SMALLEST_HOLDOUT} to judge when to stop; set it to {fitting_holdout(clips):g} or more"
        )
        held = SMALLEST_HOLDOUT
    trained = training_trials(trials, clips, held)
    pools = (
        ("stage1.batch_size", s1.batch_size, trained, "training trials"),
        ("stage2.batch_size x stage2.accumulate", s2.batch_size * s2.accumulate, trials, "source trials"),
        ("stage2.batch_size x stage2.accumulate", s2.batch_size * s2.accumulate, design.trials["adapt"], "adaptation trials"),
    )
    problems += [
        f"{key}: found {size}, expected at most {n}, the {what} of {dataset}; set a smaller batch"
        for key, size, n, what in pools
        if size > n
    ]
    return problems


def training_trials(trials: int, clips: int, held: int) -> int:
    """Return how many source trials are left for training if some clips are held out, each with its share of the trials."""
    return trials - math.ceil(trials * held / clips) if clips else 0


def fitting_holdout(clips: int) -> float:
    """Return the smallest share, in steps of 0.05 from the default 0.1, that holds out enough of the clips."""
    shares = (step / 20 for step in range(2, 20))
    return next((share for share in shares if round(share * clips) >= SMALLEST_HOLDOUT), 0.5)


def _description_problems(config: Config, name: str) -> list[str]:
    design = config.datasets[name]
    if (config.captioner.kind != "given" and design.description_file is None) or design.simulated:
        return []
    from boldscribe.data.described import description_problems
    from boldscribe.data.event_checks import described_events, read_all_events

    named = {subject: dict.fromkeys(_test_runs(design, subject), Path(design.bids_dir)) for subject in design.targets}
    events = read_all_events(design, named, [])  # whose problems the data set's own check tells
    return description_problems(config, design, described_events(design, events, 0.0, []))


def _test_runs(design: Dataset, subject: str) -> list[str]:
    """Return the labels of a target subject's test runs: as configured, or those that the entries name among the raw files."""
    if not design.choice.apart and not any("-" in entry for entry in design.test_runs):
        return design.test_runs
    files = run_files(design.bids_dir, subject, design.choice, "events", [".tsv"]) + run_files(design.bids_dir, subject, design.choice)
    labels = {design.choice.label(name_parts(path)) for path in files}
    return sorted(label for label in labels if design.choice.names(design.test_runs, label))


def _grid_problems(config: Config, name: str) -> list[str]:
    """Find ready derivatives, by the first subject's masks, whose brain the tokenizer's grid cuts off."""
    design = config.datasets[name]
    if config.preprocessing.engine != "derivatives":
        return []  # whose grid the configuration states (`check_experiment`)
    from boldscribe.data.placement import place_in_grid
    from boldscribe.data.runs import common_mask, read_runs

    try:
        mask_XYZ, affine = common_mask(read_runs(config, design, design.subjects[0], Path(design.derivatives_dir or "")))
    except UserError:
        return []
    inside = place_in_grid(np.flatnonzero(mask_XYZ).astype(np.int32), mask_XYZ.shape, config.tokenizer.grid)[1]
    if (lost := 1 - inside.mean()) <= LARGEST_LOSS:
        return []
    finest = float(np.linalg.norm(affine[:3, :3], axis=0).min())
    return [
        f"tokenizer.grid: found {list(config.tokenizer.grid)}, which cuts off {lost:.0%} of the brain of sub-{design.subjects[0]} in "
        f"{design.derivatives_dir}; expected at least {list(fitting_grid(finest, len(config.tokenizer.channels)))}; set it so"
    ]
