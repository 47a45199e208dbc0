"""T uniformly spaced frames of a video, read by decord, or by PyAV if decord fails."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, NamedTuple

import av
import numpy as np
from av.container import InputContainer
from av.video.stream import VideoStream
from numpy.typing import NDArray
from PIL import Image

from boldscribe.machinery.errors import UserError

FRAMES_OF_TOLERANCE = 2  # durations are rounded
MISSING = "the video is missing; put it in place, or correct stim_file in the events"


def uniform_indices(n: int, n_frames: int) -> NDArray[np.int64]:
    """Indices of T uniformly spaced frames out of n, floor(arange(0, n, n/T)); a clip shorter than T repeats frames (Video-LLaMA)."""
    return np.floor(np.arange(n_frames) * n / n_frames).astype(np.int64)


class ClipFrames(NamedTuple):
    """Frames taken from a video.

    Attributes:
        images: uint8 RGB (T, size, size, 3).
        indices: their indices in the video (T).
        n: number of frames in the video.
        rate: its frames per second; None if the file states no rate.
    """

    images: NDArray[np.uint8]
    indices: list[int]
    n: int
    rate: float | None


def read_frames(path: str | Path, *, n_frames: int, size: int, reader: Literal["decord", "pyav"] = "decord") -> ClipFrames:
    """Read T uniformly spaced frames.

    Args:
        path: video file.
        n_frames: T.
        size: edge length of the resized frames (pixels).
        reader: library to read with; PyAV takes over if decord fails (AV1, and VP9 of some encoders).

    Raises:
        UserError: as `check_video`, or neither reader can decode the file.
    """
    path = Path(path)
    n, rate = check_video(path)
    frames = _by_decord(path, n_frames) if reader == "decord" else None
    images, indices = frames if frames is not None else _by_pyav(path, n_frames, n)
    return ClipFrames(np.stack([_resize(image, size) for image in images]), indices.tolist(), n, rate)


def check_video(path: Path) -> tuple[int, float | None]:
    """Check that a video is complete, without decoding it: the readers mistake a truncated video for a shorter one.

    Returns:
        its number of frames, and frames per second; None if the file states no rate.

    Raises:
        UserError: the file is missing, is not a video, or holds fewer frames than its header states.
    """
    if not path.is_file():
        raise UserError(str(path), MISSING)
    try:
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            stated = stream.frames or _frames_by_duration(container, stream)
            rate = float(stream.average_rate) if stream.average_rate else None
            found = sum(packet.size > 0 for packet in container.demux(stream))
    except (av.FFmpegError, IndexError) as error:
        raise UserError(
            str(path), f"cannot be read as video ({_in_words(error)}): truncated or not a video; fetch the file again"
        ) from None
    if found == 0 or found < stated - FRAMES_OF_TOLERANCE:
        raise UserError(str(path), f"frames: found {found}, expected {max(stated, 1)} as the header states; fetch the file again")
    return found, rate


def check_frames(path: Path) -> None:
    """Check that a video is complete and every frame can be decoded.

    A decoder conceals undecodable parts with pixels of other frames, and marks the frame as damaged.

    Raises:
        UserError: as `check_video`; or a frame cannot be decoded or is damaged, or there are fewer frames than packets.
    """
    expected, _ = check_video(path)
    found = damaged = 0
    try:
        with av.open(str(path)) as container:
            container.streams.video[0].thread_count = 1
            for frame in container.decode(video=0):
                found += 1
                damaged += frame.is_corrupt
    except av.FFmpegError as error:
        raise UserError(str(path), f"frame {found} of {expected} cannot be decoded ({_in_words(error)}); fetch the file again") from None
    if damaged:
        raise UserError(str(path), f"{damaged} of {expected} frames are damaged; fetch the file again")
    if found < expected - FRAMES_OF_TOLERANCE:
        raise UserError(str(path), f"frames: {found} can be decoded, expected {expected}; fetch the file again")


def _in_words(error: av.FFmpegError | IndexError) -> str:
    """Return FFmpeg's message without number and path; an IndexError means that there is no first video stream."""
    return error.strerror if isinstance(error, av.FFmpegError) else "it contains no video stream"


def _frames_by_duration(container: InputContainer, stream: VideoStream) -> int:
    """Estimate the frames of a container that states no count from its duration and mean rate; 0 if either is missing."""
    return int(container.duration / av.time_base * stream.average_rate) if container.duration and stream.average_rate else 0


def _by_decord(path: Path, n_frames: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]] | None:
    """Read frames with decord; None if it cannot read the file."""
    import decord

    try:
        video = decord.VideoReader(str(path), ctx=decord.cpu(0), num_threads=1)
        indices = uniform_indices(len(video), n_frames)
        return video.get_batch(indices).asnumpy(), indices
    except (decord.DECORDError, RuntimeError, IndexError):
        return None


def _by_pyav(path: Path, n_frames: int, expected: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Read frames with PyAV: decode all to count them, and convert the sampled ones to RGB.

    Args:
        path: video file.
        n_frames: T.
        expected: presumed number of frames; if it is wrong, the video is decoded once more.
    """
    indices = uniform_indices(expected, n_frames)
    taken, images, n = set(indices.tolist()), {}, 0
    try:
        with av.open(str(path)) as container:
            container.streams.video[0].thread_count = 1
            for n, frame in enumerate(container.decode(video=0), start=1):
                if n - 1 in taken:
                    images[n - 1] = frame.to_ndarray(format="rgb24")
    except (av.FFmpegError, IndexError) as error:
        raise UserError(
            str(path), f"cannot be decoded as video ({_in_words(error)}): truncated or not a video; fetch the file again"
        ) from None
    if n == 0:
        raise UserError(str(path), "contains no frames; fetch the file again")
    return _by_pyav(path, n_frames, n) if n != expected else (np.stack([images[i] for i in indices]), indices)


def _resize(image: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    if image.shape[:2] == (size, size):
        return image
    return np.asarray(Image.fromarray(image).resize((size, size), Image.Resampling.BILINEAR))
