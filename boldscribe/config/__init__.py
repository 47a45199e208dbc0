"""The typed configuration of an experiment."""

from boldscribe.config.experiment import Config, check_experiment

__all__ = ["Config", "check_experiment"]
