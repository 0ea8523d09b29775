"""How long a whole training takes: python -m benchmarks.performance.heads (--rows, --quick).

Everything that ``fit_uplift_heads`` does, on the hurdle trial in three lifecycles: candidates on
trial pooled and per lifecycle, calibration, diagnostics, ten resamples of customers. There is no
peer: the figures are wall and CPU seconds and peak memory, imports and drawing left out.
"""

import argparse
import json
import subprocess
import sys

_CHILD = """
import json, resource, sys, time
import numpy as np
import polars as pl
from benchmarks.performance.uplift_trials import DESCRIPTORS, FACE_VALUES, SHARES, draw_hurdle
from ml.core.actions import ActionSet
from ml.core.contexts import Contexts
from ml.core.logged import LoggedDecisions
from ml.uplift.fitting import fit_uplift_heads
n = int(sys.argv[1])
data = draw_hurdle(n, 1)
offers = ("offer_2", "offer_4", "offer_8")
actions = ActionSet(
    ("no_offer", *offers), ("none", *["coupon"] * 3), ("", *["email"] * 3), FACE_VALUES, np.zeros(4)
)
lifecycle = np.array(["activation", "habituation", "resurrection"])[np.arange(n) % 3]
frame = pl.DataFrame(
    {"customer_id": pl.Series(np.arange(n)).cast(pl.String), "lifecycle": lifecycle}
)
names = tuple(f"x{column}" for column in range(data.context.shape[1]))
policy = np.tile(SHARES, (n, 1))
logged = LoggedDecisions(
    contexts=Contexts(frame, data.context, np.ones((n, 4), dtype=bool), names, "benchmark"),
    action=data.action,
    propensity=SHARES[data.action],
    logging_policy=policy,
    value=data.value,
    cost=data.cost,
    customer=np.arange(n),
)
started, cpu = time.perf_counter(), time.process_time()
heads = fit_uplift_heads(logged, actions=actions, minimum_support=300, seed=1)
fitted, cpu = time.perf_counter(), time.process_time() - cpu
effects = heads.predict(logged.contexts.take(np.arange(min(n, 100_000))))
print(json.dumps({
    "rows": n,
    "seconds": fitted - started,
    "cpu_seconds": cpu,
    "score_seconds_100k": time.perf_counter() - fitted,
    "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    "value_candidates": sorted({h.outcomes["value"].candidate for h in heads.heads}),
}))
"""


def main() -> int:
    """Measure a training of each size in a process of its own; print a line per size."""
    parser = argparse.ArgumentParser(prog="heads", description=__doc__)
    parser.add_argument("--rows", nargs="+", type=int, default=[200_000, 1_000_000])
    parser.add_argument("--quick", action="store_true", help="20,000 rows: half a minute")
    parsed = parser.parse_args()
    for rows in [20_000] if parsed.quick else parsed.rows:
        done = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", _CHILD, str(rows)],
            check=True,
            stdout=subprocess.PIPE,
            text=True,
        )
        figures = json.loads(done.stdout)
        print(
            json.dumps({k: round(v, 1) if isinstance(v, float) else v for k, v in figures.items()}),
            flush=True,
        )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
