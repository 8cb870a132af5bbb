"""Benchmarks of the training step. They need jax, flax, optax and this package's source, nothing else."""
