"""Amount of data in a data set: simulated, counted in its folder, known for HAD and BOLD Moments, or assumed and reported as such."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from boldscribe.config import Config
from boldscribe.config.data_settings import Dataset
from boldscribe.machinery.errors import UserError

HAD_RUNS, HAD_TRIALS, HAD_VOLUMES = 12, 60, 156  # per subject; per run; per run (ds004488 1.1.1)
# BOLD Moments (ds005165 1.0.4), by its tasks: runs per subject, volumes per run, clips, presentations of each to a subject
BOLD_MOMENTS = {"train": (40, 238, 1000, 3), "test": (12, 268, 102, 10)}


@dataclass(frozen=True)
class Design:
    """Counts of a data set.

    Attributes:
        source_runs, target_runs: runs of all source subjects and of all target subjects.
        trials: per role (`train`, `adapt`, `test`).
        volumes: mean per run.
        clips: distinct clips of the shards `train` and `test`, and of `all`.
        origin: where the counts come from.
        assumed: what is not known, one sentence each.
    """

    source_runs: int
    target_runs: int
    trials: dict[str, int]
    volumes: float
    clips: dict[str, int]
    origin: str
    assumed: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Viewed:
    """Presentations to a subject: number of runs with BOLD, volumes per run, and the clips of each run with BOLD and events."""

    runs: int
    volumes: int
    clips: dict[str, list[str]]


def design_of(config: Config, name: str) -> Design:
    """Return the counts of a data set or fold."""
    return designs_of(config, config.whole(name))[name]


def designs_of(config: Config, name: str) -> dict[str, Design]:
    """Return the counts of a data set and of each of its folds.

    The best available source is used: the simulator's settings, the folder, HAD's facts, or assumptions.
    """
    dataset = config.datasets[name]
    splits = {split: config.datasets[split] for split in (name, *config.folds(name))}
    why = f"{dataset.bids_dir} does not exist"
    if not dataset.simulated and (Path(dataset.bids_dir) / "dataset_description.json").is_file():
        try:
            viewed = _viewed(config, dataset)
            return {split: _counted(settings, viewed) for split, settings in splits.items()}
        except UserError as error:
            why = f"the folder could not be counted ({str(error).splitlines()[0]})"
    return {split: _expected(config, settings, f"{name}: {why}") for split, settings in splits.items()}


def _expected(config: Config, dataset: Dataset, why: str) -> Design:
    """Estimate the counts of a data set that does not exist yet; `why` explains its absence where an assumption is reported."""
    if simulated := dataset.simulated:
        s = config.simulation
        volumes = math.ceil((24 + simulated.trials_per_run * s.stimulus_onset_asynchrony) / s.repetition_time)
        return _regular(dataset, simulated.runs, simulated.trials_per_run, volumes, "simulated", shared=simulated.shared_clips)
    if dataset.adapter == "had":
        return _regular(dataset, HAD_RUNS, HAD_TRIALS, HAD_VOLUMES, "known for ds004488")
    if dataset.adapter == "bold_moments":
        return _of_bold_moments(dataset)
    runs = len({*dataset.adaptation_runs, *dataset.test_runs})
    return _regular(
        dataset,
        runs,
        HAD_TRIALS,
        HAD_VOLUMES,
        "assumed",
        assumed=(
            f"{why}; assumed {runs} runs per subject (those that the split names), and per run {HAD_TRIALS} trials, "
            f"{HAD_VOLUMES} volumes and 143 MB as in HAD, with a different clip in each trial",
        ),
    )


def _of_bold_moments(dataset: Dataset) -> Design:
    """Count BOLD Moments, whose subjects all saw the same clips; with the strict split, training has only those of its task `train`."""
    (train_runs, train_volumes, train_clips, train_times), (test_runs, test_volumes, test_clips, test_times) = (
        BOLD_MOMENTS[task] for task in ("train", "test")
    )
    sources, targets = len(dataset.train_subjects), len(dataset.validation_subjects)
    of_training = {"train": (train_clips, train_times)} | ({} if dataset.split == "strict" else {"test": (test_clips, test_times)})
    times = 1 if dataset.repeats == "average" else None
    runs = train_runs + test_runs
    return Design(
        sources * runs,
        targets * runs,
        {
            "train": sources * sum(clips * (times or shown) for clips, shown in of_training.values()),
            "adapt": targets * train_clips * train_times,
            "test": targets * test_clips * (times or test_times),
        },
        (train_runs * train_volumes + test_runs * test_volumes) / runs,
        {"train": sum(clips for clips, _ in of_training.values()), "test": test_clips, "all": train_clips + test_clips},
        "known for ds005165",
    )


def _regular(
    dataset: Dataset,
    runs: int,
    trials_per_run: int,
    volumes: float,
    origin: str,
    *,
    shared: bool = False,
    assumed: tuple[str, ...] = (),
) -> Design:
    """Count data where all subjects have the same runs, and all runs the same trials."""
    sources, targets = len(dataset.train_subjects), len(dataset.validation_subjects)
    trials = {
        "train": sources * runs * trials_per_run,
        "adapt": targets * len(dataset.adaptation_runs) * trials_per_run,
        "test": targets * len(dataset.test_runs) * trials_per_run,
    }
    clips = {"train": trials["train"], "test": trials["test"], "all": (sources + targets) * runs * trials_per_run}
    if shared:
        clips = {"train": runs * trials_per_run, "test": len(dataset.test_runs) * trials_per_run, "all": runs * trials_per_run}
    return Design(sources * runs, targets * runs, trials, volumes, clips, origin, assumed)


def _viewed(config: Config, dataset: Dataset) -> dict[str, _Viewed]:
    """Read from the data set's folder what each subject was shown.

    Raises:
        UserError: there is no subject, a subject has no runs, or events or the header of a BOLD image cannot be read.
    """
    from boldscribe.data.events import run_events, stimulus_events
    from boldscribe.data.images import load_image
    from boldscribe.data.layout import find_runs
    from boldscribe.data.preprocessed import preprocessed_runs

    viewed = {}
    for subject in dataset.subjects:
        if config.preprocessing.engine == "derivatives":
            runs = preprocessed_runs(Path(dataset.derivatives_dir or ""), subject, dataset, config.preprocessing)
        else:
            runs = find_runs(dataset.bids_dir, subject, dataset.choice)
        if not runs:
            raise UserError(f"{dataset.bids_dir}/sub-{subject}", f"found no run of {dataset.choice.words}")
        volumes = load_image(next(iter(runs.values())), 4).shape[3]
        shown = {run: stimulus_events(dataset, path, 0.0) for run, path in run_events(dataset, subject, runs).items()}
        clips = {run: events.loc[events["reason"] == "", "stim_file"].tolist() for run, events in shown.items()}
        viewed[subject] = _Viewed(len(runs), volumes, clips)
    if not viewed:
        raise UserError(dataset.bids_dir, "found no subject in the split")
    return viewed


def _counted(dataset: Dataset, viewed: dict[str, _Viewed]) -> Design:
    """Count what the subjects were shown; presentations of a clip are one trial if they are averaged."""
    from boldscribe.data.trials import role as role_of

    trials = {"train": 0, "adapt": 0, "test": 0}
    clips: dict[str, set[str]] = {"train": set(), "test": set(), "all": set()}
    for subject, one in viewed.items():
        shown_as: dict[str, list[str]] = {}
        for run, shown in one.clips.items():
            clips["all"] |= set(shown)
            role = role_of(dataset, subject, run)
            if role:
                shown_as.setdefault(role, []).extend(shown)
            if role in ("train", "test"):
                clips[role] |= set(shown)
        for role, shown in shown_as.items():
            trials[role] += len(set(shown) if dataset.repeats == "average" and role != "adapt" else shown)
    source_runs, target_runs = (sum(viewed[s].runs for s in side) for side in (dataset.train_subjects, dataset.validation_subjects))
    volumes = sum(one.volumes for one in viewed.values()) / len(viewed)
    numbers = {role: len(found) for role, found in clips.items()}
    return Design(source_runs, target_runs, trials, volumes, numbers, "counted in the folder")
