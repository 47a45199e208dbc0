"""Jobs of each stage and the units that they work through, from the configuration and a data set's counts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from boldscribe.conditions import CONDITIONS, needed
from boldscribe.config import Config
from boldscribe.planning.design import Design

VOXELS_AT_2_MM = 235_375  # in the brain, of MNI152NLin2009aSym
ASSETS = ("llm", "visual_encoder", "connectors", "sentence_encoder", "bertscore_model")


@dataclass(frozen=True)
class Amounts:
    """Of a stage: its jobs, the variant of it that is configured, threads and GPUs of a job, and units in all jobs together."""

    jobs: int
    variant: str
    units: Mapping[str, float]
    threads: int = 1
    gpus: int = 0

    def more(self, other: Amounts) -> Amounts:
        """These and those of another fold."""
        units = {unit: self.units[unit] + other.units[unit] for unit in self.units}
        return replace(self, jobs=self.jobs + other.jobs, units=units)


def scale(config: Config) -> str:
    """`small` for the embedded default's models, `full` for the paper's: what the rules ask the machine for depends on it."""
    return "small" if config.video_llama.llm == "embedded" else "full"


def count(config: Config, dataset: str, designs: Mapping[str, Design]) -> dict[str, Amounts]:
    """Jobs and units of each stage of a data set, in the order in which they run.

    Args:
        designs: counts of the data set, and of its folds, by name (`designs_of`).
    """
    made = preprocessing_amounts(config, dataset, designs[dataset])
    for fold in config.folds(dataset):
        for stage, amounts in (stimulus_amounts(config, fold, designs[fold]) | training_amounts(config, fold, designs[fold])).items():
            made[stage] = made[stage].more(amounts) if stage in made else amounts
    return made | {"tables": Amounts(1, "any", {"job": 1})}


def preprocessing_amounts(config: Config, dataset: str, design: Design) -> dict[str, Amounts]:
    """Simulation, checks, preprocessing and series: once for a data set, whatever its folds."""
    d, size = config.datasets[dataset], scale(config)
    subjects = len(d.subjects)
    runs = design.source_runs + design.target_runs
    million_voxels = VOXELS_AT_2_MM * (2 / config.preprocessing.resolution) ** 3 * design.volumes * runs / 1e6
    units: dict[str, float] = {
        "subject": subjects,
        "run": runs,
        "clip": design.clips["all"],
        "job": subjects,
        "million voxels": million_voxels,
    }
    engine = config.preprocessing.engine
    made: dict[str, Amounts] = {}
    if simulated := d.simulated:
        made["simulate"] = Amounts(1 + simulated.subjects, "any", {"subject": simulated.subjects, "clip": design.clips["all"]})
    if not d.simulated or engine in ("derivatives", "minimal"):
        made["fetch_dataset"] = Amounts(1, "any", {"run": runs, "job": 1})
    read = design.clips["all"] if d.leave_out else design.clips["train"] + design.clips["test"]
    made["check_dataset"] = Amounts(1, "any", {"run": runs, "clip": read})
    if engine != "derivatives":
        variant = engine if engine in ("embedded", "minimal") else "fmriprep"
        if variant == "fmriprep":
            made["check_preprocessing"] = Amounts(1, "any", {"job": 1})
        made["fmriprep"] = Amounts(subjects, variant, units, threads=8 if variant == "fmriprep" else 1)
    made["bold_series"] = Amounts(subjects, size, {**units, "array MB": 2 * million_voxels})
    return made


def stimulus_amounts(config: Config, dataset: str, design: Design) -> dict[str, Amounts]:
    """Trials; frames, features and captions, in shards of the clips of source and of target subjects."""
    size, widths, s = scale(config), config.video_llama.q_former, config.stimuli
    gpus, threads = _machine(config)
    clips, jobs = design.clips["train"] + design.clips["test"], 2 * s.shards
    frames: dict[str, float] = {"clip": clips, "job": jobs, "array MB": clips * s.n_frames * s.size**2 * 3 / 1e6}
    features = {"clip": clips, "job": jobs, "array MB": clips * s.n_frames * widths.n_queries * widths.hidden_size * 2 / 1e6}
    texts = design.trials["train"] + design.trials["test"]
    own = config.captioner.kind == "video_llama"
    subjects = len(config.datasets[dataset].subjects)
    made = {"trials": Amounts(subjects, "any", {"job": subjects}), "frames": Amounts(jobs, size, frames, threads)}
    if config.paths.cache:
        made["frames (cache)"] = Amounts(0, "any", frames)
    made["video_features"] = Amounts(jobs, size, features, threads, gpus)
    captions = {"token": texts * config.video_llama.max_new_tokens, "job": jobs}
    made["captions"] = Amounts(jobs, size if own else "video_text", captions, threads if own else 8, gpus if own else 1)
    return made


def training_amounts(config: Config, dataset: str, design: Design) -> dict[str, Amounts]:
    """Pretraining, both stages, decoding, scores and the look for leaks."""
    d, size, widths, s2 = config.datasets[dataset], scale(config), config.video_llama.q_former, config.stage2
    gpus, threads = _machine(config)
    training = gpus * config.training.processes
    conditions = config.conditions(dataset)
    need, written = needed(conditions), sum("llm" in CONDITIONS[name].reads for name in conditions)
    encoded = sum(design.trials[role] for _, role in need.tokens)
    windows = design.source_runs * (design.volumes // config.bold.n_volumes)
    trained = [variant for variant in need.stage1 if variant != "untrained"]
    kept = 1 - config.stage1.holdout

    def amounts(jobs: int, unit: str, amount: float, gpus: int = gpus, array_mb: float = 0) -> Amounts:
        return Amounts(jobs, size, {unit: amount, "job": jobs, "array MB": array_mb}, threads, gpus)

    answers = design.trials["test"] * config.video_llama.max_new_tokens
    made = {
        "pretrain_sc_mbm": amounts(1, "window and epoch", windows * config.sc_mbm.epochs, training),
        "stage1": amounts(
            len(need.stage1), "trial and epoch", len(trained) * design.trials["train"] * kept * config.stage1.epochs, training
        ),
        "fmri_tokens": amounts(len(need.tokens), "trial", encoded, array_mb=encoded * widths.n_queries * widths.hidden_size * 2 / 1e6),
        "stage2": amounts(len(need.stage2), "trial", len(need.stage2) * s2.steps * s2.batch_size * s2.accumulate, training),
        "decode": amounts(len(conditions), "token", written * design.trials["test"] * config.decoding.max_new_tokens),
        "scores": amounts(1, "text", design.trials["test"] * len(conditions)),
        **{stage: Amounts(1, "any", {"job": 1}) for stage in ("leakage", "quality")},
        "reliability": Amounts(1, size, {"job": 1}),
        **{stage: amounts(1, "trial", design.trials["test"]) for stage in ("retrieval", "information_map")},
    }
    if need.noise:
        members = len(d.validation_subjects) + ("train" in need.noise) * len(d.train_subjects)
        windows_mb = (
            sum(design.trials.values()) * config.bold.n_volumes * VOXELS_AT_2_MM * (2 / config.preprocessing.resolution) ** 3 * 2 / 1e6
        )
        made["noise_series"] = Amounts(members, size, {"job": members, "array MB": windows_mb})
    if "best_captions" in need.reads:
        made["best_captions"] = Amounts(1, "any", {"text": design.trials["train"], "job": 1})
    if "captions_again" in need.reads:
        own = config.captioner.kind == "video_llama"
        units = {"token": answers, "job": config.stimuli.shards}
        made["captions_again"] = Amounts(
            config.stimuli.shards, size if own else "video_text", units, threads if own else 8, gpus if own else 1
        )
    return made


def common_amounts(config: Config) -> dict[str, Amounts]:
    """What belongs to no data set: models, the report and the lineage."""
    assets = len(ASSETS) + (config.sc_mbm.checkpoint is not None) + (config.captioner.kind == "video_text")
    return {
        "fetch_model": Amounts(assets, scale(config), {"job": assets}),
        "report": Amounts(2, "any", {"job": 2}),
    }


def _machine(config: Config) -> tuple[int, int]:
    """GPUs and threads that the rules ask for at the configured scale."""
    return (1, 8) if scale(config) == "full" else (0, 1)
