"""The page is filled with what its commands print, and what goes by the machine is left out of comparisons."""

import os

import pytest

from tutorial import page

PAGE = """\
# A page

```sh
echo one; echo two >&2
```

```text
old
```

Words between.

<!-- not run: it is dangerous -->
```sh
exit 3
```

```text
what it said
```

```python
print(2 + 3)
```

```text
```

```sh
touch here
```

```text
old
```
"""


def fill(text, folder, hidden=None):
    return page.filled(text, folder, environ={}, hidden=hidden or {})


def test_outputs_take_the_place_of_old_ones(tmp_path):
    found = fill(PAGE, tmp_path)
    assert "```text\none\ntwo\n```\n\nWords between." in found
    assert "```text\n5\n```\n" in found
    assert "old" not in found
    assert (tmp_path / "here").exists()


def test_what_is_not_run_stays_as_it_is(tmp_path):
    found = fill(PAGE, tmp_path)
    assert "```sh\nexit 3\n```\n\n```text\nwhat it said\n```\n" in found
    assert [command.not_run for command in page.commands(found)] == ["", "it is dangerous", "", ""]


def test_a_second_time_changes_nothing(tmp_path):
    once = fill(PAGE, tmp_path)
    assert fill(once, tmp_path) == once


def test_a_command_without_a_place_for_its_output_runs_and_shows_nothing(tmp_path):
    text = "```sh\ntouch here; echo loud\n```\n\nEnd.\n"
    assert fill(text, tmp_path) == text
    assert os.listdir(tmp_path) == ["here"]


@pytest.mark.parametrize("line", ["false; echo on", "false | cat", "echo $absent"])
def test_a_command_that_fails_ends_it(line, tmp_path):
    with pytest.raises(RuntimeError, match="exit code 1 of"):
        fill(f"```sh\necho why; {line}\n```\n", tmp_path)


def test_paths_of_the_machine_are_hidden(tmp_path):
    found = fill("```sh\npwd\n```\n\n```text\n```\n", tmp_path, {str(tmp_path): "/home/you"})
    assert found == "```sh\npwd\n```\n\n```text\n/home/you\n```\n"


PROGRESS = """\
compiling: 10 s so far
grading runs/mine (params): 1 of 1
E1128 04:07:42.775016   28888 slow_operation_alarm.cc:73]
********************************
mae 40/300  loss 1.1  262.8 images/s
mae 300/300  loss 1.0  260.1 images/s
finetune 20/100  val/acc1 75.0%
finetune 80/100  loss 0.9  270.0 images/s
finetune 100/100  loss 0.8  277.9 images/s
finetune 100/100  val/acc1 80.0%
semi: 3/4 of it\n"""


def test_of_progress_the_last_of_each_kind_stays():
    assert page.cleaned(PROGRESS).splitlines() == [
        "mae 300/300  loss 1.0  260.1 images/s",
        "finetune 100/100  loss 0.8  277.9 images/s",
        "finetune 100/100  val/acc1 80.0%",
        "semi: 3/4 of it",
    ]


def shown(output):
    return f"Text with 3 numbers.\n\n```sh\nx\n```\n\n```text\n{output}\n```\n"


def test_numbers_and_widths_of_tables_make_no_difference():
    narrow, wide = "┃ acc1 ┃\n┡━━━━━━┩\n│  7.5 │", "┃  acc1 ┃\n┡━━━━━━━┩\n│ 100.0 │"
    assert page.stable(shown(narrow)) == page.stable(shown(wide))


def test_words_make_a_difference_and_numbers_of_the_text_too():
    assert page.stable(shown("wrote runs/deploy")) != page.stable(shown("wrote runs/deployed"))
    assert page.stable(shown("a")) != page.stable(shown("a").replace("3 numbers", "4 numbers"))
