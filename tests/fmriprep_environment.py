"""fMRIPrep itself, in an environment of its own: its parser is asked what it makes of our arguments."""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from filelock import FileLock

ROOT = Path(__file__).resolve().parents[1]
LOCK = ROOT / "envs" / "fmriprep.lock"
ENVIRONMENT = ROOT / "results" / "test-fmriprep-env"
ASK = """
import json, sys
from fmriprep.cli.parser import _build_parser
answers = []
for argv in json.load(sys.stdin):
    try:
        options = _build_parser().parse_args(argv)
        answers.append({name: str(value) for name, value in vars(options).items()})
    except SystemExit as error:
        answers.append(f"exit {error.code}")
    except Exception as error:
        answers.append(f"{type(error).__name__}: {error}")
print("ANSWERS" + json.dumps(answers))
"""


def fmriprep_python() -> Path:
    """Interpreter of the environment, made from `envs/fmriprep.lock` once per checkout and lock (about a minute, 1 GB)."""
    python, stamp = ENVIRONMENT / "bin" / "python", ENVIRONMENT / "lock.sha256"
    digest = hashlib.sha256(LOCK.read_bytes()).hexdigest()
    ENVIRONMENT.parent.mkdir(exist_ok=True)
    with FileLock(f"{ENVIRONMENT}.lock"):
        if not stamp.exists() or stamp.read_text() != digest:
            subprocess.run([sys.executable, "-m", "venv", "--clear", str(ENVIRONMENT)], check=True)
            install = [
                "-m",
                "pip",
                "install",
                "--quiet",
                "--disable-pip-version-check",
                "--no-compile",
                "--no-deps",
                "--require-hashes",
                "-r",
                str(LOCK),
            ]
            subprocess.run([str(python), *install], check=True, env=_outside({}))
            stamp.write_text(digest)
    return python


def ask_parser(argvs: list[list[str]], home: Path) -> list[dict[str, str] | str]:
    """What fMRIPrep's parser makes of each list of arguments: its options as text, or how it refuses.

    Args:
        argvs: lists of arguments.
        home: folder for its caches; `templateflow` below it receives TemplateFlow's placeholders.
    """
    variables = {"HOME": str(home), "TEMPLATEFLOW_HOME": str(home / "templateflow"), "NO_ET": "1"}
    done = subprocess.run(
        [str(fmriprep_python()), "-c", ASK], input=json.dumps(argvs), capture_output=True, text=True, env=_outside(variables), check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    answers: list[Any] = json.loads(done.stdout.rpartition("ANSWERS")[2])
    return answers


def _outside(variables: dict[str, str]) -> dict[str, str]:
    """This process's variables without those that would lead to our packages."""
    return {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")} | variables
