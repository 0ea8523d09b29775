"""PyMC-Marketing's fit of a weekly series, in its own environment: media_mix_peer.py FILE SAMPLER.

FILE: Parquet-free JSON with week, channel columns and kpi. Prints one JSON line: seconds of CPU and
of wall, R-hat, effective draws, divergences.
"""

import json
import resource
import sys
import time


def main() -> int:
    """Fit and print."""
    import arviz as az
    import pandas as pd
    from pymc_marketing.mmm import GeometricAdstock, HillSaturation
    from pymc_marketing.mmm.multidimensional import MMM

    with open(sys.argv[1]) as file:
        table = json.load(file)
    channels = [name for name in table if name not in ("week", "kpi")]
    frame = pd.DataFrame(table).assign(week=lambda rows: pd.to_datetime(rows["week"]))
    mmm = MMM(
        date_column="week",
        channel_columns=channels,
        target_column="kpi",
        adstock=GeometricAdstock(l_max=14),
        saturation=HillSaturation(),
        yearly_seasonality=2,
    )
    started = time.monotonic()
    mmm.fit(
        frame.drop(columns="kpi"),
        frame["kpi"],
        nuts_sampler=sys.argv[2],
        chains=4,
        tune=800,
        draws=800,
        target_accept=0.95,
        random_seed=1,
        progressbar=False,
    )
    wall = time.monotonic() - started
    used = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    summary = az.summary(mmm.idata, var_names=["~mu"], filter_vars="like")
    print(
        json.dumps(
            {
                "cpu_seconds": sum(each.ru_utime + each.ru_stime for each in used),
                "seconds": wall,
                "r_hat": float(summary["r_hat"].max()),
                "effective_draws": float(summary["ess_bulk"].min()),
                "divergent": float(mmm.idata.sample_stats["diverging"].mean()),
            }
        )
    )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
