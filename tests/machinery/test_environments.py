"""The pinned environments: written from the locks, exact, complete for their rules; and what a step does where they are not kept to."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from rattler import MatchSpec

from boldscribe.machinery.installation import canonical, locked_packages
from boldscribe.machinery.provenance.environment import _installed, _required, packages_of
from boldscribe.machinery.provenance.fingerprint import PROJECT, current_fingerprint
from boldscribe.machinery.provenance.modules import exists, parse_module
from boldscribe.models.embedded_models import WEIGHTS
from tests.conftest import TINY

ROOT = Path(__file__).resolve().parents[2]
ENVIRONMENTS = sorted((ROOT / "envs").glob("*.yaml"))
OPTIONAL = {"torchvision"}  # which a video processor of another captioner wants, and which is in no lock
HASH = re.compile(r"--hash=(sha256:[0-9a-f]{64})")


def environment_of_rules() -> dict[str, Path]:
    """Rule → its environment file; that of the base rule where it names none."""
    found, stated = {}, re.compile(r'conda:\s+"\.\./(envs/\w+\.yaml)"')
    base = stated.findall((ROOT / "rules" / "step.smk").read_text())[0]
    for file in sorted((ROOT / "rules").glob("*.smk")):
        for block in re.split(r"(?m)^use rule step as ", file.read_text())[1:]:
            found[block.partition(" with:")[0]] = ROOT / next(iter(stated.findall(block)), base)
    return found


def conda_specs(environment: Path) -> list[str]:
    return [entry for entry in yaml.safe_load(environment.read_text())["dependencies"] if isinstance(entry, str)]


def pip_lines(environment: Path, apart: bool = True) -> list[str]:
    """Lines of the pip section, and of the script that installs what no pip section can hold (`apart`)."""
    sections = [entry["pip"] for entry in yaml.safe_load(environment.read_text())["dependencies"] if isinstance(entry, dict)]
    script = environment.with_suffix(".post-deploy.sh")
    scripted = re.findall(r"(?m)^\S+==.*$", script.read_text()) if apart and script.exists() else []
    return [*(line for section in sections for line in section), *scripted]


def inexact(conda: list[str], pip: list[str], hashes: dict[str, set[str]]) -> Iterator[str]:
    """What is not one version, or has other hashes than the lock.

    Args:
        conda, pip: specifications.
        hashes: `name==version` → hashes of the lock.
    """
    for spec in conda:
        if not str(MatchSpec(spec, strict=True).version).startswith("=="):
            yield f"{spec} is not exact"
    for line in pip:
        requirement = Requirement(line.partition(" --hash")[0])
        found = set(HASH.findall(line))
        if f"{requirement.name}{requirement.specifier}" not in hashes:
            yield f"{requirement.name}{requirement.specifier} is not in the lock"
        elif not found or found != hashes[f"{requirement.name}{requirement.specifier}"]:
            yield f"{requirement.name} has other hashes than the lock"


def locked_hashes() -> dict[str, set[str]]:
    text = "".join((ROOT / f"requirements{kind}.lock").read_text() for kind in ("", "-cuda"))
    blocks = re.split(r"(?m)^(?=\S+==)", text)
    return {block.split()[0]: set(HASH.findall(block)) for block in blocks if "==" in block.partition("\n")[0]}


def imported_at_start(program: str) -> set[str]:
    """Packages that a program's modules import when it starts, whether or not it uses them; the recorder's among them."""
    seen: set[str] = set()
    packages: set[str] = set()
    waiting = [f"workflow_scripts.{program}"]
    while waiting:
        if (name := waiting.pop()) in seen:
            continue
        seen.add(name)
        parents = [name.rsplit(".", i)[0] for i in range(1, name.count(".") + 1)]
        for module in [*parents, *parse_module(name, Path.read_bytes).imported]:
            if module.partition(".")[0] not in PROJECT:
                packages.add(module.partition(".")[0])
            elif exists(module):
                waiting.append(module)
    return packages - set(sys.stdlib_module_names)


def needed_by(rule: str) -> set[str]:
    """All packages that a rule's program needs, and what they require."""
    needed = set(packages_of(rule)) | set(_required(frozenset(imported_at_start(rule)))[0])
    if any(part.startswith("boldscribe.models.embedded_models.") for part in current_fingerprint(rule).parts):
        needed |= WEIGHTS.keys()
    return needed - {"python"} - OPTIONAL


def check(root: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, root / "envs" / "lock.py", "--check"], capture_output=True, text=True)


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The locks and the environments, to be damaged."""
    shutil.copytree(ROOT / "envs", tmp_path / "envs", ignore=shutil.ignore_patterns("fmriprep*"))
    for lock in ROOT.glob("requirements*.lock"):
        shutil.copy(lock, tmp_path)
    return tmp_path


def edit(file: Path, pattern: str, replacement: str) -> int:
    """Replace the first match of a pattern; gives the number of its line."""
    text = file.read_text()
    match = re.search(pattern, text)
    assert match is not None
    file.write_text(text[: match.start()] + match.expand(replacement) + text[match.end() :])
    return text[: match.start()].count("\n") + 1


def test_the_environments_say_what_the_locks_say(copy: Path) -> None:
    done = check(ROOT)
    assert done.returncode == 0, done.stderr
    for file in (copy / "envs").glob("*.yaml"):
        file.unlink()
    subprocess.run([sys.executable, "-I", copy / "envs" / "lock.py", "--environments"], check=True, env={"PATH": ""})
    assert {f.name: f.read_bytes() for f in (copy / "envs").glob("*.yaml")} == {f.name: f.read_bytes() for f in ENVIRONMENTS}


def test_every_version_is_exact_and_has_the_locks_hashes() -> None:
    hashes = locked_hashes()
    assert len(hashes) > 150
    for environment in ENVIRONMENTS:
        specs = conda_specs(environment)
        assert [spec.split()[0] for spec in specs] == ["python", "pip"]
        assert list(inexact(specs, pip_lines(environment), hashes)) == [], environment.name
        assert f"pip{specs[1].split()[1]}" in hashes
    numpy = next(key for key in hashes if key.startswith("numpy=="))
    wrong = list(inexact(["numpy", "numpy >=2"], ["numpy", "numpy>=2", numpy, f"{numpy} --hash=sha256:{'0' * 64}"], hashes))
    assert wrong == [
        "numpy is not exact",
        "numpy >=2 is not exact",
        "numpy is not in the lock",
        "numpy>=2 is not in the lock",
        "numpy has other hashes than the lock",
        "numpy has other hashes than the lock",
    ]
    with pytest.raises(Exception, match=r"missing range specifier for '2\.4'"):
        list(inexact(["numpy 2.4"], [], hashes))


def test_what_is_installed_is_what_is_locked() -> None:
    differing, n = locked_packages(ROOT / "requirements.lock")
    assert differing == [] and n > 150


@pytest.mark.parametrize("rule", environment_of_rules())
def test_an_environment_holds_all_that_its_rules_programs_use(rule: str) -> None:
    environment = environment_of_rules()[rule]
    held = {Requirement(line.partition(" --hash")[0]).name for line in pip_lines(environment)}
    assert needed_by(rule) <= held, f"envs/lock.py: {environment.stem} lacks {sorted(needed_by(rule) - held)}, which {rule} uses"


@pytest.mark.parametrize("environment", ENVIRONMENTS, ids=lambda path: path.stem)
def test_an_environment_holds_all_that_its_packages_require(environment: Path) -> None:
    section = pip_lines(environment, apart=False)
    held = {Requirement(line.partition(" --hash")[0]).name for line in section}
    for name in held:
        if _installed(name)[0] is not None:  # all but the CUDA libraries beside a CPU build of torch
            assert {canonical(required) for required in _installed(name)[1]} <= held, name


def test_torch_brings_its_cuda_libraries_on_linux() -> None:
    libraries = sorted(re.findall(r"(?m)^(\S+==\S+)", (ROOT / "requirements-cuda.lock").read_text()))
    assert len(libraries) > 10
    for environment in ENVIRONMENTS:
        lines = pip_lines(environment)
        found = sorted(line.split()[0] for line in lines if ' ; sys_platform == "linux" --hash=' in line)
        assert found == (libraries if any(line.startswith("torch==") for line in lines) else []), environment.name


def test_a_changed_hash_in_the_lock_is_caught(copy: Path) -> None:
    edit(copy / "requirements.lock", r"(numpy==\S+ \\\n\s+--hash=sha256:)\w{8}", r"\g<1>00000000")
    done = check(copy)
    assert done.returncode == 1
    first = re.search(
        r"envs/data\.yaml, line \d+: numpy==\S+: found --hash=sha256:\w{64}, expected --hash=sha256:0{8}\w{56}\n", done.stderr
    )
    assert first and "python envs/lock.py --environments" in done.stderr, done.stderr


@pytest.mark.parametrize(
    ("pattern", "replacement", "message"),
    [
        (
            r"      - numpy==",
            "      - numpy\n      - numpy==",
            "envs/models.yaml, line {}: found 'numpy', which the locks do not give here",
        ),
        (r"numpy==(\S+) .*", r"numpy>=\1", "envs/models.yaml, line {}: found 'numpy>=2.4.6', expected 'numpy==2.4.6'"),
        (r"  - pip ==\S+", "  - pip", "envs/models.yaml, line {}: found 'pip', expected 'pip =="),
        (r"      - numpy==.*\n", "", "envs/models.yaml, before line {}: lacks 'numpy==2.4.6'"),
        (r" --hash=\S+\n", " \n", "found nothing, expected --hash=sha256:"),
    ],
    ids=["unpinned", "range", "pip", "lacking", "hash"],
)
def test_an_edited_environment_is_caught(copy: Path, pattern: str, replacement: str, message: str) -> None:
    line = edit(copy / "envs" / "models.yaml", pattern, replacement)
    done = check(copy)
    assert done.returncode == 1 and message.format(line) in done.stderr, done.stderr


def test_a_pin_file_is_held_against_its_environment(copy: Path) -> None:
    pip = conda_specs(copy / "envs" / "data.yaml")[1].split("==")[1]
    channel = "https://conda.example.org/conda-forge"
    pins = copy / "envs" / "data.linux-64.pin.txt"
    pins.write_text(
        f"# made up for this test\n@EXPLICIT\n{channel}/linux-64/python-3.11.7-h0_1_cpython.conda#{'0' * 32}\n"
        f"{channel}/noarch/pip-{pip}-pyh0_0.conda#sha256:{'0' * 64}\n"
    )
    assert "envs/data.post-deploy.sh: is lacking" in check(copy).stderr  # a pin file leaves the pip section to it
    subprocess.run([sys.executable, copy / "envs" / "lock.py", "--environments"], check=True)
    assert check(copy).returncode == 0, check(copy).stderr
    assert "\nnumpy==2.4.6 --hash=sha256:" in (copy / "envs" / "data.post-deploy.sh").read_text()
    pins.write_text(pins.read_text().replace("python-3.11.7", "python-3.11.9").replace(f"#sha256:{'0' * 64}", ""))
    done = check(copy)
    assert done.returncode == 1
    assert "envs/data.linux-64.pin.txt: found python 3.11.9, expected 3.11.7; make it anew with snakedeploy\n" in done.stderr
    assert f"envs/data.linux-64.pin.txt: pip {pip} has no digest, expected #MD5 or #sha256:DIGEST" in done.stderr


class Installation:
    """A virtual environment into which this interpreter's packages are linked, and from which a test takes some away.

    Args:
        folder: for the environment, and for the results of the step that is run.
    """

    def __init__(self, folder: Path) -> None:
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder / "venv"], check=True)
        self.python, self.results = folder / "venv" / "bin" / "python", folder / "results"
        (self.site,) = (folder / "venv").glob("lib/python*/site-packages")
        self.config = folder / "config.yaml"
        self.config.write_text(f"paths: {{results: {self.results}}}\n")
        for entry in (e for path in sys.path if path.endswith("site-packages") for e in Path(path).iterdir()):
            if entry.suffix != ".pth" and not (self.site / entry.name).exists():
                (self.site / entry.name).symlink_to(entry)

    def remove(self, package: str) -> None:
        """Take a package away, with what tells of it."""
        for entry in self.site.glob(f"{package}*"):
            entry.unlink()

    def run(self, program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a step of the smallest experiment."""
        config = ["config.yaml", *TINY[1:], str(self.config)]
        command = ["-m", f"workflow_scripts.{program}", "--config", *config, "--dataset", "had", *arguments]
        return subprocess.run([self.python, *command], cwd=ROOT, env=os.environ | {"PYTHONPATH": ""}, capture_output=True, text=True)

    def render(self) -> subprocess.CompletedProcess[str]:
        """Render the clips."""
        raw = self.results / "raw" / "had"
        return self.run("simulate_stimuli", "--stimuli", f"{raw}/stimuli", "--description", f"{raw}/dataset_description.json")


@pytest.fixture
def installation(tmp_path: Path) -> Installation:
    return Installation(tmp_path)


def test_a_step_stops_at_its_start_if_a_package_that_it_imports_is_not_installed(installation: Installation) -> None:
    installation.remove("av")
    assert_refusal(installation, installation.render(), "simulate_stimuli", "av")


def test_a_step_stops_before_it_computes_if_a_package_that_it_needs_later_is_not_installed(installation: Installation) -> None:
    installation.remove("formulaic")  # which pybids requires, and imports when it is asked for a design matrix
    raw = installation.results / "raw" / "had"
    done = installation.run("simulate_subject", "--subject", "01", "--stimuli", f"{raw}/stimuli", "--out", f"{raw}/sub-01")
    assert_refusal(installation, done, "simulate_subject", "formulaic")


def assert_refusal(installation: Installation, done: subprocess.CompletedProcess[str], rule: str, package: str) -> None:
    assert done.returncode == 1 and "Traceback" not in done.stderr, done.stderr
    message = (
        rf"error: {rule}: package {package}: found none in the virtual environment, \S+, expected {package} "
        r"[\d.]+ of requirements\.lock and envs/data\.yaml.*; install the locked packages with `make setup`, or .* `snakemake --sdm conda`"
    )
    assert re.fullmatch(message, done.stderr.strip()), done.stderr
    assert not installation.results.exists()


def test_another_version_is_told_and_recorded_and_stops_nothing(installation: Installation) -> None:
    (metadata,) = installation.site.glob("tqdm-*.dist-info")
    (other := installation.site / "tqdm-4.0.0.dist-info").mkdir()
    (other / "METADATA").write_text(re.sub(r"(?m)^Version: .*", "Version: 4.0.0", (metadata / "METADATA").read_text()))
    metadata.unlink()
    done = installation.render()
    assert done.returncode == 0, done.stderr
    assert re.search(r"WARNING .*versions that differ from requirements\.lock in .*: tqdm 4\.0\.0 instead of \d.*unpinned", done.stderr)
    environment = json.loads((installation.results / "raw/had/stimuli.prov.json").read_text())["environment"]
    assert environment["deployment"] == {"kind": "virtual environment", "environment": None, "prefix": None}
    assert json.loads((installation.results / f"ledger/packages/{environment['packages']}.json").read_text())["tqdm"] == "4.0.0"
