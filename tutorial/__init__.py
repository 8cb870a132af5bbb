"""Make docs/tutorial.md and the pictures of the documentation from runs of the project itself: `make tutorial`."""
