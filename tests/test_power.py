"""Simulated experiments: the series carry what they should, and probabilities are counted and not run twice."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from scipy.stats import binomtest

from boldscribe.config import Config, load_config
from boldscribe.errors import UserError
from boldscribe.files import load_array
from boldscribe.power import repetitions
from boldscribe.power.commands import FAST
from boldscribe.power.curve import ALL, ANY, draw, probabilities
from boldscribe.power.design import DATASET, Design, designs, experiment
from boldscribe.power.repetitions import Repetition, run_all
from boldscribe.simulation.dataset import frame_times, plan
from boldscribe.simulation.responses import feature_matrix, time_courses
from boldscribe.simulation.series import write_simulated_series


@pytest.fixture(scope="module")
def fast() -> Config:
    return load_config(*FAST)


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
    assert len(ran) == len(set(ran)) == 6
    other = fast.model_copy(update={"seed": fast.seed + 1})
    with pytest.raises(UserError, match="another configuration, seed or version"):
        run_all(other, wanted, 3, 1, tmp_path)
