"""No step reaches the network: by real sockets, in real steps, each in a process of its own; and what is missing is named beforehand."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from boldscribe.cli import main
from boldscribe.config import Config
from boldscribe.fetching.missing import check_assets, missing
from boldscribe.machinery.errors import UserError
from tests.conftest import PATIENCE, ROOT

NODE = os.uname().nodename
STEP = """
import socket, subprocess, sys, urllib.request
import requests
IMPORTS
from boldscribe.machinery.processes import in_processes
from boldscribe.workflow import Inputs, Output, program

def look_up(host):
    return socket.getaddrinfo(host, 443)

@program("scores", network=NETWORK)
def main(config, dataset: str, subject: str, models: Inputs, scores: Output):
    ATTEMPT
    scores.write_text("done")

if __name__ == "__main__":
    main()
"""
HUB = "https://huggingface.example"
CHILD = "subprocess.run({command!r}, check=True)"
LOOPBACK = """
    import http.server, threading, torch.distributed
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), http.server.SimpleHTTPRequestHandler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://localhost:{server.server_port}/"
    assert requests.get(address).ok
    subprocess.run([sys.executable, "-c", f"import urllib.request; urllib.request.urlopen({address!r})"], check=True)
    torch.distributed.init_process_group("gloo", init_method="tcp://127.0.0.1:0", rank=0, world_size=1)
    torch.distributed.barrier()
"""


def step(folder: Path, attempt: str, *, network: bool = False, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a step of the rule `scores` that reads the model bertscore_encoder, and makes an attempt."""
    program = folder / "step.py"
    imports = "from huggingface_hub import hf_hub_download" if "hf_hub" in attempt else ""  # before the step is cut off, as in real ones
    program.write_text(STEP.replace("ATTEMPT", attempt.strip()).replace("NETWORK", str(network)).replace("IMPORTS", imports))
    evaluation = {"bertscore_model": str(folder / "roberta-large"), "bertscore_baseline": None, "sentence_encoder": "embedded"}
    config = {"paths": {"results": str(folder / "results")}, "evaluation": evaluation}
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    model = folder / "results" / "models" / "bertscore_encoder"
    model.mkdir(parents=True)
    model.with_name("bertscore_encoder.prov.json").write_text("{}")
    return subprocess.run(
        [sys.executable, str(program), "--config", str(folder / "config.yaml"), "--dataset", "had", "--subject", "05",
         "--models", str(model), "--scores", str(folder / "results" / "scores.txt")],
        capture_output=True, text=True, cwd=ROOT, check=False, timeout=PATIENCE,
        env={**os.environ, "PYTHONPATH": str(ROOT), "HF_ENDPOINT": HUB, "HF_HUB_OFFLINE": "", "BOLDSCRIBE_OFFLINE": "", **environment},
    )  # fmt: skip


def told(host: str, folder: Path) -> str:
    """What must be said: job, machine, host, what is missing, and the command."""
    return (
        rf"scores had sub-05 on {NODE}: found an attempt to reach {host}.* over the network, .*"
        rf"evaluation\.bertscore_model: found no {folder}/roberta-large; "
        rf"run `boldscribe fetch weights --asset bertscore_encoder --config {folder}/config\.yaml` on a login node"
    )


@pytest.mark.parametrize(
    "host, attempt, environment",
    [
        (r"huggingface\.example", f"urllib.request.urlopen('{HUB}/model')", {}),
        (r"huggingface\.example", f"requests.get('{HUB}/model')", {}),
        (r"huggingface\.example", "hf_hub_download('FacebookAI/roberta-large', 'config.json')", {}),
        ("huggingface.co, the model hub,", "hf_hub_download('FacebookAI/roberta-large', 'config.json')", {"HF_HUB_OFFLINE": "1"}),
        (r"192\.0\.2\.1", "socket.create_connection(('192.0.2.1', 9), timeout=5)", {}),
    ],
    ids=["urllib", "requests", "hub", "hub told to be offline", "socket"],
)
def test_python_of_a_step_is_stopped(host: str, attempt: str, environment: dict[str, str], tmp_path: Path) -> None:
    done = step(tmp_path, attempt, **environment)
    error = done.stderr.splitlines()[-1]
    assert done.returncode == 1 and re.match("error: " + told(host, tmp_path), error), done.stderr
    assert "Traceback" not in done.stderr and not (tmp_path / "results" / "scores.txt").exists()
    ledger = "".join(p.read_text() for p in (tmp_path / "results" / "ledger" / "new").iterdir())
    assert "failed: UserError" in ledger, "the user's mistake, which is not retried"


@pytest.mark.parametrize(
    "command",
    [
        ["curl", "-sS", f"{HUB}/model"],
        ["curl", "-sS", "http://huggingface.example/model"],
        ["git", "ls-remote", f"{HUB}/model"],
        [sys.executable, "-c", f"import urllib.request; urllib.request.urlopen('{HUB}/model')"],
    ],
    ids=["curl https", "curl http", "git", "python"],
)
def test_programs_that_a_step_starts_are_refused(command: list[str], tmp_path: Path) -> None:
    """They fail by themselves; the step says whom they asked for. A plain request gets no text that could be taken for a file."""
    done = step(tmp_path, CHILD.format(command=command), HTTPS_PROXY="http://proxy.example:3128", NO_PROXY="huggingface.example")
    assert done.returncode == 1 and re.match("error: " + told(r"huggingface\.example", tmp_path), done.stderr.splitlines()[-1]), done.stderr
    assert done.stdout == ""


def test_worker_processes_of_a_step_are_stopped(tmp_path: Path) -> None:
    done = step(tmp_path, "list(in_processes(look_up, ['a.example', 'b.example'], 2, 'hosts'))")
    assert done.returncode == 1, done.stderr
    assert re.search(rf"^error: scores had sub-05 on {NODE}: found an attempt to reach [ab]\.example", done.stderr, re.M), done.stderr


def test_loopback_stays_free(tmp_path: Path) -> None:
    """Servers of this machine, for the step and its children, and processes that train together."""
    done = step(tmp_path, LOOPBACK)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "results" / "scores.txt").read_text() == "done"


def test_an_attempt_that_a_library_hides_is_told(tmp_path: Path) -> None:
    hidden = f"subprocess.run(['curl', '-s', '{HUB}'])\n    "
    done = step(tmp_path, hidden + "pass")
    assert done.returncode == 0 and re.search("completed, but: " + told(r"huggingface\.example", tmp_path), done.stderr), done.stderr


def test_steps_that_fetch_are_stopped_by_the_switch_alone(tmp_path: Path) -> None:
    probe = "probe = socket.socket(); probe.setblocking(False); probe.connect_ex(('192.0.2.1', 9))"
    for name, offline, code in (("on", "", 0), ("off", "1", 1)):
        (tmp_path / name).mkdir()
        done = step(tmp_path / name, probe, network=True, BOLDSCRIBE_OFFLINE=offline)
        assert done.returncode == code, done.stderr
    assert re.search(told(r"192\.0\.2\.1", tmp_path / "off"), done.stderr)


def test_all_that_is_missing_is_named_at_once(tmp_path: Path) -> None:
    """By a command, and before a run starts: of what its jobs read, with a command for each; what is there is not named."""
    for name in ("llm", "visual_encoder"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "model.safetensors").write_text("")
    places = {
        "datasets": {"urgen": None, "had": {"bids_dir": str(tmp_path / "had")}},
        "video_llama": {"llm": str(tmp_path / "llm"), "visual_encoder": str(tmp_path / "visual_encoder"), "connectors": "embedded"},
        "evaluation": {"bertscore_model": str(tmp_path / "roberta"), "sentence_encoder": str(tmp_path / "minilm")}
        | {"bertscore_baseline": None},
        "preprocessing": {"templateflow_home": str(tmp_path / "templateflow"), "fmriprep_sif": str(tmp_path / "fmriprep.sif")},
    }  # fmt: skip
    own = tmp_path / "own.yaml"
    own.write_text(yaml.safe_dump(places))
    answer = CliRunner().invoke(main, ["fetch", "missing", "--config", str(ROOT / "config.yaml"), "--config", str(own)])
    options = f" --config {ROOT}/config.yaml --config {own}"
    assert answer.exit_code == 1
    assert [re.findall(r"^(\S+): .*`(.*)`", line)[0] for line in answer.output.splitlines()] == [
        ("datasets.had", f"boldscribe fetch data had{options}"),
        ("evaluation.bertscore_model", f"boldscribe fetch weights --asset bertscore_encoder{options}"),
        ("evaluation.sentence_encoder", f"boldscribe fetch weights --asset sentence_encoder{options}"),
        ("preprocessing.templateflow_home", f"boldscribe fetch templates{options}"),
        ("preprocessing.fmriprep_sif", f"boldscribe fetch containers{options}"),
    ]

    config = Config.load(ROOT / "config.yaml", own)
    jobs = [("fetch_model", {"asset": asset}) for asset in ("llm", "sentence_encoder", "bertscore_encoder")]
    jobs += [("fetch_dataset", {"dataset": "had"}), ("scores", {"dataset": "had", "subject": "01"}), ("all", {})]
    with pytest.raises(UserError) as error:
        check_assets(config, jobs, options)
    assert [p.partition(":")[0] for p in error.value.problems] == [
        "evaluation.bertscore_model", "evaluation.sentence_encoder", "nothing was started"
    ], "the data set's job fetches by itself, and no job here reads templates or an image"  # fmt: skip
    check_assets(config, [("fetch_model", {"asset": "llm"}), ("fmriprep", {"dataset": "had", "subject": "01"})], options)


def test_data_are_missing_where_no_job_may_fetch_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own.yaml").write_text(yaml.safe_dump({"datasets": {"had": {"bids_dir": str(tmp_path / "had")}}}))
    config = Config.load(ROOT / "config.yaml", tmp_path / "own.yaml")
    assert "datasets.had" in {one.key for one in missing(config)}
    monkeypatch.setenv("BOLDSCRIBE_OFFLINE", "1")
    with pytest.raises(UserError, match=r"datasets\.had: found [\d,]+ of [\d,]+ files missing in .*`boldscribe fetch data had`"):
        check_assets(config, [("fetch_dataset", {"dataset": "had"})], "")


def test_a_run_without_its_assets_stops_before_its_first_job(tmp_path: Path) -> None:
    results = tmp_path / "results"
    done = subprocess.run(
        [sys.executable, "-m", "snakemake", "--nolock", "--cores", "1", "--config", f"paths={{results: {results}}}"],
        capture_output=True, text=True, cwd=ROOT, check=False, timeout=PATIENCE,
    )  # fmt: skip
    said = done.stdout + done.stderr
    assert done.returncode == 1
    for asset in ("bertscore_encoder", "sentence_encoder", "video_llama_source"):
        assert f"boldscribe fetch weights --asset {asset} --config {results}/config.yaml" in said, said[-3000:]
    assert "nothing was started" in said and not (results / "logs").exists()
