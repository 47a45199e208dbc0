"""The rules: complete, in order, planned as the paper's experiment, and leaking nothing from targets into training."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
KEYWORDS = ["input", "output", "params", "log", "benchmark", "threads", "resources", "conda", "message", "shell"]
RULE_FILES = sorted((ROOT / "rules").glob("*.smk"))


def snakemake(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "snakemake", *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=120)


def rules() -> dict[str, str]:
    found = {}
    for file in RULE_FILES:
        for block in re.split(r"(?m)^rule ", file.read_text())[1:]:
            name, body = block.split(":", 1)
            found[name] = re.split(r"(?m)^\S", body.lstrip("\n"))[0] if not body.startswith("\n ") else re.split(r"\n(?=\S)", body)[0]
    return found


def planned_jobs(output: str) -> dict[str, int]:
    table = output.split("Job stats:")[-1]
    return {name: int(n) for name, n in re.findall(r"(?m)^(\w+) +(\d+)$", table)}


@pytest.mark.parametrize("name", rules())
def test_every_rule_has_every_keyword_in_the_house_order(name: str) -> None:
    assert re.findall(r"(?m)^    (\w+):", rules()[name]) == KEYWORDS


def test_files_keep_to_their_length() -> None:
    assert len((ROOT / "Snakefile").read_text().splitlines()) <= 60
    for file in [*RULE_FILES, *(ROOT / "workflow_scripts").glob("*.py")]:
        assert len(file.read_text().splitlines()) <= (150 if file.suffix == ".smk" else 60), file.name


def test_every_rule_has_a_program_an_environment_and_what_makes_it_run_again() -> None:
    for name, body in rules().items():
        script = re.search(r'script=ancient\("([^"]+)"\)', body)[1]  # type: ignore[index]
        assert script == f"workflow_scripts/{name}.py" and (ROOT / script).exists(), name
        assert f'code=code("{name}")' in body and f'packages=packages("{name}")' in body and f'settings=settings("{name}' in body, name
        assert (ROOT / "rules" / re.search(r'"(\.\./envs/[^"]+)"', body)[1]).exists(), name  # type: ignore[index]


@pytest.mark.dag
def test_the_full_configuration_plans_the_papers_experiment() -> None:
    done = snakemake("-n", "-q", "rules")
    assert done.returncode == 0, done.stderr
    jobs = planned_jobs(done.stdout + done.stderr)
    assert jobs["fmriprep"] == 30 + 4 and jobs["bold_series"] == 34
    assert jobs["stage1"] == jobs["stage2"] == jobs["tables"] == 2
    assert jobs["decode"] == (4 + 2) * 4 and jobs["scores"] == 6
    assert sum(n for name, n in jobs.items() if name != "total") == jobs["total"] < 2000


@pytest.mark.dag
def test_slurm_profile_is_found_by_name_from_the_root() -> None:
    done = snakemake("--profile", "slurm", "-n", "-q", "rules")
    assert done.returncode == 0, done.stderr
    assert "Using profile slurm" in done.stderr + done.stdout


@pytest.mark.dag
def test_an_unknown_key_stops_the_plan() -> None:
    done = snakemake("-n", "--config", "stage1={alhpa: 0.5}")
    assert done.returncode == 1
    assert "stage1.alhpa: unknown key" in done.stderr + done.stdout


@pytest.mark.dag
def test_an_experiment_without_test_runs_stops_the_plan() -> None:
    done = snakemake("-n", "--config", "datasets={had: {test_runs: []}}")
    assert done.returncode == 1
    assert "datasets.had.test_runs: found none" in done.stderr + done.stdout


@pytest.mark.dag
def test_another_captioner_is_handed_frames_and_its_own_weights_alone() -> None:
    def command(captioner: str) -> str:
        target = "results/stimuli/had/train-000_captions.parquet"
        done = snakemake("-n", "-p", target, "--config", f"captioner={captioner}")
        assert done.returncode == 0, done.stderr
        return re.search(r"python -m workflow_scripts\.captions [^\n]+", done.stdout + done.stderr)[0]  # type: ignore[index]

    own = command("{kind: video_llama}")
    other = command(f"{{kind: video_text, model: models/x, hub_name: x/y, revision: '{'0' * 40}'}}")
    assert "train-000_features.npy" in own and "models/llm" in own and "models/captioner" not in own and "_frames" not in own
    assert "train-000_frames.npy" in other and "models/captioner" in other and "models/llm" not in other and "_features" not in other


def test_training_rules_are_handed_nothing_of_target_subjects_but_unlabelled_fmri() -> None:
    for name in ("pretrain_sc_mbm", "stage1", "stage2"):
        inputs = rules()[name].split("    output:")[0]
        assert "of_validation_subjects(LABELS)" not in inputs and "test" not in inputs, name
        assert "of_validation_subjects" not in inputs and "{split}" not in inputs, name
        assert re.findall(r"role-(\w+)_tokens", inputs) == (["train", "adapt"] if name == "stage2" else []), name
    assert "LABELS" not in rules()["fmri_tokens"] and "captions" not in rules()["fmri_tokens"], "fMRI is encoded without labels"
