"""Turn what a command did into its exit code: bad usage, expected errors as one line, everything else as it is."""

import sys
from typing import Any

from absl import flags

from semivit_jax import console
from semivit_jax.checkpoints.reading import CheckpointError
from semivit_jax.config import ConfigError
from semivit_jax.data.bad_records import TooManyBadRecords
from semivit_jax.data.sources.errors import DatasetError
from semivit_jax.data.splits import SplitError
from semivit_jax.hosts import cluster, stopping
from semivit_jax.training.rollback import Collapsed

BAD_USAGE = 2
USAGE_ERRORS = (flags.Error, ConfigError, OSError)
EXPECTED_ERRORS = (
    ConfigError,
    DatasetError,
    SplitError,
    TooManyBadRecords,
    CheckpointError,
    Collapsed,
    cluster.ClusterError,
    OSError,
)
WEIGHTS_ERRORS = (ValueError, ImportError)  # of weights that do not fit a request


def usage_error(command: str, error: Exception) -> int:
    """Says on stderr what is wrong with a command line; returns its exit code."""
    # ml_collections puts its hint into an argument of the error, whose own text would be quoted.
    text = error.args[0] if error.args and isinstance(error.args[0], str) else str(error)
    if "Traceback (most recent call last)" in text:  # a config file that raised; its last line is the message
        text = text.strip().splitlines()[-1].partition(": ")[2]
    print(f"semivit {command}: {text}", file=sys.stderr)
    return BAD_USAGE


def guarded(action: Any, *, also: tuple[type[Exception], ...] = ()) -> int:
    """Runs a command; expected errors, and those of `also`, become one message, all others keep their traceback."""
    # grain's workers read absl's flags, which only absl.app would have parsed.
    flags.FLAGS.mark_as_parsed()
    console.show_warnings()
    try:
        action()
    except stopping.Stopped as stopped:
        console.say(str(stopped))
        cluster.leave_alone(exit_code=stopped.exit_code)
        return stopped.exit_code
    except (*EXPECTED_ERRORS, *also) as error:
        print(f"semivit: error: {error}", file=sys.stderr)
        cluster.leave_alone(exit_code=1)
        return 1
    except BaseException as error:
        cluster.leave_alone(exit_code=stopping.INTERRUPTED if isinstance(error, KeyboardInterrupt) else 1)
        raise
    return 0
