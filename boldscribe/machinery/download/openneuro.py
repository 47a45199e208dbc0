"""Manifests made from a data set's git repository, without its data files.

OpenNeuro (and TemplateFlow) keep each data set as a git repository with git-annex. A large file is a link, or a small pointer, to
a key that contains its size and digest; small files are stored in git. The branch `git-annex` records the version of each file in the
public S3 store.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import NamedTuple

from boldscribe.machinery.download.git_links import follow_links
from boldscribe.machinery.download.manifest import Entry, Manifest
from boldscribe.machinery.errors import UserError

KEY = re.compile(r"(?P<backend>SHA256E?|MD5E?)-s(?P<bytes>\d+)--(?P<digest>[0-9a-f]{64}|[0-9a-f]{32})")
POINTER = b"/annex/objects/"
LOG = ".log.rmet"
GIT_KEY = re.compile(r"^(GIT|SHA1)--")  # key of a file in git itself: the name of its blob
LINK, MODULE = "120000", "160000"
BRANCHES = ("refs/heads/git-annex", "refs/remotes/origin/git-annex")


class Blob(NamedTuple):
    """A file of the tree: mode, name of its content in git, path."""

    mode: str
    name: str
    path: str


class Content(NamedTuple):
    """Content of a file of the tree: its git-annex key, size (bytes) and digest, and whether it is in git."""

    key: str
    size: int
    digest: bytes
    in_git: bool


class Store(NamedTuple):
    """The public store that the git-annex branch names.

    Attributes:
        uuids: UUIDs of the special remotes that have used this URL.
        prefix: prefix of the data set's paths in it.
        url: URL of the data set's root in it.
    """

    uuids: frozenset[str]
    prefix: str
    url: str


def build_manifest(clone: Path, tag: str, *, only: Sequence[str] = (), base_url: str | None = None, git_url: str | None = None) -> Manifest:
    """Build the manifest of a clone's tree at a tag.

    A link to another file of the tree is listed with that file's content. Files that cannot be verified or fetched are left out
    (`Manifest.left_out`): those whose key has no size and digest, links that lead to no file of the tree, and submodules.

    Args:
        clone: clone of the data set's repository, bare or not; needs its `git-annex` branch, but no content.
        tag: version, or anything that git accepts as a commit.
        only: shell patterns of the paths to list (`*` also matches `/`); none for the whole tree.
        base_url: where the files are fetched from; by default the public S3 store that the `git-annex` branch names.
        git_url: where the repository was cloned from; by default its `origin`.

    Raises:
        UserError: no repository, no such tag, no `git-annex` branch, or no public store in it.
    """
    commit = _git(clone, "rev-parse", "--verify", "--quiet", f"{tag}^{{commit}}", missing=f"found no commit {tag!r}").decode().strip()
    annex = _annex_branch(clone)
    git_url = git_url or _origin(clone)
    store = _store(clone, annex, base_url)
    blobs, left_out = _listed(clone, commit)
    wanted = {path: blob for path, blob in blobs.items() if not only or any(fnmatchcase(path, p) for p in only)}
    versions = _versions(clone, annex, store)
    files = []
    for (path, blob), content in zip(wanted.items(), _contents(clone, list(wanted.values())), strict=True):
        if content is None:
            left_out[path] = "its key has no size, or neither SHA-256 nor MD5, so that it cannot be verified"
            continue
        version = versions.get((content.key, store.prefix + blob.path))
        files.append(Entry(path, content.size, content.digest, version, content.in_git, blob.path if blob.path != path else None))
    left_out = {path: why for path, why in sorted(left_out.items()) if not only or any(fnmatchcase(path, p) for p in only)}
    description = _description(clone, commit)
    source = {
        "accession": store.prefix.strip("/").rpartition("/")[2] or clone.resolve().name.removesuffix(".git"),
        "version": tag,
        "commit": commit,
        "annex_commit": annex,
        "licence": str(description.get("License", "")),
        "name": str(description.get("Name", "")),
        "base_url": base_url or store.url,
        "git_url": git_url,
        "git_files_url": _files_url(git_url, commit),
        "made": "boldscribe fetch manifest: sizes and digests from the annex keys of the tree and from its blobs, versions of the "
        "objects from the git-annex branch",
    }
    return Manifest(source, tuple(sorted(files, key=lambda entry: entry.path)), left_out)


def _listed(clone: Path, commit: str) -> tuple[dict[str, Blob], dict[str, str]]:
    """Return the file of the tree behind each path, links followed, and the paths without one, with the reason."""
    left_out = {}
    tree = {}
    for blob in _tree(clone, commit):
        if blob.mode == MODULE:
            left_out[blob.path] = "a submodule, which is a repository of its own"
        elif "\ufffd" in blob.path or "\\" in blob.path:
            left_out[blob.path] = "a name that is not valid everywhere"
        else:
            tree[blob.path] = blob
    linked = [blob for blob in tree.values() if blob.mode == LINK]
    contents = _blobs(clone, (blob.name for blob in linked))
    targets = {blob.path: content.decode(errors="replace") for blob, content in zip(linked, contents, strict=True)}
    links = {path: target for path, target in targets.items() if POINTER.decode() not in target}
    files = {path: blob for path, blob in tree.items() if path not in links}
    found, broken = follow_links(links, files)
    return files | {path: files[end] for path, end in found.items()}, left_out | broken


def _git(clone: Path, *arguments: str, stdin: bytes | None = None, missing: str) -> bytes:
    try:
        answer = subprocess.run(["git", "-C", str(clone), *arguments], input=stdin, capture_output=True, check=False)
    except FileNotFoundError:
        raise UserError("git", "found no such command, expected it to read a data set's repository; install git") from None
    if answer.returncode != 0:
        message = (answer.stderr.decode(errors="replace").strip().splitlines() or ["no message"])[-1]
        raise UserError(str(clone), f"{missing} ({message}), expected a clone of a data set's repository; correct the path or the tag")
    return answer.stdout


def _annex_branch(clone: Path) -> str:
    for branch in BRANCHES:
        try:
            return _git(clone, "rev-parse", "--verify", "--quiet", branch, missing="").decode().strip()
        except UserError:
            continue
    raise UserError(
        str(clone), "found no branch git-annex, expected it to name the store; run `git fetch origin git-annex:git-annex` in it"
    )


def _origin(clone: Path) -> str:
    try:
        return _git(clone, "remote", "get-url", "origin", missing="").decode().strip()
    except UserError:
        return ""


def _files_url(git_url: str, commit: str) -> str:
    """Return the base URL of single files over HTTPS, for the host of OpenNeuro and TemplateFlow; empty for others."""
    match = re.fullmatch(r"(?:https://github\.com/|git@github\.com:)(?P<name>[\w.-]+/[\w.-]+?)(?:\.git)?/?", git_url)
    return f"https://raw.githubusercontent.com/{match['name']}/{commit}" if match else ""


def _tree(clone: Path, commit: str) -> Iterator[Blob]:
    for line in _git(clone, "ls-tree", "-r", "-z", commit, missing="found no tree").decode(errors="replace").split("\0")[:-1]:
        head, _, path = line.partition("\t")
        mode, _, name = head.split()
        yield Blob(mode, name, path)


def _blobs(clone: Path, names: Iterable[str]) -> Iterator[bytes]:
    """Yield the contents of blobs in order, with only one in memory."""
    with subprocess.Popen(["git", "-C", str(clone), "cat-file", "--batch"], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None and process.stdout is not None
        for name in names:
            process.stdin.write(f"{name}\n".encode())
            process.stdin.flush()
            head = process.stdout.readline().split()
            if len(head) != 3:
                raise UserError(str(clone), f"found no content of {name}, expected a complete clone; clone it again, not shallow")
            content = process.stdout.read(int(head[2]))
            process.stdout.read(1)
            yield content


def _contents(clone: Path, blobs: list[Blob]) -> Iterator[Content | None]:
    """Yield the content of each file; None if its key has no size and digest."""
    for blob, content in zip(blobs, _blobs(clone, (b.name for b in blobs)), strict=True):
        annexed = blob.mode == LINK or content.startswith(POINTER)
        if not annexed:
            yield Content(blob.name, len(content), hashlib.sha256(content).digest(), True)
            continue
        key = content.splitlines()[0].rpartition(b"/")[2].decode(errors="replace") if content else ""
        match = KEY.match(key)
        yield Content(key, int(match["bytes"]), bytes.fromhex(match["digest"]), False) if match else None


def _description(clone: Path, commit: str) -> dict[str, object]:
    for name in ("dataset_description.json", "template_description.json"):
        try:
            found: dict[str, object] = json.loads(_git(clone, "show", f"{commit}:{name}", missing=""))
        except (UserError, ValueError):
            continue
        return found
    return {}


def _store(clone: Path, annex: str, base_url: str | None) -> Store:
    """Return the newest public S3 store of the branch; if it names none, `base_url`, which has no versions."""
    stores: list[tuple[float, str, str, str]] = []
    logs = [blob.name for blob in _tree(clone, annex) if blob.path == "remote.log"]
    for line in [line for content in _blobs(clone, logs) for line in content.decode().splitlines()]:
        uuid, *settings = line.split()
        values = dict(setting.split("=", 1) for setting in settings if "=" in setting)
        if values.get("type") == "S3" and "publicurl" in values:
            prefix = values.get("fileprefix", "")
            time = float(values.get("timestamp", "0s").rstrip("s"))
            stores.append((time, f"{values['publicurl'].rstrip('/')}/{prefix}".rstrip("/"), prefix, uuid))
    if not stores and base_url:
        return Store(frozenset(), "", base_url)
    if not stores:
        raise UserError(
            str(clone), "found no public S3 store in the branch git-annex, expected one; give the address of the files with --base-url"
        )
    _, url, prefix, _ = max(stores)
    return Store(frozenset(uuid for _, other, _, uuid in stores if other == url), prefix, url)


def _versions(clone: Path, annex: str, store: Store) -> dict[tuple[str, str], str]:
    """Map key and store path to the newest version of the object with that content."""
    logs = [blob for blob in _tree(clone, annex) if blob.path.endswith(LOG)]
    fields_of_store = {f"{uuid}:V" for uuid in store.uuids}
    found: dict[tuple[str, str], tuple[float, str]] = {}
    for log, content in zip(logs, _blobs(clone, (blob.name for blob in logs)), strict=True):
        key = GIT_KEY.sub("", log.path.rpartition("/")[2].removesuffix(LOG))
        for line in content.decode().splitlines():
            time, *fields = line.split(" ")
            if not fields or fields[0] not in fields_of_store:
                continue
            for value in fields[1:]:
                if not value.startswith("+"):
                    continue  # a version that the store has dropped
                text = base64.b64decode(value[2:]).decode() if value.startswith("+!") else value[1:]
                version, _, path = text.partition("#")
                found[key, path] = max(found.get((key, path), (0.0, "")), (float(time.rstrip("s")), version))
    return {place: version for place, (_, version) in found.items()}
