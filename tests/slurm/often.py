"""Snakemake that looks at its Slurm jobs every few seconds: `python -m tests.slurm.often`, for `python -m snakemake`.

By itself it looks after 20 s and then less and less often, and once more when all is done: right for clusters, and most of a test's time.
"""

import asyncio

from snakemake.cli import main
from snakemake_executor_plugin_slurm import common_settings
from snakemake_interface_executor_plugins.executors.remote import RemoteExecutor

SECONDS = 3


async def sleep(executor: RemoteExecutor) -> None:
    """Wait before the next look."""
    await asyncio.sleep(SECONDS)


if __name__ == "__main__":
    RemoteExecutor.sleep = sleep  # type: ignore[method-assign]
    common_settings.init_seconds_before_status_checks = SECONDS
    main()
