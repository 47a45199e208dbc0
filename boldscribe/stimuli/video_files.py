"""Streams and timeline of a video file, read without decoding it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
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
EBML, SEGMENT = b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67"  # of Matroska
BOXES = (b"ftyp", b"styp", b"moov", b"moof", b"mfra", b"mdat", b"sidx", b"free", b"skip", b"wide", b"uuid", b"udta")
TRANSPORT_PACKETS = ((188, 0), (192, 4))  # length of a packet, and place of the letter G in it
UNKNOWN_LENGTH = b"\xff" * 4
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
        with av.open(str(path), metadata_errors="replace") as container:  # titles may be in any encoding
            stream = container.streams.best("video")
            if not isinstance(stream, VideoStream) or stream.disposition & Disposition.attached_pic:
                raise UserError(str(path), "contains no video stream; correct stim_file in the events, or fetch the file again")
            if stream.codec_context is None:
                raise UserError(str(path), "codec: found one that FFmpeg cannot decode; convert the video to mp4, or fetch the file again")
            stream.thread_count = 1
            yield container, stream
    except av.FFmpegError as error:
        reason = f"cannot be read as video ({error.strerror}): truncated or not a video; fetch the file again"
        raise UserError(str(path), reason) from None
    except IndexError:  # PyAV lists the streams when it opens the file
        raise UserError(str(path), "a stream begins in the middle of the file; convert the video to mp4, or fetch it again") from None


def read_timeline(path: Path) -> Timeline:
    """List a video's packets, and check that the file is whole: decoders take a truncated video for a shorter one.

    Raises:
        UserError: as `open_video`; or the file holds no frames, or ends before the byte or the time that its header states.
    """
    _check_bytes(path)
    with open_video(path) as (container, stream):
        kind = container.format.name.split(",")[0]
        rate = float(stream.average_rate) if stream.average_rate else None
        codec = stream.codec_context.name
        stated = _stated_end(container, stream) if kind in STATE_THEIR_DURATION else None
        shown: list[int | None] = []
        ends, damaged = dict.fromkeys(range(len(container.streams)), 0), 0
        for packet in container.demux(stream) if stream.duration is not None else container.demux():
            if packet.size and packet.pts is not None:
                ends[packet.stream_index] = max(ends[packet.stream_index], packet.pts + (packet.duration or 0))
            if packet.size and packet.stream_index == stream.index and not packet.is_discard:
                shown.append(packet.pts)
                damaged += packet.is_corrupt
        end = max(ticks * float(container.streams[index].time_base or 0) for index, ticks in ends.items())
        times = sorted(time for time in shown if time is not None)
        counted = kind == "mov" and codec in ("h264", "hevc")
        hides = codec in HIDING or (kind == "avi" and bool(stream.codec_context.has_b_frames))  # AVI states no times of presentation
        timeline = Timeline(
            n=len(shown),
            times=times if len(times) == len(shown) else [],
            tick=stream.time_base or Fraction(1),
            rate=rate,
            container=kind,
            counted=counted,
            hides=hides,
        )
    if not shown:
        raise UserError(str(path), "frames: found none, expected one or more; fetch the file again")
    if damaged:
        raise UserError(str(path), f"{damaged} of {len(shown)} packets are damaged; fetch the file again")
    if stated is not None and end < stated - timeline.tolerance:
        raise UserError(str(path), f"duration: found {end:.2f} s, expected {stated:.2f} s as the header states; fetch the file again")
    return timeline


def _stated_end(container: InputContainer, stream: VideoStream) -> float | None:
    """Return the time at which the video stream ends by the header (s), or else the longest of all streams; None if nothing is stated."""
    if stream.duration is not None and stream.time_base:
        return float(((stream.start_time or 0) + stream.duration) * stream.time_base)
    return container.duration / av.time_base if container.duration else None


def _check_bytes(path: Path) -> None:
    """Check that a file has the length that it states.

    Matroska and WebM state the length of their segment, AVI that of its list, Windows Media that of the file, MP4 and QuickTime that of
    each box; transport streams consist of packets of one length. Live recordings, MPEG program streams and GIF state nothing.

    Raises:
        UserError: the file is shorter.
    """
    if not path.is_file():
        raise UserError(str(path), MISSING)
    expected, found = 0, path.stat().st_size
    with path.open("rb") as file:
        head = file.read(4096)
        if head[:4] == EBML:
            expected = _end_of_segment(head)
        elif head[:4] == b"RIFF" and head[4:8] != UNKNOWN_LENGTH:
            expected = int.from_bytes(head[4:8], "little")  # some programs count the 8 bytes before it, others do not
        elif (at := head.find(FILE_PROPERTIES)) > 0:
            expected = int.from_bytes(head[at + 40 : at + 48], "little")
        elif head[4:8] in BOXES:
            expected = _end_of_boxes(file, found)
        elif packet := next((size for size, at in TRANSPORT_PACKETS if head[at::size][:3] == b"GGG"), 0):
            expected = -(-found // packet) * packet
    if found < expected:
        raise UserError(str(path), f"bytes: found {found:,}, expected {expected:,} or more; fetch the file again")


def _end_of_segment(head: bytes) -> int:
    """Return where the segment of a Matroska file ends, from the file's first bytes; 0 if it does not say."""
    length, at = _variable_integer(head, 4)
    at += length
    if head[at : at + 4] != SEGMENT:
        return 0
    length, at = _variable_integer(head, at + 4)
    return at + length if length else 0


def _variable_integer(data: bytes, at: int) -> tuple[int, int]:
    """Return a length in Matroska's coding, 0 if it is the one that means unknown, and the place behind it."""
    width = 9 - (data[at].bit_length() if at < len(data) else 1)
    ones = (1 << 7 * width) - 1
    value = int.from_bytes(data[at : at + width], "big") & ones
    return (0 if value == ones else value), at + width


def _end_of_boxes(file: BinaryIO, end: int) -> int:
    """Return where the last box of an MP4 file ends; what follows the boxes is not looked at."""
    at = 0
    while at < end:
        file.seek(at)
        head = file.read(16)
        size = int.from_bytes(head[:4], "big")
        size = int.from_bytes(head[8:16], "big") if size == 1 else size
        if size < 8 or head[4:8] not in BOXES:  # size 0: to the end of the file
            break
        at += size
    return at
