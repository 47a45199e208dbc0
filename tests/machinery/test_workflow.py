"""The rules: complete, in order, planned as the paper's experiment, and leaking nothing from targets into training."""

import json
import re
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from boldscribe.machinery.provenance.fingerprint import current_fingerprint
from tests.conftest import PATIENCE

ROOT = Path(__file__).resolve().parents[2]
KEYWORDS = ["input", "output", "params", "log", "threads", "resources", "conda", "message", "priority", "group"]  # in this order
OPTIONAL = {"params", "threads", "resources", "conda", "priority", "group"}
RULE_FILES = sorted((ROOT / "rules").glob("*.smk"))
# What Snakemake has made of the rules, in a process of its own, since reading them sets environment variables.
READ = """
import json
from pathlib import Path
from snakemake.api import OutputSettings, ResourceSettings, SnakemakeApi
from snakemake.settings.types import Quietness
with SnakemakeApi(OutputSettings(quiet={Quietness.ALL})) as api:
    made = api.workflow(resource_settings=ResourceSettings(), snakefile=Path("Snakefile"))._workflow.rules
    print(json.dumps({r.name: {
        "files": [str(f) for f in [*r.output, *r.log]], "wildcards": sorted(r.wildcard_names),
        "message": r.message or "", "resources": sorted(r.resources), "conda": str(r.conda_env or ""), "doc": r.docstring or "",
        "log": len(r.log)} for r in made}))
"""
MODELS = {"torch", "transformers", "peft"}
HEAVY = MODELS | {"numpy", "pandas", "pyarrow", "scipy", "nibabel", "nilearn", "bids", "requests", "huggingface_hub"}


def snakemake(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "snakemake", *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=PATIENCE)


def rules() -> dict[str, str]:
    found = {}
    for file in RULE_FILES:
        for block in re.split(r"(?m)^use rule step as ", file.read_text())[1:]:
            name, body = block.split(" with:", 1)
            found[name] = re.split(r"\n(?=\S)", body)[0]
    return found


@cache
def read_rules() -> dict[str, dict[str, Any]]:
    done = subprocess.run([sys.executable, "-c", READ], capture_output=True, text=True, cwd=ROOT, timeout=PATIENCE)
    assert done.returncode == 0, done.stderr
    found: dict[str, dict[str, Any]] = json.loads(done.stdout)
    return {name: about for name, about in found.items() if name not in ("all", "step")}


def planned_jobs(output: str) -> dict[str, int]:
    table = output.split("Job stats:")[-1]
    return {name: int(n) for name, n in re.findall(r"(?m)^(\w+) +(\d+)$", table)}


@pytest.mark.parametrize("name", rules())
def test_every_rule_has_every_keyword_in_the_house_order(name: str) -> None:
    found = re.findall(r"(?m)^    (\w+):", rules()[name])
    assert found == [keyword for keyword in KEYWORDS if keyword in found or keyword not in OPTIONAL]


def test_files_keep_to_their_length() -> None:
    assert len((ROOT / "Snakefile").read_text().splitlines()) <= 64
    for file in [*RULE_FILES, *(ROOT / "workflow_scripts").glob("*.py")]:
        assert len(file.read_text().splitlines()) <= (150 if file.suffix == ".smk" else 60), file.name


def test_every_rule_has_a_program_and_an_environment() -> None:
    for name, body in rules().items():
        script = re.search(r'script=ancient\("([^"]+)"\)', body)[1]  # type: ignore[index]
        assert script == f"workflow_scripts/{name}.py" and (ROOT / script).exists(), name
    for name, rule in read_rules().items():
        assert (ROOT / "rules" / rule["conda"]).exists(), name


def test_every_rule_as_snakemake_reads_it_is_logged_limited_pinned_and_explained() -> None:
    assert read_rules().keys() == rules().keys()
    for name, rule in read_rules().items():
        assert rule["log"] == 1, name
        assert {"mem_mb", "runtime"} <= set(rule["resources"]), name
        assert rule["conda"].startswith("../envs/") and rule["doc"], name
        assert all(f"{{wildcards.{w}}}" in rule["message"] for w in rule["wildcards"]), f"{name}: the message does not tell its jobs apart"


def test_every_wildcard_of_a_file_that_a_rule_writes_is_constrained() -> None:
    for name, rule in read_rules().items():
        assert [re.findall(r"\{[A-Za-z_]\w*\}", file) for file in rule["files"]] == [[]] * len(rule["files"]), name


def test_those_rules_ask_for_gpus_whose_programs_can_use_one() -> None:
    asking = {name for name, rule in read_rules().items() if {"gpu", "gpu_model", "gres"} <= set(rule["resources"])}
    found = {name: current_fingerprint(name) for name in rules()}
    using = {n for n, f in found.items() if "bert_score" in f.packages or any(p.startswith("boldscribe.models.device.") for p in f.parts)}
    assert asking == using and len(using) > 6


def test_rules_name_no_absolute_path() -> None:
    for file in [ROOT / "Snakefile", *RULE_FILES]:
        assert not re.findall(r"""["'\s=](?:~|/)\w[^"'\s]*""", re.sub(r'""".*?"""|#.*', "", file.read_text(), flags=re.S)), file.name


def loaded_by(imports: str) -> set[str]:
    """Modules that a fresh Python has after these lines."""
    command = [sys.executable, "-c", f"import sys\n{imports}\nprint(*sys.modules)"]
    return set(subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=True).stdout.split())


def test_reading_the_rules_imports_nothing_heavy() -> None:
    lines = [line for file in [ROOT / "Snakefile", *RULE_FILES] for line in re.findall(r"(?m)^(?:from|import) .+", file.read_text())]
    assert HEAVY.isdisjoint(line.split()[1].partition(".")[0] for line in lines)
    loaded = loaded_by("\n".join(line for line in lines if "boldscribe" in line))
    assert "boldscribe.config" in loaded and HEAVY.isdisjoint(loaded), HEAVY & loaded


def test_steps_that_need_no_model_do_not_wait_for_torch() -> None:
    before = ("check_dataset", "check_preprocessing", "fmriprep", "bold_series", "trials", "frames")
    steps = (*before, "quality", "tables", "report", "provenance")
    programs = [(ROOT / "workflow_scripts" / f"{name}.py").read_text() for name in steps]
    imports = [line for program in programs for line in re.findall(r"(?m)^ *(from boldscribe.*)$", program)]
    assert len(imports) > 2 * len(steps) and loaded_by("\n".join(imports)).isdisjoint(MODELS)


def test_the_full_configuration_plans_the_papers_experiment() -> None:
    done = snakemake("-n", "-q", "rules")
    assert done.returncode == 0, done.stderr
    jobs = planned_jobs(done.stdout + done.stderr)
    assert jobs["fmriprep"] == 30 + 4 and jobs["bold_series"] == 34
    assert jobs["tables"] == jobs["scores"] == jobs["pretrain_sc_mbm"] == 2
    assert (jobs["stage1"], jobs["stage2"]) == (2 * 3, 2 * 6), "the model's, on noise, untrained; and other adaptation losses"
    assert jobs["decode"] == 2 * 20
    assert sum(n for name, n in jobs.items() if name != "total") == jobs["total"] < 2000


def test_slurm_profile_is_found_by_name_from_the_root() -> None:
    done = snakemake("--profile", "slurm", "-n", "-q", "rules")
    assert done.returncode == 0, done.stderr
    assert "Using profiles slurm and workflow specific profile profiles/default" in done.stderr + done.stdout


def test_an_unknown_key_stops_the_plan() -> None:
    done = snakemake("-n", "--config", "stage1={alhpa: 0.5}")
    assert done.returncode == 1
    assert "stage1.alhpa: unknown key" in done.stderr + done.stdout


def test_an_experiment_without_test_runs_stops_the_plan() -> None:
    done = snakemake("-n", "--config", "datasets={had: {test_runs: []}}")
    assert done.returncode == 1
    assert "datasets.had.test_runs: found none" in done.stderr + done.stdout


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


def test_given_captions_need_neither_clips_nor_models(tmp_path: Path) -> None:
    table = tmp_path / "texts.tsv"
    table.write_text("stimulus\tdescription\na\tA girl jumps.\n")
    given = ", ".join(f"{name}: {{description_file: '{table}'}}" for name in ("had", "urgen"))
    target = "results/stimuli/had/train-000_captions.parquet"
    done = snakemake("-n", "-p", target, "--config", "captioner={kind: given}", f"datasets={{{given}}}")
    printed = done.stdout + done.stderr
    assert done.returncode == 0, printed
    command = re.search(r"python -m workflow_scripts\.captions [^\n]+", printed)[0]  # type: ignore[index]
    assert f"--descriptions {table}" in command and "models/" not in command and ".npy" not in command
    assert "rule fetch_model" not in printed and "rule video_features" not in printed


def test_people_are_references_of_a_second_table_beside_the_captioners(tmp_path: Path) -> None:
    table = tmp_path / "texts.tsv"
    table.write_text("stimulus\tdescription\na\tA girl jumps.\n")
    done = snakemake("-n", "-p", "--config", f"datasets={{urgen: {{description_file: '{table}'}}}}")
    printed = done.stdout + done.stderr
    assert done.returncode == 0, printed
    jobs = planned_jobs(printed)
    assert jobs["tables"] == jobs["scores"] == 3 and jobs["decode"] == 2 * 20 + 1, "human is one of Urgen's controls, and decoded once"
    commands = re.findall(r"python -m workflow_scripts\.(scores|tables|captions) ([^\n]+)", printed)
    scored = {line.split("--references")[1].split()[0]: line for name, line in commands if name == "scores" and "--dataset urgen" in line}
    assert scored.keys() == {"=", "_descriptions"}
    assert f"--descriptions {table}" in scored["_descriptions"] and "scores/urgen_descriptions_pairs.parquet" in scored["_descriptions"]
    assert "condition-human" in scored["="] and "condition-human" not in scored["_descriptions"], "one sentence of each clip: the reference"
    assert not any(str(table) in line for name, line in commands if name == "captions") and str(table) not in scored["="]


def test_training_rules_are_handed_nothing_of_target_subjects_but_unlabelled_fmri() -> None:
    for name in ("pretrain_sc_mbm", "stage1", "stage2"):
        inputs = rules()[name].split("    output:")[0]
        assert "of_validation_subjects(LABELS)" not in inputs and "test" not in inputs, name
        assert "of_validation_subjects" not in inputs and "{split}" not in inputs, name
        assert re.findall(r"tokens_(?:of|for_bridge)\(.*\"(\w+)\"\)", inputs) == (["train", "adapt"] if name == "stage2" else []), name
    assert "LABELS" not in rules()["fmri_tokens"] and "captions" not in rules()["fmri_tokens"], "fMRI is encoded without labels"
