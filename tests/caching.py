"""How jax keeps compiled programs in tests; apart from `tests.compiled`, since jax reads it when it is imported."""

KEEPS_EVERYTHING = {  # in the environment of a process
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
    # Else every program's key holds the path of the folder, which is another one in every run of the tests.
    "JAX_PERSISTENT_CACHE_ENABLE_XLA_CACHES": "none",
}
