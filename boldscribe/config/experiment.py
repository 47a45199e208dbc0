"""Typed configuration of an experiment: its sections, and the paper's data sets.

`config.yaml` and `schemas/config.schema.json` are generated from these models (`boldscribe config --write`), and a test fails
when they drift. Unknown keys are rejected, so that a typo cannot pass as a setting.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pydantic import Field, field_validator, model_validator

from boldscribe.conditions import CONDITIONS
from boldscribe.config.brain_size import LARGEST_LOSS, fitting_grid, share_outside
from boldscribe.config.ceilings import without_captioner, without_column
from boldscribe.config.data_settings import Bold, Dataset, Preprocessing, PretrainingSet, Stimuli
from boldscribe.config.model_settings import (
    AdaptorSettings,
    CaptionerSettings,
    ConnectorsSettings,
    ScMbmSettings,
    TokenizerSettings,
    VideoLlamaSettings,
)
from boldscribe.config.rotation import targets_of_folds, with_folds
from boldscribe.config.simulation_settings import Simulation
from boldscribe.config.training_settings import Decoding, Evaluation, Stage1Settings, Stage2Settings, Training
from boldscribe.descriptions import CAPTIONS, DESCRIPTIONS, read_descriptions
from boldscribe.machinery.configuration import Experiment, Paths
from boldscribe.machinery.errors import UserError
from boldscribe.machinery.section import Label

SIMULATED = {
    "adapter": "bids",
    "description_column": "description",
    "description_file": None,
    "lead_in": 0.0,
    "manifest": None,
    "stimuli_dir": None,
    "stimulus_column": "stim_file",
    "stimulus_manifest": None,
}
SPACES_OF_A_SUBJECT = ("T1w", "anat", "func", "bold", "boldref", "run", "fsnative")


class Config(Experiment):
    """The whole experiment."""

    datasets: dict[Label, Dataset] = Field(
        default_factory=lambda: paper_datasets(), description="Data sets, by the name that files and rules use"
    )
    simulation: Simulation = Field(default_factory=Simulation)
    preprocessing: Preprocessing = Field(default_factory=Preprocessing)
    bold: Bold = Field(default_factory=Bold)
    stimuli: Stimuli = Field(default_factory=Stimuli)
    video_llama: VideoLlamaSettings = Field(default_factory=VideoLlamaSettings)
    captioner: CaptionerSettings = Field(default_factory=CaptionerSettings)
    connectors: ConnectorsSettings = Field(default_factory=ConnectorsSettings)
    tokenizer: TokenizerSettings = Field(default_factory=TokenizerSettings)
    sc_mbm: ScMbmSettings = Field(default_factory=ScMbmSettings)
    pretraining: dict[Label, PretrainingSet] = Field(default_factory=dict, description="Further data that SC-MBM is pretrained on, by name")
    adaptor: AdaptorSettings = Field(default_factory=AdaptorSettings)
    stage1: Stage1Settings = Field(default_factory=Stage1Settings)
    stage2: Stage2Settings = Field(default_factory=Stage2Settings)
    training: Training = Field(default_factory=Training)
    decoding: Decoding = Field(default_factory=Decoding)
    evaluation: Evaluation = Field(default_factory=Evaluation)

    @model_validator(mode="before")
    @classmethod
    def _place_simulated_data(cls, raw: Any) -> Any:
        """Drop data sets that are null, and place simulated ones in the results.

        Files are merged key by key, so a user's file cannot remove `had` by omission, only by `had: null`. Simulated data sets are
        plain BIDS in `raw/NAME` there, whatever the measured data set of that name is.
        """
        paths, datasets = (raw.get(name) if isinstance(raw, dict) else None for name in ("paths", "datasets"))
        if not datasets or not isinstance(datasets, dict):
            return raw
        results = paths.get("results", Paths().results) if isinstance(paths, dict) else Paths().results
        placed = {
            name: {**d, **SIMULATED, "bids_dir": f"{results}/raw/{name}"} if isinstance(d, dict) and d.get("simulated") else d
            for name, d in datasets.items()
            if d is not None
        }
        return {**raw, "datasets": placed}

    @field_validator("datasets")
    @classmethod
    def _rotate(cls, datasets: dict[str, Dataset]) -> dict[str, Dataset]:
        return with_folds(datasets)

    @property
    def model_places(self) -> dict[str, tuple[str, str | None]]:
        """Configuration key of each model → name of its asset, and its place: a folder or file, `embedded`, or None if it is not used."""
        own = self.captioner.kind == "video_llama"
        return {
            "video_llama.llm": ("llm", self.video_llama.llm),
            "video_llama.visual_encoder": ("visual_encoder", self.video_llama.visual_encoder),
            "video_llama.connectors": ("connectors", self.video_llama.connectors),
            "sc_mbm.checkpoint": ("sc_mbm", self.sc_mbm.checkpoint),
            "captioner.model": ("captioner", None if own else self.captioner.model),
            "evaluation.bertscore_model": ("bertscore_encoder", self.evaluation.bertscore_model),
            "evaluation.bertscore_baseline": ("bertscore_encoder", self.evaluation.bertscore_baseline),
            "evaluation.sentence_encoder": ("sentence_encoder", self.evaluation.sentence_encoder),
        }

    @property
    def whole_datasets(self) -> list[str]:
        """Names of the data sets that have their own files and table: all except folds."""
        return [name for name in self.datasets if self.datasets[name].fold_of is None]

    def whole(self, dataset: str) -> str:
        """Return the data set of a fold, or the name itself for any other."""
        return (self.datasets[dataset].fold_of if dataset in self.datasets else None) or dataset

    def names_of(self, section: str, dataset: str | None) -> list[str]:
        """Return the names for which `SECTION.*.KEY` stands: the job's data set with its folds, its pretraining set, or all."""
        if dataset is None or (section == "pretraining") == (dataset in self.datasets):
            return list(self.datasets if section == "datasets" else self.pretraining)
        return [name for name in self.datasets if self.whole(name) == self.whole(dataset)] if section == "datasets" else [dataset]

    def folds(self, dataset: str) -> list[str]:
        """Return the names under which a data set is trained and decoded: its folds, or its own name."""
        return list(targets_of_folds(dataset, self.datasets[dataset]))

    def references(self, dataset: str) -> list[str]:
        """Return what a data set's texts are scored against: captions, and people's sentences if it has a file of them besides."""
        described = self.captioner.kind != "given" and self.datasets[self.whole(dataset)].description_file is not None
        return [CAPTIONS, DESCRIPTIONS] if described else [CAPTIONS]

    def impossible(self, dataset: str, references: str = CAPTIONS) -> dict[str, str]:
        """Return the requested controls that a table against these references cannot have: name → reason. Folds have the same controls."""
        design = self.datasets[self.whole(dataset)]
        reasons = {
            name: "the model itself is trained so" for name, condition in CONDITIONS.items() if condition.bridge == self.stage2.adaptation
        }
        if min(map(len, targets_of_folds(dataset, design).values())) < 2:
            reasons["wrongsubject"] = "there is one target subject" + (" in a fold" if design.leave_out else "")
        if design.description_column is None:
            reasons |= without_column(design, self.references(dataset), references)
        if self.captioner.kind == "given":
            reasons |= without_captioner(design)
        return {name: reasons[name] for name in self.decoding.asked_for if name in reasons}

    def conditions(self, dataset: str, references: str = CAPTIONS) -> list[str]:
        """Return the model and the data set's controls in the order of `CONDITIONS`, which is also that of the tables.

        Those of the table against captions include those of the table against people's sentences, and are the ones that are decoded.
        """
        wanted = {"model", *self.decoding.asked_for} - self.impossible(dataset, references).keys()
        return [name for name in CONDITIONS if name in wanted]


def _labels(first: int, last: int) -> list[str]:
    return [f"{i:02d}" for i in range(first, last + 1)]


def paper_datasets() -> dict[str, Dataset]:
    """Return the paper's two data sets and splits; the paper does not state which subjects were targets."""
    return {
        "had": Dataset(
            title="HAD",
            table=1,
            adapter="had",
            bids_dir="data/had",
            manifest="data/manifests/ds004488-1.1.1.parquet",
            lead_in="detect",
            session="action01",
            train_subjects=_labels(1, 26),
            validation_subjects=_labels(27, 30),
            adaptation_runs=_labels(1, 9),
            test_runs=_labels(10, 12),
        ),
        "urgen": Dataset(
            title="Urgen",
            table=2,
            bids_dir="data/urgen",
            train_subjects=_labels(1, 2),
            validation_subjects=_labels(3, 4),
            adaptation_runs=_labels(1, 4),
            test_runs=_labels(5, 8),
        ),
    }


def check_experiment(config: Config) -> None:
    """Reject an experiment that cannot produce tables although each of its settings is valid.

    Raises:
        UserError: there is no data set, or one without source subjects, target subjects, adaptation runs or test runs, without the
            derivatives that the engine reads, or without the descriptions that are to be its captions; or the tokenizer's grid does not
            contain a brain at the configured resolution.
    """
    whole = {name: config.datasets[name] for name in config.whole_datasets}
    problems = [] if whole else ["datasets: found none, expected at least one that is not null"]
    problems += [
        f"datasets.{dataset}.{name}: found none, expected at least one label"
        for dataset, settings in whole.items()
        for name in ("train_subjects", "validation_subjects", "adaptation_runs", "test_runs")
        if not getattr(settings, name) and not (settings.leave_out and name.endswith("_subjects"))
    ]
    if config.preprocessing.reads_derivatives:
        problems += [
            f"datasets.{dataset}.derivatives_dir: found {settings.derivatives_dir!r}, expected an existing folder, which the engine "
            f"{config.preprocessing.engine!r} reads; correct it, or choose another engine"
            for dataset, settings in whole.items()
            if not settings.fetches(settings.derivatives_dir) and not (settings.derivatives_dir and Path(settings.derivatives_dir).is_dir())
        ]
    if config.preprocessing.space in SPACES_OF_A_SUBJECT:
        problems.append(
            f"preprocessing.space: found {config.preprocessing.space!r}, a subject's own space, where voxels of two subjects do not "
            "correspond; expected a template, such as MNI152NLin2009cAsym"
        )
    problems += [*_description_problems(config), *_grid_problems(config), *_pretraining_problems(config)]
    if problems:
        raise UserError("configuration", *problems)


def _description_problems(config: Config) -> list[str]:
    """Find data sets whose captions are to be given, but are not, and files of descriptions that cannot be read."""
    problems = []
    for name in config.whole_datasets:
        design = config.datasets[name]
        if config.captioner.kind == "given" and design.description_file is None and design.description_column is None:
            problems.append(
                f"datasets.{name}: found neither description_file nor description_column, expected one of them, since captioner.kind is "
                "'given'; name it, or choose another captioner"
            )
        path = design.description_file
        if path is not None and (Path(path).exists() or not design.fetches(path)):
            try:
                read_descriptions(path)
            except UserError as error:
                problems.append(str(error))
    return problems


def _grid_problems(config: Config) -> list[str]:
    """Find a tokenizer grid that cuts off the brain. The grid of ready derivatives is their own, which the preflight reads."""
    settings, tokenizer = config.preprocessing, config.tokenizer
    lost = share_outside(tokenizer.grid, settings.resolution)
    if settings.engine == "derivatives" or lost <= LARGEST_LOSS:
        return []
    fitting = list(fitting_grid(settings.resolution, len(tokenizer.channels)))
    return [
        f"tokenizer.grid: found {list(tokenizer.grid)}, which cuts off about {lost:.0%} of a brain at preprocessing.resolution "
        f"{settings.resolution:g} mm; expected at least {fitting} for {len(tokenizer.channels)} stages; set it so, or choose a coarser "
        "resolution"
    ]


def _pretraining_problems(config: Config) -> list[str]:
    """Find problems of pretraining-only data sets: a missing folder, a name that is taken, or a target subject of a table."""
    problems = []
    for name, extra in config.pretraining.items():
        folder = Path(extra.derivatives_dir)
        if name in config.datasets:
            problems.append(f"pretraining.{name}: a data set already has this name; choose another")
        if not folder.is_dir():
            problems.append(f"pretraining.{name}.derivatives_dir: found {extra.derivatives_dir!r}, expected an existing folder; correct it")
            continue
        if absent := [s for s in extra.subjects if not (folder / f"sub-{s}").is_dir()]:
            problems.append(f"pretraining.{name}.subjects: found no folder for {', '.join(absent)} in {folder}; correct the list")
        for dataset in config.whole_datasets:
            settings = config.datasets[dataset]
            made = f"{config.paths.results}/derivatives/{dataset}"
            if shared := _target_subjects(extra, settings, [p for p in (settings.derivatives_dir, settings.bids_dir, made) if p]):
                problems.append(
                    f"pretraining.{name}.subjects: found {', '.join(shared)}, target subjects of {dataset}, whose data are there; "
                    "pretraining must not use these: remove them"
                )
    if config.sc_mbm.epochs == 0 and config.sc_mbm.checkpoint is None:
        problems.append("sc_mbm.epochs: found 0 without a checkpoint, expected 1 or more, or a checkpoint to load the blocks from")
    return problems


def _target_subjects(extra: PretrainingSet, dataset: Dataset, places: Iterable[str]) -> list[str]:
    """Return subjects of a pretraining set who are target subjects: by label in the data set's folders, or through a link to them."""
    roots = [Path(place).resolve() for place in places]
    of_targets = {(root / f"sub-{subject}").resolve() for root in roots for subject in dataset.targets}
    folder = Path(extra.derivatives_dir)
    within = any(folder.resolve().is_relative_to(root) for root in roots)
    return [
        subject
        for subject in extra.subjects
        if (within and subject in dataset.targets) or (folder / f"sub-{subject}").resolve() in of_targets
    ]
