"""Choice of the trial whose fMRI replaces a trial's own."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

Allowed = NDArray[np.bool_]


def donors(choices: Sequence[Allowed], rng: np.random.Generator) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Draw a random donor for each trial, from the first of several choices that has one.

    Args:
        choices: (N, D) which of D donors each of N trials may have, the best choice first.
        rng: random numbers.

    Returns:
        (N,) the donor of each trial, and (N,) index of the choice that it comes from; both -1 for a trial without a donor.
    """
    n = len(choices[0])
    donor, choice = np.full(n, -1), np.full(n, -1)
    for i, allowed_ND in enumerate(choices):
        rows = np.flatnonzero((choice < 0) & allowed_ND.any(1))
        donor[rows], choice[rows] = _assigned(allowed_ND[rows], rng), i
    return donor, choice


def _assigned(allowed_ND: Allowed, rng: np.random.Generator) -> NDArray[np.int64]:
    """Assign a donor to each trial. No donor is used twice while others remain: a permutation if one exists."""
    n, n_donors = allowed_ND.shape
    # Random costs make every assignment as likely as its mirror images; a forbidden pair costs more than all others together.
    costs = rng.random((n, n_donors)) + n * ~allowed_ND
    donor = np.full(n, -1)
    rows, columns = linear_sum_assignment(costs)
    donor[rows] = np.where(allowed_ND[rows, columns], columns, -1)
    for row in np.flatnonzero(donor < 0):
        donor[row] = rng.choice(np.flatnonzero(allowed_ND[row]))
    return donor
