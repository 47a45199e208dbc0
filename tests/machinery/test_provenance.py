"""Records and the ledger: what is in them, what may enter a run, and that a step cannot end without them."""

import getpass
import hashlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from boldscribe.config import Config
from boldscribe.machinery.errors import UserError
from boldscribe.machinery.files import atomic, load_array, save_array, sha256_of
from boldscribe.machinery.provenance.asset_lock import asset_lock, manifest, manifest_of
from boldscribe.machinery.provenance.audit import audit
from boldscribe.machinery.provenance.digests import digest, record_path
from boldscribe.machinery.provenance.ledger import add_entry, close, folder_of, read_ledger
from boldscribe.machinery.provenance.record import Job, record
from boldscribe.machinery.provenance.redaction import redact
from boldscribe.machinery.provenance.run_files import write_run
from tests.conftest import PATIENCE, ROOT


def make(results: Path, output: str, *inputs: str, text: str = "", rule: str = "tables", **options: Any) -> dict[str, Any]:
    """Run a small job through the recorder; gives the record of its output."""
    paths = {"x": [results / name for name in inputs]}
    with record(Job(rule, results, paths, {"y": [results / output]}, **options)):
        (results / output).parent.mkdir(parents=True, exist_ok=True)
        (results / output).write_text(text + "".join((results / name).read_text() for name in inputs))
    content: dict[str, Any] = json.loads(record_path(results / output).read_text())
    return content


def test_a_record_holds_what_was_made_from_what_by_what(tmp_path: Path) -> None:
    make(tmp_path, "a.txt", text="in")
    content = make(tmp_path, "b.txt", "a.txt", wildcards={"dataset": "had"}, settings={"seed": 1, "adaptor": {"rank": 8}})
    assert content["subject"]["path"] == "b.txt" and content["subject"]["sha256"] == hashlib.sha256(b"in").hexdigest()
    assert content["materials"]["x"] == [
        {
            "path": "a.txt",
            "sha256": hashlib.sha256(b"in").hexdigest(),
            "bytes": 2,
            "record_sha256": sha256_of(record_path(tmp_path / "a.txt")),
        }
    ]
    assert content["activity"]["rule"] == "tables" and content["activity"]["attempt"] == 1
    assert content["config"] == {"adaptor": {"rank": 8}, "seed": 1}
    assert content["randomness"]["seeds"] == [1] and content["randomness"]["class"] == "bitwise"
    assert len(content["code"]["commit"]) == 40 and len(content["code"]["fingerprint"]) == 64
    packages = json.loads((folder_of(tmp_path) / "packages" / f"{content['environment']['packages']}.json").read_text())
    assert packages["scipy"] == "1.15.3" and "torch" not in packages, "the table uses no torch"
    assert content["hardware"]["cores"] == os.cpu_count()
    [first, second] = read_ledger(tmp_path).entries
    assert second["outputs"] == [
        {"path": "b.txt", "sha256": content["subject"]["sha256"], "record_sha256": sha256_of(record_path(tmp_path / "b.txt"))}
    ]
    assert first["exit"] == second["exit"] == "completed"


def test_nothing_enters_a_run_that_nobody_vouches_for(tmp_path: Path) -> None:
    (tmp_path / "stray.txt").write_text("from nowhere")
    with pytest.raises(UserError, match=r"stray\.txt: found neither in the asset lock nor in a manifest"):
        make(tmp_path, "b.txt", "stray.txt")
    raw = tmp_path / "elsewhere" / "raw"
    raw.mkdir(parents=True)
    (raw / "bold.nii").write_text("volumes")
    (tmp_path / "fetched").mkdir()
    (tmp_path / "fetched" / "had.json").write_text(json.dumps({"manifest": manifest(raw)}))
    with record(Job("tables", tmp_path, {"x": [raw / "bold.nii"]}, {"y": [tmp_path / "c.txt"]})):
        (tmp_path / "c.txt").write_text("c")
    [material] = json.loads(record_path(tmp_path / "c.txt").read_text())["materials"]["x"]
    assert material["manifest"] == "fetched/had.json"


def test_the_asset_lock_fits_what_is_installed() -> None:
    results = ROOT / "results"
    from boldscribe.machinery.provenance.naming import path_of

    assert len(asset_lock()) >= 12
    for name, asset in asset_lock().items():
        path = path_of(name, results)
        assert path.stat().st_size == asset.bytes and sha256_of(path) == asset.sha256, name


def test_no_record_without_the_output_and_failures_are_remembered(tmp_path: Path) -> None:
    job = Job("tables", tmp_path, {}, {"x": [tmp_path / "out.txt"]}, {"dataset": "had"})
    with pytest.raises(FileNotFoundError, match=r"out\.txt"), record(job):
        pass
    with pytest.raises(ZeroDivisionError), record(job):
        (tmp_path / "out.txt").write_text(str(1 / 0))
    assert not record_path(tmp_path / "out.txt").exists()
    with record(job):
        (tmp_path / "out.txt").write_text("at last")
    assert json.loads(record_path(tmp_path / "out.txt").read_text())["activity"]["attempt"] == 3
    assert [e["exit"] for e in read_ledger(tmp_path).entries] == ["failed: FileNotFoundError", "failed: ZeroDivisionError", "completed"]


def test_an_input_that_changes_while_a_step_runs_stops_it(tmp_path: Path) -> None:
    make(tmp_path, "a.txt", text="before")
    job = Job("tables", tmp_path, {"x": [tmp_path / "a.txt"]}, {"y": [tmp_path / "b.txt"]})
    with pytest.raises(UserError, match=r"input a\.txt changed while the step ran"), record(job):
        (tmp_path / "a.txt").write_text("after")
        (tmp_path / "b.txt").write_text("made from which?")
    assert not record_path(tmp_path / "b.txt").exists()


PROGRAM = """
import sys, time
from pathlib import Path
from boldscribe.workflow import Output, program

@program("tables")
def main(config, out: Output):
    Path(sys.argv[-1] + ".started").touch()
    time.sleep(60)

main()
"""


def test_a_cancelled_job_is_in_the_ledger(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(f"paths: {{results: {tmp_path}}}\n")
    command = [sys.executable, "-c", PROGRAM, "--config", str(tmp_path / "config.yaml"), "--out", str(tmp_path / "out.txt")]
    process = subprocess.Popen(command, cwd=ROOT)
    while not (tmp_path / "out.txt.started").exists():
        assert process.poll() is None
        time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=PATIENCE) == 128 + signal.SIGTERM
    assert [e["exit"] for e in read_ledger(tmp_path).entries] == ["preempted: SIGTERM"]


def test_what_a_step_opens_without_having_declared_it_is_recorded(tmp_path: Path) -> None:
    make(tmp_path, "trials/had/sub-03_labels.parquet", text="secret")
    make(tmp_path, "trials/had/sub-01_labels.parquet", text="given")
    with record(Job("tables", tmp_path, {"x": [tmp_path / "trials/had/sub-01_labels.parquet"]}, {"y": [tmp_path / "out.txt"]})):
        (tmp_path / "out.txt").write_text((tmp_path / "trials/had/sub-03_labels.parquet").read_text())
    access = json.loads(record_path(tmp_path / "out.txt").read_text())["data_access"]
    assert access["subjects"] == ["had/sub-01", "had/sub-03"]
    assert access["labels"] == ["trials/had/sub-01_labels.parquet", "trials/had/sub-03_labels.parquet"]
    assert access["undeclared"] == ["trials/had/sub-03_labels.parquet"]


def test_nothing_private_reaches_a_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HUB_TOKEN", "canary-token-1234")
    monkeypatch.setenv("FS_LICENSE", "/opt/canary-licence/license.txt")
    home = str(Path.home())
    private = {
        "argv": ["--key=canary-token-1234", f"{home}/data/sub-01", f"/scratch/{getpass.getuser()}/x", "/opt/canary-licence/license.txt"],
        "preprocessing.freesurfer_license": "/licences/mine.txt",
        "message": f"on {socket.gethostname()}: failed",
    }
    make(tmp_path, "a.txt", wildcards={"note": "canary-token-1234"}, settings=private)
    everything = "".join(p.read_text() for p in tmp_path.rglob("*") if p.is_file())
    assert "canary" not in everything and "mine.txt" not in everything
    assert socket.gethostname() not in everything and f"{home}/data" not in everything and f"/{getpass.getuser()}/" not in everything
    assert redact({"path": f"{home}/data", "n": 3, "rooted": "unrooted"}) == {"path": "[home]/data", "n": 3, "rooted": "unrooted"}


def test_a_setting_that_was_redacted_is_not_taken_for_a_changed_one(tmp_path: Path) -> None:
    read = {"datasets.had.bids_dir": f"{Path.home()}/data/had", "preprocessing.freesurfer_license": "/licences/mine.txt"}
    change = {
        "datasets": {"had": {"bids_dir": read["datasets.had.bids_dir"]}},
        "preprocessing": {"freesurfer_license": "/licences/mine.txt"},
    }
    config = Config.model_validate(change | {"paths": {"results": str(tmp_path)}})
    make(tmp_path, "a.txt", settings=read)
    assert not [why for verdict, why in audit(tmp_path, config=config).findings["a.txt"].reasons if verdict == "stale"]
    make(tmp_path, "a.txt", settings={**read, "datasets.had.bids_dir": f"{Path.home()}/data/other"})
    assert audit(tmp_path, config=config).findings["a.txt"].verdict == "stale"


def test_an_edited_output_hands_on_that_it_is_stale_but_an_unvouched_record_hands_on_nothing(tmp_path: Path) -> None:
    config = Config.model_validate({"paths": {"results": str(tmp_path)}})

    def verdicts() -> dict[str, set[str]]:
        findings = audit(tmp_path, config=config).findings
        return {name: {v for v, _ in findings[name].reasons} - {"uncommitted", "unpinned"} for name in ("a.txt", "b.txt")}

    make(tmp_path, "a.txt", text="a", settings={"seed": 1})  # 42 today
    make(tmp_path, "b.txt", "a.txt")
    assert verdicts() == {"a.txt": {"stale"}, "b.txt": {"stale"}}
    (tmp_path / "a.txt").write_text("edited")
    assert verdicts() == {"a.txt": {"tampered", "stale"}, "b.txt": {"stale"}}
    path = record_path(tmp_path / "a.txt")
    path.write_text(path.read_text().replace('"seed": 1', '"seed": 2'))
    assert verdicts() == {"a.txt": {"tampered"}, "b.txt": set()}


def _add_many(results: Path, first: int) -> None:
    for i in range(first, first + 25):
        add_entry(results, {"rule": "r", "exit": "completed", "ended": f"2026-01-01T00:00:{i % 60:02d}", "outputs": [], "i": i})


def test_entries_of_many_jobs_at_once_all_stand_in_one_chain(tmp_path: Path) -> None:
    with ProcessPoolExecutor(8) as pool:
        list(pool.map(_add_many, [tmp_path] * 8, range(0, 200, 25)))
    assert close(tmp_path) == 200 and close(tmp_path) == 0
    ledger = read_ledger(tmp_path)
    assert sorted(e["i"] for e in ledger.entries) == list(range(200)) and not ledger.faults
    _add_many(tmp_path, 200)
    assert close(tmp_path) == 25 and len(read_ledger(tmp_path).entries) == 225


@pytest.mark.parametrize("damage", ["changed", "taken out", "swapped", "torn"])
def test_a_damaged_ledger_shows_and_is_not_written_to(tmp_path: Path, damage: str) -> None:
    _add_many(tmp_path, 0)
    close(tmp_path)
    path = folder_of(tmp_path) / "ledger.jsonl"
    lines = path.read_text().splitlines()
    if damage == "changed":
        lines[7] = lines[7].replace('"i": 7', '"i": 77')
    elif damage == "taken out":
        del lines[7]
    elif damage == "swapped":
        lines[7], lines[8] = lines[8], lines[7]
    else:
        lines[7] = lines[7][:30]
    path.write_text("\n".join(lines) + "\n")
    assert read_ledger(tmp_path).faults
    before = path.read_bytes()
    with pytest.raises(UserError, match=r"ledger\.jsonl"):
        close(tmp_path)
    assert path.read_bytes() == before


def test_raw_data_are_held_against_their_manifest(tmp_path: Path) -> None:
    raw, results = tmp_path / "raw", tmp_path / "results"
    raw.mkdir()
    (raw / "bold.nii").write_text("volumes")
    texts = tmp_path / "texts.tsv"  # a file by itself, whose neighbours are no raw data
    texts.write_text("words")
    (results / "fetched").mkdir(parents=True)
    write_run(Config.model_validate({"paths": {"results": str(results)}}), [ROOT / "config.yaml"], {"paths": {"results": str(results)}})
    with record(Job("fetch_dataset", results, {}, {"marker": [results / "fetched" / "had.json"]})):
        (results / "fetched" / "had.json").write_text(json.dumps({"manifest": manifest(raw, texts)}))
    assert manifest_of(texts, results) == results / "fetched" / "had.json"
    stat = (raw / "bold.nii").stat()
    assert [f.verdict for f in audit(results).findings.values() if f.verdict == "tampered"] == []
    (raw / "bold.nii").write_text("Volumes")
    os.utime(raw / "bold.nii", ns=(stat.st_atime_ns, stat.st_mtime_ns))
    (raw / "more.nii").write_text("x")
    for fast in (False, True):
        found = [f for f in audit(results, fast=fast).findings.values() if f.verdict == "tampered"]
        assert [Path(f.name).name for f in found] == ["bold.nii", "more.nii"]
    texts.unlink()
    found = [f for f in audit(results).findings.values() if f.verdict == "tampered"]
    assert sorted(Path(f.name).name for f in found) == ["bold.nii", "more.nii", "texts.tsv"]


def test_the_manifest_is_found_among_those_of_others_and_their_records(tmp_path: Path) -> None:
    results = tmp_path / "results"
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "bold.nii").write_text(name)
        marker = results / "fetched" / f"{name}.json"
        marker.parent.mkdir(parents=True, exist_ok=True)
        with record(Job("fetch_dataset", results, {}, {"marker": [marker]})):
            marker.write_text(json.dumps({"manifest": manifest(tmp_path / name)}))
    (results / "fetched" / ".third.1.part.json").write_text("{")
    assert manifest_of(tmp_path / "second" / "bold.nii", results) == results / "fetched" / "second.json"
    assert manifest_of(tmp_path / "elsewhere.nii", results) is None


def test_the_digest_of_a_folder_sees_content_and_names_but_not_records_or_time_stamps(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("1")
    before = digest(tmp_path)
    (tmp_path / "a.prov.json").write_text("{}")
    (tmp_path / ".snakemake_timestamp").touch()
    assert digest(tmp_path) == before
    (tmp_path / "a").rename(tmp_path / "b")
    assert digest(tmp_path)["sha256"] != before["sha256"]


def test_the_digest_of_a_file_is_its_own_and_that_of_an_array_holds_its_header(tmp_path: Path) -> None:
    import numpy as np

    (tmp_path / "a").write_text("1")
    assert digest(tmp_path / "a")["sha256"] == sha256_of(tmp_path / "a")
    save_array(tmp_path / "x.npy", np.arange(3), axes=["voxel"])
    before = digest(tmp_path / "x.npy")
    save_array(tmp_path / "x.npy", np.arange(3), axes=["volume"])
    assert digest(tmp_path / "x.npy")["sha256"] != before["sha256"]
    believed = digest(tmp_path / "x.npy", [{**f, "sha256": "believed"} for f in digest(tmp_path / "x.npy")["files"]])
    assert {f["sha256"] for f in believed["files"]} == {"believed"}, "unchanged files are not read again"


def test_a_program_shows_a_users_mistake_without_traceback(tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    config.write_text("sed: 1")
    command = [sys.executable, "-m", "workflow_scripts.tables", "--config", str(config), "--dataset", "had", "--references="]
    command += ["--scores", "none.parquet"]
    command += [part for name in ("csv", "md", "tex", "differences", "tests", "left-out") for part in (f"--{name}", str(tmp_path / name))]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 1
    assert done.stderr.strip() == f"error: {config}: sed: unknown key; check its spelling against `boldscribe config`"


def test_a_writer_that_fails_leaves_the_old_file_and_no_part(tmp_path: Path) -> None:
    target = tmp_path / "x.txt"
    target.write_text("old")
    with pytest.raises(ZeroDivisionError), atomic(target) as part:
        part.write_text(str(1 / 0))
    assert target.read_text() == "old" and [p.name for p in tmp_path.iterdir()] == ["x.txt"]


def test_a_truncated_array_is_named(tmp_path: Path) -> None:
    import numpy as np

    path = tmp_path / "x.npy"
    save_array(path, np.arange(1000, dtype=np.float32), axes=["voxel"])
    array, header = load_array(path)
    assert array[-1] == 999 and header["axes"] == ["voxel"]
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(UserError, match=r"x\.npy: cannot be read"):
        load_array(path)
