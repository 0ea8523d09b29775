"""Comparing lakes byte by byte."""

from orchestration.files import hash_file


def hash_lake(home, *, until):
    """Return the hash of every lake partition up to a night."""
    lake = home / "lake"
    return {
        str(path.relative_to(lake)): hash_file(path)
        for path in sorted(lake.glob("*/decision_date=*/*.parquet"))
        if path.parent.name.removeprefix("decision_date=") <= str(until)
    }


def find_differences(expected, home, *, until, but=("delivered_files",)):
    """Return partitions that are missing, too many, or of other bytes.

    Of those in ``but`` (the times of landed files are each run's own) only presence counts.
    """
    got = hash_lake(home, until=until)
    return sorted(
        name
        for name in expected.keys() | got.keys()
        if got.get(name) != expected.get(name)
        and not (name.startswith(but) and name in got and name in expected)
    )
