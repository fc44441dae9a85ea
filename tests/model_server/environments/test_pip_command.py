"""What is told of pip's output."""

from __future__ import annotations

from model_server.environments.pip_command import MAX_BYTES, conflicts, last_words


def test_errors_come_first_progress_not_at_all() -> None:
    output = (
        "Looking in links: /w\nCollecting tiny\n  Downloading tiny.whl (1 kB)\nTraceback:\n"
        "  ZeroDivisionError\n\x1b[31mERROR: it failed\x1b[0m\n\n[notice] A new release of pip\n"
    )
    assert last_words(output) == "ERROR: it failed\nTraceback:\n  ZeroDivisionError"


def test_without_an_error_the_last_progress_is_told() -> None:
    assert last_words("Collecting tiny\n  Downloading tiny.whl\n").endswith("Downloading tiny.whl")


def test_words_are_few_whatever_was_said() -> None:
    long = "".join(f"ERROR: ü{'x' * 300} {number}\n" for number in range(99))
    assert len(last_words(long).encode()) <= MAX_BYTES
    many = last_words("".join(f"line {number}\n" for number in range(99)))
    assert many.splitlines() == [f"line {number}" for number in range(79, 99)]
    assert last_words("") == ""


def test_conflicts_with_the_servers_packages_are_found() -> None:
    said = "scipy 1.16 requires numpy<2.6,>=1.25, but you have numpy 1.0 which is incompatible."
    absent = "one 1.0 requires other, which is not installed."
    output = f"ERROR: pip's dependency resolver\n{said}\n{absent}\nSuccessfully installed numpy-1.0"
    assert conflicts(output) == [said, absent]


def test_places_that_an_index_lacks_are_not_told() -> None:
    lacks = (
        "WARNING: Location 'file:///x/simple/' is ignored: it is neither a file nor a directory."
    )
    assert last_words(f"{lacks}\nERROR: No matching distribution\n") == (
        "ERROR: No matching distribution"
    )
