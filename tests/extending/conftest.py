"""What tests of one's own parts share."""

import jax
import pytest

from semivit_jax.models.families import FAMILIES
from semivit_jax.training import summary
from semivit_jax.weights.exchanges import EXCHANGES
from tests.decoded import keep_decoded
from tests.extending import backbone


@pytest.fixture(scope="module")
def mixer(tmp_path_factory):
    """The toy backbone in its two tables, and nothing slow beside it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        patch.setattr(summary, "baselines", lambda task, data: {})
        keep_decoded(patch)
        patch.setitem(FAMILIES, "mixer", backbone.FAMILY)
        patch.setitem(EXCHANGES, "mixer", backbone.EXCHANGE)
        jax.config.update("jax_disable_most_optimizations", True)  # compiling is what takes the time
        yield
        jax.config.update("jax_disable_most_optimizations", False)
