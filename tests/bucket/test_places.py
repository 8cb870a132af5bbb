"""Places in a bucket: addresses, whole objects, sealed folders, lines that grow, and a store that is away."""

import logging
import time

import pytest

from semivit_jax import files
from semivit_jax.checkpoints import manifest
from semivit_jax.files import address, mirror, patience, store
from semivit_jax.hosts import extras, identity
from semivit_jax.training import lease
from tests.bucket import emulator


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("gs:/b/x", "gs:/b/x has one slash too few; write gs://b/x"),
        ("gs://", "gs:// names no bucket; legal is a folder on a mounted file system, or gs://BUCKET/FOLDER"),
        ("gs:///x", "gs:///x names no bucket; legal"),
        ("gs://bucket", "gs://bucket is a whole bucket; give a folder in it, as in gs://bucket/runs/mine"),
        ("gs://My Bucket/x", "gs://My Bucket/x: 'My Bucket' is no bucket's name"),
        ("s3://b/x", "s3://b/x: orbax, which writes the checkpoints, takes no s3:// here; mount the bucket"),
        ("hf://org/name", "hf://org/name is no folder; legal is a folder on a mounted file system, or gs://"),
    ],
)
def test_what_is_no_address_is_refused_in_a_line(text, said):
    with pytest.raises(OSError) as refused:  # noqa: PT011 - its text is compared
        files.path(text)
    assert str(refused.value).startswith(said)
    assert "\n" not in str(refused.value)


def test_an_address_is_one_place_however_it_is_written():
    assert address.checked("gs://b-1//runs/./old/../mine/") == "gs://b-1/runs/mine"


def test_the_extra_is_named_where_it_is_absent(monkeypatch):
    monkeypatch.setattr(extras, "installed", lambda extra: False)
    with pytest.raises(OSError, match=r"^gs://b-1/x: buckets need the extra \[gcs\]: .*-m pip install"):
        files.path("gs://b-1/x")


def test_a_bucket_that_is_not_there_is_named_with_what_makes_it(place):
    with pytest.raises(OSError, match=r"^gs://another: there is no such bucket; create it \(gcloud storage buckets"):
        files.path("gs://another/run")


def test_a_bucket_that_may_not_be_read_says_so(proxy):
    proxy.verdict = lambda method, path, body: 403
    with pytest.raises(
        OSError, match=r"^gs://tests: no permission \(to read and write objects\); the account needs the"
    ):
        files.path(emulator.address("run"))


def test_nobody_who_asks_is_told_how_to_say_who(monkeypatch):
    auth = pytest.importorskip("google.auth.exceptions")

    def nobody():
        raise auth.DefaultCredentialsError("a page of text")

    monkeypatch.setattr(store, "_client", nobody)
    store._check_bucket.cache_clear()
    with pytest.raises(OSError, match="no credentials that can be used; run `gcloud auth application-default login`"):
        files.path("gs://b-1/x")


# ---- files and folders


def test_a_file_appears_whole_or_not_at_all(place):
    files.write_json(place / "value.json", {"step": 1})

    def fail_half_way():
        with files.writing(place / "value.json") as file:
            file.write(b"half of the ne")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail_half_way()
    assert files.read_json(place / "value.json") == {"step": 1}
    assert [str(name) for name in files.below(place)] == ["value.json"]


def test_a_folder_is_there_as_long_as_something_is_in_it(place):
    place.mkdir(parents=True, exist_ok=True)
    assert not place.exists()
    (place / "a" / "DONE").touch()
    assert place.is_dir()
    assert not place.is_file()
    assert (place / "a" / "DONE").is_file()
    assert list(place.iterdir()) == [place / "a"]
    (place / "a-b" / "x").touch()
    (place / "ab").touch()
    assert (place / "a").exists()
    (place / "a" / "DONE").unlink()
    assert not (place / "a").exists()
    (place / "a" / "DONE").touch()
    assert files.matching(place, "a*") == [place / "a", place / "a-b", place / "ab"]
    assert files.matching(place / "nothing", "*") == []
    files.remove(place)
    assert not place.exists()


def test_what_is_not_there_is_so_said(place):
    with pytest.raises(FileNotFoundError, match=rf"^{place}/x: there is no such object$"):
        (place / "x").read_bytes()
    (place / "x").unlink(missing_ok=True)


# ---- sealed folders


def sealed(folder):
    for name in ("commit_success.txt", "array", "facts/metadata"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(name.encode() * 100)
    manifest.write_part(folder, 0, 1)
    assert manifest.seal(folder)
    return folder


def test_sealing_reads_nothing_back(proxy, place_behind):
    folder = place_behind / "300"
    for name in ("array", "facts/metadata"):
        (folder / name).write_bytes(b"numbers")
    proxy.seen.clear()
    manifest.write_part(folder, 0, 1)
    assert not [path for method, path in proxy.seen if "alt=media" in path]
    assert len(proxy.seen) == 2  # the list, and the part
    manifest.seal(folder)
    proxy.seen.clear()
    assert not manifest.problems(folder)
    assert len([path for _, path in proxy.seen if "alt=media" in path]) == 1  # the manifest itself


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (lambda file: file.write_bytes(b"array" * 99 + b"arrax"), "array does not match its checksum"),
        (lambda file: file.write_bytes(b"arr"), "array has 3 bytes instead of 500"),
        (lambda file: file.unlink(), "array is missing"),
    ],
)
def test_an_object_that_was_changed_cut_or_lost_is_noticed(place, damage, told):
    folder = sealed(place / "300")
    assert not manifest.problems(folder)
    damage(folder / "array")
    assert manifest.problems(folder) == [told]


def test_a_sealed_folder_may_move_between_a_bucket_and_a_disk(place, tmp_path):
    for source, target in (
        (sealed(place / "300"), tmp_path / "300"),
        (sealed(files.path(tmp_path / "8")), place / "8"),
    ):
        target = files.path(target)
        for name in files.below(source):
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            (target / name).write_bytes((source / name).read_bytes())
        assert not manifest.problems(target)
        (target / "array").write_bytes(b"array" * 99 + b"arrax")
        assert manifest.problems(target) == ["array does not match its checksum"]


class Killed(BaseException):
    pass


def test_a_half_discarded_folder_looks_whole_nowhere_and_goes_at_last(place, monkeypatch):
    folder = sealed(place / "300")

    def killed(*_):
        raise Killed

    monkeypatch.setattr(store, "below", killed)  # as far as a kill lets it come
    with pytest.raises(Killed):
        files.discard(folder, manifest.MANIFEST)
    monkeypatch.undo()
    assert not manifest.is_sealed(folder)
    assert [left.name for left in files.matching(place, "[0-9]*.*")] == ["300.removed"]
    files.remove(place / "300.removed")
    assert not place.exists()


def test_what_is_set_aside_keeps_its_content(place):
    sealed(place / "300")
    files.set_aside(place / "300", place / "aside" / "300.0")
    assert not manifest.problems(place / "aside" / "300.0")
    assert [found.name for found in place.iterdir()] == ["aside"]


# ---- lines


def test_lines_reach_the_bucket_when_flushed_and_by_themselves(place, monkeypatch):
    monkeypatch.setattr(mirror, "EVERY_SECONDS", 0.2)
    monkeypatch.setattr(mirror, "BETWEEN_SECONDS", 0.0)
    lines = files.Lines(place / "log", lambda old: old)
    lines.add("one")
    lines.flush()
    assert (place / "log").read_text() == "one\n"
    lines.add("two")
    limit = time.monotonic() + 30
    while (place / "log").read_text() != "one\ntwo\n":
        assert time.monotonic() < limit
    lines.add("three")
    lines.close()
    files.Lines(place / "log", lambda old: old[:1]).close()
    assert (place / "log").read_text() == "one\n"


def test_an_object_is_written_once_a_second_at_most(proxy, place_behind, monkeypatch):
    assert mirror.BETWEEN_SECONDS == 1.0
    monkeypatch.setattr(mirror, "BETWEEN_SECONDS", 0.2)  # as the rest of the test has it, which need not wait as long
    lines = files.Lines(place_behind / "log", lambda old: old)
    proxy.seen.clear()
    began = time.monotonic()
    for number in range(3):
        lines.add(str(number))
        lines.flush()
    assert time.monotonic() - began >= 2 * mirror.BETWEEN_SECONDS
    assert len([path for method, path in proxy.seen if method == "POST"]) == 3
    lines.close()


# ---- a lease


def test_of_two_that_take_over_at_once_the_store_lets_one(proxy, place_behind):
    proxy.verdict = emulator.preconditions(proxy)
    here = identity.this_process()
    mine, theirs = (lease.Lease(here, token, "now") for token in ("mine", "theirs"))
    _, version = lease._read(place_behind)
    assert lease._replace(place_behind, theirs, version) is None
    assert lease._replace(place_behind, mine, version) == theirs
    assert lease._read(place_behind)[0] == theirs


def test_a_lease_whose_answer_was_lost_is_still_held(proxy, place_behind):
    """The request is made again, and the store refuses it, because it was served the first time."""
    checked, asked = emulator.preconditions(proxy), []

    def verdict(method, path, body):
        if method == "POST":
            asked.append(path)
        return checked(method, path, body)

    proxy.verdict = verdict
    mine = lease.Lease(identity.this_process(), "mine", "now")
    assert lease._replace(place_behind, mine, files.NOTHING) is None
    assert lease._replace(place_behind, mine, files.NOTHING) is None  # as the second request of one writing
    assert len(asked) == 2


# ---- a store that is away


def test_a_store_that_is_away_for_a_while_is_asked_again_and_that_is_said_once(
    proxy, place_behind, caplog, monkeypatch
):
    from google.cloud.storage import retry

    monkeypatch.setattr(retry, "DEFAULT_RETRY", retry.DEFAULT_RETRY.with_delay(initial=0.02, maximum=0.1))
    numbers = iter(range(10**6))

    def verdict(method, path, body):
        number = next(numbers)
        return 503 if number % 5 == 1 else 0 if number % 7 == 2 else None

    proxy.verdict = verdict
    with caplog.at_level(logging.WARNING, "semivit_jax"):
        for number in range(8):
            (place_behind / str(number)).write_text(str(number))
            assert (place_behind / str(number)).read_text() == str(number)
    said = [line for line in caplog.messages if "the store is away for the moment" in line]
    assert len(said) == 1
    assert "?" not in said[0]  # no address of a request, which may hold a token


def test_a_store_that_stays_away_is_given_up(proxy, place_behind, monkeypatch):
    monkeypatch.setattr(patience, "PATIENCE_SECONDS", 1.0)
    monkeypatch.setattr(patience, "_IMPATIENCE_SECONDS", 0.5)
    proxy.verdict = lambda method, path, body: 503
    with pytest.raises(OSError, match=r"/x: the store does not answer; tried for 1 s \(503 ServiceUnavailable\)$"):
        (place_behind / "x").read_bytes()
    assert files.away(place_behind).startswith("the store does not answer")
    proxy.verdict = lambda method, path, body: None
    (place_behind / "x").touch()
    assert not files.away(place_behind)
