"""T uniformly spaced frames of a video, each verified to be the one that FFmpeg's own decoding from the start has at its place."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, NamedTuple

import av
import numpy as np
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray
from PIL import Image

from boldscribe.machinery.errors import UserError
from boldscribe.stimuli.video_files import FRAMES_OF_TOLERANCE, Timeline, open_video, read_timeline

Picture = NDArray[np.uint8]
DECORD_READS = ("mov", "matroska", "avi", "flv")  # of others, such as MPEG transport streams, it loses frames
DECORD_PRECISION = 0.002  # of its time stamps (s)
DECORD_DIFFERENCE = 4.0  # of its first picture from PyAV's: two decoders round differently (mean over pixels, 0 to 255)


def uniform_indices(n: int, n_frames: int) -> NDArray[np.int64]:
    """Indices of T uniformly spaced frames out of n, floor(arange(0, n, n/T)); a clip shorter than T repeats frames (Video-LLaMA)."""
    return np.floor(np.arange(n_frames) * n / n_frames).astype(np.int64)


class ClipFrames(NamedTuple):
    """Frames taken from a video.

    Attributes:
        images: uint8 RGB (T, size, size, 3).
        indices: their indices in the video (T).
        n: number of frames in the video: those that can be decoded and are to be shown.
        rate: its frames per second; None if the file states no rate.
    """

    images: Picture
    indices: list[int]
    n: int
    rate: float | None


def read_frames(path: str | Path, *, n_frames: int, size: int, reader: Literal["decord", "pyav"] = "pyav") -> ClipFrames:
    """Read T uniformly spaced frames, the right way up.

    Args:
        path: video file.
        n_frames: T.
        size: edge length of the resized frames (pixels).
        reader: library to read with; PyAV takes over where decord fails or its answer cannot be verified.

    Raises:
        UserError: as `read_timeline`, or the file cannot be decoded.
    """
    path = Path(path)
    timeline = read_timeline(path)
    by_decord = _by_decord(path, n_frames, timeline) if reader == "decord" else None
    pictures, n = by_decord or _by_pyav(path, n_frames, timeline)
    indices = uniform_indices(n, n_frames).tolist()
    resized = {index: _resize(picture, size) for index, picture in pictures.items()}
    return ClipFrames(np.stack([resized[index] for index in indices]), indices, n, timeline.rate)


def check_frames(path: Path) -> None:
    """Check that a video is complete and every frame can be decoded.

    A decoder conceals undecodable parts with pixels of other frames, and marks the frame as damaged.

    Raises:
        UserError: as `read_timeline`; or a frame cannot be decoded or is damaged, or frames are missing.
    """
    timeline = read_timeline(path)
    decoded: list[int | None] = []
    damaged = 0
    with open_video(path) as (container, stream):
        try:
            for frame in container.decode(stream):
                decoded.append(frame.pts)
                damaged += frame.is_corrupt
        except av.FFmpegError as error:
            reason = f"frame {len(decoded)} of {timeline.n} cannot be decoded ({error.strerror}); fetch the file again"
            raise UserError(str(path), reason) from None
    if damaged:
        raise UserError(str(path), f"{damaged} of {len(decoded)} frames are damaged; fetch the file again")
    expected = _frames_from(timeline, decoded[0]) if decoded else timeline.n
    if not decoded or len(decoded) < expected - FRAMES_OF_TOLERANCE:
        raise UserError(str(path), f"frames: {len(decoded)} can be decoded, expected {expected}; fetch the file again")


def _frames_from(timeline: Timeline, first: int | None) -> int:
    """Least number of frames that a whole video has from its first decodable one.

    A video that was cut out of another without encoding may begin with frames that refer to ones before the cut. Nobody can decode them.
    """
    if timeline.hides:
        return 1
    return sum(time >= first for time in timeline.times) if first is not None and timeline.times else timeline.n


def _by_pyav(path: Path, n_frames: int, timeline: Timeline) -> tuple[dict[int, Picture], int]:
    """Read frames with PyAV; if the video has not as many frames as packets, it is decoded once more.

    Returns:
        pictures by index, and the number of frames in the video.
    """
    pictures, n = _decode(path, uniform_indices(timeline.n, n_frames), timeline.times if timeline.counted else [])
    if n == 0:
        raise UserError(str(path), f"frames: none of {timeline.n} can be decoded; fetch the file again")
    return (pictures, n) if n == timeline.n else _decode(path, uniform_indices(n, n_frames), [])


def _decode(path: Path, indices: NDArray[np.int64], times: list[int]) -> tuple[dict[int, Picture], int]:
    """Decode from the start, in sequence, and convert the wanted frames to RGB.

    Args:
        path: video file.
        indices: wanted frames.
        times: time stamps of all frames, if they are known: while each frame has the one that it should have, the number of frames
            need not be counted, and decoding ends with the last wanted frame.

    Returns:
        pictures by index, and the number of frames in the video.
    """
    wanted, pictures, n, on_time = set(indices.tolist()), {}, 0, bool(times)
    convert = VideoReformatter()
    with open_video(path) as (container, stream):
        for n, frame in enumerate(container.decode(stream), start=1):
            on_time = on_time and n <= len(times) and frame.pts == times[n - 1]
            if n - 1 in wanted:
                # one converter and one thread for all: a frame's own takes ten times as long, and gives the same bytes
                picture = np.asarray(convert.reformat(frame, format="rgb24", threads=1).to_ndarray(), np.uint8)
                pictures[n - 1] = _upright(picture, frame)
            if on_time and n > indices[-1]:
                return pictures, len(times)
    return pictures, n


def _matrix(frame: VideoFrame) -> NDArray[np.int32] | None:
    """Return a frame's display matrix, by which players turn it; None if it has none."""
    found: Any = frame.side_data.get("DISPLAYMATRIX")
    return None if found is None else np.frombuffer(bytes(found), np.int32).reshape(3, 3)


def _upright(image: Picture, frame: VideoFrame) -> Picture:
    """Turn and mirror a picture as its display matrix asks, to the nearest quarter turn."""
    matrix = _matrix(frame)
    if matrix is None:
        return image
    (a, b), (c, d) = matrix[:2, :2]  # a pixel at (x, y) is shown at (a x + c y, b x + d y)
    if abs(b) > abs(a):
        image, a, d = image.swapaxes(0, 1), c, b
    return image[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1]


def _by_decord(path: Path, n_frames: int, timeline: Timeline) -> tuple[dict[int, Picture], int] | None:
    """Read frames with decord; None if it fails, or its answer cannot be verified.

    decord seeks to wrong frames behind a second key frame, turns some pictures and not others, and repeats frames that it cannot decode.
    So it must state the same times as the packets, begin with the same picture and decode all that it reads, and with several key frames
    it reads all in turn.
    """
    import decord
    from decord._ffi.base import DECORDLimitReachedError  # too many frames that it could not decode

    if timeline.container not in DECORD_READS or not timeline.times:
        return None
    try:
        video = decord.VideoReader(str(path), ctx=decord.cpu(0), num_threads=1, fault_tol=1e-6)
        n = len(video)
        stated = video.get_frame_timestamp(range(n))[:, 0]
        expected = np.array([float((time - timeline.times[0]) * timeline.tick) for time in timeline.times])
        if n != timeline.n or np.abs(stated - stated[0] - expected).max() > DECORD_PRECISION:
            return None
        wanted = sorted(set(uniform_indices(n, n_frames).tolist()))
        if len(video.get_key_indices()) == 1:
            pictures = dict(zip(wanted, video.get_batch(wanted).asnumpy(), strict=True))
        else:
            in_turn = ((index, video.next()) for index in range(n))
            pictures = {index: image.asnumpy() for index, image in in_turn if index in wanted}
    except (decord.DECORDError, DECORDLimitReachedError, RuntimeError, IndexError, StopIteration):
        return None
    return (pictures, n) if _is_first(path, pictures[0]) else None


def _is_first(path: Path, picture: Picture) -> bool:
    """Return whether a picture is the first of a video, as PyAV decodes it, and no display matrix turns it."""
    with open_video(path) as (container, stream):
        frame = next(container.decode(stream), None)
        if frame is None or _matrix(frame) is not None:
            return False
        expected = frame.to_ndarray(format="rgb24").astype(int)
    return expected.shape == picture.shape and np.abs(expected - picture).mean() < DECORD_DIFFERENCE


def _resize(image: Picture, size: int) -> Picture:
    if image.shape[:2] == (size, size):
        return np.ascontiguousarray(image)
    return np.asarray(Image.fromarray(np.ascontiguousarray(image)).resize((size, size), Image.Resampling.BILINEAR))
