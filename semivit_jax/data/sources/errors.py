"""Define the errors of data sets that a user can act on."""


class DatasetError(ValueError):
    """A data set that is missing or cannot be used; the message says where it should be and what to do."""


class NoSplitError(DatasetError):
    """A data set that is there, without the split that was asked for."""
