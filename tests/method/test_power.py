"""Simulated experiments: the series carry what they should, and probabilities are counted and not run twice."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from scipy.stats import binomtest

from boldscribe.conditions import NULLS
from boldscribe.config import Config
from boldscribe.machinery.errors import UserError
from boldscribe.machinery.files import load_array, save_array
from boldscribe.power import repetitions
from boldscribe.power.curve import ALL, ANY, draw, probabilities
from boldscribe.power.design import DATASET, Design, designs, experiment
from boldscribe.power.power_command import FAST
from boldscribe.power.rendered_clips import Clips, provide_models
from boldscribe.power.repetitions import Repetition, run_all
from boldscribe.power.simulated_experiment import Experiment
from boldscribe.simulation.dataset import frame_times, plan
from boldscribe.simulation.responses import feature_matrix, time_courses
from boldscribe.simulation.scenes import describe
from boldscribe.simulation.simulated_series import write_simulated_series


@pytest.fixture(scope="module")
def fast() -> Config:
    return Config.load(*FAST)


def simulated(config: Config, folder: Path, subject: str) -> NDArray[np.float32]:
    """A subject's series (volumes, voxels)."""
    scenes, viewed = plan(config, DATASET)
    path = folder / f"sub-{subject}_bold.npy"
    write_simulated_series(config, DATASET, subject, scenes, viewed[viewed["subject"] == subject], path)
    return np.asarray(load_array(path)[0], np.float32)


def explained(config: Config, series_TV: NDArray[np.float32], subject: str) -> NDArray[np.float64]:
    """Adjusted R² of each voxel of the first run, from what the subject's clips show."""
    scenes, viewed = plan(config, DATASET)
    trials = viewed[(viewed["subject"] == subject) & (viewed["run"] == "01")]
    onsets = trials["onset"].to_numpy()
    times = frame_times(onsets, config.simulation)
    courses = time_courses(feature_matrix([scenes[c] for c in trials["stim_file"]]), onsets, config.simulation.clip_seconds, times, 0.0)
    courses -= courses.mean(0)
    basis, sizes, _ = np.linalg.svd(courses, full_matrices=False)
    basis = basis[:, sizes > 1e-6 * sizes[0]]
    y, n = series_TV[: len(times)], len(times)
    left = 1 - ((basis.T @ y) ** 2).sum(0) / (y**2).sum(0)
    return np.asarray(1 - left * (n - 1) / (n - 1 - basis.shape[1]))


def test_series_hold_the_signal_that_is_asked_for(fast: Config, tmp_path: Path) -> None:
    """None at SNR 0, where another subject's clips explain as much; at SNR 1 as much as in the whole simulation (docs/power.md)."""
    own, others = {}, {}
    for snr in (0.0, 1.0):
        config = experiment(fast, Design(2, 1, 48, snr), 5, tmp_path)
        series_TV = simulated(config, tmp_path, "01")
        np.testing.assert_allclose(series_TV[:150].std(0).mean(), 1, atol=0.05)
        own[snr], others[snr] = (explained(config, series_TV, subject) for subject in ("01", "02"))
    assert abs(own[0.0].mean() - others[0.0].mean()) < 0.01
    assert 0.45 < np.quantile(own[1.0], 0.99) < 0.65  # 0.56 there
    assert np.quantile(others[1.0], 0.99) < 0.3


def test_designs_that_differ_in_snr_alone_share_everything_else(fast: Config, tmp_path: Path) -> None:
    one, two = (Repetition(fast, Design(4, 2, 48, snr), 3, tmp_path) for snr in (0.0, 1.0))
    assert one.seed == two.seed
    assert len({Repetition(fast, Design(4, 2, 48, 1.0), n, tmp_path).seed for n in range(50)}) == 50
    assert Repetition(fast, Design(4, 2, 24, 1.0), 3, tmp_path).seed != one.seed
    assert one.result != two.result


def test_reads_all_combinations_of_a_design() -> None:
    assert designs("4+2", "48,24", "0,0.5") == [Design(4, 2, 24, 0.0), Design(4, 2, 24, 0.5), Design(4, 2, 48, 0.0), Design(4, 2, 48, 0.5)]
    assert Design(4, 2, 48, 0.5).n_clips == 576


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(("4", "48", "1"), "--subjects"), (("1+1", "48", "1"), "--subjects"), (("4+2", "4", "1"), "--trials"), (("4+2", "48", "-1"), "--snr")],
)
def test_refuses_what_is_no_design(arguments: tuple[str, str, str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        designs(*arguments)


def results(beaten: dict[str, list[bool]], snr: float = 1.0) -> pd.DataFrame:
    """Tests as repetitions leave them: for each null control, whether it was beaten in each."""
    rows = [
        {"source": 4, "target": 2, "trials": 48, "snr": snr, "repetition": i, "against": control, "metric": metric, "beats": beats}
        for control, outcomes in beaten.items()
        for i, beats in enumerate(outcomes)
        for metric in ("any", "bertscore")
    ]
    return pd.DataFrame(rows)


def test_probabilities_are_counts_with_exact_intervals(tmp_path: Path) -> None:
    llm, mean = [True] * 9 + [False], [True] * 6 + [False] * 4
    table = probabilities(pd.concat([results({"llm": llm, "mean": mean}), results({"llm": [False] * 20, "mean": [False] * 20}, 0.0)]))
    counts = table.set_index(["snr", "control"])["beaten"].to_dict()
    assert counts == {(1.0, ALL): 6, (1.0, ANY): 9, (1.0, "llm"): 9, (1.0, "mean"): 6} | {(0.0, c): 0 for c in (ALL, ANY, "llm", "mean")}
    for row in table.to_dict("records"):
        expected = binomtest(row["beaten"], row["repeats"]).proportion_ci(method="exact")
        np.testing.assert_allclose([row["low"], row["high"]], expected, atol=1e-9)
    draw(table, tmp_path / "power.svg")
    assert (tmp_path / "power.svg").read_text().startswith("<?xml")


def test_a_repetition_is_not_run_twice(fast: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[str] = []

    def run(repetition: Repetition) -> None:
        ran.append(repetition.result.name)
        repetition.result.parent.mkdir(exist_ok=True)
        rows = {"against": ["llm"], "metric": ["any"], "beats": [True], "repetition": [repetition.number]}
        pd.DataFrame(rows).to_csv(repetition.result, index=False)

    monkeypatch.setattr(Repetition, "run", run)
    monkeypatch.setattr(Repetition, "clips", lambda _: None)
    monkeypatch.setattr(repetitions, "provide_models", lambda *_: None)
    wanted = designs("4+2", "48", "0,1")
    assert len(run_all(fast, wanted, 2, 1, tmp_path)) == 4
    assert len(run_all(fast, wanted, 3, 1, tmp_path)) == 6
    assert len(run_all(fast, wanted, 1, 1, tmp_path)) == 6  # what is there counts
    assert len(run_all(fast, wanted[:1], 1, 1, tmp_path)) == 3
    assert len(ran) == len(set(ran)) == 6
    other = fast.model_copy(update={"seed": fast.seed + 1})
    with pytest.raises(UserError, match="another configuration, seed or version"):
        run_all(other, wanted, 3, 1, tmp_path)


@pytest.mark.slow
def test_a_whole_experiment_tests_every_null_control(fast: Config, tmp_path: Path) -> None:
    """With the control that needs trainings of its own; on features of noise, which are not rendered and encoded here."""
    small = {
        "stage1": {**fast.stage1.model_dump(), "epochs": 1, "batch_size": 8},
        "stage2": {**fast.stage2.model_dump(by_alias=True), "steps": 1, "warmup_steps": 0},
        "decoding": {**fast.decoding.model_dump(), "max_new_tokens": 8, "controls": list(NULLS)},
    }
    base = Config.model_validate({**fast.model_dump(by_alias=True), **small})
    config = experiment(base, Design(2, 2, 8, 1.0), 5, tmp_path)
    provide_models(config, tmp_path / "models")
    scenes, _ = plan(config, DATASET)
    rng, widths = np.random.default_rng(1), config.video_llama.q_former
    tokens = rng.normal(size=(len(scenes), config.stimuli.n_frames * widths.n_queries, widths.hidden_size))
    save_array(tmp_path / "features.npy", tokens.astype(np.float16), clips=list(scenes))
    texts = [describe(scene, rng) for scene in scenes.values()]
    asked = rng.choice(config.video_llama.instructions[:2], len(scenes))
    captions = pd.DataFrame({"stim_file": list(scenes), "instruction": asked, "text": texts})

    made = Experiment(config, Clips(scenes, tmp_path / "features.npy", captions), tmp_path / "models", tmp_path)
    made.scan()
    made.train()
    tests = made.tests(made.decode())
    overall = tests[tests["metric"] == "any"]
    assert overall["against"].tolist() == list(NULLS)
    assert overall["p_holm"].between(0, 1).all() and not tests["p"].isna().any()
    assert (tmp_path / "stage2" / "noise").is_dir()


def test_refuses_a_ceiling(fast: Config, tmp_path: Path) -> None:
    decoding = fast.decoding.model_copy(update={"controls": ["llm", "captioner"]})
    config = experiment(fast.model_copy(update={"decoding": decoding}), Design(2, 1, 8, 1.0), 5, tmp_path)
    with pytest.raises(UserError, match="found captioner, expected no ceiling"):
        Experiment(config, Clips({}, tmp_path, pd.DataFrame()), tmp_path, tmp_path)
