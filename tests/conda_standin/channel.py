"""A conda channel on disk with two packages, the interpreter that runs this and pip: `python channel.py FOLDER PIP_WHEEL`."""

from __future__ import annotations

import asyncio
import hashlib
import io
import json
import os
import sys
import sysconfig
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

from rattler import Platform
from rattler.index import index_fs

LEFT_OUT = {"site-packages", "dist-packages", "test", "tests", "ensurepip", "idlelib", "lib2to3", "tkinter", "turtledemo", "__pycache__"}


def make_channel(folder: Path, pip_wheel: Path) -> None:
    """Write and index a channel.

    Args:
        folder: the channel.
        pip_wheel: pip, as the package index gives it.
    """
    platform = str(Platform.current())
    site = f"lib/python{sys.version_info.major}.{sys.version_info.minor}/site-packages"
    with zipfile.ZipFile(pip_wheel) as wheel:
        pip = {f"{site}/{name}": wheel.read(name) for name in wheel.namelist() if not name.endswith("/")}
    version = pip_wheel.name.split("-")[1]
    write_package(folder / platform, "python", sys.version.split()[0], [], dict(_interpreter()), {"bin/python", "bin/python3"})
    write_package(folder / platform, "pip", version, ["python"], pip, set())
    asyncio.run(index_fs(folder))


def write_package(folder: Path, name: str, version: str, depends: list[str], files: dict[str, bytes], links: set[str]) -> Path:
    """Write a package as conda has them: files, and what `info/` says of them.

    Args:
        folder: the channel's folder of one platform.
        name, version, depends: of the package.
        files: path in an environment → content; what lies in `bin/` can be run.
        links: symbolic links of `bin/` that lead to the versioned interpreter beside them.
    """
    folder.mkdir(parents=True, exist_ok=True)
    target = next((Path(path).name for path in files if path.startswith("bin/")), "")
    index = {"name": name, "version": version, "build": "0", "build_number": 0, "depends": depends, "subdir": folder.name}
    paths = [
        {"_path": path, "path_type": "hardlink", "sha256": hashlib.sha256(content).hexdigest(), "size_in_bytes": len(content)}
        for path, content in files.items()
    ] + [
        {"_path": path, "path_type": "softlink", "sha256": hashlib.sha256(files[f"bin/{target}"]).hexdigest(), "size_in_bytes": 0}
        for path in sorted(links)
    ]
    info = {
        "info/index.json": json.dumps(index),
        "info/files": "\n".join([*files, *sorted(links)]) + "\n",
        "info/paths.json": json.dumps({"paths": paths, "paths_version": 1}),
    }
    package = folder / f"{name}-{version}-0.tar.bz2"
    with tarfile.open(package, "w:bz2", compresslevel=1) as archive:
        for path, content in {**{k: v.encode() for k, v in info.items()}, **files}.items():
            entry = tarfile.TarInfo(path)
            entry.size, entry.mode = len(content), 0o755 if path.startswith("bin/") else 0o644
            archive.addfile(entry, io.BytesIO(content))
        for path in sorted(links):
            entry = tarfile.TarInfo(path)
            entry.type, entry.linkname = tarfile.SYMTYPE, target
            archive.addfile(entry)
    return package


def _interpreter() -> Iterator[tuple[str, bytes]]:
    """The files of this interpreter: program, shared library if it has one, standard library without its tests."""
    name = f"python{sys.version_info.major}.{sys.version_info.minor}"
    yield f"bin/{name}", Path(sys.base_prefix, "bin", name).resolve().read_bytes()
    if sysconfig.get_config_var("Py_ENABLE_SHARED"):
        for library in Path(sysconfig.get_config_var("LIBDIR")).glob(f"libpython{sys.version_info.major}*.so*"):
            yield f"lib/{library.name}", library.read_bytes()
    standard = Path(sysconfig.get_path("stdlib"))
    for path in sorted(standard.rglob("*")):
        parts = path.relative_to(standard).parts
        if path.is_file() and not LEFT_OUT & set(parts) and not parts[0].startswith("config-"):
            yield f"lib/{name}/{'/'.join(parts)}", path.read_bytes()


if __name__ == "__main__":
    make_channel(Path(sys.argv[1]), Path(sys.argv[2]))
    os._exit(0)  # py-rattler's threads have crashed interpreters that ended in the usual way
