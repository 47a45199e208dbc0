"""Data sets that are recognised by their names, and their sections as Boldscribe has them."""

from __future__ import annotations

from boldscribe.config import Config
from boldscribe.config.data_settings import Dataset
from boldscribe.config.experiment import paper_datasets
from boldscribe.machinery.files import ROOT

PAPER, BOLD_MOMENTS = ROOT / "config.yaml", ROOT / "profiles/bold_moments/experiment.yaml"
HAD_ACCESSION, BOLD_MOMENTS_ACCESSION = "ds004488", "ds005165"
HAD_NAME = "A large-scale fMRI dataset for human action recognition"


def recognised(name: str, description: str) -> Dataset | None:
    """Return the section of a known data set; None for any other.

    Args:
        name: in `dataset_description.json`.
        description: the whole of that file.
    """
    if HAD_NAME in name or HAD_ACCESSION in description:
        return paper_datasets()["had"]
    if BOLD_MOMENTS_ACCESSION in description:
        return Config.load(PAPER, BOLD_MOMENTS).datasets["boldmoments"]
    return None
