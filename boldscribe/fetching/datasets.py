"""Selection and download of a configured data set's files by its manifest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from boldscribe.config import Config
from boldscribe.machinery.download.annex import annex_get
from boldscribe.machinery.download.http import Fetcher
from boldscribe.machinery.download.manifest import Entry, Manifest, manifest_path, read_manifest
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


def select(
    config: Config, dataset: str, *, parts: Sequence[str] = ("raw", "stimuli"), subjects: Sequence[str] | None = None, images: bool = True
) -> Selection:
    """Select files of a configured data set.

    Args:
        config: the experiment.
        dataset: name in `config.datasets`.
        parts: any of `raw`, `stimuli`, `derivatives`.
        subjects: labels; None for the configured source and target subjects.
        images: whether to include the raw images; events and sidecars are always included.

    Raises:
        UserError: the data set has no manifest, the manifest cannot be read, or a subject is not in it.
    """
    design = config.datasets[dataset]
    if not design.manifest:
        raise UserError(
            f"datasets.{dataset}.manifest", "found none, expected the list of its files; provide the data yourself (docs/fetching.md)"
        )
    manifest = read_manifest(manifest_path(design.manifest))
    chosen = manifest.selected(parts, design.subjects if subjects is None else subjects)
    if not images:
        chosen = [entry for entry in chosen if entry.part != "raw" or not entry.path.endswith(IMAGES)]
    return Selection(manifest, chosen, Path(design.bids_dir))


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
    parts = ("raw", "stimuli") if design.stimuli_dir is None else ("raw",)
    # ready derivatives replace the raw images, not the events
    selection = select(config, dataset, parts=parts, images=config.preprocessing.engine != "derivatives")
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
