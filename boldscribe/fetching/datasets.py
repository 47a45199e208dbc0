"""Selection and download of a configured data set's files by its manifest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from boldscribe.config import Config
from boldscribe.config.data_settings import Dataset, Preprocessing
from boldscribe.data.layout import name_parts
from boldscribe.machinery.download.annex import annex_get
from boldscribe.machinery.download.http import Fetcher
from boldscribe.machinery.download.manifest import PARTS, Entry, Manifest, manifest_path, read_manifest
from boldscribe.machinery.download.transfer import lacking, transfer
from boldscribe.machinery.errors import UserError
from boldscribe.machinery.offline import is_offline

Backend = Literal["https", "git-annex", "datalad"]
IMAGES = (".nii", ".nii.gz")


@dataclass(frozen=True)
class Selection:
    """Files of a data set to fetch.

    Attributes:
        manifest: the data set's manifest.
        entries: the files.
        folder: destination.
    """

    manifest: Manifest
    entries: list[Entry]
    folder: Path

    @property
    def size(self) -> int:
        """Total size of the files (bytes)."""
        return sum(entry.size for entry in self.entries)


def select(config: Config, dataset: str, *, parts: Sequence[str] | None = None, subjects: Sequence[str] | None = None) -> Selection:
    """Select files of a configured data set.

    Args:
        config: the experiment.
        dataset: name in `config.datasets`.
        parts: any of `raw`, `stimuli`, `derivatives`, as a whole; None for the files that the experiment reads (`is_read`).
        subjects: labels; None for the configured source and target subjects.

    Raises:
        UserError: the data set has no manifest, the manifest cannot be read, or a subject is not in it.
    """
    design = config.datasets[dataset]
    if not design.manifest:
        raise UserError(
            f"datasets.{dataset}.manifest", "found none, expected the list of its files; provide the data yourself (docs/fetching.md)"
        )
    manifest = read_manifest(manifest_path(design.manifest))
    chosen = manifest.selected(PARTS if parts is None else parts, design.subjects if subjects is None else subjects)
    if parts is None:
        chosen = [entry for entry in chosen if is_read(config, design, entry)]
    return Selection(manifest, chosen, Path(design.bids_dir))


def is_read(config: Config, design: Dataset, entry: Entry) -> bool:
    """Return whether an experiment reads a file of its data set.

    It reads raw data of its tasks and sessions, of the images only if they are preprocessed; the videos, unless they are elsewhere; and
    of the derivatives those that its engine reads, and the annotations.
    """
    path, named = Path(design.bids_dir, entry.path), name_parts(Path(entry.path))
    if "task" in named and (named["task"] not in design.choice.tasks or ("ses" in named and named["ses"] not in design.choice.sessions)):
        return False
    if entry.part == "stimuli":
        return design.stimuli_dir is None
    if entry.part == "derivatives":
        return path in design.annotations or _is_ready(config.preprocessing, design, path, named.get("space"))
    return config.preprocessing.engine != "derivatives" or not entry.path.endswith(IMAGES)


def _is_ready(settings: Preprocessing, design: Dataset, path: Path, space: str | None) -> bool:
    """Return whether a derivative is one that the engine reads: of the configured space, or of no space."""
    if not settings.reads_derivatives or not design.derivatives_dir or not path.is_relative_to(design.derivatives_dir):
        return False
    return settings.engine == "minimal" or space in (None, settings.space)


def fetch(
    selection: Selection,
    *,
    backend: Backend = "https",
    base_url: str | None = None,
    parallel: int = 8,
    fetcher: Fetcher | None = None,
) -> None:
    """Fetch the missing files of a selection.

    Raises:
        UserError: as in `transfer` and `annex_get`.
    """
    if backend == "https":
        transfer(
            selection.entries,
            selection.folder,
            lambda entry: selection.manifest.url(entry, base_url),
            parallel=parallel,
            fetcher=fetcher,
        )
    else:
        annex_get(selection.manifest, selection.entries, selection.folder, backend, parallel=parallel, git_url=base_url)


def complete_dataset(config: Config, dataset: str) -> dict[str, str]:
    """Fetch the missing files that an experiment needs of a measured data set; existing files are never replaced.

    A data set without manifest is the user's own and is not touched.

    Returns:
        the source as the manifest states it; empty without a manifest.

    Raises:
        UserError: an existing file differs from the manifest; files are missing and the network is switched off; as in `fetch`.
    """
    design = config.datasets[dataset]
    if design.simulated or not design.manifest:
        return {}
    selection = select(config, dataset)
    absent = lacking(selection.entries, selection.folder)
    if not absent:
        return selection.manifest.source
    if other := [e.path for e in absent if (selection.folder / e.path).is_file()]:
        raise UserError(
            str(selection.folder),
            f"found {len(other)} files that differ from {design.manifest}, such as {other[0]}; expected version "
            f"{selection.manifest.source['version']}; run `boldscribe fetch data {dataset}` to replace them, or set manifest: null to keep "
            "yours",
        )
    if is_offline():
        raise UserError(
            str(selection.folder),
            f"found {len(absent)} files missing, expected all {len(selection.entries)} while BOLDSCRIBE_OFFLINE is set; run "
            f"`boldscribe fetch data {dataset}` where there is a network",
        )
    fetch(Selection(selection.manifest, absent, selection.folder))
    return selection.manifest.source
