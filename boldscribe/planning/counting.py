"""Jobs of each stage and the units that they process: jobs come from Snakemake, units from a data set's counts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from boldscribe.conditions import CONDITIONS, needed
from boldscribe.config import Config
from boldscribe.machinery.runs.jobs import Job
from boldscribe.planning.dataset_counts import Design

VOXELS_AT_2_MM = 235_375  # brain voxels of MNI152NLin2009aSym
FRAME_CACHE = "frames (cache)"  # a stage without jobs

Units = dict[str, dict[str, float]]  # stage → unit → amount


@dataclass(frozen=True)
class Amounts:
    """Amounts of a stage: jobs, configured variant, request of the largest job, and units in all jobs together.

    Attributes:
        jobs: number of jobs.
        variant: `small` for the embedded default's models, `full` for the paper's, or an engine, or a kind of captioner.
        units: unit → amount.
        threads, gpus, memory: per job (memory in MB).
    """

    jobs: int
    variant: str
    units: Mapping[str, float]
    threads: int = 1
    gpus: int = 0
    memory: float = 0


def count(config: Config, dataset: str, designs: Mapping[str, Design], jobs: Iterable[Job]) -> dict[str, Amounts]:
    """Count jobs and units of each stage of a data set, in execution order.

    Args:
        config: the experiment.
        dataset: name; empty for what belongs to no data set.
        designs: counts of the data set and of its folds, by name (`designs_of`).
        jobs: all jobs of the experiment.
    """
    stages: dict[str, list[Job]] = {}
    for job in jobs:
        if job.whole == dataset:
            stages.setdefault(job.rule, []).append(job)
    units = _units(config, dataset, designs) if dataset else {}
    made = {
        stage: Amounts(
            len(some),
            variant(config, stage),
            {**units.get(stage, {}), "job": len(some)},
            *(max(getattr(job, name) for job in some) for name in ("threads", "gpus", "memory")),
        )
        for stage, some in stages.items()
    }
    if dataset and config.paths.cache:
        made[FRAME_CACHE] = Amounts(0, "any", units["frames"])
    return made


def variant(config: Config, stage: str) -> str:
    """Return the variant whose rows in the table of costs apply to a stage, besides those for `any`."""
    if stage == "fmriprep" and not config.preprocessing.runs_fmriprep:
        return config.preprocessing.engine
    if stage == "fmriprep" or (stage in ("captions", "captions_again") and config.captioner.kind != "video_llama"):
        return "fmriprep" if stage == "fmriprep" else config.captioner.kind
    return "small" if config.video_llama.llm == "embedded" else "full"


def _units(config: Config, dataset: str, designs: Mapping[str, Design]) -> Units:
    """Count units of all possible stages: preprocessing once for the data set, the others for all its folds."""
    made = _of_preprocessing(config, dataset, designs[dataset])
    for fold in config.folds(dataset):
        for stage, units in (_of_stimuli(config, designs[fold]) | _of_training(config, fold, designs[fold])).items():
            made[stage] = dict(Counter(made.get(stage, {})) + Counter(units))
    return made


def _of_preprocessing(config: Config, dataset: str, design: Design) -> Units:
    """Count units of simulation, checks, preprocessing and series: once for a data set, whatever its folds."""
    d = config.datasets[dataset]
    runs = design.source_runs + design.target_runs
    million_voxels = VOXELS_AT_2_MM * (2 / config.preprocessing.resolution) ** 3 * design.volumes * runs / 1e6
    read = design.clips["all"] if d.leave_out else design.clips["train"] + design.clips["test"]
    return {
        "simulate_stimuli": {"clip": design.clips["all"]},
        "simulate_subject": {"subject": d.simulated.subjects if d.simulated else 0},
        "fetch_dataset": {"run": runs},
        "check_dataset": {"run": runs, "clip": read},
        "fmriprep": {"subject": len(d.subjects), "run": runs, "million voxels": million_voxels},
        "bold_series": {"run": runs, "array MB": 2 * million_voxels},
    }


def _of_stimuli(config: Config, design: Design) -> Units:
    """Count units of frames, features and captions, in shards of the clips of source and of target subjects."""
    widths, s = config.video_llama.q_former, config.stimuli
    written = config.captioner.kind != "given"
    clips, tokens = design.clips["train"] + design.clips["test"], config.video_llama.max_new_tokens
    return {
        "frames": {"clip": clips, "array MB": clips * s.n_frames * s.size**2 * 3 / 1e6},
        "video_features": {"clip": clips, "array MB": clips * s.n_frames * widths.n_queries * widths.hidden_size * 2 / 1e6},
        "captions": {"token": (design.trials["train"] + design.trials["test"]) * tokens * written},
        "captions_again": {"token": design.trials["test"] * tokens * written},
        "best_captions": {"text": design.trials["train"]},
    }


def _of_training(config: Config, dataset: str, design: Design) -> Units:
    """Count units of pretraining, both stages, decoding and scores."""
    widths, s2, conditions = config.video_llama.q_former, config.stage2, config.conditions(dataset)
    need, written = needed(conditions), sum("llm" in CONDITIONS[name].reads for name in conditions)
    encoded = sum(design.trials[role] for _, _, role in need.tokens)
    trained = [encoder for encoder in need.encoders if encoder != "untrained"]
    voxels = VOXELS_AT_2_MM * (2 / config.preprocessing.resolution) ** 3
    return {
        "noise_series": {"array MB": sum(design.trials.values()) * config.bold.n_volumes * voxels * 2 / 1e6},
        "pretrain_sc_mbm": {"window and epoch": design.source_runs * (design.volumes // config.bold.n_volumes) * config.sc_mbm.epochs},
        "stage1": {"trial and epoch": len(trained) * design.trials["train"] * (1 - config.stage1.holdout) * config.stage1.epochs},
        "fmri_tokens": {"trial": encoded, "array MB": encoded * widths.n_queries * widths.hidden_size * 2 / 1e6},
        "stage2": {"trial": len(need.bridges) * s2.steps * s2.batch_size * s2.accumulate},
        "decode": {"token": written * design.trials["test"] * config.decoding.max_new_tokens},
        "scores": {"text": design.trials["test"] * sum(len(config.conditions(dataset, r)) for r in config.references(dataset))},
        **{stage: {"trial": design.trials["test"]} for stage in ("retrieval", "information_map")},
    }
