"""Sections of the configuration: simulated data."""

from __future__ import annotations

from boldscribe.machinery.section import Section, key


class SimulatedDesign(Section):
    """A raw BIDS data set written by the simulator instead of a measured one."""

    subjects: int = key(6, "number of subjects", "ours", ge=2)
    runs: int = key(2, "runs per subject", "ours", ge=2)
    trials_per_run: int = key(48, "trials per run", "ours", ge=1)
    shared_clips: bool = key(
        False, "true if all subjects see the same clips (as in Urgen); false if only one subject sees each clip (as in HAD)", "ours"
    )


class Simulation(Section):
    """Simulated BOLD, shared by all simulated data sets."""

    snr: float = key(1.0, "amplitude of the clip responses relative to the default; 0 for BOLD without signal", "ours", ge=0)
    repetition_time: float = key(2.0, "TR (s)", "data sets", gt=0)
    stimulus_onset_asynchrony: float = key(6.0, "time between clip onsets (s)", "ours", gt=0)
    voxel_size: float = key(4.5, "BOLD voxel edge in scanner space (mm)", "ours", gt=0)
    t1w_voxel_size: float = key(2.0, "T1w voxel edge (mm)", "ours", gt=0)
    clip_seconds: float = key(2.0, "length of a rendered clip (s)", "data sets", gt=0)
    clip_fps: int = key(8, "frames per second of a rendered clip", "ours", ge=1)
    clip_size: int = key(224, "edge of a rendered frame (pixels)", "ours", ge=32)
