"""Proposed configuration of a data set, as a small commented file, and the list of its stimuli."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from boldscribe.config import Config
from boldscribe.config.data_settings import Dataset
from boldscribe.config.experiment import paper_datasets
from boldscribe.data.images import load_image
from boldscribe.data.layout import entities
from boldscribe.machinery.configuration import merge
from boldscribe.machinery.errors import UserError
from boldscribe.starting.known import PAPER
from boldscribe.starting.models import Sections, embedded_models, fitting_sizes, merged, window_of
from boldscribe.starting.survey import DESCRIPTION_COLUMNS, VIDEOS, Survey

PREPROCESSED = "desc-preproc_bold.nii*"
OWN_TABLE = 3  # for data sets other than the paper's, whose values are in its tables 1 and 2
EMBEDDED_SPACE, EMBEDDED_RESOLUTION = "MNI152NLin2009aSym", 6.0  # mm
SECTION_REMARKS = {
    "bold": "n_volumes covers about 6 s at the repetition time found",
    "captioner": "the data's own descriptions: the embedded captioner knows rendered clips only",
    "tokenizer": "a grid that contains a brain at this resolution",
    "stage1": "holdout and batch fit the clips and trials found",
    "stage2": "batch and passes fit the trials found",
}
MANIFEST_COLUMNS = ("stimulus", "stim_file", "action", "source")


def engine_of(derivatives: Path | None, tasks: Sequence[str], embedded: bool = False) -> tuple[dict[str, Any], str]:
    """Return section `preprocessing` and its reason: ready derivatives if given, else what this machine has.

    Args:
        derivatives: folder of ready derivatives, if any.
        tasks: BIDS labels.
        embedded: whether small models are wanted, for which the embedded workflow makes large voxels.
    """
    if derivatives is not None:
        made, moves = (_files_of(derivatives, tasks, ending) for ending in (PREPROCESSED, "desc-hmc_xfm.txt"))
        if moves and not made:
            why = f"transforms without preprocessed BOLD in {derivatives}: raw BOLD is resampled through them (docs/minimal.md)"
            return {"engine": "minimal"} | ({"resolution": EMBEDDED_RESOLUTION} if embedded else {}), why
        return {"engine": "derivatives", **_space_of(derivatives, tasks)}, f"existing derivatives in {derivatives}"
    if embedded:
        why = "embedded models: the embedded workflow, with voxels as large as theirs"
        return {"engine": "embedded", "space": EMBEDDED_SPACE, "resolution": EMBEDDED_RESOLUTION}, why
    if shutil.which("apptainer"):
        return {"engine": "apptainer"}, "apptainer is installed"
    if _docker_runs():
        return {"engine": "docker"}, "docker is running"
    if shutil.which("fmriprep"):
        return {"engine": "bare"}, "fmriprep is installed"
    why = "no apptainer, running docker or fmriprep here: the embedded workflow, which needs none of them"
    return {"engine": "embedded", "space": EMBEDDED_SPACE}, why


def _docker_runs() -> bool:
    try:
        return subprocess.run(["docker", "info"], capture_output=True, timeout=20, check=False).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


def _files_of(derivatives: Path, tasks: Sequence[str], ending: str) -> list[Path]:
    """List files of tasks with an ending, sorted by name."""
    return sorted(path for task in tasks for path in derivatives.glob(f"sub-*/**/*task-{task}_*{ending}"))


def _space_of(derivatives: Path, tasks: Sequence[str]) -> dict[str, Any]:
    """Return space and resolution of preprocessed BOLD: of several spaces the paper's, else the first template.

    Raises:
        UserError: the task has no preprocessed BOLD, or none in a template space.
    """
    files = _files_of(derivatives, tasks, PREPROCESSED)
    by_space = {found["space"]: path for path in files if "space" in (found := entities(path)) and found["space"].startswith("MNI")}
    if not by_space:
        there = ", ".join(sorted({p.name.split("_", 1)[1] for p in files})[:3]) or "none"
        raise UserError(
            str(derivatives),
            f"preprocessed BOLD: found {there}; expected task-{tasks[0]}…space-MNI…_desc-preproc_bold.nii.gz: all subjects must share a "
            "template space; omit --derivatives to preprocess the raw data",
        )
    space = Config().preprocessing.space if Config().preprocessing.space in by_space else min(by_space)
    size = float(load_image(by_space[space], 4).header.get_zooms()[0])
    return {"space": space, "resolution": round(size, 3)}


def dataset_of(
    found: Survey, split: dict[str, list[str]], stimuli: Path | None, derivatives: Path | None, manifest: Path | None
) -> Dataset:
    """Build the section of the data set."""
    values: dict[str, Any] = {
        "title": found.name,
        "table": OWN_TABLE,
        "bids_dir": str(found.root),
        "derivatives_dir": str(derivatives) if derivatives else None,
        "stimuli_dir": str(stimuli) if stimuli else None,
        "stimulus_column": found.column if manifest else "stim_file",
        "stimulus_manifest": str(manifest) if manifest else None,
        "description_column": next((c for c in DESCRIPTION_COLUMNS if c in (found.columns or ()) and c != found.column), None),
        "task": found.task,
        "session": found.session,
    }
    return Dataset.model_validate(values | split | _of_known(found))


def _of_known(found: Survey) -> dict[str, Any]:
    """Return what is known of a recognised data set, whatever its folder and subjects."""
    if (known := found.known) is None:
        return {}
    values = {key: getattr(known, key) for key in ("title", "table", "adapter", "lead_in", "manifest", "split", "repeats")}
    if known.choice.apart:  # a split by task or session, not by runs
        values |= {"adaptation_runs": known.adaptation_runs, "test_runs": known.test_runs}
    if known.description_file is not None:
        values["description_file"] = str(found.root / Path(known.description_file).relative_to(known.bids_dir))
    return values


def config_text(name: str, dataset: Dataset, preprocessing: dict[str, Any], why: str, out: Path, sections: Sections) -> str:
    """Format the file: what differs from config.yaml, with remarks where needed.

    Data sets of config.yaml are excluded by null, since Snakemake merges mappings key by key. For the same reason, a data set with the name
    of one of them states everything that differs from it. Differences from the defaults are always included, since some commands read only
    this file.

    Args:
        name, dataset: the data set.
        preprocessing, why: its section, and the reason for it.
        out: the file.
        sections: all other sections.
    """
    paper = paper_datasets()
    base = paper.get(name, Dataset())
    always = {"title", "bids_dir", "task", "session", "table", *split_keys()}
    remarks = {
        "table": "a table of its own, next to the paper's two" if dataset.table == OWN_TABLE else "the paper's table",
        "adapter": "recognised by its description",
        "lead_in": "the missing lead-in of some versions is detected",
        "description_column": "words about the clips, a ceiling for comparison or (captioner) the captions",
        "stimulus_manifest": "fill it in: the events name no video files",
        "train_subjects": "the split is a proposal: adapt it to your question",
        "validation_subjects": "decoded; never trained on with labels",
        "adaptation_runs": "of target subjects, without labels",
        "test_runs": "of target subjects, scored",
    }
    lines = [
        f"# Written by `boldscribe init {dataset.bids_dir}`: differences from config.yaml, over which this file is merged.",
        f"# Resources needed: boldscribe plan --config {out}",
        f"# On a cluster:     snakemake --profile slurm --configfile {out}",
        f"# On this machine:  snakemake --cores all --configfile {out}",
        f"seed: {Config().seed}",
        "paths:",
        f"  results: {json.dumps(f'results/{name}')}  # of this study only",
        "datasets:",
        *(f"  {other}: null  # of config.yaml; excluded" for other in paper if other != name),
        f"  {json.dumps(name)}:",
    ]
    for key in Dataset.model_fields:
        value = getattr(dataset, key)
        if key in always or value != getattr(base, key) or value != Dataset.model_fields[key].get_default(call_default_factory=True):
            remark = f"  # {remarks[key]}" if key in remarks else ""
            lines.append(f"    {key}: {json.dumps(value, ensure_ascii=False)}{remark}")
    lines += ["", f"# {why}", "preprocessing:", *(f"  {key}: {json.dumps(value)}" for key, value in preprocessing.items())]
    for section, values in sections.items():
        lines += ["", *([f"# {SECTION_REMARKS[section]}"] if section in SECTION_REMARKS else []), f"{section}:"]
        lines += [f"  {key}: {_as_yaml(value)}" for key, value in values.items()]
    return "\n".join(lines) + "\n"


def _as_yaml(value: Any) -> str:
    """Format a value as JSON, which YAML reads, except for numbers such as 3e-05, which it would take for words."""
    return yaml.safe_dump(value).splitlines()[0] if isinstance(value, float) else json.dumps(value, ensure_ascii=False)


def whole_text(name: str, found: Survey, dataset: Dataset, preprocessing: dict[str, Any], why: str, out: Path, embedded: bool) -> str:
    """Format the file with all sections that the data call for: models, window, captions, and sizes that fit the trials.

    Args:
        name, dataset, preprocessing, why, out: see `config_text`.
        found: the survey.
        embedded: use the small models.
    """
    resolution = preprocessing.get("resolution", Config().preprocessing.resolution)
    sections = merged(embedded_models(resolution) if embedded else {}, window_of(found.repetition_time))
    if embedded and dataset.description_column:
        sections["captioner"] = {"kind": "given"}
    text = config_text(name, dataset, preprocessing, why, out, sections)
    config = Config.parse(merge(yaml.safe_load(PAPER.read_text()), yaml.safe_load(text)), str(out))
    return config_text(name, dataset, preprocessing, why, out, merged(sections, fitting_sizes(config, name)))


def split_keys() -> tuple[str, ...]:
    """Return the keys of a data set that state which subjects are trained on and which runs are tested."""
    return ("train_subjects", "validation_subjects", "adaptation_runs", "test_runs")


def manifest_text(found: Survey, folder: Path | None) -> str:
    """Format a list of stimuli to fill in: TSV with `stimulus` as named in the events, `stim_file`, `action` and `source`.

    A video is entered if exactly one has the stimulus' name, and an action if the events always state the same one in words; other cells
    are n/a. The source is the video that a clip was cut from, for the `strict` split.
    """
    videos: dict[str, set[str]] = {}
    for path in sorted(folder.rglob("*")) if folder else []:
        if path.suffix.lower() in VIDEOS and path.is_file():
            for called in {path.stem, path.name, path.relative_to(folder or path).as_posix()}:
                videos.setdefault(called, set()).add(path.relative_to(folder or path).as_posix())
    rows = [MANIFEST_COLUMNS]
    for stimulus in sorted(found.stimuli):
        actions = {a for a in found.actions[stimulus] if a and a != "n/a"}
        action = actions.pop() if len(actions) == 1 else ""
        in_words = action and not action.replace(".", "").isdigit()
        named = videos.get(stimulus) or videos.get(Path(stimulus).stem) or set()
        file = next(iter(named)) if len(named) == 1 else "n/a"
        rows.append((stimulus, file, action if in_words else "n/a", "n/a"))
    return "".join("\t".join(row) + "\n" for row in rows)
