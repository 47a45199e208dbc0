"""Preprocessing with the configured engine."""

from __future__ import annotations

from pathlib import Path

from boldscribe.config import Config
from boldscribe.errors import UserError


def preprocess(config: Config, dataset: str, subject: str, output_dir: Path, work_dir: Path) -> None:
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
    if config.preprocessing.engine == "embedded":
        from boldscribe.preprocessing.embedded import preprocess_subject

        preprocess_subject(config, dataset, subject, output_dir, work_dir)
    elif config.preprocessing.engine == "fmriprep-docker":
        from boldscribe.preprocessing.fmriprep import run_fmriprep

        run_fmriprep(config, dataset, subject, output_dir, work_dir)
    else:
        raise UserError("preprocessing.engine", "found 'derivatives', which are used as they are; choose another engine to make them")
