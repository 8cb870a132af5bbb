"""Show the planner's answers to people: one table per stage."""

from collections.abc import Iterator

from rich.markup import escape
from rich.table import Table

from semivit_jax.preflight.answer import ESTIMATE, Answer
from semivit_jax.preflight.estimate import SECONDS_PER_HOUR
from semivit_jax.words import counted, gib, mib


def table(found: Answer) -> Table:
    """Everything an answer says; estimates are labelled as such."""
    where = found.topology if found.slices == 1 else f"{found.slices} x {found.topology}"
    title = f"{found.recipe or found.model}, stage {found.stage}, on {where}"
    shown = Table(title=title, show_header=False, title_justify="left")
    shown.add_column(justify="left", style="bold")
    shown.add_column(justify="left", overflow="fold")
    for name, value in rows(found):
        shown.add_row(name, escape(value))  # "[plan]" is an extra, not a style
    return shown


def rows(found: Answer) -> Iterator[tuple[str, str]]:
    """(what, value) in reading order."""
    devices = found.devices
    yield "devices", f"{devices} = data {devices // found.fsdp} x fsdp {found.fsdp}; remat {found.remat}"
    yield "batch", _batch(found)
    for deviation in found.deviations:
        yield "adapted", deviation
    yield "compiled", f"yes, in {found.compile_seconds:.0f} s" if found.compiled else f"no, analytic only: {found.note}"
    memory = found.memory
    if found.tuned:
        yield "trained", found.tuned
        yield "frozen", f"{gib(memory.frozen)} per device"
    for name in ("params", "ema_params", "optimizer"):
        yield name, f"{gib(getattr(memory, name))} per device"
    label = " (estimate)" if memory.source == ESTIMATE else ""
    yield "activations", f"{gib(memory.activations)} per device, gradients and other temporaries included{label}"
    verdict = "fits" if found.fits else "does NOT fit"
    yield "memory", f"{gib(memory.total)} of {gib(memory.chip)}: {verdict}{label}"
    for kind, total in found.collectives.items():
        sent = f"{mib(total.sent_bytes)} sent by each device"
        yield kind, f"{total.count} per step over {mib(total.bytes)}, {sent}"
    source = "" if found.sent_bytes_source != ESTIMATE else " (estimate: what the sharding of parameters needs)"
    yield "sent per step", f"{mib(found.sent_bytes)} by each device{source}"
    if found.slices > 1:
        yield "between slices", _between_slices(found)
    yield "model FLOPs", f"{found.model_flops:.3e} per step, all devices"
    yield from _estimates(found)
    if found.change is not None:
        yield "nearest change", found.change.text


def _between_slices(found: Answer) -> str:
    """What crosses the network between slices; the compiler's count, or an estimate that says so."""
    each = found.leaving_bytes * found.slices / found.devices
    amount = f"{mib(found.leaving_bytes)} leave each slice per step, {mib(each)} from each device"
    if found.leaving_bytes_source == ESTIMATE:
        return f"{amount} (estimate, at least: what the sharding of parameters needs)"
    kinds = [f"{kind} {mib(total.leaving_bytes)}" for kind, total in found.collectives.items() if total.leaving_bytes]
    return f"{amount}: {', '.join(kinds)}"


def _batch(found: Answer) -> str:
    images = counted(found.batch_size, "image")
    if found.unlabeled_ratio:
        images = f"{found.batch_size} labeled and {found.batch_size * found.unlabeled_ratio} unlabeled images"
    micro = f"{counted(found.micro_steps, 'micro-step')} of {counted(found.images_per_device, 'image')} per device"
    group = f", mixing groups of {found.group_size}" if found.group_size > 1 else ""
    return f"{images}, {micro}{group}; peak lr {found.peak_lr:.3g}, {counted(found.total_steps, 'step')}"


def _estimates(found: Answer) -> Iterator[tuple[str, str]]:
    e = found.estimate
    times = f"arithmetic {ms(e.compute_seconds)}, memory {ms(e.memory_seconds)}, links {ms(e.link_seconds)}"
    slow = "; the network between slices counted like links inside" if found.slices > 1 else ""
    yield "step time", f"{ms(e.step_seconds)} to {ms(e.step_seconds_serial)} (estimate, roofline; {times}{slow})"
    yield "images/s", f"{e.images_per_second:,.0f} (estimate, roofline bound by {e.bound_by})"
    yield "duration", f"{duration(e.hours)} (estimate, roofline; evaluation and input not counted)"


def ms(seconds: float) -> str:
    return f"{seconds * 1e3:,.1f} ms" if seconds >= 1e-4 else f"{seconds * 1e6:,.1f} µs"


def duration(hours: float) -> str:
    """'1.8 hours', '26 minutes' or '1.6 seconds'."""
    if hours >= 1:
        return f"{hours:,.1f} hours"
    seconds = hours * SECONDS_PER_HOUR
    return f"{seconds / 60:.2g} minutes" if seconds >= 60 else f"{seconds:.2g} seconds"
