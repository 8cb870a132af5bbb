"""Read and write the files of a run; the only room that knows where a run can be kept.

A place is a folder on a mounted file system, or in a bucket. `Path` is etils' own class, no `pathlib.Path`, and three
of its methods are not for use: `stat` fails for a user who has no name, `rglob` always, and `glob` takes brackets in a
folder's own name for a pattern. `inventory`, `below` and `matching` stand for them.

In a bucket a file appears whole when it is written, and cannot grow; a folder is there as long as something is in it;
nothing is renamed, but copied and removed.
"""

from semivit_jax.files.contents import File, below, checksum, inventory, marks, matches, matching
from semivit_jax.files.lines import GrowingFolder, Lines
from semivit_jax.files.patience import Overtaken
from semivit_jax.files.places import (
    AnyPath,
    Path,
    absolute,
    expanded,
    on_this_machine,
    one_at_a_time,
    path,
    why_no_folder,
    why_not_writable,
)
from semivit_jax.files.removing import away, committed, discard, pause, remove, set_aside
from semivit_jax.files.whole import (
    NOTHING,
    appearing,
    filling,
    growing,
    on_a_disk,
    read_json,
    read_to_replace,
    replace_json,
    write_json,
    writing,
)

__all__ = [
    "NOTHING",
    "AnyPath",
    "File",
    "GrowingFolder",
    "Lines",
    "Overtaken",
    "Path",
    "absolute",
    "appearing",
    "away",
    "below",
    "checksum",
    "committed",
    "discard",
    "expanded",
    "filling",
    "growing",
    "inventory",
    "marks",
    "matches",
    "matching",
    "on_a_disk",
    "on_this_machine",
    "one_at_a_time",
    "path",
    "pause",
    "read_json",
    "read_to_replace",
    "remove",
    "replace_json",
    "set_aside",
    "why_no_folder",
    "why_not_writable",
    "write_json",
    "writing",
]
