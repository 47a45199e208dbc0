"""fMRIPrep run of one subject: in a separate folder, checked, and moved into place as a whole."""

from __future__ import annotations

import logging
import shutil
import subprocess
from pathlib import Path

from boldscribe.config import Config
from boldscribe.data.layout import find_runs
from boldscribe.data.preprocessed import find_preprocessed
from boldscribe.machinery.errors import UserError
from boldscribe.machinery.files import atomic, atomic_folder, write_json
from boldscribe.preprocessing.derivatives import BIDSIGNORE
from boldscribe.preprocessing.fmriprep.command import command, environment
from boldscribe.preprocessing.fmriprep.crashes import crash_summary
from boldscribe.preprocessing.fmriprep.options import Allotment, Places, bids_filter
from boldscribe.preprocessing.fmriprep.preflight import check, license_file

log = logging.getLogger(__name__)


def run_fmriprep(config: Config, dataset: str, subject: str, output_dir: Path, work_dir: Path, allotment: Allotment) -> list[Path]:
    """Preprocess one subject with fMRIPrep.

    Outputs go to a separate folder below `work_dir`, which is emptied first, since fMRIPrep writes all its outputs each time.
    Intermediate results are kept after a failure, so that the next run resumes from them.

    Args:
        config: the experiment.
        dataset: name in `config.datasets`.
        subject: label without `sub-`.
        output_dir: root of the data set's derivatives.
        work_dir: scratch folder of this subject.
        allotment: resources of the job.

    Returns:
        what was written next to the subject's folder.

    Raises:
        UserError: problems found by the preflight; a non-zero exit code, with fMRIPrep's crashes; missing outputs.
    """
    check(config, dataset, allotment)
    design = config.datasets[dataset]
    root = work_dir.absolute()
    places = Places(Path(design.bids_dir).absolute(), root / "output", root / "scratch", license_file(config))
    shutil.rmtree(places.output, ignore_errors=True)
    for folder in (places.output, places.work / "apptainer"):
        # otherwise the daemon creates it as root
        folder.mkdir(parents=True, exist_ok=True)
    if wanted := bids_filter(design):
        write_json(places.bids_filter, wanted)
    argv = command(config, dataset, subject, places, allotment)
    log.info("%s", " ".join(argv))
    code = subprocess.run(argv, stdin=subprocess.DEVNULL, check=False, env=environment(config)).returncode
    if code != 0:
        crashes = crash_summary(places.output) or ["fMRIPrep left no crash file; see its messages above"]
        raise UserError(
            f"sub-{subject}",
            f"fMRIPrep ended with exit code {code}, expected 0; see its messages above (the next run resumes from {places.work})",
            *crashes,
        )
    check_outputs(config, dataset, subject, places.output)
    written = put_into_place(places.output, subject, output_dir)
    shutil.rmtree(work_dir, ignore_errors=True)
    return written


def check_outputs(config: Config, dataset: str, subject: str, output: Path) -> None:
    """Check that fMRIPrep has written every run.

    Raises:
        UserError: no run in the requested space, missing runs, or no description of the derivatives.
    """
    design, settings = config.datasets[dataset], config.preprocessing
    made = find_preprocessed(output, subject, design, settings)
    raw = find_runs(design.bids_dir, subject, design.choice, space=None, desc=None)
    if absent := [run for run in raw if run not in made]:
        raise UserError(
            f"sub-{subject}", f"preprocessed BOLD: found runs {', '.join(made)}, expected also {', '.join(absent)}; see fMRIPrep's report"
        )
    if not (output / "dataset_description.json").is_file():
        raise UserError(f"sub-{subject}", f"found no dataset_description.json in {output}, expected fMRIPrep's; see its messages above")


def put_into_place(output: Path, subject: str, output_dir: Path) -> list[Path]:
    """Move a subject's results to the derivatives, where jobs of other subjects may write at the same time.

    Files of the whole data set are replaced by equal ones. The report stays next to the subject's folder, whose figures it shows.
    fMRIPrep's `logs/`, which each subject has, go to `logs/sub-XX`. The subject's folder is moved last, and is complete or absent.

    Returns:
        what was written next to the subject's folder.
    """
    written = []
    for path in sorted(p for p in output.iterdir() if p.is_file()):
        with atomic(output_dir / path.name) as part:
            shutil.copyfile(path, part)
            if path.name == ".bidsignore":
                lines = path.read_text().splitlines()
                # our records are stored next to the derivatives
                part.write_text("\n".join([*lines, *(line for line in BIDSIGNORE if line not in lines)]) + "\n")
        written.append(output_dir / path.name)
    for path in sorted(p for p in output.iterdir() if p.is_dir() and p.name not in (f"sub-{subject}", "logs")):
        log.warning("fMRIPrep also wrote %s, which nothing reads: excluded from the derivatives", path.name)
    if (output / "logs").is_dir():
        _move(output / "logs", output_dir / "logs" / f"sub-{subject}")
        written.append(output_dir / "logs" / f"sub-{subject}")
    _move(output / f"sub-{subject}", output_dir / f"sub-{subject}")
    return written


def _move(source: Path, target: Path) -> None:
    """Move a folder, possibly to another file system; readers see the old one, none, or the complete new one."""
    with atomic_folder(target) as part:
        for path in source.iterdir():
            shutil.move(path, part)
