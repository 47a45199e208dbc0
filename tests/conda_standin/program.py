"""The stand-in for the program `conda`: the few commands that Snakemake 9 gives, carried out by py-rattler.

Called as `program.py FOLDER COMMAND…`, where FOLDER is where the stand-in is laid out. As conda does, it looks for channels below
$CONDA_CHANNEL_ALIAS, and hands the pip section to pip as it stands, so that pip asks for dependencies too.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path

import yaml
from rattler import Channel, Gateway, Platform, RepoDataRecord, VirtualPackage, install, solve
from rattler.explicit_environment import ExplicitEnvironmentSpec

VERSION = "24.7.1"  # the lowest that Snakemake 9 takes


def create_from_yaml(file: Path, prefix: Path, cache: Path) -> None:
    """`conda env create`: solve, install, then pip."""
    described = yaml.safe_load(file.read_text())
    specs = [entry for entry in described["dependencies"] if isinstance(entry, str)]
    lines = [line for entry in described["dependencies"] if isinstance(entry, dict) for line in entry["pip"]]
    channels = [f"{os.environ['CONDA_CHANNEL_ALIAS']}/{name}" for name in described["channels"] if name != "nodefaults"]
    records = asyncio.run(
        solve(
            channels,
            specs,
            platforms=[str(Platform.current()), "noarch"],  # type: ignore[list-item]
            virtual_packages=VirtualPackage.detect(),
            timestamp_policy="allow-missing",
        )
    )
    asyncio.run(install(records, prefix, cache_dir=cache, show_progress=False))
    if lines:
        requirements = file.with_suffix(".requirements.txt")
        requirements.write_text("\n".join(lines) + "\n")
        pip = [str(prefix / "bin" / "python"), "-m", "pip", "install", "--quiet", "-U", "-r", str(requirements), "--exists-action=b"]
        if subprocess.run(pip).returncode:
            sys.exit("conda stand-in: pip failed")


def create_from_pins(file: Path, prefix: Path, cache: Path) -> None:
    """`conda create --file` of an explicit list: exactly these files, each with the digest that the list states."""
    records = [asyncio.run(_pinned(*package.url.partition("#")[::2])) for package in ExplicitEnvironmentSpec.from_path(file).packages]
    asyncio.run(install(records, prefix, cache_dir=cache, show_progress=False))


async def _pinned(address: str, digest: str) -> RepoDataRecord:
    """The record of a channel's file, whose digest (MD5, or `sha256:` and SHA-256) must be as stated."""
    channel, subdir, name = address.rsplit("/", 2)
    package = name.rsplit("-", 2)[0]
    answers = await Gateway().query([Channel(channel)], [subdir], [package], recursive=False)  # type: ignore[list-item]
    record = next((r for records in answers for r in records if r.file_name == name), None)
    if record is None:
        sys.exit(f"conda stand-in: {address} is not in its channel")
    found = record.sha256 if digest.startswith("sha256:") else record.md5
    if digest and (found is None or found.hex() != digest.removeprefix("sha256:")):
        sys.exit(f"conda stand-in: {name} has another digest than the list states")
    return record


def main() -> None:
    """Do what the command line asks for, as far as Snakemake asks for it."""
    folder, words = Path(sys.argv[1]), sys.argv[2:]
    options = argparse.ArgumentParser()
    options.add_argument("--file", type=Path)
    options.add_argument("--prefix", type=Path)
    if words == ["--version"]:
        print(f"conda {VERSION}")
    elif words == ["info", "--json"]:
        print(json.dumps({"conda_prefix": str(folder), "platform": str(Platform.current()), "conda_version": VERSION}))
    elif words[:3] == ["config", "--get", "channel_priority"]:
        print(json.dumps({"get": {"channel_priority": "strict"}}))
    elif words[:2] == ["env", "create"] or words[:1] == ["create"]:
        given, _ = options.parse_known_args(words)
        create = create_from_yaml if words[0] == "env" else create_from_pins
        create(given.file, given.prefix, folder / "pkgs")
    elif words[:1] != ["clean"]:
        sys.exit(f"conda stand-in: not one of its commands: {' '.join(words)}")


if __name__ == "__main__":
    try:
        main()
    except SystemExit as end:
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
    else:
        status = 0
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)  # py-rattler's threads have crashed an interpreter that ended in the usual way
