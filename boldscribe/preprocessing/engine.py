"""Preprocessing with the configured engine."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from boldscribe.config import Config
from boldscribe.errors import UserError


@dataclass(frozen=True)
class Preprocessed:
    """What a subject's preprocessing made and used, beside its folders.

    Attributes:
        dataset_files: what was written beside the subject's folder: files of the derivatives as a whole, of which every subject's job
            writes the same, and fMRIPrep's report and logs of the subject.
        templates: files of the template.
        container: image and digest of the container that did the work, if one did.
    """

    dataset_files: list[Path]
    templates: list[Path] = field(default_factory=list)
    container: dict[str, str | None] | None = None


def preprocess(
    config: Config, dataset: str, subject: str, output_dir: Path, work_dir: Path, *, threads: int = 1, memory_mb: int = 0
) -> Preprocessed:
    """Raw BIDS to BIDS-Derivatives of one subject, by `preprocessing.engine`.

    Args:
        config: the experiment.
        dataset: name in `config.datasets`.
        subject: label without `sub-`.
        output_dir: root of the data set's derivatives.
        work_dir: scratch folder of this subject.
        threads, memory_mb: what the job may use; only fMRIPrep asks.

    Raises:
        UserError: what the engine finds wrong; or the engine `derivatives`, for which there is nothing to run.
    """
    # each engine's libraries are loaded only where it runs
    templates: list[Path] = []
    container: dict[str, str | None] | None = None
    if config.preprocessing.engine == "embedded":
        from boldscribe.preprocessing.embedded import preprocess_subject
        from boldscribe.preprocessing.template import template_files

        preprocess_subject(config, dataset, subject, output_dir, work_dir)
        templates = template_files()
    elif config.preprocessing.engine in ("apptainer", "docker", "bare"):
        from boldscribe.preprocessing.containers import pinned_digest
        from boldscribe.preprocessing.fmriprep import Allotment, run_fmriprep

        written = run_fmriprep(config, dataset, subject, output_dir, work_dir, Allotment(threads, memory_mb))
        if config.preprocessing.engine != "bare":
            container = {"image": config.preprocessing.fmriprep_image, "digest": pinned_digest(config)}
        return Preprocessed(written, container=container)
    elif config.preprocessing.engine == "minimal":
        from boldscribe.preprocessing.minimal import resample_subject

        resample_subject(config, dataset, subject, output_dir, work_dir)
    else:
        raise UserError("preprocessing.engine", "found 'derivatives', which are used as they are; choose another engine to make them")
    names = ("dataset_description.json", ".bidsignore")
    return Preprocessed([path for name in names if (path := output_dir / name).exists()], templates, container)
