import json

from benchmarks.performance.world import measure, write_line


def test_the_world_benchmark_measures_and_prints_its_line():
    rows = [measure(n, n_days=2) for n in (1_000, 4_000)]
    assert [row.n_customers for row in rows] == [1_000, 4_000]
    assert all(row.seconds > 0 and row.peak_mib > 50 and row.n_rows > 0 for row in rows)
    line = json.loads(write_line(rows))
    assert set(line) == {"customers_per_second", "peak_mib", "linearity", "seconds", "customers"}
    per_customer = [row.seconds / row.n_customers for row in rows]
    assert abs(line["linearity"] - per_customer[1] / per_customer[0]) < 1e-3
