"""How much data a data set has: simulated, counted in its folder, known of HAD, or assumed and said so."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from boldscribe.config import Config
from boldscribe.errors import UserError
from boldscribe.sections.data import Dataset

HAD_RUNS, HAD_TRIALS, HAD_VOLUMES = 12, 60, 156  # of a subject; of a run, of a run (ds004488 1.1.1)


@dataclass(frozen=True)
class Design:
    """Counts of a data set.

    Attributes:
        source_runs, target_runs: runs of all source and of all target subjects.
        trials: of each role (`train`, `adapt`, `test`).
        volumes: of a run, mean.
        clips: distinct ones of the shards `train` and `test`, and `all` of them.
        origin: where the counts come from.
        assumed: what could not be known, one sentence each.
    """

    source_runs: int
    target_runs: int
    trials: dict[str, int]
    volumes: float
    clips: dict[str, int]
    origin: str
    assumed: tuple[str, ...] = ()


def design_of(config: Config, name: str) -> Design:
    """Counts of a data set, from the best that there is: the simulator's settings, the folder, HAD's facts, assumptions."""
    dataset = config.datasets[name]
    if simulated := dataset.simulated:
        s = config.simulation
        volumes = math.ceil((24 + simulated.trials_per_run * s.stimulus_onset_asynchrony) / s.repetition_time)
        return _regular(dataset, simulated.runs, simulated.trials_per_run, volumes, "simulated", shared=simulated.shared_clips)
    if (Path(dataset.bids_dir) / "dataset_description.json").is_file():
        try:
            return _counted(dataset)
        except UserError as error:
            why = f"the folder could not be counted ({str(error).splitlines()[0]})"
    else:
        why = f"{dataset.bids_dir} is not there"
    if dataset.adapter == "had":
        return _regular(dataset, HAD_RUNS, HAD_TRIALS, HAD_VOLUMES, "known of ds004488")
    runs = len({*dataset.adaptation_runs, *dataset.test_runs})
    return _regular(
        dataset,
        runs,
        HAD_TRIALS,
        HAD_VOLUMES,
        "assumed",
        assumed=(
            f"{name}: {why}; assumed {runs} runs per subject (those that the split names), and of each run {HAD_TRIALS} trials, "
            f"{HAD_VOLUMES} volumes and 143 MB as in HAD, with clips that no two trials share",
        ),
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
    """All subjects have the same runs, and all runs the same trials."""
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


def _counted(dataset: Dataset) -> Design:
    """Counts of the data set that lies in its folder.

    Raises:
        UserError: a subject without runs, events that cannot be read, BOLD whose header cannot be read.
    """
    from boldscribe.bids import find_runs, subjects
    from boldscribe.bids.events import stimulus_events
    from boldscribe.images import load_image

    trials, n_runs = {"train": 0, "adapt": 0, "test": 0}, {"source": 0, "target": 0}
    clips: dict[str, set[str]] = {"train": set(), "test": set(), "all": set()}
    volumes = []
    for subject in subjects(dataset):
        source = subject in dataset.train_subjects
        runs = find_runs(dataset.bids_dir, subject, dataset.session, dataset.task)
        events = find_runs(dataset.bids_dir, subject, dataset.session, dataset.task, "events", [".tsv"])
        if not runs:
            raise UserError(f"{dataset.bids_dir}/sub-{subject}", f"found no run of task-{dataset.task}")
        n_runs["source" if source else "target"] += len(runs)
        volumes.append(load_image(next(iter(runs.values())), 4).shape[3])
        for label in runs.keys() & events.keys():
            shown = stimulus_events(dataset, events[label], 0.0)["stim_file"]
            clips["all"] |= set(shown)
            role = "train" if source else "adapt" if label in dataset.adaptation_runs else "test" if label in dataset.test_runs else None
            if role:
                trials[role] += len(shown)
            if role in ("train", "test"):
                clips[role] |= set(shown)
    numbers = {role: len(found) for role, found in clips.items()}
    return Design(n_runs["source"], n_runs["target"], trials, sum(volumes) / len(volumes), numbers, "counted in the folder")
