"""Errors that a user can cause and mend; the command line shows them as one line, without a traceback."""


class UserError(Exception):
    """A wrong file, key or value. The message names it and says what was expected."""


class ConfigError(UserError):
    """A configuration that cannot be run."""


class CheckpointError(UserError):
    """A checkpoint that is missing, damaged or does not fit the run."""


class UnreadableSample(UserError):
    """A training sample that cannot be read; the loader replaces it by another and records its id."""


def require(key: str, value: object, met: bool, expected: str) -> None:
    """Refuse a value of the configuration unless it is as `expected`, which `met` says."""
    if not met:
        raise ConfigError(f"{key} is {value}; expected {expected}")
