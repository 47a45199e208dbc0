"""Division of video sources into training and testing by the strict split."""

from __future__ import annotations

from collections.abc import Iterable

from boldscribe.config.data_settings import Dataset
from boldscribe.machinery.errors import UserError
from boldscribe.machinery.reproducible import generator


def separate_sources(design: Dataset, name: str, seed: int, trained: Iterable[str], tested: Iterable[str]) -> tuple[list[str], list[str]]:
    """Divide the sources seen on both sides, so that training and testing share none.

    A random share of them is kept for testing: source subjects' trials of these sources are excluded from training. The others are
    kept for training, and their test trials are excluded. If all subjects saw the same clips, the share decides how many are tested.

    Args:
        design: section of the data set (`split`, `strict_test_share`).
        name: of the data set, or of its fold.
        seed: of the experiment.
        trained: sources of source subjects' clips.
        tested: sources of the clips in target subjects' test runs.

    Returns:
        sources kept for training, and for testing; both empty with the split `paper`.

    Raises:
        UserError: no clip would remain for training or for testing.
    """
    if design.split == "paper":
        return [], []
    trained, tested = set(trained), set(tested)
    shared = sorted(trained & tested)
    order = generator(seed, "strict split", name).permutation(len(shared))
    n_tested = round(design.strict_test_share * len(shared))
    for_testing = sorted(shared[i] for i in order[:n_tested])
    for_training = sorted(shared[i] for i in order[n_tested:])
    for side, left in (("training", trained - set(for_testing)), ("testing", tested - set(for_training))):
        if not left:
            raise UserError(
                f"datasets.{design.fold_of or name}.strict_test_share",
                f"found {design.strict_test_share:g}, which leaves no clip for {side}, since {len(shared)} sources are seen by both "
                "source and target subjects; choose a share between 0 and 1",
            )
    return for_training, for_testing
