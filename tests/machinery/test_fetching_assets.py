"""Weights from a hub, templates, containers, archives; and that no step reaches the network."""

import csv
import hashlib
import io
import json
import os
import stat
import sys
import tarfile
import threading
import zipfile
from collections import Counter
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
import yaml
from click.testing import CliRunner

from boldscribe.cli import main
from boldscribe.config import Config
from boldscribe.fetching import weights as weights_module
from boldscribe.fetching.container_images import fetch_container, origin_of, registry_digest
from boldscribe.fetching.template_files import fetch_templates, templateflow_home, templates
from boldscribe.fetching.weights import configured_weights, fetch_weights
from boldscribe.machinery.download.archives import unpack
from boldscribe.machinery.download.http import Fetcher
from boldscribe.machinery.errors import UserError
from boldscribe.models.hub_folder import stated_revisions
from boldscribe.preprocessing import containers as containers_module
from boldscribe.preprocessing.containers import containers, pinned_digest
from tests.file_server import FileServer, serving

ROOT = Path(__file__).parents[2]
COMMIT, DIGEST = "0123456789abcdef0123456789abcdef01234567", f"sha256:{'ab' * 32}"
REPOSITORY = {
    "config.json": b'{"hidden_size": 4}',
    "tokenizer.json": b"{}",
    "model.safetensors": os.urandom(5000),
    "pytorch_model.bin": b"pickle",
    "onnx/model.onnx": b"onnx",
}


class Hub:
    """The part of a model hub's protocol that its client asks for, with one repository at one commit."""

    def __init__(self) -> None:
        self.files = dict(REPOSITORY)
        self.asked: Counter[str] = Counter()

    @contextmanager
    def running(self):
        hub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *arguments):
                pass

            def answer(self, code, body=b"", **headers):
                self.send_response(code)
                for name, value in {"Content-Length": str(len(body)), **headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(body)

            def do_HEAD(self):
                self.do_GET()

            def do_GET(self):
                path = unquote(urlsplit(self.path).path)
                if path.startswith(f"/api/models/lab/tiny/tree/{COMMIT}"):
                    listed = []
                    for name, content in REPOSITORY.items():
                        item = {"type": "file", "path": name, "size": len(content), "oid": git_blob(content)}
                        if name.endswith("safetensors"):
                            item["lfs"] = {"oid": hashlib.sha256(content).hexdigest(), "size": len(content), "pointerSize": 130}
                        listed.append(item)
                    self.answer(200, json.dumps(listed).encode(), **{"Content-Type": "application/json"})
                elif (name := path.removeprefix(f"/lab/tiny/resolve/{COMMIT}/")) in hub.files:
                    hub.asked[name] += self.command == "GET"
                    large = name.endswith("safetensors")
                    etag = hashlib.sha256(REPOSITORY[name]).hexdigest() if large else git_blob(REPOSITORY[name])
                    self.answer(200, hub.files[name], **{"ETag": f'"{etag}"', "X-Repo-Commit": COMMIT})
                else:
                    code = "RepoNotFound" if "nobody" in path else "RevisionNotFound"
                    self.answer(404, **{"X-Error-Code": code})

        with serving(Handler) as self.url:
            yield self


def git_blob(content: bytes) -> str:
    return hashlib.sha1(f"blob {len(content)}\0".encode() + content).hexdigest()


@pytest.fixture
def hub(monkeypatch):
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    with Hub().running() as running:
        yield running


@pytest.fixture
def table(tmp_path, monkeypatch) -> Path:
    """A table of models that names the tiny repository for the sentence encoder, and one without a commit."""
    path = tmp_path / "models.csv"
    with path.open("w", newline="") as stream:
        csv.writer(stream).writerows(
            [
                weights_module.COLUMNS,
                ["sentence_encoder", "evaluation.sentence_encoder", "lab/tiny", COMMIT, "*.json model.safetensors", "MIT", "no"],
                ["bertscore_encoder", "evaluation.bertscore_model", "lab/other", "", "*.json", "MIT", "no"],
            ]
        )
    return path


def tiny_weights(table: Path, tmp_path: Path):
    config = Config.model_validate({"evaluation": {"sentence_encoder": str(tmp_path / "models" / "tiny")}})
    return configured_weights(config, table)


def test_weights(hub, table, tmp_path):
    """The files that are needed, of the commit, and no pickled ones; the licence before, the rows of the lock after."""
    row, other = tiny_weights(table, tmp_path)
    said: list[str] = []
    fetch_weights(row, endpoint=hub.url, dry_run=True, say=said.append)
    assert said == [f"sentence_encoder: lab/tiny {COMMIT}; licence: MIT", f"  3 files, 0.0 MB, to {row.folder}"]
    assert not row.folder.exists() and not hub.asked
    fetch_weights(row, endpoint=hub.url, say=said.append)
    found = {p.name: p.read_bytes() for p in row.folder.iterdir() if p.is_file()}
    assert found == {name: REPOSITORY[name] for name in ("config.json", "tokenizer.json", "model.safetensors")}
    assert stated_revisions(row.folder) == {COMMIT}
    (lock,) = [line for line in said[-1].splitlines() if "model.safetensors" in line]
    assert lock.split(",")[4:6] == ["5000", hashlib.sha256(REPOSITORY["model.safetensors"]).hexdigest()]
    asked = hub.asked.copy()
    fetch_weights(row, endpoint=hub.url, say=said.append)
    assert hub.asked == asked, "what is there is not fetched again"
    with pytest.raises(UserError, match=r"found commit 0123.*, expected 9999.*; move the folder away"):
        fetch_weights(weights_module.replace(row, revision="9" * 40), endpoint=hub.url, say=said.append)
    with pytest.raises(
        UserError, match=r"revision of lab/other: found none, expected a commit.* --asset bertscore_encoder --revision COMMIT"
    ):
        fetch_weights(other, endpoint=hub.url, say=said.append)


def test_changed_weights(hub, table, tmp_path):
    """A file with the length but not the content of the commit's is refused, and the folder does not appear."""
    for name in ("model.safetensors", "config.json"):
        row, _ = tiny_weights(table, tmp_path / name)
        hub.files = {**REPOSITORY, name: bytes([REPOSITORY[name][0] ^ 1]) + REPOSITORY[name][1:]}
        with pytest.raises(UserError, match=rf"lab/tiny: {name}: digest: found .* fetch it again"):
            fetch_weights(row, endpoint=hub.url, say=lambda line: None)
        assert not row.folder.exists()
    hub.files = dict(REPOSITORY)
    fetch_weights(row, endpoint=hub.url, say=lambda line: None)
    assert (row.folder / "config.json").read_bytes() == REPOSITORY["config.json"]


def test_no_weights(hub, table, tmp_path, monkeypatch):
    import huggingface_hub.constants

    row, _ = tiny_weights(table, tmp_path)
    with pytest.raises(UserError, match=r"found no such repository or commit on the hub \(RevisionNotFoundError\), expected it; correct"):
        fetch_weights(weights_module.replace(row, revision="9" * 40), endpoint=hub.url, say=lambda line: None)
    with pytest.raises(UserError, match=r"files of sentence_encoder: found none in lab/tiny, expected \*.gguf"):
        fetch_weights(weights_module.replace(row, files=("*.gguf",)), endpoint=hub.url, say=lambda line: None)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(UserError, match="HF_HUB_OFFLINE: found the hub switched off"):
        fetch_weights(row, endpoint=hub.url, say=lambda line: None)


def test_the_tables_that_come_with_the_code():
    """Each row is whole; a commit or digest that nobody could establish is empty, and is refused before anything is fetched."""
    rows = {row.asset: row for row in configured_weights(Config.load(ROOT / "config.yaml"))}
    assert {name for name, row in rows.items() if not row.revision} == {"video_llama_source"}
    assert rows["video_llama_source"].folder == Path("models/sources/Video-LLaMA-2-7B-Finetuned")
    assert not any(row.pickled for name, row in rows.items() if name != "video_llama_source")
    embedded = {"video_llama": {"llm": "embedded"}, "evaluation": {"sentence_encoder": "embedded", "bertscore_model": "embedded"}}
    assert configured_weights(Config.model_validate(embedded)) == []
    files = templates()
    assert {entry.path.partition("/")[0] for entry in files} == {"tpl-MNI152NLin2009cAsym", "tpl-MNI152NLin6Asym", "tpl-OASIS30ANTs"}
    assert all(url.startswith("https://") and licence for url, licence in files.values())
    assert list(containers()) == [Config().preprocessing.fmriprep_image]


def test_templates(tmp_path):
    """Empty placeholders are replaced, full files left; a space that the table lacks is refused."""
    contents = {"tpl-MNI152NLin2009cAsym/a_T1w.nii.gz": b"template", "tpl-MNI152NLin2009cAsym/b_mask.nii.gz": b"mask"}
    with FileServer(dict(contents)).running() as server:
        table = tmp_path / "templates.csv"
        with table.open("w", newline="") as stream:
            rows = [[p, len(c), hashlib.md5(c).hexdigest(), f"{server.url}/{p}", "CC0"] for p, c in contents.items()]
            csv.writer(stream).writerows([["path", "bytes", "digest", "url", "licence"], *rows])
        home = tmp_path / "templateflow"
        for path, content in zip(contents, (b"", b"mask"), strict=True):
            (home / path).parent.mkdir(parents=True, exist_ok=True)
            (home / path).write_bytes(content)
        fetch_templates(home, table=table, fetcher=Fetcher(retries=1, pause=0.0))
        assert [path for path, _ in server.requests] == ["tpl-MNI152NLin2009cAsym/a_T1w.nii.gz"]
        assert {p: (home / p).read_bytes() for p in contents} == contents
        fetch_templates(tmp_path / "other", table=table, base_url=server.url, fetcher=Fetcher(retries=1, pause=0.0))
        assert {p: (tmp_path / "other" / p).read_bytes() for p in contents} == contents
    with pytest.raises(UserError, match="found MNI305, expected one of MNI152NLin2009cAsym"):
        templateflow_home(Config.model_validate({"preprocessing": {"space": "MNI305"}}), table)
    table.write_text("path,bytes,digest,url,licence\na,1,abc,u,l\n")
    with pytest.raises(UserError, match="line 2: found"):
        templates(table)


@pytest.fixture
def registry():
    """A registry that wants a token before it tells a digest."""

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *arguments):
            pass

        def do_HEAD(self):
            known = self.path == "/v2/nipreps/fmriprep/manifests/25.2.7"
            allowed = self.headers.get("Authorization") == "Bearer sesame"
            self.send_response((200 if known else 404) if allowed else 401)
            if not allowed:
                realm = f'Bearer realm="http://127.0.0.1:{self.server.server_port}/token",service="here",scope="repository:x:pull"'
                self.send_header("WWW-Authenticate", realm)
            elif known:
                self.send_header("Docker-Content-Digest", DIGEST)
            self.end_headers()

        def do_GET(self):
            body = json.dumps({"token": "sesame"} if self.path == "/token?service=here&scope=repository%3Ax%3Apull" else {}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


ENGINE = """#!{python}
import json, sys
from pathlib import Path
with open({log!r}, "a") as log:
    log.write(json.dumps([Path(sys.argv[0]).name, *sys.argv[1:]]) + "\\n")
if sys.argv[1] == "build":
    Path(sys.argv[3]).write_text("image")
sys.exit({code})
"""


def test_containers(tmp_path, monkeypatch, registry):
    """Nothing is pulled or built by a tag alone; the row to enter is told; what is built says which image it was built from."""
    log, sif = tmp_path / "calls", tmp_path / "containers" / "fmriprep.sif"
    for name in ("docker", "apptainer"):
        (tmp_path / "bin").mkdir(exist_ok=True)
        (tmp_path / "bin" / name).write_text(ENGINE.format(python=sys.executable, log=str(log), code=0))
        (tmp_path / "bin" / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}")
    unknown = Config.model_validate({"preprocessing": {"fmriprep_sif": str(sif)}})
    assert registry_digest("nipreps/fmriprep:25.2.7", registry) == DIGEST
    for engine in ("docker", "apptainer"):
        with pytest.raises(UserError, match=rf"enter the row\nnipreps/fmriprep,25.2.7,{DIGEST},Apache-2.0"):
            fetch_container(unknown, engine, print, registry=registry)
    assert not log.exists()
    with pytest.raises(UserError, match=r"found response 404 and digest '', expected that of nipreps/fmriprep:1.0"):
        registry_digest("nipreps/fmriprep:1.0", registry)
    config = Config.model_validate({"preprocessing": {"fmriprep_sif": str(sif), "fmriprep_digest": DIGEST}})
    assert pinned_digest(config) == DIGEST
    fetch_container(config, "docker", print)
    fetch_container(config, "apptainer", print)
    fetch_container(config, "apptainer", print)
    pinned = f"nipreps/fmriprep@{DIGEST}"
    calls = [json.loads(line) for line in log.read_text().splitlines()]
    assert [[*call[:2], *call[3 if call[0] == "apptainer" else 2 :]] for call in calls[:2]] == [
        ["docker", "pull", pinned], ["docker", "tag", pinned, "nipreps/fmriprep:25.2.7"],
    ]  # fmt: skip
    (build,) = calls[2:]
    assert (build[:2], build[-1]) == (["apptainer", "build"], f"docker://{pinned}")
    assert (sif.read_text(), origin_of(sif)) == ("image", pinned)
    other = Config.model_validate({"preprocessing": {"fmriprep_sif": str(sif), "fmriprep_digest": f"sha256:{'cd' * 32}"}})
    with pytest.raises(UserError, match=f"found an image of {pinned}, expected .*cdcd; move it away"):
        fetch_container(other, "apptainer", print)
    sif.unlink()
    (tmp_path / "bin" / "apptainer").write_text(ENGINE.format(python=sys.executable, log=str(log), code=3))
    with pytest.raises(UserError, match="found exit code 3, expected 0"):
        fetch_container(config, "apptainer", print)
    assert [p.name for p in sif.parent.iterdir()] == ["fmriprep.sif.json"]


def test_container_table(tmp_path):
    table = tmp_path / "containers.csv"
    for content, message in (
        ("image,version,digest,licence\na/b,1,sha256:12,MIT\n", "digest: found 'sha256:12', expected sha256: and 64"),
        (f"image,version,digest,licence\na/b,1,{DIGEST},MIT\na/b,1,{DIGEST},MIT\n", "a/b:1 is listed twice"),
        ("image,version\na/b,1\n", "columns: found image, version"),
    ):
        table.write_text(content)
        with pytest.raises(UserError, match=message):
            containers_module.containers(table)
    table.write_text(f"image,version,digest,licence\nnipreps/fmriprep,25.2.7,{DIGEST},Apache-2.0\n")
    assert pinned_digest(Config(), table) == DIGEST


def tar_of(path: Path, **members: bytes | str) -> Path:
    """A tar archive; a text is a link to what it names."""
    with tarfile.open(path, "w:gz") as tar:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            if isinstance(content, str):
                info.type, info.linkname = tarfile.SYMTYPE, content
                tar.addfile(info)
            else:
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
    return path


def zip_of(path: Path, **members: bytes | str) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as zipped:
        for name, content in members.items():
            info = zipfile.ZipInfo(name)
            info.external_attr = (stat.S_IFLNK if isinstance(content, str) else stat.S_IFREG) << 16
            zipped.writestr(info, content, zipfile.ZIP_DEFLATED)
    return path


@pytest.mark.parametrize("make", [tar_of, zip_of])
def test_archives(tmp_path, make):
    """Whole or not at all, and never outside of the folder."""
    good = make(tmp_path / "good", **{"a/b.txt": b"b", "c.txt": b"c"})
    unpack(good, tmp_path / "out")
    assert {p.relative_to(tmp_path / "out").as_posix(): p.read_bytes() for p in (tmp_path / "out").rglob("*") if p.is_file()} == {
        "a/b.txt": b"b", "c.txt": b"c",
    }  # fmt: skip
    with pytest.raises(UserError, match="found files in it, expected an empty or new folder"):
        unpack(good, tmp_path / "out")
    (tmp_path / "secret").write_text("secret")
    bad = {
        "up": ({"c.txt": b"c", "../evil": b"e"}, "expected one inside the folder"),
        "absolute": ({"c.txt": b"c", f"{tmp_path}/evil": b"e"}, "expected one inside the folder"),
        "link": ({"c.txt": b"c", "evil": "../secret"}, "expected files and folders"),
        "through": ({"d": str(tmp_path), "d/evil": b"e"}, "expected files and folders"),
        "bomb": ({"c.txt": b"c", "zeros": bytes(2_000_000)}, "found more than 1000000 bytes in it"),
        "many": ({f"f{i}": b"" for i in range(12)}, "found more than 10 files in it"),
        "twice": ({"d": b"file", "d/e": b"e"}, "found two members with the same name"),
    }
    for name, (members, message) in bad.items():
        archive = make(tmp_path / name, **members)
        assert archive.stat().st_size < 20_000
        with pytest.raises(UserError, match=message):
            unpack(archive, tmp_path / "new", largest=1_000_000, most=10)
        assert not (tmp_path / "new").exists() and not (tmp_path / "evil").exists()
    assert not [p.name for p in tmp_path.iterdir() if "part" in p.name]
    for content in (b"no archive", good.read_bytes()[:-30]):
        (tmp_path / "broken").write_bytes(content)
        with pytest.raises(UserError, match="found no complete tar or zip archive"):
            unpack(tmp_path / "broken", tmp_path / "new")
    with pytest.raises(UserError, match="the archive does not exist"):
        unpack(tmp_path / "none", tmp_path / "new")


def test_links_within_an_archive(tmp_path):
    """They come last, so that nothing is written through them, and none may point at what is not there yet."""
    unpack(tar_of(tmp_path / "good", **{"a/link": "../b/file", "b/file": b"b"}), tmp_path / "out")
    assert (tmp_path / "out" / "a" / "link").read_bytes() == b"b" and (tmp_path / "out" / "a" / "link").is_symlink()
    for members in ({"a": "nowhere"}, {"p/q/up": "../..", "p/q/out": "up/../secret", "secret": b"inside"}):
        (tmp_path / "secret").write_text("outside")
        with pytest.raises(UserError, match="found a device or a link that leaves the folder"):
            unpack(tar_of(tmp_path / "bad", **members), tmp_path / "new")
        assert not (tmp_path / "new").exists()


def test_commands_of_all(tmp_path):
    """Nothing configured from outside: nothing to fetch, and no error."""
    config = {
        "datasets": {"own": {"bids_dir": "data/own"}},
        "preprocessing": {"engine": "embedded"},
        "video_llama": {"llm": "embedded"},
        "evaluation": {"sentence_encoder": "embedded", "bertscore_model": "embedded"},
    }
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    answer = CliRunner().invoke(main, ["fetch", "all", "--config", str(tmp_path / "config.yaml")])
    assert answer.exit_code == 0, answer.output
    assert answer.output == "own: has no manifest; put the data in data/own\n"
