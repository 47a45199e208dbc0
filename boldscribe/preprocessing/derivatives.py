"""Files of a BIDS-Derivatives data set, under fMRIPrep's names."""

from __future__ import annotations

from pathlib import Path

from boldscribe import __version__
from boldscribe.data.layout import entities, entity_path
from boldscribe.machinery.files import atomic, write_json

GENERATOR = "Boldscribe embedded preprocessing"
DISTORTION = "susceptibility distortion correction"
# for every run; its sidecars state how its distortion was handled
NOT_DONE = [
    "surface reconstruction",
    "boundary-based registration",
    "tissue segmentation of the subject",
]
# derivative files that the BIDS validator does not know
BIDSIGNORE = [
    "*_xfm.*",
    "*_timeseries.tsv",
    "*_timeseries.json",
    "*_boldref.nii.gz",
    "*_boldref.json",
    "*.prov.json",
    "logs/",
    "sub-*/figures",
]


def write_dataset_description(output_dir: Path, name: str, space: str) -> None:
    """Write `dataset_description.json` and `.bidsignore`; their content depends only on the arguments, so jobs may race.

    Args:
        output_dir: root of the derivatives.
        name: name of the data set in the configuration.
        space: template label.
    """
    write_json(
        output_dir / "dataset_description.json",
        {
            "Name": f"{name}: preprocessed",
            "BIDSVersion": "1.10.0",
            "DatasetType": "derivative",
            "GeneratedBy": [
                {
                    "Name": GENERATOR,
                    "Version": __version__,
                    "Description": (
                        f"Rigid motion correction, coregistration and SyN normalisation to {space}. The sidecars say which runs were "
                        f"corrected for susceptibility distortion. Not done: {', '.join(NOT_DONE)}."
                    ),
                }
            ],
        },
    )
    with atomic(output_dir / ".bidsignore") as part:
        part.write_text("\n".join(BIDSIGNORE) + "\n")


class SubjectFiles:
    """Paths of one subject's derivatives.

    Args:
        output_dir: root of the derivatives.
        subject: label.
        session: of the anatomy; None for the folder above all sessions.
        space: template label.
        res: label of the resolution.
    """

    def __init__(self, output_dir: Path, subject: str, session: str | None, space: str, res: str) -> None:
        self.root, self.subject, self.session = output_dir, subject, session
        self.standard = {"space": space, "res": res}

    def anat(self, desc: str | None, suffix: str, extension: str = ".nii.gz", standard: bool = False) -> Path:
        """Return the path of a T1w derivative, in the subject's or in template space."""
        space = self.standard if standard else {}
        return self.root / entity_path(
            self.subject, session=self.session, datatype="anat", suffix=suffix, extension=extension, desc=desc, **space
        )

    def transform(self, source: str, target: str) -> Path:
        """Return the path of a transform for images from `source` to `target` space."""
        return self.root / entity_path(
            self.subject,
            session=self.session,
            datatype="anat",
            suffix="xfm",
            extension=".nii.gz",
            **{"from": source, "to": target, "mode": "image"},
        )

    def func(self, bold: Path, desc: str | None, suffix: str, extension: str = ".nii.gz", standard: bool = True) -> Path:
        """Return the path of a run's derivative; session, task and run are as in the raw image's name."""
        raw = entities(bold)
        return self.root / entity_path(
            self.subject,
            session=raw.get("session"),
            datatype="func",
            suffix=suffix,
            extension=extension,
            task=raw.get("task"),
            run=raw.get("run"),
            desc=desc,
            **(self.standard if standard else {}),
        )

    def figure(self, bold: Path) -> Path:
        """Return the path of a run's quality figure."""
        name = self.func(bold, "qc", "bold", ".png", standard=False).name
        return self.root / f"sub-{self.subject}" / "figures" / name
