"""Where what is fetched is known from: a data set's git repository, the manifests that come with the code, git-annex."""

import base64
import hashlib
import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from boldscribe.cli import main
from boldscribe.config import Config
from boldscribe.fetching.datasets import complete_dataset, select
from boldscribe.machinery.download.annex import annex_get
from boldscribe.machinery.download.manifest import Entry, Manifest, read_manifest, write_manifest
from boldscribe.machinery.download.openneuro import build_manifest
from boldscribe.machinery.errors import UserError
from tests.file_server import FileServer
from tests.machinery.test_fetching import BOLD, FILES, SOURCE, entry, present

MANIFESTS = Path(__file__).parents[2] / "data" / "manifests"
STORE, OLD_STORE, OTHER = "11111111-1111", "22222222-2222", "33333333-3333"


def git(folder: Path, *arguments: str, stdin: str | None = None) -> str:
    who = {f"GIT_{role}_{what}": "x@y" for role in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    return subprocess.run(
        ["git", "-C", str(folder), *arguments], input=stdin, capture_output=True, text=True, check=True, env={**os.environ, **who}
    ).stdout.strip()


def version(time: int, store: str, *values: str) -> str:
    return f"{time}.5s {store}:V {' '.join(values)}\n"


@pytest.fixture
def repository(tmp_path) -> Path:
    """A data set of two versions as OpenNeuro keeps it: a linked, a pointed-to and a spaced large file, and small ones in git."""
    folder = tmp_path / "ds000000"
    folder.mkdir()
    git(folder, "init", "-q", "-b", "main")
    sha256, md5 = hashlib.sha256(b"bold").hexdigest(), hashlib.md5(b"clip").hexdigest()
    linked, pointed = f"SHA256E-s4--{sha256}.nii.gz", f"MD5E-s4--{md5}.mp4"
    (folder / "sub-01").mkdir()
    (folder / "sub-01" / "bold.nii.gz").symlink_to(f"../.git/annex/objects/aa/bb/{linked}/{linked}")
    (folder / "stimuli").mkdir()
    (folder / "stimuli" / "a clip.mp4").write_text(f"/annex/objects/{pointed}\n")
    (folder / "dataset_description.json").write_text('{"Name": "Tiny", "License": "CC0"}')
    (folder / "events.tsv").write_text("old")
    git(folder, "add", "-A")
    git(folder, "commit", "-q", "-m", "one")
    git(folder, "tag", "1.0.0")
    old = git(folder, "rev-parse", "HEAD:events.tsv")
    (folder / "events.tsv").write_text("new")
    git(folder, "commit", "-q", "-a", "-m", "two")
    git(folder, "tag", "1.1.0")
    spaced = base64.b64encode(b"VIDEO#ds000000/stimuli/a clip.mp4").decode()
    url = "publicurl=https://store.example/bucket fileprefix=ds000000/ type=S3"
    logs = {
        "remote.log": f"{OLD_STORE} {url} timestamp=5.0s\n{STORE} {url} timestamp=9.0s\n"
        f"{OTHER} publicurl=https://other.example type=S3 timestamp=7s\n{OTHER} type=git timestamp=99s\n",
        # the newest version counts, of the same content at the same path, in the same store; a minus takes one back
        f"aaa/bbb/{linked}.log.rmet": version(7, STORE, "-GONE#ds000000/sub-01/bold.nii.gz")
        + version(6, STORE, "+NEW#ds000000/sub-01/bold.nii.gz", "+COPY#ds000000/elsewhere.nii.gz")
        + version(5, STORE, "+OLD#ds000000/sub-01/bold.nii.gz")
        + version(9, OTHER, "+FALSE#ds000000/sub-01/bold.nii.gz"),
        f"ccc/ddd/{pointed}.log.rmet": version(5, OLD_STORE, f"+!{spaced}"),
        f"eee/fff/GIT--{old}.log.rmet": version(5, STORE, "+EVENTS#ds000000/events.tsv"),
        f"aaa/bbb/{linked}.log": "1s 1 here\n",
    }
    git(folder, "checkout", "-q", "--orphan", "git-annex")
    git(folder, "rm", "-rfq", ".")
    for path, content in logs.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(content)
    git(folder, "add", "-A")
    git(folder, "commit", "-q", "-m", "logs")
    return folder


def test_manifest_of_a_repository(repository, tmp_path):
    """Sizes, digests and versions of each file, at a tag; the version belongs to the content, not to the path alone."""
    made = build_manifest(repository, "1.0.0", git_url="git@github.com:OpenNeuroDatasets/ds000000.git")
    description = b'{"Name": "Tiny", "License": "CC0"}'
    bold, clip = hashlib.sha256(b"bold").digest(), hashlib.md5(b"clip").digest()
    assert made.files == (
        Entry("dataset_description.json", len(description), hashlib.sha256(description).digest(), None, True),
        Entry("events.tsv", 3, hashlib.sha256(b"old").digest(), "EVENTS", True),
        Entry("stimuli/a clip.mp4", 4, clip, "VIDEO"),
        Entry("sub-01/bold.nii.gz", 4, bold, "NEW"),
    )
    commit = git(repository, "rev-parse", "1.0.0")
    assert {k: made.source[k] for k in ("accession", "version", "commit", "licence", "name")} == {
        "accession": "ds000000", "version": "1.0.0", "commit": commit, "licence": "CC0", "name": "Tiny",
    }  # fmt: skip
    assert [made.url(e) for e in made.files] == [
        f"https://raw.githubusercontent.com/OpenNeuroDatasets/ds000000/{commit}/dataset_description.json",
        "https://store.example/bucket/ds000000/events.tsv?versionId=EVENTS",
        "https://store.example/bucket/ds000000/stimuli/a%20clip.mp4?versionId=VIDEO",
        "https://store.example/bucket/ds000000/sub-01/bold.nii.gz?versionId=NEW",
    ]
    later = {e.path: e for e in build_manifest(repository, "1.1.0").files}
    assert later["events.tsv"] == Entry("events.tsv", 3, hashlib.sha256(b"new").digest(), None, True)
    out = tmp_path / "m.parquet"
    answer = CliRunner().invoke(main, ["fetch", "manifest", str(repository), "--tag", "1.0.0", "--out", str(out), "--only", "sub-*"])
    assert answer.exit_code == 0, answer.output
    assert [e.path for e in read_manifest(out).files] == ["sub-01/bold.nii.gz"]


def test_links_in_the_tree_are_followed_and_an_odd_file_alone_is_left_out(repository, tmp_path):
    git(repository, "checkout", "-q", "main")
    links = {
        "task-x_bold.json": "events.tsv",  # to a file in git
        "sub-02": "sub-01",  # to a folder
        "sub-03/bold.nii.gz": "../sub-02/bold.nii.gz",  # through it, to a large file
        "round.json": "round.json",
        "out.json": "../elsewhere.json",
        "absolute.json": "/etc/passwd",
        "none.json": "no/such.json",
        "sub-01/inside": "..",
        "sub-01/out": "../../elsewhere",
        "stimuli/b.mp4": "../.git/annex/objects/aa/bb/URL--http&c%%x/URL--http&c%%x",
    }
    for path, target in links.items():
        (repository / path).parent.mkdir(exist_ok=True)
        (repository / path).symlink_to(target)
    git(repository, "add", "-A")
    git(repository, "commit", "-q", "-m", "links")
    made = build_manifest(repository, "main", git_url="https://github.com/x/ds000000")
    files = {entry.path: entry for entry in made.files}
    for path in ("sub-02/bold.nii.gz", "sub-03/bold.nii.gz"):
        assert files[path] == Entry(path, 4, hashlib.sha256(b"bold").digest(), "NEW", False, "sub-01/bold.nii.gz")
        assert made.url(files[path]) == "https://store.example/bucket/ds000000/sub-01/bold.nii.gz?versionId=NEW"
    followed = files["task-x_bold.json"]
    assert (followed.size, followed.digest) == (3, hashlib.sha256(b"new").digest())
    assert made.url(followed).endswith("/events.tsv")
    assert made.left_out == {
        "absolute.json": "a link to /etc/passwd, which leads out of the tree",
        "none.json": "a link to no/such.json, which is not in the tree",
        "out.json": "a link to ../elsewhere.json, which leads out of the tree",
        "round.json": "a link to round.json, which leads in circles",
        "stimuli/b.mp4": "its key has no size, or neither SHA-256 nor MD5, so that it cannot be verified",
        "sub-01/inside": "a link to .., a folder that contains the link",
        "sub-01/out": "a link to ../../elsewhere, which leads out of the tree",
    }
    out = tmp_path / "m.parquet"
    write_manifest(made, out)
    assert read_manifest(out).files == made.files
    answer = CliRunner().invoke(main, ["fetch", "manifest", str(repository), "--tag", "main", "--out", str(out)])
    assert answer.exit_code == 0 and "left out: out.json: a link to ../elsewhere.json" in answer.output


def test_no_repository(repository, tmp_path):
    for clone, tag, message in ((tmp_path, "1.0.0", "found no commit '1.0.0'"), (repository, "9.9.9", "found no commit '9.9.9'")):
        with pytest.raises(UserError, match=message):
            build_manifest(clone, tag)
    git(repository, "rm", "-q", "remote.log")
    git(repository, "commit", "-q", "-m", "no store")
    with pytest.raises(UserError, match="found no public S3 store in the branch git-annex"):
        build_manifest(repository, "1.0.0")
    made = build_manifest(repository, "1.0.0", base_url="https://mirror.example/x")
    assert made.source["accession"] == "ds000000"
    assert [made.url(e) for e in made.files if not e.in_git][-1] == "https://mirror.example/x/sub-01/bold.nii.gz"
    git(repository, "branch", "-m", "git-annex", "other")
    with pytest.raises(UserError, match="git fetch origin git-annex:git-annex"):
        build_manifest(repository, "1.0.0")


def test_manifest_of_had():
    """The committed manifest is the whole tree of ds004488 1.1.1, with the sizes that were measured on it."""
    had = read_manifest(MANIFESTS / "ds004488-1.1.1.parquet")
    assert had.source["commit"] == "583387cec747b448543f3409daafad9cee7e36fc"
    assert had.source["licence"] == "CC0"
    assert Counter(e.part for e in had.files) == {"stimuli": 21600, "derivatives": 2952, "raw": 1395}
    sizes = Counter()
    for e in had.files:
        sizes[e.part, e.path.rpartition("_")[2]] += e.size
    assert round(sizes["raw", "bold.nii.gz"] / 1e9, 1) == 51.4
    assert round(sizes["stimuli", "1.mp4"] / 1e9, 2) == 2.16
    assert {e.algorithm for e in had.files} == {"sha256"}
    assert len({e.path for e in had.files}) == len(had.files) == 25947
    # no large file is without its version; events, which changed between versions, come from git where the store does not say which
    assert {e.in_git for e in had.files if e.version_id is None} == {True}
    runs = Counter(e.subject for e in had.files if e.part == "raw" and e.path.endswith("_bold.nii.gz"))
    assert runs == {f"{i:02d}": 12 for i in range(1, 31)}
    one = had.selected(("raw",), ["01"])
    assert len(one) == 46 + 7  # and the seven files of the root that are data
    assert {e.subject for e in one} == {"01", None}
    with pytest.raises(UserError, match="found 31, expected some of 01, 02"):
        had.selected(subjects=["31"])


def test_manifest_of_hads_transforms():
    """What raw BOLD is brought to the template with: of each run and subject, at one version each."""
    ready = read_manifest(MANIFESTS / "ds004488-fmriprep-23.2.0.parquet")
    assert ready.source["commit"] == "c64ac78b08dbdee61bed662afa437f8e16aabc27"
    assert len(ready.files) == 4261 and all(e.version_id for e in ready.files)
    endings = {
        "from-orig_to-boldref_mode-image_desc-hmc_xfm.txt": 12,
        "from-boldref_to-T1w_mode-image_desc-coreg_xfm.txt": 12,
        "desc-coreg_boldref.nii.gz": 12,
        "from-T1w_to-MNI152NLin2009cAsym_mode-image_xfm.h5": 1,
    }
    for ending, count in endings.items():
        assert Counter(e.subject for e in ready.files if e.path.endswith(ending)) == {f"{i:02d}": count for i in range(1, 31)}, ending


@pytest.fixture
def configured(tmp_path):
    """A configuration whose data set is the tiny one, with a server that has it."""
    with FileServer(dict(FILES)).running() as server:
        manifest = Manifest(
            {**SOURCE, "base_url": server.url, "git_url": str(tmp_path / "origin")}, tuple(entry(p, c) for p, c in sorted(FILES.items()))
        )
        write_manifest(manifest, tmp_path / "tiny.parquet")
        data = {"bids_dir": str(tmp_path / "tiny"), "manifest": str(tmp_path / "tiny.parquet"), "train_subjects": ["01"], "task": "a"}
        (tmp_path / "config.yaml").write_text(yaml.safe_dump({"datasets": {"tiny": data}, "paths": {"results": str(tmp_path / "results")}}))
        yield tmp_path, server


def test_commands(configured):
    """What is configured is fetched: the subjects, and not the derivatives; the licence and the amount are said before."""
    folder, server = configured
    command = ["fetch", "data", "tiny", "--config", str(folder / "config.yaml")]
    answer = CliRunner().invoke(main, [*command, "--dry-run"])
    assert answer.exit_code == 0, answer.output
    assert "Tiny; licence: CC0" in answer.output and "to fetch: 6 files, 0.3 MB" in answer.output
    assert not (folder / "tiny").exists() and not server.requests
    assert CliRunner().invoke(main, command).exit_code == 0
    of_others = {p for p in FILES if p.startswith(("derivatives", "sub-02"))}
    assert present(folder / "tiny") == {p: c for p, c in FILES.items() if p not in of_others}
    assert CliRunner().invoke(main, [*command, "--subjects", "sub-02", "--derivatives"]).exit_code == 0
    assert present(folder / "tiny") == {p: c for p, c in FILES.items() if not p.startswith("derivatives")}
    answer = CliRunner().invoke(main, ["fetch", "files", str(folder / "tiny.parquet"), str(folder / "all")])
    assert answer.exit_code == 0, answer.output
    assert present(folder / "all") == FILES
    answer = CliRunner().invoke(main, ["fetch", "data", "none", "--config", str(folder / "config.yaml")])
    assert answer.exit_code == 1 and "found no 'none', expected one of tiny" in answer.output


def test_rule_completes_a_data_set(configured, monkeypatch):
    """The rule fetches what is lacking, and never replaces what is there."""
    folder, server = configured
    config = Config.load(folder / "config.yaml")
    complete_dataset(config, "tiny")
    assert BOLD in present(folder / "tiny")
    asked = len(server.requests)
    complete_dataset(config, "tiny")
    assert len(server.requests) == asked
    (folder / "tiny" / "participants.tsv").write_text("mine")
    with pytest.raises(UserError, match=r"1 files that differ from .*participants.tsv; .*`boldscribe fetch data tiny` to replace them"):
        complete_dataset(config, "tiny")
    assert (folder / "tiny" / "participants.tsv").read_text() == "mine"
    (folder / "tiny" / "participants.tsv").unlink()
    monkeypatch.setenv("BOLDSCRIBE_OFFLINE", "1")
    with pytest.raises(UserError, match=r"found 1 files missing, .* run `boldscribe fetch data tiny` where there is a network"):
        complete_dataset(config, "tiny")
    # in a process of its own, which is cut off from the network for good
    answer = subprocess.run(
        ["boldscribe", "fetch", "data", "tiny", "--config", str(folder / "config.yaml")], capture_output=True, text=True
    )
    assert answer.returncode == 1 and "found 1 files missing while BOLDSCRIBE_OFFLINE is set" in answer.stdout + answer.stderr
    assert len(server.requests) == asked
    ready = config.model_copy(update={"preprocessing": config.preprocessing.model_copy(update={"engine": "derivatives"})})
    (folder / "tiny" / BOLD).unlink()
    with pytest.raises(UserError, match=r"found 1 files missing"):
        complete_dataset(ready, "tiny")


STUB = """#!{python}
import json, os, sys
from pathlib import Path
with open({log!r}, "a") as log:
    log.write(json.dumps([os.path.basename(sys.argv[0]), *sys.argv[1:]]) + "\\n")
if "-J" in sys.argv:
    for name in sys.argv[sys.argv.index("--") + 1:]:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_bytes(json.loads(Path({content!r}).read_text())[name].encode())
"""


@pytest.mark.parametrize("program", ["datalad", "git-annex"])
def test_annex_backend(tmp_path, monkeypatch, program):
    """The calls of the backend, and that what it brings is verified against the manifest."""
    origin = tmp_path / "origin"
    origin.mkdir()
    git(origin, "init", "-q")
    (origin / "README").write_text("read")
    git(origin, "add", "README")
    git(origin, "commit", "-q", "-m", "one")
    commit = git(origin, "rev-parse", "HEAD")
    contents = {"a.bin": "AAAA", "stimuli/b c.bin": "BB"}
    (tmp_path / "content.json").write_text(json.dumps(contents))
    log = tmp_path / "calls"
    for name in ("datalad", "git-annex"):
        stub = tmp_path / "bin" / name
        stub.parent.mkdir(exist_ok=True)
        stub.write_text(STUB.format(python="/usr/bin/env python3", log=str(log), content=str(tmp_path / "content.json")))
        stub.chmod(0o755)
    readme = Entry("README", 4, hashlib.sha256(b"read").digest(), None, in_git=True)
    files = (readme, *(entry(path, content.encode()) for path, content in contents.items()))
    manifest = Manifest({**SOURCE, "commit": commit, "git_url": str(origin)}, files)
    folder = tmp_path / "clone"
    monkeypatch.setenv("PATH", f"{tmp_path / 'nothing'}")
    with pytest.raises(UserError, match=r"found no command 'git', expected it on PATH; install it, or use --backend https"):
        annex_get(manifest, files, folder, program)
    monkeypatch.undo()
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    annex_get(manifest, files, folder, program, parallel=3)
    get = ["datalad", "get"] if program == "datalad" else ["git-annex", "get"]
    calls = [json.loads(line) for line in log.read_text().splitlines()]
    assert calls == [["git-annex", "init", "--quiet"], [*get, "-J", "3", "--", "a.bin", "stimuli/b c.bin"]]
    assert git(folder, "rev-parse", "HEAD") == commit
    assert (folder / "stimuli" / "b c.bin").read_text() == "BB"
    (tmp_path / "content.json").write_text(json.dumps({**contents, "a.bin": "AAAB"}))
    (folder / "a.bin").unlink()
    with pytest.raises(UserError, match=r"1 of 3 files: found none with the manifest's size and digest, such as a.bin"):
        annex_get(manifest, files, folder, program)
    with pytest.raises(UserError, match=f"commit: found {commit}, expected 1234, that of the manifest; run `git checkout 1234`"):
        annex_get(Manifest({**manifest.source, "commit": "1234"}, files), files, folder, program)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "file").write_text("mine")
    with pytest.raises(UserError, match="found files but no clone"):
        annex_get(manifest, files, tmp_path / "other", program)


def test_what_the_experiment_reads_is_selected(configured):
    """Ready derivatives make the raw images needless, not the events; those in the data set are read themselves, and so are annotations."""
    folder, _ = configured
    config = Config.load(folder / "config.yaml")

    def paths(engine: str = "embedded", **design: object) -> set[str]:
        changed = {"datasets": {"tiny": {**config.datasets["tiny"].model_dump(), **design}}, "preprocessing": {"engine": engine}}
        return {e.path for e in select(Config.parse(changed), "tiny").entries}

    events, ready = BOLD.replace("bold.nii.gz", "events.tsv"), {p for p in FILES if p.startswith("derivatives")}
    assert ready and {BOLD, events} <= paths() and not paths() & ready
    assert BOLD not in (of_ready := paths("derivatives")) and events in of_ready and not of_ready & ready
    assert paths("derivatives", derivatives_dir=str(folder / "tiny/derivatives")) == of_ready | ready
    assert paths(description_file=str(folder / "tiny" / next(iter(ready)))) == paths() | {next(iter(ready))}
    assert {BOLD, events}.isdisjoint(paths(task="b")) and BOLD in paths(task=["a", "b"])


def test_the_rule_records_the_source(configured):
    """The program of the rule, run by hand: what it fetched, from where, and that it read the settings that are declared."""
    folder, _ = configured
    options = ["--config", str(folder / "config.yaml"), "--dataset", "tiny"]
    marker = folder / "results" / "fetched" / "tiny.json"
    answer = subprocess.run(
        [sys.executable, "-m", "workflow_scripts.fetch_dataset", *options, "--marker", str(marker)],
        capture_output=True, text=True, cwd=Path(__file__).parents[2], check=False,
    )  # fmt: skip
    assert answer.returncode == 0, answer.stderr
    found = json.loads(marker.read_text())
    assert (found["source"]["accession"], found["source"]["licence"]) == ("ds000000", "CC0")
    (files,) = found["manifest"].values()
    assert {f["path"]: f["sha256"] for f in files}[BOLD] == hashlib.sha256(FILES[BOLD]).hexdigest()
    assert json.loads(marker.with_name("tiny.json.prov.json").read_text())["config"]["datasets.tiny.manifest"]
