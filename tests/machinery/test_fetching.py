"""Fetching by a manifest: from a server that misbehaves, into a folder that may be full, half-fetched or in use."""

import errno
import hashlib
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from boldscribe.fetching.datasets import Selection, fetch
from boldscribe.machinery.download import transfer
from boldscribe.machinery.download.http import Fetcher
from boldscribe.machinery.download.manifest import Entry, Manifest, read_manifest, write_manifest
from boldscribe.machinery.errors import UserError
from boldscribe.machinery.provenance.asset_lock import manifest as provenance_manifest
from boldscribe.machinery.provenance.verified import verified_files
from tests.file_server import FileServer

HAD = Path(__file__).parents[2] / "data" / "manifests" / "ds004488-1.1.1.parquet"
SOURCE = {
    "accession": "ds000000", "version": "1.0.0", "commit": "", "annex_commit": "", "licence": "CC0", "name": "Tiny", "base_url": "",
    "git_url": "", "git_files_url": "", "made": "by hand",
}  # fmt: skip
FILES = {
    "dataset_description.json": b'{"Name": "Tiny"}',
    "participants.tsv": b"participant_id\nsub-01\nsub-02\n",
    "sub-01/func/sub-01_task-a_run-01_bold.nii.gz": os.urandom(300_000),
    "sub-01/func/sub-01_task-a_run-01_events.tsv": b"onset\tduration\n",
    "sub-02/func/sub-02_task-a_run-01_bold.nii.gz": os.urandom(50_000),
    "stimuli/Playing drums/v_1.mp4": os.urandom(20_000),
    "derivatives/fmriprep/sub-01/sub-01_bold.nii.gz": os.urandom(10),
    "empty.txt": b"",
}
BOLD = "sub-01/func/sub-01_task-a_run-01_bold.nii.gz"


def entry(path: str, content: bytes, version: str | None = None, algorithm: str = "sha256") -> Entry:
    return Entry(path, len(content), hashlib.new(algorithm, content).digest(), version)


@pytest.fixture
def server():
    with FileServer(dict(FILES)).running() as running:
        yield running


@pytest.fixture
def tiny(server, tmp_path) -> Selection:
    manifest = Manifest({**SOURCE, "base_url": server.url}, tuple(entry(path, content) for path, content in sorted(FILES.items())))
    return Selection(manifest, manifest.selected(), tmp_path / "data" / "tiny")


def quick() -> Fetcher:
    return Fetcher(retries=2, pause=0.0)


def present(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


WHOLE = {path: content for path, content in FILES.items() if not path.startswith("derivatives")}


def test_fetches_all_once(server, tiny):
    """Raw data and stimuli arrive as they are; a second call asks the server for nothing, and reads no file."""
    fetch(tiny, fetcher=quick())
    assert present(tiny.folder) == WHOLE
    asked = len(server.requests)
    read = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("boldscribe.machinery.provenance.verified.digests_of", lambda *a, **k: read.append(a))
        fetch(tiny, fetcher=quick())
    assert (len(server.requests), read) == (asked, [])
    # what was verified is not read again for the record of raw data either, and its digests are right
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("boldscribe.machinery.provenance.digests.sha256_of", lambda path: pytest.fail(f"{path} read"))
        (recorded,) = provenance_manifest(tiny.folder).values()
    assert {f["path"]: f["sha256"] for f in recorded} == {path: hashlib.sha256(content).hexdigest() for path, content in WHOLE.items()}


def test_changed_file_is_fetched_again(server, tiny):
    """One flipped byte on the disk, with the file's times put back, is found and healed."""
    fetch(tiny, fetcher=quick())
    file = tiny.folder / BOLD
    stat = file.stat()
    with file.open("r+b") as stream:
        stream.write(bytes([FILES[BOLD][0] ^ 1]))
    os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    fetch(tiny, fetcher=quick())
    assert present(tiny.folder) == WHOLE
    assert [path for path, _ in server.requests].count(BOLD) == 2


def test_resumes_after_cuts(server, tiny):
    """Each cut costs a request, and no byte twice."""
    server.trouble[BOLD] = ["cut", "cut", "cut", "cut"]
    fetch(tiny, fetcher=quick())
    assert present(tiny.folder) == WHOLE
    assert server.sent[BOLD] == len(FILES[BOLD])
    first = [asked for path, asked in server.requests if path == BOLD]
    assert first == [None, "bytes=150000-", "bytes=225000-", "bytes=262500-", "bytes=281250-"]


def test_resumes_in_the_next_run(server, tiny):
    """What arrived before the process was killed is not fetched again."""
    part = tiny.folder / Path(BOLD).with_name(f".{Path(BOLD).name}.part")
    part.parent.mkdir(parents=True)
    part.write_bytes(FILES[BOLD][:100_000])
    fetch(tiny, fetcher=quick())
    assert present(tiny.folder) == WHOLE
    assert server.sent[BOLD] == len(FILES[BOLD]) - 100_000


def test_server_without_range(server, tiny):
    """A server that cannot resume is asked for the whole file."""
    server.trouble[BOLD] = ["cut", "no range"]
    fetch(tiny, fetcher=quick())
    assert present(tiny.folder) == WHOLE


def test_server_that_tells_no_length(server, tiny):
    """A connection that closes early is found out by the manifest's length where the server tells none."""
    server.trouble[BOLD] = ["chunked", "chunked"]
    fetch(tiny, fetcher=quick())
    assert present(tiny.folder) == WHOLE
    assert server.sent[BOLD] == len(FILES[BOLD])


def test_folder_that_cannot_be_written(server, tiny, tmp_path):
    """A file where a folder should be: one message, no traceback, and the file stays."""
    tiny.folder.mkdir(parents=True)
    (tiny.folder / "sub-01").write_text("mine")
    with pytest.raises(UserError, match=r"sub-01.*: found .*, expected a writable folder"):
        fetch(tiny, fetcher=quick())
    assert (tiny.folder / "sub-01").read_text() == "mine"
    with pytest.raises(UserError, match="expected a writable folder"):
        fetch(Selection(tiny.manifest, tiny.entries, tiny.folder / "sub-01" / "in" / "a file"), fetcher=quick())


def test_busy_server(server, tiny):
    server.trouble[BOLD] = [503, 500]
    fetch(tiny, fetcher=quick())
    assert present(tiny.folder) == WHOLE
    server.trouble["empty.txt"] = [503] * 3
    (tiny.folder / "empty.txt").unlink()
    with pytest.raises(UserError, match=r"1 of 1 files.*empty.txt: found the response 503 .* try again later"):
        fetch(tiny, fetcher=quick())


def test_flipped_byte_on_the_way(server, tiny):
    """A download with another digest is fetched once more, then refused; nothing of it is kept, the other files are."""
    server.trouble[BOLD] = ["flip"]
    fetch(tiny, fetcher=quick())
    assert present(tiny.folder) == WHOLE
    (tiny.folder / BOLD).unlink()
    (tiny.folder / "participants.tsv").unlink()
    server.trouble[BOLD] = ["flip", "flip"]
    wrong = hashlib.sha256(bytes([FILES[BOLD][0] ^ 1]) + FILES[BOLD][1:]).hexdigest()
    with pytest.raises(UserError, match=f"found {wrong} in two downloads, expected {hashlib.sha256(FILES[BOLD]).hexdigest()}"):
        fetch(tiny, fetcher=quick())
    assert present(tiny.folder) == {path: content for path, content in WHOLE.items() if path != BOLD}


@pytest.mark.parametrize("lie, length", [("short", len(FILES[BOLD]) - 1), ("long", len(FILES[BOLD]) + 1)])
def test_lying_length(server, tiny, lie, length):
    """A server with another length has another file; it is not fetched."""
    server.trouble[BOLD] = [lie] * 9
    with pytest.raises(UserError, match=f"length: found {length} bytes on the server, expected {len(FILES[BOLD])}"):
        fetch(tiny, fetcher=quick())
    assert present(tiny.folder) == {path: content for path, content in WHOLE.items() if path != BOLD}


def test_withdrawn_file(server, tiny):
    del server.files[BOLD]
    with pytest.raises(UserError, match=r"found the response 404 .* withdrawn this version"):
        fetch(tiny, fetcher=quick())
    assert present(tiny.folder) == {path: content for path, content in WHOLE.items() if path != BOLD}


def test_no_room(server, tiny, monkeypatch):
    """Too little room or too few inodes: said before the first byte."""
    usage = shutil.disk_usage(tiny.folder.parents[1])
    monkeypatch.setattr(transfer.shutil, "disk_usage", lambda path: usage._replace(free=270_000_000))
    system = os.statvfs(tiny.folder.parents[1])
    monkeypatch.setattr(transfer.os, "statvfs", lambda path: os.statvfs_result([*system[:5], 10**6, 5, 5, *system[8:]]))
    with pytest.raises(UserError) as error:
        fetch(tiny, fetcher=quick())
    assert "found 270.0 MB free, expected 268.8 MB" not in str(error.value)
    assert "found 5 free inodes, expected 1007" in str(error.value)
    monkeypatch.setattr(transfer.shutil, "disk_usage", lambda path: usage._replace(free=268_000_000))
    with pytest.raises(UserError, match=r"found 268\.0 MB free, expected 268\.8 MB for 7 files; make room"):
        fetch(tiny, fetcher=quick())
    assert server.requests == []
    assert present(tiny.folder.parent) == {".tiny.lock": (tiny.folder.parent / ".tiny.lock").read_bytes()}


def test_disk_fills_up(server, tiny, monkeypatch):
    """What has arrived when the disk is full is kept, and the next run goes on from there."""
    original = Path.open

    class Full:
        def __init__(self, stream):
            self._stream = stream

        def __enter__(self):
            return self

        def __exit__(self, *arguments):
            self._stream.close()

        def tell(self):
            return self._stream.tell()

        def write(self, chunk):
            self._stream.write(chunk[:1000])
            raise OSError(errno.ENOSPC, "No space left on device")

    def opened(path, mode="r", *arguments, **options):
        stream = original(path, mode, *arguments, **options)
        return Full(stream) if path.name.endswith("bold.nii.gz.part") and mode in ("wb", "ab") else stream

    monkeypatch.setattr(Path, "open", opened)
    with pytest.raises(UserError, match=r"found a full disk or an exhausted quota, .* partial downloads are kept"):
        fetch(tiny, parallel=1, fetcher=quick())
    monkeypatch.undo()
    assert not (tiny.folder / BOLD).exists()
    server.sent.clear()
    fetch(tiny, fetcher=quick())
    assert present(tiny.folder) == WHOLE
    assert server.sent[BOLD] == len(FILES[BOLD]) - 1000


def test_two_fetches_at_once(server, tiny):
    """The second is told who is at it, and disturbs nothing."""
    held, go_on = threading.Event(), threading.Event()

    def hold(path: str) -> None:
        held.set()
        assert go_on.wait(20)

    server.before = hold
    first = threading.Thread(target=fetch, args=(tiny,), kwargs={"fetcher": quick()})
    first.start()
    assert held.wait(20)
    code = (
        "import sys; from pathlib import Path; from boldscribe.machinery.download.transfer import alone_in\n"
        "from boldscribe.machinery.errors import UserError\n"
        "try:\n    with alone_in(Path(sys.argv[1])): print('got it')\n"
        "except UserError as error: print(error)"
    )
    answer = subprocess.run([sys.executable, "-c", code, str(tiny.folder)], capture_output=True, text=True, check=True).stdout
    go_on.set()
    first.join()
    assert f"found process {os.getpid()} on " in answer and "wait until it ends, or stop it" in answer
    assert present(tiny.folder) == WHOLE


def test_offline(tmp_path, tiny, server):
    """No network at all: one message, with the remedy, and no list of all files."""
    with FileServer({}).running() as gone:
        url = gone.url
    with pytest.raises(UserError, match=r"^127.0.0.1:\d+: found no connection .* run this where there is a network, such as a login node"):
        fetch(tiny, base_url=url, fetcher=Fetcher(retries=1, pause=0.0))


def test_version_and_mirror(server, tmp_path):
    """The version goes to the store; what lies in git and has none comes from the repository; a mirror has all."""
    files = (
        Entry("a b.txt", 1, hashlib.sha256(b"a").digest(), "x.Y_z"),
        Entry("events.tsv", 1, hashlib.sha256(b"e").digest(), None, in_git=True),
        Entry("old.bin", 1, hashlib.md5(b"o").digest()),
    )
    server.files |= {
        "store/a b.txt": b"a",
        "store/old.bin": b"o",
        "git/events.tsv": b"e",
        "events.tsv": b"e",
        "a b.txt": b"a",
        "old.bin": b"o",
    }
    write_manifest(
        Manifest({**SOURCE, "base_url": f"{server.url}/store", "git_files_url": f"{server.url}/git"}, files), tmp_path / "m.parquet"
    )
    manifest = read_manifest(tmp_path / "m.parquet")
    assert manifest.files == files
    for name, base_url in (("one", None), ("two", server.url)):
        fetch(Selection(manifest, list(files), tmp_path / name), base_url=base_url, fetcher=quick())
        assert present(tmp_path / name) == {"a b.txt": b"a", "events.tsv": b"e", "old.bin": b"o"}
    assert server.versions == {"store/a b.txt": "x.Y_z", "a b.txt": "x.Y_z"}
    assert {path for path, _ in server.requests} == {"store/a b.txt", "store/old.bin", "git/events.tsv", "a b.txt", "events.tsv", "old.bin"}
    # a file that only its MD5 is known of is remembered by its SHA-256 all the same
    assert {e["path"]: e["sha256"] for e in verified_files(tmp_path / "one")}["old.bin"] == hashlib.sha256(b"o").hexdigest()


def test_manifest_that_leads_out(tmp_path, server):
    """A path that would leave the folder is refused, when a manifest is read and when it is used."""
    for path in ("../evil", "/etc/evil", "a/../../evil", "a\\..\\evil"):
        manifest = Manifest({**SOURCE, "base_url": server.url}, (entry(path, b"x"),))
        write_manifest(manifest, tmp_path / "m.parquet")
        with pytest.raises(UserError, match="expected one inside the folder"):
            read_manifest(tmp_path / "m.parquet")
        with pytest.raises(UserError, match="expected one inside the folder"):
            fetch(Selection(manifest, list(manifest.files), tmp_path / "in" / "here"), fetcher=quick())
    assert server.requests == []


def test_no_manifest(tmp_path):
    (tmp_path / "m.parquet").write_bytes(b"no parquet")
    with pytest.raises(UserError, match="found no manifest of a data set"):
        read_manifest(tmp_path / "m.parquet")
    with pytest.raises(UserError, match="boldscribe fetch manifest"):
        read_manifest(tmp_path / "none.parquet")
