"""Measure what a workdir in a bucket costs, against a store on this machine: seconds of the loop, and requests.

python -m benchmarks.bucket [--megabytes=64] [--saves=3]

The store and the proxy that counts are those of the tests, on the loopback: seconds are without the latency of a
network, requests are what they would be.
"""

import argparse
import os
import statistics
import time

import jax.numpy as jnp

from semivit_jax import files
from semivit_jax.checkpoints.saving import Saver
from tests.bucket import emulator

STEPS = 100  # between two saves


def main() -> None:
    """Prints a line per number."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=int, default=64, help="of the state")
    parser.add_argument("--saves", type=int, default=3)
    asked = parser.parse_args()
    with emulator.running() as url:
        proxy = emulator.Proxy(url)
        os.environ.update(emulator.environ(proxy.url))
        measure(proxy, megabytes=asked.megabytes, saves=asked.saves)
        proxy.close()


def measure(proxy: emulator.Proxy, *, megabytes: int, saves: int) -> None:
    """Saves a state so many times, with a line of metrics per step in between."""
    folder = files.path(emulator.address("benchmark"))
    state = {f"layer_{index}": jnp.full((megabytes, 1 << 14), index, jnp.float32) for index in range(16)}
    lines = files.Lines(folder / "metrics.jsonl", lambda old: old)
    saver = Saver(folder / "checkpoints", keep=1)
    seconds, of_save, of_steps = [], [], []
    for number in range(1, saves + 1):
        before = len(proxy.seen)
        for step in range(STEPS):
            lines.add(f'{{"step": {number * STEPS + step}}}')
            saver.poll()
        of_steps.append((len(proxy.seen) - before) / STEPS)
        before, began = len(proxy.seen), time.monotonic()
        saver.save(number * STEPS, state, {"step": number}, beside=lines.flush)
        seconds.append(time.monotonic() - began)
        saver.wait()
        of_save.append(len(proxy.seen) - before)
    saver.close()
    lines.close()
    print(f"state: {megabytes} MiB in 16 arrays, {saves} saves")
    print(f"a save keeps the loop for: {statistics.median(seconds):.2f} s")
    print(f"requests of a save, with sealing and pruning: {statistics.median(of_save):.0f}")
    print(f"requests per step between saves: {statistics.median(of_steps):.2f}")


if __name__ == "__main__":
    main()
