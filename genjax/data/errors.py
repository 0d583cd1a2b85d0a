"""What can be wrong with data."""


class MissingDataError(ValueError):
    """No data set of this name is at hand; the message says how to get it."""


class DamagedDataError(RuntimeError):
    """A data file cannot be read; the message names it."""
