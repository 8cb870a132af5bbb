"""Report a wrong command line on stderr and return the exit code of bad usage."""

import sys

from absl import flags

from semivit_jax.config import ConfigError

BAD_USAGE = 2
USAGE_ERRORS = (flags.Error, ConfigError, OSError)


def usage_error(command: str, error: Exception) -> int:
    """Says on stderr what is wrong with a command line; returns its exit code."""
    # ml_collections puts its hint into an argument of the error, whose own text would be quoted.
    text = error.args[0] if error.args and isinstance(error.args[0], str) else str(error)
    if "Traceback (most recent call last)" in text:  # a config file that raised; its last line is the message
        text = text.strip().splitlines()[-1].partition(": ")[2]
    print(f"semivit {command}: {text}", file=sys.stderr)
    return BAD_USAGE
