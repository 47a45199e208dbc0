"""Identification: a worked example, all draws counted one by one, and sentences."""

from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

from boldscribe.evaluation.identification import identification
from boldscribe.evaluation.sentences import sentence_vectors
from boldscribe.models.sentence_encoder import SentenceEncoder


def test_worked_by_hand() -> None:
    similarity = np.array(
        [
            [0.9, 0.1, 0.2, 0.3],  # the first is the nearest
            [0.5, 0.5, 0.2, 0.1],  # ties with one other
            [0.3, 0.4, 0.1, 0.2],  # second of four
            [0.3, 0.3, 0.3, 0.3],  # says nothing
        ]
    )
    of_first = {name: values[:, 0] for name, values in identification(similarity, [2, 3]).items()}
    np.testing.assert_allclose(of_first["identification"], [100, 50, 0, 25])
    np.testing.assert_allclose(of_first["identification_2way"], [100, 100 * 2.5 / 3, 100 * 2 / 3, 50])
    # of the 3 pairs of others: none has the tie in 1; 1 of 3 has no nearer one
    np.testing.assert_allclose(of_first["identification_3way"], [100, 100 * (1 + 0.5 + 0.5) / 3, 100 / 3, 100 / 3])


def _counted(similarity: np.ndarray, own: int, k: int) -> float:
    """Accuracy over all draws of k - 1 others, an equal share of each draw's first place for all who hold it."""
    shares = []
    for drawn in combinations([i for i in range(len(similarity)) if i != own], k - 1):
        candidates = similarity[[own, *drawn]]
        shares.append((candidates[0] == candidates.max()) / (candidates == candidates.max()).sum())
    return 100 * float(np.mean(shares))


@pytest.mark.parametrize("seed", range(5))
def test_equals_the_count_of_all_draws(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n = int(rng.integers(2, 9))
    similarity = rng.integers(0, 4, (6, n)) / 10  # with many ties
    ways = list(range(1, n + 1))
    found = identification(similarity, ways)
    for k in ways:
        expected = [[_counted(row, own, k) for own in range(n)] for row in similarity]
        np.testing.assert_allclose(found[f"identification_{k}way"], expected, atol=1e-9)
        np.testing.assert_allclose(found[f"identification_{k}way"].mean(axis=1), 100 / k, err_msg="chance")
    np.testing.assert_allclose(found["identification"], found[f"identification_{n}way"])


def test_many_candidates_and_too_few() -> None:
    similarity = np.stack([np.linspace(0, 1, 700), np.zeros(700)])
    found = identification(similarity, [50, 180, 701])
    assert np.isnan(found["identification_701way"]).all()
    for k in (50, 180):
        accuracy = found[f"identification_{k}way"]
        np.testing.assert_allclose(accuracy[0, [0, -1]], [0, 100], atol=1e-6)
        np.testing.assert_allclose(accuracy[1], 100 / k, rtol=1e-9)
        assert (np.diff(accuracy[0]) >= 0).all()


def test_of_sentences(sentence_encoder: Path) -> None:
    captions = ["A man is playing squash.", "A woman has her hair cut.", "Dogs run in the snow."]
    texts = ["He hits a squash ball with his racket.", "", "Dogs are running.", "Some dogs in snow"]
    vectors = sentence_vectors([*captions, *texts], SentenceEncoder(sentence_encoder))
    similarity = np.stack([vectors[t] for t in texts]) @ np.stack([vectors[c] for c in captions]).T
    top_1 = identification(similarity, [])["identification"]
    np.testing.assert_allclose(top_1, [[100, 0, 0], [100 / 3] * 3, [0, 0, 100], [0, 0, 100]])


def test_vectors_are_the_encoders_and_do_not_depend_on_the_others(sentence_encoder: Path) -> None:
    encoder = SentenceEncoder(sentence_encoder)
    texts = ["a", "a dog", "Dogs run in the snow.", "A red figure jumps over a low wall, twice, and falls."]
    together = sentence_vectors(texts, encoder)
    np.testing.assert_allclose(np.stack([together[t] for t in texts]), encoder.encode(texts).numpy(), atol=1e-6)
    for text in texts:
        np.testing.assert_array_equal(sentence_vectors([text, text], encoder)[text], together[text])
