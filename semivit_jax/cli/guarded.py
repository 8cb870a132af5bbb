"""Run what a command line asks for: expected errors become one line and an exit code, others keep their traceback."""

import sys
from collections.abc import Callable

from absl import flags

from semivit_jax import console
from semivit_jax.checkpoints.reading import CheckpointError
from semivit_jax.config import ConfigError
from semivit_jax.data.bad_records import TooManyBadRecords
from semivit_jax.data.sources.errors import DatasetError
from semivit_jax.data.splits import SplitError
from semivit_jax.hosts import cluster, stopping
from semivit_jax.training.rollback import Collapsed

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


def guarded(action: Callable[[], None], *, also: tuple[type[Exception], ...] = ()) -> int:
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
