"""What a video file holds and states, read without decoding it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from os import SEEK_END
from pathlib import Path
from typing import BinaryIO, NamedTuple

import av
from av.container import InputContainer
from av.stream import Disposition
from av.video.stream import VideoStream

from boldscribe.machinery.errors import UserError

FRAMES_OF_TOLERANCE = 2  # durations are rounded,
SECONDS_OF_TOLERANCE = 0.2  # and some containers do not state how long the last frame or sound is
STATE_THEIR_DURATION = ("mov", "matroska", "avi", "flv", "asf")  # FFmpeg estimates that of others
HIDING = ("mpeg4", "vp8", "vp9", "av1", "libdav1d")  # codecs whose packets may hold no frame, or one that is not shown
FILE_PROPERTIES = bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")  # an object of Windows Media's header
MISSING = "the video is missing; put it in place, or correct stim_file in the events"


class Timeline(NamedTuple):
    """Packets of a video stream that are to be shown.

    Attributes:
        n: number of packets, which is that of the frames in most files; only decoding tells.
        times: their presentation time stamps (ticks), in ascending order; empty if the container has none.
        tick: unit of time (s).
        rate: mean frames per second; None if the file states no rate.
        container: format, in FFmpeg's word.
        counted: by container and codec, each packet is one frame.
        hides: a packet need not be a frame: the codec has packets without one, or with one that is not shown.
    """

    n: int
    times: list[int]
    tick: Fraction
    rate: float | None
    container: str
    counted: bool
    hides: bool

    @property
    def tolerance(self) -> float:
        """Accepted difference between times (s)."""
        return max(FRAMES_OF_TOLERANCE / self.rate if self.rate else 0.0, SECONDS_OF_TOLERANCE)


@contextmanager
def open_video(path: Path) -> Iterator[tuple[InputContainer, VideoStream]]:
    """Open a file and its video stream, to be decoded by one thread. A cover picture is no video stream.

    Raises:
        UserError: the file is missing, is not a video, or cannot be decoded.
    """
    if not path.is_file():
        raise UserError(str(path), MISSING)
    try:
        with av.open(str(path)) as container:
            stream = container.streams.best("video")
            if not isinstance(stream, VideoStream) or stream.disposition & Disposition.attached_pic:
                raise UserError(str(path), "contains no video stream; correct stim_file in the events, or fetch the file again")
            stream.thread_count = 1
            yield container, stream
    except av.FFmpegError as error:
        reason = f"cannot be read as video ({error.strerror}): truncated or not a video; fetch the file again"
        raise UserError(str(path), reason) from None


def read_timeline(path: Path) -> Timeline:
    """List a video's packets, and check that the file is whole: decoders take a truncated video for a shorter one.

    Raises:
        UserError: as `open_video`; or the file holds no frames, or ends before the time that its header states.
    """
    with open_video(path) as (container, stream):
        expected, found = stated_bytes(path), path.stat().st_size
        if expected and found < expected:
            raise UserError(str(path), f"bytes: found {found:,}, expected {expected:,} as the header states; fetch the file again")
        kind = container.format.name.split(",")[0]
        rate = float(stream.average_rate) if stream.average_rate else None
        codec = stream.codec_context.name if stream.codec_context else None
        stated = _stated_end(container, stream) if kind in STATE_THEIR_DURATION else None
        shown, ends = [], dict.fromkeys(range(len(container.streams)), 0)
        for packet in container.demux(stream) if stream.duration is not None else container.demux():
            if packet.size and packet.pts is not None:
                ends[packet.stream_index] = max(ends[packet.stream_index], packet.pts + (packet.duration or 0))
            if packet.size and packet.stream_index == stream.index and not packet.is_discard:
                shown.append(packet.pts)
        end = max(ticks * float(container.streams[index].time_base or 0) for index, ticks in ends.items())
        times = sorted(shown) if None not in shown else []
        counted, hides = kind == "mov" and codec in ("h264", "hevc"), codec in HIDING
        timeline = Timeline(len(shown), times, stream.time_base or Fraction(1), rate, kind, counted, hides)
    if not shown:
        raise UserError(str(path), "frames: found none, expected one or more; fetch the file again")
    if stated is not None and end < stated - timeline.tolerance:
        raise UserError(str(path), f"duration: found {end:.2f} s, expected {stated:.2f} s as the header states; fetch the file again")
    return timeline


def _stated_end(container: InputContainer, stream: VideoStream) -> float | None:
    """Return the time at which the video stream ends by the header (s), or else the longest of all streams; None if nothing is stated."""
    if stream.duration is not None and stream.time_base:
        return float(((stream.start_time or 0) + stream.duration) * stream.time_base)
    return container.duration / av.time_base if container.duration else None


def stated_bytes(path: Path) -> int | None:
    """Return the length of a file that its header states; None if it states none, as that of a live recording.

    Matroska and WebM state the length of their segment, AVI that of its RIFF list, Windows Media that of the file, MP4 and QuickTime that
    of each box.
    """
    with path.open("rb") as file:
        head = file.read(4096)
        if head[:4] == b"\x30\x26\xb2\x75" and (at := head.find(FILE_PROPERTIES)) > 0:
            return int.from_bytes(head[at + 40 : at + 48], "little")
        if head[:4] == b"\x1a\x45\xdf\xa3":
            return _end_of_segment(head)
        if head[:4] == b"RIFF":
            return 8 + int.from_bytes(head[4:8], "little")
        if head[4:8] in (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip"):
            return _end_of_boxes(file)
    return None


def _end_of_segment(head: bytes) -> int | None:
    """Return where the segment of a Matroska file ends, from the file's first bytes."""
    length, at = _variable_integer(head, 4)
    at += length or 0
    if head[at : at + 4] != b"\x18\x53\x80\x67":
        return None
    length, at = _variable_integer(head, at + 4)
    return None if length is None else at + length


def _variable_integer(data: bytes, at: int) -> tuple[int | None, int]:
    """Return an EBML integer, None if it is the one that means unknown, and the place behind it."""
    width = 9 - data[at].bit_length()
    value = int.from_bytes(data[at : at + width], "big") & ((1 << 7 * width) - 1)
    return (None if value == (1 << 7 * width) - 1 else value), at + width


def _end_of_boxes(file: BinaryIO) -> int:
    """Return where the last top-level box of an MP4 file ends."""
    at, end = 0, file.seek(0, SEEK_END)
    while at < end:
        file.seek(at)
        head = file.read(16)
        size = int.from_bytes(head[:4], "big")
        size = int.from_bytes(head[8:16], "big") if size == 1 else size
        if size < 8:  # 0: to the end of the file; less is no box, but something appended
            return end
        at += size
    return at
