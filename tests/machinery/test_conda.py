"""`snakemake --sdm conda` with a stand-in for conda (tests/conda_standin): what is proven, and what not, is in docs/environments.md."""

import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.conda_standin import install_standin
from tests.conftest import PATIENCE, TINY, copy_code
from tests.machinery.test_environments import edit, pip_lines

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Conda:
    """The stand-in for conda with its channel, and a copy of the code with environments for it.

    Attributes:
        code: the copy.
        variables: under which Snakemake finds the stand-in.
    """

    code: Path
    variables: dict[str, str]

    def snakemake(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run Snakemake in the copy; nothing of the tests' own environment reaches the jobs but its programs."""
        command = [sys.executable, "-m", "snakemake", "--cores", "1", *arguments]
        return subprocess.run(command, cwd=self.code, env=self.variables, capture_output=True, text=True, timeout=PATIENCE)


@pytest.fixture(scope="module")
def conda(tmp_path_factory: pytest.TempPathFactory) -> Conda:
    """Stand-in, channel and code; this interpreter stands in for the pinned Python if it is another patch release."""
    folder = tmp_path_factory.mktemp("conda")
    code = copy_code(folder / "code")
    lock = code / "envs" / "lock.py"
    edit(lock, r'(?m)^PYTHON = ".*"$', f'PYTHON = "{platform.python_version()}"')
    subprocess.run([sys.executable, lock, "--environments"], check=True)
    (pip,) = (
        re.sub(r" ?\\\n *", " ", b) for b in re.split(r"(?m)^(?=\S+==)", (ROOT / "requirements.lock").read_text()) if b[:5] == "pip=="
    )
    (folder / "pip.txt").write_text(pip)
    download = ["-m", "pip", "download", "--quiet", "--no-deps", "--require-hashes", "--dest", str(folder), "-r", str(folder / "pip.txt")]
    subprocess.run([sys.executable, *download], check=True)
    (wheel,) = folder.glob("pip-*.whl")
    channel = folder / "channels" / "conda-forge"
    subprocess.run([sys.executable, "-m", "tests.conda_standin.channel", channel, wheel], check=True, cwd=ROOT)
    kept = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV", "CONDA_PREFIX")}
    programs = [str(install_standin(folder / "conda")), str(Path(sys.executable).parent), kept["PATH"]]
    return Conda(code, kept | {"PATH": os.pathsep.join(programs), "CONDA_CHANNEL_ALIAS": (folder / "channels").as_uri()})


@pytest.mark.slow
def test_a_rule_of_the_pipeline_runs_in_its_conda_environment_and_its_record_says_so(conda: Conda) -> None:
    stimuli, results = "results/tiny/raw/had/stimuli", conda.code / "results" / "tiny"
    records, packages = {}, {}
    for kind, options in (("conda", ["--sdm", "conda"]), ("other", [])):
        done = conda.snakemake(stimuli, *options, *TINY)
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
        records[kind] = json.loads((conda.code / f"{stimuli}.prov.json").read_text())
        versions = results / "ledger" / "packages" / f"{records[kind]['environment']['packages']}.json"
        packages[kind] = json.loads(versions.read_text())
        shutil.rmtree(results)
    (prefix,) = (path for path in (conda.code / ".snakemake" / "conda").iterdir() if path.is_dir())
    assert records["conda"]["environment"]["deployment"] == {"kind": "conda", "environment": "data", "prefix": prefix.name}
    assert records["other"]["environment"]["deployment"]["kind"] in ("virtual environment", "system")
    pinned = dict(line.split()[0].split("==") for line in pip_lines(conda.code / "envs" / "data.yaml"))
    expected = {name: pinned[name] for name in packages["conda"] if name != "python"} | {"python": platform.python_version()}
    assert packages["conda"] == packages["other"] == expected and {"av", "numpy", "pandas", "pillow"} <= expected.keys()
    assert records["conda"]["subject"]["sha256"] == records["other"]["subject"]["sha256"]
    ask = [prefix / "bin" / "python", "-I", "-c", "import av; print(av.__file__)"]
    assert subprocess.run(ask, capture_output=True, text=True, check=True).stdout.startswith(str(prefix))


TOY = """
rule toy:
    output:
        "toy.txt",
    conda:
        "envs/toy.yaml"
    shell:
        "python -c 'import idna, sys; print(idna.__version__, sys.prefix)' > {output}"
"""


@pytest.mark.slow
def test_hashes_and_pin_files_are_kept_to_when_an_environment_is_made(conda: Conda, tmp_path: Path) -> None:
    (tmp_path / "Snakefile").write_text(TOY)
    (tmp_path / "envs").mkdir()
    data = (conda.code / "envs" / "data.yaml").read_text()
    head, idna = data.partition("      - ")[0], re.search(r"(?m)^      - (idna==(\S+) .*)$", data)
    assert idna is not None

    def run() -> subprocess.CompletedProcess[str]:
        toy = Conda(tmp_path, conda.variables)
        (tmp_path / "toy.txt").unlink(missing_ok=True)
        return toy.snakemake("--sdm", "conda", "--snakefile", str(tmp_path / "Snakefile"), "toy.txt")

    (tmp_path / "envs" / "toy.yaml").write_text(f"{head}      - {re.sub('sha256:.{64}', 'sha256:' + '0' * 64, idna[1])}\n")
    done = run()
    assert done.returncode == 1 and "THESE PACKAGES DO NOT MATCH THE HASHES FROM THE REQUIREMENTS FILE" in done.stderr, done.stderr

    (tmp_path / "envs" / "toy.yaml").write_text(f"{head}      - {idna[1]}\n")
    channel = Path(conda.variables["CONDA_CHANNEL_ALIAS"].removeprefix("file://")) / "conda-forge" / "linux-64"
    files = sorted(channel.glob("*.tar.bz2"))
    pins = [f"{file.as_uri()}#sha256:{hashlib.sha256(file.read_bytes()).hexdigest()}" for file in files]
    (tmp_path / "envs" / "toy.linux-64.pin.txt").write_text("\n".join(["@EXPLICIT", *pins, ""]))
    done = run()  # a pin file leaves the pip section out
    assert done.returncode == 1 and "No module named 'idna'" in done.stderr, done.stderr
    script = (ROOT / "envs" / "models.post-deploy.sh").read_text()
    (tmp_path / "envs" / "toy.post-deploy.sh").write_text(
        re.sub(r"(?ms)(<<'END'\n).*(END\n)", lambda m: f"{m[1]}{idna[1]}\n{m[2]}", script)
    )
    done = run()
    assert done.returncode == 0 and (tmp_path / "toy.txt").read_text().startswith(idna[2]), done.stderr
