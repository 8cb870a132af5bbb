"""Guard what a command line asks for: expected errors become one line and an exit code, others keep their traceback."""

import contextlib
import dataclasses
import sys
from collections.abc import Iterator

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


@dataclasses.dataclass
class Outcome:
    """How a command has ended: its exit code."""

    code: int = 0


@contextlib.contextmanager
def guarded(*, also: tuple[type[Exception], ...] = ()) -> Iterator[Outcome]:
    """Makes one message of expected errors of its block, and of those of `also`; all others keep their traceback."""
    # grain's workers read absl's flags, which only absl.app would have parsed.
    flags.FLAGS.mark_as_parsed()
    console.show_warnings()
    outcome = Outcome()
    try:
        yield outcome
    except stopping.Stopped as stopped:
        console.say(str(stopped))
        outcome.code = stopped.exit_code
        cluster.leave_alone(exit_code=outcome.code)
    except (*EXPECTED_ERRORS, *also) as error:
        print(f"semivit: error: {error}", file=sys.stderr)
        outcome.code = 1
        cluster.leave_alone(exit_code=outcome.code)
    except BaseException as error:
        cluster.leave_alone(exit_code=stopping.INTERRUPTED if isinstance(error, KeyboardInterrupt) else 1)
        raise
