"""Preprocessing with the configured engine."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from boldscribe.config import Config
from boldscribe.machinery.errors import UserError


@dataclass(frozen=True)
class Preprocessed:
    """Files that a subject's preprocessing made and used, besides its folders.

    Attributes:
        dataset_files: files written next to the subject's folder: those of the derivatives as a whole, which every subject's job
            writes identically, and fMRIPrep's report and logs of the subject.
        templates: files of the template.
        container: image and digest of the container, if one was used.
    """

    dataset_files: list[Path]
    templates: list[Path] = field(default_factory=list)
    container: dict[str, str | None] | None = None


def preprocess(
    config: Config, dataset: str, subject: str, output_dir: Path, work_dir: Path, *, threads: int = 1, memory_mb: int = 0
) -> Preprocessed:
    """Preprocess one subject from raw BIDS to BIDS-Derivatives, with `preprocessing.engine`.

    Args:
        config: the experiment.
        dataset: name in `config.datasets`.
        subject: label without `sub-`.
        output_dir: root of the data set's derivatives.
        work_dir: scratch folder of this subject.
        threads, memory_mb: resources of the job; only used by fMRIPrep.

    Raises:
        UserError: problems found by the engine; or the engine is `derivatives`, which has nothing to run.
    """
    # import an engine's libraries only if it runs
    templates: list[Path] = []
    container: dict[str, str | None] | None = None
    if config.preprocessing.engine == "embedded":
        from boldscribe.data.template import template_files
        from boldscribe.preprocessing.embedded import preprocess_subject

        preprocess_subject(config, dataset, subject, output_dir, work_dir)
        templates = template_files()
    elif config.preprocessing.runs_fmriprep:
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
        raise UserError(
            "preprocessing.engine", "found 'derivatives', which uses existing output and runs nothing; choose another engine to preprocess"
        )
    names = ("dataset_description.json", ".bidsignore")
    return Preprocessed([path for name in names if (path := output_dir / name).exists()], templates, container)
