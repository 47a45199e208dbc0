"""TemplateFlow templates that fMRIPrep can use as output spaces, and the template files that it reads.

Taken from the source of fMRIPrep 25.2.7, sMRIPrep 0.19.5 and NiWorkflows 1.14.5, and from TemplateFlow 25.1.2's list of files.
TemplateFlow fills its folder with 0-byte placeholders and downloads each image on first use, which a compute node cannot do.
"""

from __future__ import annotations

from pathlib import Path

from boldscribe.config.data_settings import Preprocessing
from boldscribe.data.layout import resolution_label
from boldscribe.machinery.errors import UserError

# Space → edges of its voxels (mm). `res-N` is an index of the template, which equals the edge for these but not for all:
# MNI152NLin6Asym's res-3 has voxels of 0.5 mm. fMRIPrep accepts any number and fails hours later.
SPACES: dict[str, tuple[int, ...]] = {
    "MNI152Lin": (1, 2),
    "MNI152NLin2009cAsym": (1, 2),
    "MNI152NLin6Asym": (1, 2),
    "MNI152NLin6Sym": (1,),
    "NKI": (1,),
    "OASIS30ANTs": (1,),
}
# read in every run: brain extraction of the T1w image and of the BOLD reference, and the carpet plot
ALWAYS = {
    "OASIS30ANTs": [
        "res-01_T1w",
        "res-01_label-brain_probseg",
        "res-01_desc-BrainCerebellumExtraction_mask",
        "res-01_label-WM_probseg",
        "res-01_label-BS_probseg",
    ],
    "MNI152NLin2009cAsym": [
        "res-01_label-brain_probseg",
        "res-01_desc-carpet_dseg",
        "res-02_desc-fMRIPrep_boldref",
        "res-02_desc-brain_mask",
    ],
}
# bundled in fMRIPrep's images (its scripts/fetch_templates.py)
IN_IMAGE = ("MNI152NLin2009cAsym", "MNI152NLin6Asym")
SHOWN = 6


def check_space(settings: Preprocessing) -> str:
    """Return space and resolution, if fMRIPrep can write them.

    Raises:
        UserError: an unknown space, a surface or age-group space, or a resolution that the template does not have.
    """
    if settings.space not in SPACES:
        raise UserError("preprocessing.space", f"found {settings.space}, expected one of {', '.join(SPACES)}; change it")
    if settings.resolution not in SPACES[settings.space]:
        edges = " or ".join(map(str, SPACES[settings.space]))
        raise UserError(
            "preprocessing.resolution", f"found {settings.resolution:g} mm, expected {edges} mm for {settings.space}; change it"
        )
    return f"{settings.space}:res-{resolution_label(settings.resolution)}"


def template_files(space: str, resolution: float) -> list[Path]:
    """Return the TemplateFlow files that a run in a space reads, relative to TemplateFlow's folder, sorted."""
    names = {(template, name) for template, names in ALWAYS.items() for name in names}
    for edge in (1, int(resolution)):  # the first for the registration, the second for the output
        names |= {(space, f"res-{edge:02d}_T1w"), (space, f"res-{edge:02d}_desc-brain_mask")}
    return sorted(_path(template, name) for template, name in names)


def check_templates(settings: Preprocessing) -> str:
    """Check space and resolution, and that all template files are complete in `templateflow_home`.

    Raises:
        UserError: see `check_space`; the folder does not exist; missing or placeholder files, by name; no folder is configured and
            the image does not bundle the space.
    """
    asked, folder = check_space(settings), settings.templateflow_home
    if folder is None and settings.engine == "bare":
        return f"{asked}, from TemplateFlow's own folder, not checked"
    if folder is None:
        if settings.space not in IN_IMAGE:
            raise UserError(
                "preprocessing.templateflow_home",
                f"found null, expected a folder: the image contains {' and '.join(IN_IMAGE)}, not {settings.space}; set one and fill it",
            )
        return f"{asked}, from the image"
    home = Path(folder).absolute()
    remedy = "run `boldscribe fetch templates` on a machine with network access"
    if not home.is_dir():
        raise UserError("preprocessing.templateflow_home", f"found no folder {home}, expected one with the templates; {remedy}")
    needed = template_files(settings.space, settings.resolution)
    # not needed if there is none, but requested if TemplateFlow lists it
    listed = [p for edge in {1, int(settings.resolution)} if (home / (p := _path(settings.space, f"res-{edge:02d}_T2w"))).exists()]
    empty = [str(p) for p in [*needed, *listed] if (home / p).exists() and not (home / p).stat().st_size]
    absent = [str(p) for p in needed if not (home / p).exists()]
    problems = [
        f"found {len(names)} {what} ({', '.join(names[:SHOWN])}{', …' if len(names) > SHOWN else ''})"
        for names, what in ((empty, "placeholder(s) of 0 bytes"), (absent, "file(s) missing"))
        if names
    ]
    if problems:
        raise UserError(f"preprocessing.templateflow_home {home}", f"{' and '.join(problems)}, expected the images; {remedy}")
    return f"{asked}, {len(needed)} files in {home}"


def _path(template: str, name: str) -> Path:
    return Path(f"tpl-{template}") / f"tpl-{template}_{name}.nii.gz"
