"""The exported crate: valid by the profile without network, true to the files, the same each time, and free of private values."""

import json
import re
import shutil
import socket
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest

from boldscribe.machinery.errors import UserError
from boldscribe.machinery.files import save_array, sha256_of
from boldscribe.machinery.provenance.crate import write_crate
from boldscribe.machinery.provenance.record import Job, record
from boldscribe.machinery.provenance.statement import statement
from boldscribe.machinery.provenance.tree import read_tree
from tests.crate_validation import issues

ASSET = "all-minilm-l6-v2/config.json"
GPU = {"model": "Test GPU", "memory_gib": 80.0, "driver": "1.2", "cuda": "12.8", "uuid_sha256": "0123456789ab"}


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tree of three jobs: a folder, an array made from it and from an asset, and a table made from that."""
    from boldscribe.machinery.provenance.asset_lock import asset_lock
    from boldscribe.machinery.provenance.naming import path_of

    root = tmp_path_factory.mktemp("run") / "results"
    raw, series, table, report = root / "raw/had/sub-01", root / "bold/had/sub-01_bold.npy", root / "tables/had.csv", root / "report.html"
    asset = next(path_of(a.path, root) for a in asset_lock().values() if a.id == ASSET)
    subject = {"dataset": "had", "subject": "01"}
    raw.parent.mkdir(parents=True)
    with record(Job("simulate_subject", root, {}, {"subject": [raw]}, subject, {"seed": 1, "simulation.snr": 0.5})):
        raw.mkdir()
        (raw / "a.txt").write_text("a")
        (raw / "b.txt").write_text("b")
    private = {"seed": 1, "paths.cache": str(Path.home() / "cache"), "preprocessing.freesurfer_license": "/secret/license.txt"}
    inputs = {"raw": [raw], "model": [asset]}
    container: dict[str, str | None] = {"image": "nipreps/fmriprep:25.2.7", "digest": "sha256:" + "c" * 64}
    with record(Job("bold_series", root, inputs, {"series": [series]}, subject, private, container)):
        save_array(series, np.zeros((2, 3), np.float16))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "boldscribe.machinery.provenance.record.hardware",
            lambda: {"cpu": "c", "cores": 2, "memory_gib": 1, "machine": "", "gpu": [GPU]},
        )
        outputs = {"csv": [table], "html": [report]}
        with record(Job("tables", root, {"scores": [series]}, outputs, {"dataset": "had"}, {"evaluation.metrics": ["a", "b"]})):
            table.parent.mkdir()
            table.write_text("row,value\nTotal,1\n")
            report.write_text("<html></html>")
    (root / "run.json").write_text("{}")
    (root / "config.yaml").write_text(f"seed: 1\ncache: {Path.home()}/cache\n")
    return root


@pytest.fixture(scope="module")
def crate(results: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_crate(results, tmp_path_factory.mktemp("export") / "crate")


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: Any) -> None:
        raise AssertionError(f"network asked for {arguments}")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)


@pytest.mark.usefixtures("no_network")
def test_the_validator_finds_nothing_in_the_crate_and_something_in_a_damaged_one(crate: Path, tmp_path: Path) -> None:
    assert issues(crate, tmp_path) == []
    damaged = tmp_path / "damaged"
    shutil.copytree(crate, damaged)
    metadata = damaged / "ro-crate-metadata.json"
    metadata.write_text(metadata.read_text().replace('"workExample"', '"sameAs"'))
    (damaged / "tables/had.csv").unlink()
    found = " ".join(issues(damaged, tmp_path))
    assert "A HowToStep must refer to its corresponding tool via workExample" in found
    assert "does not include the Data Entity 'tables/had.csv'" in found


def test_the_crate_says_what_each_job_read_and_made(crate: Path, results: Path) -> None:
    entities = {e["@id"]: e for e in json.loads((crate / "ro-crate-metadata.json").read_text())["@graph"]}
    parts = {part["@id"] for part in entities["./"]["hasPart"]}
    assert {e["@id"] for e in entities.values() if "File" in e["@type"] and not e["@id"].startswith("#")} == parts
    assert all(entities[name]["sha256"] == sha256_of(crate / name) for name in parts)
    besides = {"ro-crate-metadata.json", "ro-crate-preview.html"}
    assert {p.relative_to(crate).as_posix() for p in crate.rglob("*") if p.is_file()} == parts | besides
    assert parts > {"tables/had.csv", "report.html", "config.yaml", "Snakefile", "workflow_scripts/tables.py", "rules/report.smk"}

    jobs = {e["name"]: e for e in entities.values() if e["@id"].startswith("#job/")}
    assert list(jobs) == ["simulate_subject dataset=had subject=01", "bold_series dataset=had subject=01", "tables dataset=had"]
    _, second, third = jobs.values()
    array = entities["#data/bold/had/sub-01_bold.npy"]
    assert second["result"] == {"@id": array["@id"]} and {"@id": array["@id"]} in third["object"]
    assert {r["@id"] for r in third["result"]} == {"report.html", "tables/had.csv"}
    files = {entities[part["@id"]]["name"]: entities[part["@id"]]["sha256"] for part in array["hasPart"]}
    assert files == {n: sha256_of(results / "bold/had" / n) for n in ("sub-01_bold.json", "sub-01_bold.npy")}
    read = [entities[r["@id"]] for r in second["object"]]
    assert next(e for e in read if e.get("identifier") == ASSET)["license"] == "Apache-2.0"
    assert {e["name"]: e["value"] for e in read if e["@type"] == "PropertyValue"} == {
        "dataset": "had",
        "subject": "01",
        "seed": 1,
        "paths.cache": "[home]/cache",
        "preprocessing.freesurfer_license": "[licence]",
    }
    assert entities[second["containerImage"]["@id"]]["sha256"] == "c" * 64
    assert {entities[r["@id"]]["value"] for r in third["resourceUsage"]} == {"Test GPU", 80.0, "1.2", "12.8"}
    ended = max(datetime.fromisoformat(json.loads(p.read_text())["activity"]["ended"]) for p in results.rglob("*.prov.json"))
    assert entities["./"]["datePublished"] == ended.astimezone(UTC).isoformat(timespec="milliseconds")
    linked = {target["@id"] for e in entities.values() for target in _links(e)}
    assert {i for i in linked if not i.startswith("http")} <= set(entities), "a link leads nowhere"


def _links(content: Any) -> list[dict[str, str]]:
    values = content if isinstance(content, list) else [v for k, v in content.items() if k != "@id"] if isinstance(content, dict) else []
    here = [v for v in values if isinstance(v, dict) and set(v) == {"@id"}]
    return here + [link for v in values if isinstance(v, list) for link in _links(v)]


def test_two_exports_have_the_same_bytes_and_nothing_private(crate: Path, results: Path, tmp_path: Path) -> None:
    again = write_crate(results, tmp_path / "new" / "again")
    contents = [{p.relative_to(c).as_posix(): p.read_bytes() for p in c.rglob("*") if p.is_file()} for c in (crate, again)]
    assert contents[0] == contents[1] and len(contents[0]) > 10
    private = (str(Path.home()), socket.gethostname(), str(results.parent), "/secret")
    words = [re.compile(rf"(?<![\w.-]){re.escape(p)}(?![\w-])".encode()) for p in private]
    assert not [(name, word) for name, content in contents[0].items() for word in words if word.search(content)]
    assert "http" not in re.sub(r"<style>.*</style>", "", (crate / "ro-crate-preview.html").read_text()), "the preview needs a network"


def test_a_statement_has_the_form_of_in_toto_and_slsa(crate: Path, results: Path) -> None:
    content = json.loads((crate / "statements/had.intoto.json").read_text())
    assert content == statement(read_tree(results), "tables/had.csv")
    assert set(content) == {"_type", "subject", "predicateType", "predicate"}
    assert (content["_type"], content["predicateType"]) == ("https://in-toto.io/Statement/v1", "https://slsa.dev/provenance/v1")
    assert content["subject"] == [{"name": "tables/had.csv", "digest": {"sha256": sha256_of(results / "tables/had.csv")}}]

    predicate = content["predicate"]
    definition, details = predicate["buildDefinition"], predicate["runDetails"]
    assert set(predicate) == {"buildDefinition", "runDetails"}
    assert set(definition) == {"buildType", "externalParameters", "internalParameters", "resolvedDependencies"}
    assert set(details) == {"builder", "metadata", "byproducts"} and set(details["metadata"]) == {"invocationId", "startedOn", "finishedOn"}
    assert all(urlsplit(uri).scheme for uri in (definition["buildType"], details["builder"]["id"]))
    moments = [details["metadata"][name] for name in ("startedOn", "finishedOn")]
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", moment) for moment in moments) and moments[0] <= moments[1]
    assert definition["externalParameters"] == {
        "rule": "tables",
        "wildcards": {"dataset": "had"},
        "config": {"evaluation.metrics": ["a", "b"]},
    }
    described = definition["resolvedDependencies"] + details["byproducts"]
    fields = {"name", "uri", "digest", "content", "downloadLocation", "mediaType", "annotations"}
    assert all(set(d) <= fields and ({"uri", "digest"} & set(d)) for d in described)
    assert all(urlsplit(d["uri"]).scheme for d in described if "uri" in d)
    lengths = {"sha256": 64, "gitCommit": 40}
    assert all(re.fullmatch(rf"[0-9a-f]{{{lengths[a]}}}", v) for d in described for a, v in d.get("digest", {}).items())

    record_of = json.loads((results / "tables/had.csv.prov.json").read_text())
    names = {d.get("name"): d.get("digest") for d in described}
    assert names["bold/had/sub-01_bold.npy"] == {"sha256": record_of["materials"]["scores"][0]["sha256"]}
    assert names["code"] == {"gitCommit": record_of["code"]["commit"]}
    assert names["report.html"] == {"sha256": sha256_of(results / "report.html")}
    assert names["tables/had.csv.prov.json"] == {"sha256": sha256_of(results / "tables/had.csv.prov.json")}


def test_mistakes_are_named_and_leave_nothing_behind(results: Path, tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    with pytest.raises(UserError, match="there: already exists"):
        write_crate(results, tmp_path / "there")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="found no record"):
        write_crate(tmp_path / "empty", tmp_path / "crate")
    changed = tmp_path / "changed"
    shutil.copytree(results, changed)
    (changed / "tables/had.csv").write_text("row,value\nTotal,2\n")
    with pytest.raises(UserError, match=r"had\.csv: does not match its record"):
        write_crate(changed, tmp_path / "crate")
    with pytest.raises(UserError, match="found no readable record of it"):
        statement(read_tree(results), "tables/none.csv")
    assert {p.name for p in tmp_path.iterdir()} == {"there", "empty", "changed"}
