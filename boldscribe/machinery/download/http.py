"""Download of one file over HTTPS: resumed after a failure, checked by length and digest, and renamed into place when complete."""

from __future__ import annotations

import errno
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import requests
from requests.exceptions import InvalidSchema, InvalidURL, MissingSchema
from urllib3.exceptions import ConnectTimeoutError, HTTPError, NewConnectionError

from boldscribe.machinery.errors import UserError
from boldscribe.machinery.provenance.verified import digests_of

CHUNK = 1 << 20
RETRIED = {408, 425, 429, 500, 502, 503, 504}
TIMEOUT = (15.0, 60.0)  # to connect, and between two chunks (s)
LONGEST_WAIT = 60.0
FULL = (errno.ENOSPC, errno.EDQUOT)
RANGE = re.compile(r"bytes (?P<first>\d+)-\d+/(?P<total>\d+|\*)")


class Stopped(Exception):
    """The end of a download because another thread failed or the user interrupted."""


class FatalError(UserError):
    """An error that affects all other files too: a full disk, no network."""


@dataclass
class Fetcher:
    """A downloader with retries, shared by all threads.

    Attributes:
        retries: number of consecutive retries without progress, after the first attempt.
        pause: seconds before the first retry; doubled with each retry.
        stop: set to end all downloads.
    """

    retries: int = 5
    pause: float = 1.0
    stop: threading.Event = field(default_factory=threading.Event)
    _local: threading.local = field(default_factory=threading.local)

    def fetch(
        self, url: str, target: Path, size: int | None, digest: bytes | None, advance: Callable[[int], None] = lambda n: None
    ) -> tuple[str, str]:
        """Fetch a file to `target`, resuming from `.NAME.part` next to it.

        Args:
            url: source.
            target: destination; an existing file is replaced when the new one is complete.
            size: expected length (bytes); None accepts the server's.
            digest: expected SHA-256 (32 bytes) or MD5 (16 bytes); None accepts any content that is not empty.
            advance: called with the number of bytes that arrived, or a negative number of bytes that were discarded.

        Returns:
            SHA-256 of the content, and its MD5 if that was expected.

        Raises:
            UserError: the server does not have the file, has one of another length, or twice sent one with another digest.
            FatalError: the disk is full, or there is no network.
            Stopped: `stop` was set.
        """
        target.parent.mkdir(parents=True, exist_ok=True)
        part = target.with_name(f".{target.name}.part")
        found: list[str] = []
        for _ in range(2):
            self._complete(url, part, size, advance)
            sha256, md5 = digests_of(part, md5=digest is not None and len(digest) == 16)
            if digest is None or digest.hex() in (sha256, md5):
                part.replace(target)
                return sha256, md5
            found.append(md5 or sha256)
            advance(-part.stat().st_size)
            part.unlink()
        assert digest is not None
        raise UserError(
            url,
            f"digest of {target.name}: found {' and '.join(dict.fromkeys(found))} in two downloads, expected {digest.hex()}; nothing was "
            "kept. The store has a different file, or something in between changes it: try another network or --base-url",
        )

    def _complete(self, url: str, part: Path, size: int | None, advance: Callable[[int], None]) -> None:
        """Complete the part file, retrying as long as attempts make progress."""
        failed = 0
        while True:
            if self.stop.is_set():
                raise Stopped
            before = _length(part)
            if size is not None and before > size:
                part.unlink()
                advance(-size)
                before = 0
            if size is not None and before == size and part.exists():
                return
            wait, offline = 0.0, False
            try:
                if self._receive(url, part, before, size, advance):
                    return
                problem = "a connection that closed before the end of the file"
            except _TryAgain as again:
                problem, wait = str(again), again.wait
            except (requests.RequestException, HTTPError) as error:
                untrusted = isinstance(error, requests.exceptions.SSLError)
                problem = "an untrusted certificate" if untrusted else type(error).__name__
                offline = _is_offline(error)
            failed = 0 if _length(part) > before else failed + 1
            if failed > self.retries:
                raise _given_up(url, problem, offline)
            if self.stop.wait(min(max(wait, self.pause * 2**failed), LONGEST_WAIT)):
                raise Stopped

    def _receive(self, url: str, part: Path, offset: int, size: int | None, advance: Callable[[int], None]) -> bool:
        """Make one request, and return whether the file is complete."""
        headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={offset}-"} if offset else {})
        try:
            answer = self._session().get(url, headers=headers, stream=True, timeout=TIMEOUT)
        except (MissingSchema, InvalidSchema, InvalidURL):
            raise UserError(url, "found an invalid address, expected https://…; correct --base-url") from None
        with answer:
            if offset and (answer.status_code == 416 or not _continues(answer, offset)) and answer.status_code < 500:
                # the server cannot resume, or its file differs: start over
                advance(-offset)
                part.unlink()
                if answer.status_code != 200:
                    raise _TryAgain(f"the response {answer.status_code} to a resumed download")
                offset = 0
            _check_status(answer, url)
            total = _total(answer, offset)
            if size is not None and total is not None and total != size:
                raise UserError(
                    url,
                    f"length: found {total} bytes on the server, expected {size}; it has another file: use the right version or mirror",
                )
            self._write(answer, part, offset, size, url, advance)
        expected = size if size is not None else total
        return _length(part) == expected if expected is not None else _length(part) > 0

    def _write(
        self, answer: requests.Response, part: Path, offset: int, size: int | None, url: str, advance: Callable[[int], None]
    ) -> None:
        try:
            with part.open("ab" if offset else "wb") as stream:
                # read what has arrived: waiting for full chunks would lose an interrupted one
                while chunk := answer.raw.read1(CHUNK, decode_content=False):
                    if self.stop.is_set():
                        raise Stopped
                    if size is not None and stream.tell() + len(chunk) > size:
                        raise UserError(
                            url, f"length: the server sends more than the expected {size} bytes; use the right version or mirror"
                        )
                    stream.write(chunk)
                    advance(len(chunk))
        except OSError as error:
            if isinstance(error, requests.RequestException):
                raise
            found = "a full disk or an exhausted quota" if error.errno in FULL else str(error.strerror)
            raise FatalError(
                str(part.parent),
                f"found {found}, expected room for {part.name}; make room or correct the permissions, then run this again: partial "
                "downloads are kept",
            ) from None

    def _session(self) -> requests.Session:
        if not hasattr(self._local, "session"):
            self._local.session = requests.Session()
        session: requests.Session = self._local.session
        return session


class _TryAgain(Exception):
    """An answer that permits a retry; `wait`: seconds that the server asks for."""

    def __init__(self, problem: str, wait: float = 0.0) -> None:
        super().__init__(problem)
        self.wait = wait


def _length(part: Path) -> int:
    return part.stat().st_size if part.exists() else 0


def _is_offline(error: Exception) -> bool:
    """Return whether no connection was made at all: unknown host, refused, no answer."""
    reason = getattr(error.args[0] if error.args else None, "reason", None)
    return isinstance(reason, NewConnectionError | ConnectTimeoutError) or isinstance(error, requests.exceptions.ProxyError)


def _given_up(url: str, problem: str, offline: bool) -> UserError:
    place = urlsplit(url)
    if offline:
        return FatalError(
            place.netloc,
            f"found no connection ({problem}), expected one to fetch {place.path}; run this where there is a network, such as a login "
            "node, and set HTTPS_PROXY if it needs a proxy",
        )
    return UserError(url, f"found {problem} repeatedly, expected the file; try again later: partial downloads are kept")


def _continues(answer: Any, offset: int) -> bool:
    match = RANGE.fullmatch(answer.headers.get("Content-Range", ""))
    return answer.status_code == 206 and match is not None and int(match["first"]) == offset


def _check_status(answer: Any, url: str) -> None:
    if answer.status_code in RETRIED:
        wait = answer.headers.get("Retry-After", "")
        raise _TryAgain(f"the response {answer.status_code} {answer.reason}", float(wait) if wait.isdigit() else 0.0)
    if answer.status_code not in (200, 206):
        raise UserError(
            url, f"found the response {answer.status_code} {answer.reason}, expected the file; the store may have withdrawn this version"
        )


def _total(answer: Any, offset: int) -> int | None:
    """Length of the whole file as reported by the server; None if it reports none."""
    if answer.status_code == 206:
        match = RANGE.fullmatch(answer.headers.get("Content-Range", ""))
        return int(match["total"]) if match and match["total"].isdigit() else None
    length = answer.headers.get("Content-Length", "")
    return int(length) + offset if length.isdigit() else None
