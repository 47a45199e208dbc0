"""Model folders downloaded from a hub: required files and stated commit."""

from __future__ import annotations

import logging
from pathlib import Path

from boldscribe.machinery.errors import UserError

log = logging.getLogger(__name__)

NEEDED = {
    "the model's configuration": ("config.json",),
    "the tokenizer": ("tokenizer.json", "tokenizer_config.json"),
    "the processor of its images": ("preprocessor_config.json", "processor_config.json"),
}


def check_hub_folder(folder: Path, revision: str) -> None:
    """Check that a folder has the files of a hub's video-text model, at the configured commit.

    A folder that states no commit is accepted with a warning, since the digests of its files are locked anyway.

    Raises:
        UserError: the folder or a file in it is missing, or the folder states another commit.
    """
    if not folder.is_dir():
        raise UserError(
            str(folder), "is missing: expected the folder of captioner.model; download it, or correct the path (docs/captioners.md)"
        )
    for what, names in NEEDED.items():
        if not any((folder / name).is_file() for name in names):
            raise UserError(
                str(folder),
                f"found no {' or '.join(names)} ({what}), expected all files of the model on its hub; download the whole repository "
                "(docs/captioners.md)",
            )
    stated = stated_revisions(folder)
    if not stated:
        log.warning("%s does not state the commit of its files; captioner.revision is not verified", folder)
    elif stated != {revision}:
        raise UserError(
            str(folder),
            f"commit: found {', '.join(sorted(stated))}, expected captioner.revision, {revision}; download that commit, or correct the key",
        )


def stated_revisions(folder: Path) -> set[str]:
    """Commits that the hub's client recorded for a folder's files: per file (`hf download --local-dir`), or as the cache's folder name."""
    folder = folder.resolve()
    if folder.parent.name == "snapshots":
        return {folder.name}
    notes = folder / ".cache" / "huggingface" / "download"
    of_files = [note for note in notes.rglob("*.metadata") if (folder / note.relative_to(notes).with_suffix("")).exists()]
    return {note.read_text().partition("\n")[0].strip() for note in of_files}
