"""`boldscribe init`: a configuration for a BIDS folder and its videos, with a report of what is missing."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from boldscribe.machinery.cluster.init_cluster import cluster_options, write_site
from boldscribe.machinery.errors import UserError, user_errors
from boldscribe.machinery.files import ROOT

if TYPE_CHECKING:
    from boldscribe.config import Config
    from boldscribe.config.data_settings import Dataset
    from boldscribe.starting.survey import Survey

PAPER = ROOT / "config.yaml"
folder = click.Path(exists=True, file_okay=False, path_type=Path)


@click.command()
@click.argument("bids_dir", type=folder, required=False)
@click.option("--stimuli", type=folder, help="Folder of the videos; BIDS_DIR/stimuli by default.")
@click.option("--derivatives", type=folder, help="Existing fMRIPrep derivatives, used instead of preprocessing.")
@click.option("--name", help="Name of the data set in files and rules: letters and digits; derived from the folder's name by default.")
@click.option("--task", multiple=True, help="BIDS task label, if there are several; may be given several times.")
@click.option("--session", multiple=True, help="BIDS session label, if there are several; may be given several times.")
@click.option("--column", help="Column of the events that names the stimuli; stim_file or a similar one by default.")
@click.option("--embedded", is_flag=True, help="Use the small models that come with Boldscribe, which run on a laptop.")
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="Configuration to write, e.g. mine.yaml.")
@click.option("--force", is_flag=True, help="Overwrite existing files.")
@click.option("--no-check", is_flag=True, help="Skip the BIDS validator and the opening of images and videos.")
@click.option("--cluster", is_flag=True, help="Query Slurm and write site.yaml instead of a configuration; the options below go with it.")
@cluster_options
@user_errors
def init(
    bids_dir: Path,
    stimuli: Path | None,
    derivatives: Path | None,
    name: str | None,
    task: tuple[str, ...],
    session: tuple[str, ...],
    column: str | None,
    embedded: bool,
    out: Path | None,
    force: bool,
    no_check: bool,
    cluster: bool,
    **site: Any,
) -> None:
    """Write a configuration for the raw data set in BIDS_DIR, and report what is missing in it.

    Exit code: 0 if nothing is missing, else 1; the configuration is written in either case.
    """
    if cluster:
        write_site(force, **site)
        return
    if bids_dir is None or out is None:
        raise UserError("boldscribe init", "expected BIDS_DIR and --out, or --cluster")
    from boldscribe.data.problems import grouped
    from boldscribe.machinery.files import atomic
    from boldscribe.starting.proposal import dataset_of, engine_of, manifest_text, whole_text
    from boldscribe.starting.survey import compare_videos, label_of, split_of, survey

    found = survey(bids_dir, task, session, column, derivatives)
    name = name or (found.known.adapter.replace("_", "") if found.known else label_of(bids_dir.resolve().name))
    if not (name.isascii() and name.isalnum()):
        raise UserError("--name", f"found {name!r}, expected only letters and digits")
    split = split_of(found)
    videos = stimuli or bids_dir / "stimuli"
    manifest = out.with_name(f"{out.stem}_stimuli.tsv") if found.column and found.column != "stim_file" else None
    if taken := [str(p) for p in (out, manifest) if p and p.exists() and not force]:
        raise UserError(", ".join(taken), "already exists; name another file with --out, or pass --force to overwrite")
    preprocessing, why = engine_of(derivatives, found.tasks, embedded)
    dataset = dataset_of(found, split, stimuli, derivatives, manifest)
    if manifest:
        with atomic(manifest) as part:
            part.write_text(manifest_text(found, videos if videos.is_dir() else None))
        found.problems.append(
            f"{manifest}: made from column {found.column!r} of the events, which names no video files; fill in the n/a cells"
        )
    elif found.column is None:
        found.problems.append("events: found no column that names stimuli, expected stim_file; add it, or name another with --column")
    with atomic(out) as part:
        part.write_text(whole_text(name, found, dataset, preprocessing, why, out, embedded))
    try:
        absent, unshown = compare_videos(found, videos)
    except UserError as error:
        found.problems.append(str(error))
        absent, unshown = [], []
    if absent:
        found.problems.append(
            f"{videos}: found {len(absent)} file(s) of the events that do not exist there ({', '.join(absent[:3])}); add or rename them"
        )
    never = f"{len(unshown)} video(s) never shown" + (f" ({', '.join(unshown[:3])})" if unshown else "")
    _tell(found, dataset, why, "" if manifest else never, embedded)
    _check(found, out, name, opened=not no_check)
    for line in grouped(found.problems):
        click.echo(f"missing or wrong: {line}")
    click.echo(f"{out}: written" + (f", and {manifest}" if manifest else ""))
    sys.exit(1 if found.problems else 0)


def _tell(found: Survey, dataset: Dataset, why: str, videos: str, embedded: bool) -> None:
    """Print what was found and what is proposed."""
    from collections import Counter

    from boldscribe.starting.proposal import split_keys

    runs = Counter(len(r) for r in found.runs.values())
    onsets = sorted(found.first_onsets)
    click.echo(f"{found.name}: {len(found.runs)} subjects, {found.choice.words}")
    if found.others:
        click.echo(f"  excluded: {', '.join(found.others)}")
    click.echo(f"  runs: {'; '.join(f'{n} in each of {k} subjects' for n, k in sorted(runs.items()))}")
    click.echo(f"  repetition time: {', '.join(f'{tr:g} s ({n} runs)' for tr, n in found.repetition_times.most_common()) or 'not found'}")
    if onsets:
        click.echo(f"  first onsets: {onsets[0]:g} to {onsets[-1]:g} s{_onset_remark(found, onsets)}")
    click.echo(f"  stimuli: {len(found.stimuli)} in {found.stimuli.total()} trials; {videos or 'video files to be named in the list'}")
    if dataset.description_column:
        use = "the captions" if embedded else "a ceiling for comparison, or the captions with captioner.kind: given"
        click.echo(f"  descriptions: column {dataset.description_column} of the events: {use}")
    click.echo(f"  field maps: {len(found.fieldmaps)} of {len(found.runs)} subjects")
    models = (
        "small ones that come with Boldscribe" if embedded else "the paper's, from `boldscribe fetch weights`; --embedded takes small ones"
    )
    click.echo(f"  models: {models}")
    click.echo(f"  adapter: {dataset.adapter}{', recognised by its description' if found.known else ''}; {why}")
    click.echo("  proposed split:")
    for key in split_keys():
        click.echo(f"    {key}: {', '.join(getattr(dataset, key)) or 'none'}")


def _onset_remark(found: Survey, onsets: list[float]) -> str:
    """Comment on the onsets, which count from the first volume. Those close to 0 may count from the end of a lead-in instead."""
    if found.known and found.known.lead_in == "detect":
        return "; the lead-in is detected"
    if onsets[-1] < 1:
        return "; counted from the first volume? If from the end of a lead-in, set lead_in to its length (s)"
    return ", counted from the first volume"


def _check(found: Survey, out: Path, name: str, opened: bool) -> None:
    """Judge the written configuration: whether it can work, what should be known of the design, and, if wanted, the data themselves.

    Args:
        found: whose problems are added to.
        out, name: the configuration, and its data set.
        opened: run the BIDS validator, and open images and videos as the pipeline does.
    """
    from boldscribe.config import Config, check_experiment
    from boldscribe.planning.feasibility import check_feasible

    config = Config.load(PAPER, out)
    checks = [lambda: check_experiment(config), lambda: check_feasible(config)]
    if opened:
        _validate(found)
        if found.unfetched and config.preprocessing.engine != "derivatives":
            click.echo("  images and videos: not opened, since the images have not been fetched yet")
        else:
            checks.append(lambda: _open(config, name))
    for check in checks:
        try:
            check()
        except UserError as error:
            found.problems += [p for p in error.problems if p not in found.problems and "that do not exist there" not in p]
    for remark in _remarks(found, config, name, opened and not found.unfetched):
        click.echo(f"note: {remark}")


def _remarks(found: Survey, config: Config, name: str, opened: bool) -> list[str]:
    """Return remarks on the design and, if raw images are read and may be opened, on how they can be registered."""
    from boldscribe.data.event_checks import read_all_events
    from boldscribe.starting.design_remarks import design_remarks, registration_remarks

    remarks, design = [], config.datasets[name]
    if found.column in (found.columns or ()):
        events = read_all_events(design, {subject: dict.fromkeys(runs, found.root) for subject, runs in found.runs.items()}, [])
        remarks += design_remarks(design, events, config.bold, found.repetition_time)
    if opened and not config.preprocessing.reads_derivatives:
        remarks += registration_remarks(found.images)
    return remarks


def _validate(found: Survey) -> None:
    """Run the BIDS validator."""
    from boldscribe.starting.validator import validate

    result = validate(found.root, headers=not found.unfetched)
    found.problems += [f"BIDS validator: {code}, {n} time(s), first: {place}" for code, (n, place) in result.errors.items()]
    n_errors = sum(n for n, _ in result.errors.values())
    click.echo(f"  BIDS validator: {result.left_out or f'{n_errors} errors, {result.warnings} warnings'}")


def _open(config: Config, name: str) -> None:
    """Run the pipeline's own check of the data.

    Raises:
        UserError: its problems, one by one.
    """
    from boldscribe.data.checks import inspect_raw

    _, problems = inspect_raw(config, name)
    if problems:
        raise UserError(config.datasets[name].bids_dir, *problems)
    click.echo("  images, events and videos: everything that the pipeline will read is present and intact")
