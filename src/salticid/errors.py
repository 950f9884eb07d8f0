"""Errors that a user can cause and mend; the command line shows them as one line, without a traceback."""


class UserError(Exception):
    """A wrong file, key or value. The message names it and says what was expected."""


class ConfigError(UserError):
    """A configuration that cannot be run."""


class CheckpointError(UserError):
    """A checkpoint that is missing, damaged or does not fit the run."""


class UnreadableSample(UserError):
    """A training sample that cannot be read; the loader replaces it by another and records its id."""
