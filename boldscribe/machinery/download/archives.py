"""Safe unpacking of downloaded archives: to a new folder, completely or not at all, and never outside it."""

from __future__ import annotations

import lzma
import shutil
import stat
import tarfile
import zipfile
import zlib
from pathlib import Path
from typing import IO

from boldscribe.machinery.download.manifest import check_path
from boldscribe.machinery.errors import UserError
from boldscribe.machinery.files import atomic_folder

LARGEST, MOST = 100 * 10**9, 1_000_000  # bytes and files


def unpack(archive: str | Path, folder: str | Path, *, largest: int = LARGEST, most: int = MOST) -> None:
    """Unpack a tar or zip archive to a new folder.

    Args:
        archive: tar (compressed or not) or zip.
        folder: destination; must be empty or not exist.
        largest: limit of the unpacked size (bytes), since a small archive can be crafted to fill a disk.
        most: limit of the number of files.

    Raises:
        UserError: the archive is damaged, too large or not an archive; the folder is not empty; a member points outside the folder,
            or is not a file, a folder or an internal link.
    """
    archive, folder = Path(archive), Path(folder)
    if folder.exists() and any(folder.iterdir()):
        raise UserError(str(folder), "found files in it, expected an empty or new folder; name another one")
    try:
        with atomic_folder(folder) as part:
            if zipfile.is_zipfile(archive):
                _unzip(archive, part, largest, most)
            else:
                _untar(archive, part, largest, most)
    except FileNotFoundError as error:
        if Path(error.filename or "") != archive:
            raise
        raise UserError(str(archive), "the archive does not exist; correct the path") from None
    except (FileExistsError, NotADirectoryError, IsADirectoryError) as error:
        raise UserError(
            str(archive), f"found two members with the same name ({error.filename}), expected one; do not use this archive"
        ) from None
    except (tarfile.TarError, zipfile.BadZipFile, EOFError, zlib.error, lzma.LZMAError, RuntimeError) as error:
        raise UserError(str(archive), f"found no complete tar or zip archive ({error}), expected one; download it again") from None


def _untar(archive: Path, folder: Path, largest: int, most: int) -> None:
    """Unpack members one by one, links last. tarfile's filters only exist since Python 3.11.4, and Debian 12 has an older one."""
    size, links = 0, []
    with tarfile.open(archive) as tar:
        for number, member in enumerate(tar, 1):
            size += member.size
            _check_member(archive, member.name, size, number, largest, most)
            target = folder / member.name
            if member.issym():
                links.append((target, member.linkname))
            elif member.isdir():
                target.mkdir(parents=True, exist_ok=True)
            elif (source := tar.extractfile(member) if member.isfile() or member.islnk() else None) is None:
                raise _foreign(archive, member.name)
            else:
                _write(source, target)
    for link, text in links:
        link.parent.mkdir(parents=True, exist_ok=True)
        if not (link.parent / text).resolve().is_relative_to(folder.resolve()) or not (link.parent / text).exists():
            raise _foreign(archive, link.relative_to(folder).as_posix())
        link.symlink_to(text)


def _unzip(archive: Path, folder: Path, largest: int, most: int) -> None:
    size = 0
    with zipfile.ZipFile(archive) as zipped:
        for number, member in enumerate(zipped.infolist(), 1):
            size += member.file_size
            _check_member(archive, member.filename, size, number, largest, most)
            if stat.S_IFMT(member.external_attr >> 16) not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise _foreign(archive, member.filename)
            target = folder / member.filename
            if member.is_dir():
                target.mkdir(parents=True, exist_ok=True)
            else:
                with zipped.open(member) as source:
                    _write(source, target)


def _write(source: IO[bytes], target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    with source, target.open("xb") as copy:
        shutil.copyfileobj(source, copy)


def _foreign(archive: Path, name: str) -> UserError:
    return UserError(
        str(archive), f"{name}: found a device or a link that leaves the folder, expected files and folders; do not use this archive"
    )


def _check_member(archive: Path, name: str, size: int, number: int, largest: int, most: int) -> None:
    check_path(name, str(archive))
    if size > largest or number > most:
        raise UserError(
            str(archive),
            f"found more than {largest if size > largest else most} {'bytes' if size > largest else 'files'} in it; do not use it",
        )
