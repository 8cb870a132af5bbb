"""Deliberate breaks, each of which some test must notice: `python -m tests.breaks.run` shows that it does."""

from tests.breaks import images, learning, networks, outside, running, towers, tuning
from tests.breaks.broken import Break

BREAKS: dict[str, Break] = {
    **learning.BREAKS,
    **networks.BREAKS,
    **running.BREAKS,
    **images.BREAKS,
    **outside.BREAKS,
    **towers.BREAKS,
    **tuning.BREAKS,
}
