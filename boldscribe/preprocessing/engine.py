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
        dataset_files: files that belong to the derivatives as a whole; every subject's job writes the same.
        templates: files of the template.
        container: image and digest of the container that did the work, if one did.
    """

    dataset_files: list[Path]
    templates: list[Path] = field(default_factory=list)
    container: dict[str, str | None] | None = None


def preprocess(config: Config, dataset: str, subject: str, output_dir: Path, work_dir: Path) -> Preprocessed:
    """Raw BIDS to BIDS-Derivatives of one subject, by `preprocessing.engine`.

    Args:
        config: the experiment.
        dataset: name in `config.datasets`.
        subject: label without `sub-`.
        output_dir: root of the data set's derivatives.
        work_dir: scratch folder of this subject.

    Raises:
        UserError: what the engine finds wrong; or the engine `derivatives`, for which there is nothing to run.
    """
    # each engine's libraries are loaded only where it runs
    templates, container = [], None
    if config.preprocessing.engine == "embedded":
        from boldscribe.preprocessing.embedded import preprocess_subject
        from boldscribe.preprocessing.template import template_files

        preprocess_subject(config, dataset, subject, output_dir, work_dir)
        templates = template_files()
    elif config.preprocessing.engine == "docker":
        from boldscribe.preprocessing.fmriprep import image_version, run_fmriprep

        run_fmriprep(config, dataset, subject, output_dir, work_dir)
        container = image_version(config.preprocessing.fmriprep_image)
    elif config.preprocessing.engine == "minimal":
        from boldscribe.preprocessing.minimal import resample_subject

        resample_subject(config, dataset, subject, output_dir, work_dir)
    else:
        raise UserError("preprocessing.engine", "found 'derivatives', which are used as they are; choose another engine to make them")
    names = ("dataset_description.json", ".bidsignore")
    return Preprocessed([path for name in names if (path := output_dir / name).exists()], templates, container)
