"""The jobs that a configuration has, by name: what each makes, where its log lies, and which jobs it waits for.

Snakemake knows this, and takes seconds to say it; `status` is to answer at once, and where no Snakemake is. A test holds the list
against `snakemake -n`, and what waits for what against `snakemake --rulegraph`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from pathlib import Path

from boldscribe.conditions import NOISY, needed
from boldscribe.config import Config

FMRIPREP_ENGINES = ("apptainer", "docker", "bare")
OWN = (
    "subject",
    "split",
    "shard",
    "condition",
    "variant",
    "role",
)  # wildcards that a job shares with those that it waits for, where both have them
SHARED = ("decode",)  # rules of which a data set's jobs share one of Slurm's, one after the other (`group:`)


@dataclass(frozen=True)
class Rule:
    """What a rule makes, below the results, and the rules whose jobs its jobs wait for."""

    outputs: tuple[str, ...]
    after: tuple[str, ...] = ()


SERIES = ("bold.npy", "voxels.npy", "framewise_displacement.npy")
NOISE = ("bold.npy", "voxels.npy", "trials.parquet")
TRIALS = ("trials", "labels", "excluded")
TABLES = (".csv", ".md", ".tex", "_differences.csv", "_tests.csv", "_left_out.csv")
RULES: dict[str, Rule] = {
    "fetch_dataset": Rule(("fetched/{dataset}.json",)),
    "simulate_stimuli": Rule(("raw/{dataset}/stimuli", "raw/{dataset}/dataset_description.json")),
    "simulate_subject": Rule(("raw/{dataset}/sub-{subject}",), ("simulate_stimuli",)),
    "fetch_model": Rule(("models/{asset}",)),
    "fetch_pretraining": Rule(("fetched/{dataset}_sub-{subject}.json",)),
    "check_dataset": Rule(("checked/{dataset}.json",), ("fetch_dataset", "simulate_stimuli", "simulate_subject")),
    "check_preprocessing": Rule(("checked/{dataset}_preprocessing.json",)),
    "check_pretraining": Rule(("pretraining/{dataset}/grid.json",)),
    "fmriprep": Rule(
        ("derivatives/{dataset}/sub-{subject}",), ("fetch_dataset", "simulate_subject", "check_dataset", "check_preprocessing")
    ),
    "bold_series": Rule(tuple(f"bold/{{dataset}}/sub-{{subject}}_{name}" for name in SERIES), ("fmriprep", "check_dataset")),
    "pretraining_series": Rule(
        tuple(f"pretraining/{{dataset}}/sub-{{subject}}_{name}" for name in SERIES), ("fetch_pretraining", "check_pretraining")
    ),
    "trials": Rule(
        tuple(f"trials/{{dataset}}/sub-{{subject}}_{name}.parquet" for name in TRIALS),
        ("fetch_dataset", "simulate_subject", "bold_series", "check_dataset"),
    ),
    "frames": Rule(("stimuli/{dataset}/{split}-{shard}_frames.npy",), ("fetch_dataset", "simulate_stimuli", "trials")),
    "video_features": Rule(("stimuli/{dataset}/{split}-{shard}_features.npy",), ("frames", "fetch_model")),
    "captions": Rule(("stimuli/{dataset}/{split}-{shard}_captions.parquet",), ("trials", "video_features", "fetch_model")),
    "pretrain_sc_mbm": Rule(
        ("sc_mbm/{dataset}/sc_mbm.safetensors", "sc_mbm/{dataset}/curve.parquet"), ("bold_series", "trials", "pretraining_series")
    ),
    "noise_series": Rule(tuple(f"noise/{{dataset}}/sub-{{subject}}_{name}" for name in NOISE), ("bold_series", "trials")),
    "captions_again": Rule(("stimuli/{dataset}/test-{shard}_captions_again.parquet",), ("trials", "video_features", "fetch_model")),
    "best_captions": Rule(("stimuli/{dataset}/best_captions.parquet",), ("captions", "trials")),
    "stage1": Rule(
        ("stage1/{dataset}/{variant}",), ("bold_series", "noise_series", "trials", "video_features", "pretrain_sc_mbm", "fetch_model")
    ),
    "fmri_tokens": Rule(
        ("fmri_tokens/{dataset}/variant-{variant}_role-{role}_tokens.npy",),
        ("bold_series", "noise_series", "trials", "stage1", "fetch_model"),
    ),
    "retrieval": Rule(("retrieval/{dataset}.csv",), ("trials", "video_features", "fmri_tokens", "fetch_model")),
    "information_map": Rule(
        ("maps/{dataset}_information.nii.gz", "maps/{dataset}_information.json"),
        ("bold_series", "trials", "video_features", "stage1", "fetch_model"),
    ),
    "quality": Rule(("quality/{dataset}.csv",), ("bold_series", "trials", "check_dataset")),
    "stage2": Rule(("stage2/{dataset}/{variant}",), ("trials", "captions", "fmri_tokens", "fetch_model")),
    "decode": Rule(
        ("decoded/{dataset}/condition-{condition}.parquet",),
        ("bold_series", "trials", "captions", "best_captions", "captions_again", "video_features", "fmri_tokens", "stage2", "fetch_model"),
    ),
    "scores": Rule(("scores/{dataset}.parquet", "scores/{dataset}_pairs.parquet"), ("decode", "captions", "fetch_model")),
    "tables": Rule(tuple(f"tables/{{dataset}}{end}" for end in TABLES), ("scores", "trials", "leakage")),
    "leakage": Rule(("leakage/{dataset}.json", "leakage/{dataset}.md"), ("trials", "captions")),
    "reliability": Rule(("reliability/{dataset}.csv",), ("bold_series", "trials")),
    "report": Rule(
        ("report.html",),
        (
            *("tables", "scores", "trials", "frames", "stage1", "stage2", "pretrain_sc_mbm"),
            *("retrieval", "information_map", "reliability", "quality", "leakage"),
        ),
    ),
    "provenance": Rule(("provenance.html",), ("report",)),
}


@dataclass(frozen=True)
class Job:
    """A job that a configuration has.

    Attributes:
        rule: name of the rule.
        wildcards: name and value, in the order in which Snakemake has them.
        outputs: what it makes, by names below the results.
        whole: its data set, or the one that this is a fold of; empty if it has none.
    """

    rule: str
    wildcards: tuple[tuple[str, str], ...]
    outputs: tuple[str, ...]
    whole: str = ""

    def __getitem__(self, wildcard: str) -> str:
        """Value of a wildcard; empty where the job has none of that name."""
        return dict(self.wildcards).get(wildcard, "")

    def __str__(self) -> str:
        """`decode had condition-model`."""
        return " ".join([self.rule, *self.names()])

    def names(self) -> list[str]:
        """Its wildcards as files are named by them: `had`, `variant-model`, `role-test`."""
        values = dict(self.wildcards)
        parts = [values[key] for key in ("dataset", "asset") if key in values]
        parts += [f"sub-{values['subject']}"] if "subject" in values else []
        parts += ["-".join(values[key] for key in ("split", "shard") if key in values)] if "shard" in values else []
        return parts + [f"{key}-{values[key]}" for key in ("variant", "role", "condition") if key in values]

    @property
    def stem(self) -> str:
        """Name of its log, less folder and suffix; the rule's name where there are no wildcards."""
        return "_".join(self.names()) or self.rule

    def log(self, results: Path) -> Path:
        """Its log."""
        return results / "logs" / (f"{self.rule}/{self.stem}.log" if self.wildcards else f"{self.rule}.log")

    def slurm_comment(self) -> str:
        """What Snakemake's Slurm plugin tells it by in the queue; jobs that share one of Slurm's are told by the same."""
        if self.rule in SHARED:
            return f"rule_{self.rule}_{self['dataset']}_{self.rule}"
        return "_wildcards_".join(filter(None, [f"rule_{self.rule}", "_".join(value for _, value in self.wildcards)]))

    def slurm_folder(self) -> str:
        """Where the plugin has its logs."""
        comment = self.slurm_comment()
        return f"group_{comment.partition('_')[2]}" if self.rule in SHARED else comment.replace("_wildcards_", "/")


def jobs_of(config: Config) -> list[Job]:
    """All jobs of a configuration, each after those that it waits for.

    Jobs whose files are there already are among them, and so are those that Snakemake would not run because of that.
    """
    engine, jobs = config.preprocessing.engine, list(_common(config))
    for name in config.whole_datasets:
        dataset = config.datasets[name]
        subjects = dataset.subjects
        rules: dict[str, Iterable[Mapping[str, str]]] = {}
        if dataset.simulated:
            rules |= {"simulate_stimuli": [{}], "simulate_subject": _each("subject", subjects)}
        if not dataset.simulated or engine in ("derivatives", "minimal"):
            rules["fetch_dataset"] = [{}]
        rules["check_dataset"] = [{}]
        if engine in FMRIPREP_ENGINES:
            rules["check_preprocessing"] = [{}]
        if engine != "derivatives":
            rules["fmriprep"] = _each("subject", subjects)
        rules["bold_series"] = _each("subject", subjects)
        jobs += _jobs(rules, config, name)
        for fold in config.folds(name):
            jobs += _jobs(_trained_and_decoded(config, fold), config, fold)
        jobs += _jobs({"tables": [{}]}, config, name)
    return jobs + [_job(rule, {}) for rule in ("report", "provenance")]


def _jobs(rules: Mapping[str, Iterable[Mapping[str, str]]], config: Config, dataset: str) -> list[Job]:
    """A data set's jobs of each rule."""
    whole = config.whole(dataset)
    return [_job(rule, {"dataset": dataset, **values}, whole) for rule, wildcards in rules.items() for values in wildcards]


def _trained_and_decoded(config: Config, dataset: str) -> dict[str, Iterable[Mapping[str, str]]]:
    """Jobs that depend on the split, of a data set or its fold, from trials to scores: those that the conditions' files are made by."""
    need, design = needed(config.conditions(dataset)), config.datasets[dataset]
    numbers = [f"{i:03d}" for i in range(config.stimuli.shards)]
    shards = [{"split": split, "shard": shard} for split, shard in product(("train", "test"), numbers)]
    made: dict[str, Iterable[Mapping[str, str]]] = {"trials": _each("subject", design.subjects)}
    made |= dict.fromkeys(("frames", "video_features", "captions"), shards)
    made["pretrain_sc_mbm"] = [{}]
    if need.noise:
        made["noise_series"] = _each("subject", (design.train_subjects if "train" in need.noise else []) + design.validation_subjects)
    made["stage1"] = _each("variant", need.stage1)
    made["fmri_tokens"] = [{"variant": variant, "role": role} for variant, role in need.tokens]
    made["stage2"] = _each("variant", need.stage2)
    if "best_captions" in need.reads:
        made["best_captions"] = [{}]
    if "captions_again" in need.reads:
        made["captions_again"] = _each("shard", numbers)
    made["decode"] = _each("condition", config.conditions(dataset))
    return made | {rule: [{}] for rule in ("retrieval", "information_map", "quality", "leakage", "reliability", "scores")}


def _common(config: Config) -> Iterator[Job]:
    """Jobs of no data set, and of those that only pretraining reads."""
    assets = ["llm", "visual_encoder", "connectors", "sentence_encoder", "bertscore_encoder"]
    assets += ["sc_mbm"] if config.sc_mbm.checkpoint else []
    assets += ["captioner"] if config.captioner.kind == "video_text" else []
    yield from (_job("fetch_model", values) for values in _each("asset", assets))
    for name, extra in config.pretraining.items():
        yield _job("check_pretraining", {"dataset": name}, name)
        for rule in ("fetch_pretraining", "pretraining_series"):
            yield from (_job(rule, {"dataset": name, "subject": subject}, name) for subject in extra.subjects)


def _each(wildcard: str, values: Iterable[str]) -> list[Mapping[str, str]]:
    return [{wildcard: value} for value in values]


def _job(rule: str, wildcards: Mapping[str, str], whole: str = "") -> Job:
    return Job(rule, tuple(wildcards.items()), tuple(pattern.format(**wildcards) for pattern in RULES[rule].outputs), whole)


def waits_for(jobs: list[Job]) -> dict[Job, list[Job]]:
    """Job → the jobs that it waits for.

    A job waits for all jobs of a rule of its data set, or for those of its own subject or shard where both have one. Of trials,
    which training reads of source subjects alone, it is all subjects': a little later than in the workflow. A fold waits for what is
    made for the whole data set, and the whole's table for all folds.
    """
    by_rule: dict[tuple[str, str], list[Job]] = {}
    datasets: dict[str, list[str]] = {}
    wholes = {job["dataset"]: job.whole for job in jobs}
    for job in jobs:
        by_rule.setdefault((job.rule, job["dataset"]), []).append(job)
        datasets.setdefault(job.rule, [])
        if job["dataset"] not in datasets[job.rule]:
            datasets[job.rule].append(job["dataset"])
    index: dict[tuple[str, str, tuple[str, ...]], dict[tuple[str, ...], list[Job]]] = {}

    def others(job: Job, rule: str, dataset: str) -> list[Job]:
        """A rule's jobs that have the values of what both have: all of them where that is nothing."""
        shared = tuple(key for key in OWN if job[key] and by_rule[rule, dataset][0][key])
        if (rule, dataset, shared) not in index:
            table = index[rule, dataset, shared] = {}
            for other in by_rule[rule, dataset]:
                table.setdefault(tuple(other[key] for key in shared), []).append(other)
        return index[rule, dataset, shared].get(tuple(job[key] for key in shared), [])

    found: dict[Job, list[Job]] = {}
    for job in jobs:
        found[job] = []
        for rule in RULES[job.rule].after:
            if rule == "noise_series" and job["variant"] not in NOISY:
                continue
            everywhere = not job["dataset"] or rule in ("fetch_model", "pretraining_series")
            for dataset in datasets.get(rule, []):
                if everywhere or dataset in (job["dataset"], job.whole) or wholes[dataset] == job["dataset"]:
                    found[job] += others(job, rule, dataset)
    return found
