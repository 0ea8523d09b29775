"""How fast the media mix is fitted: python -m benchmarks.performance.media_mix --pymc PYTHON.

The bakery's 104 weeks of three channels, four chains of 800 draws after 800, by ours and by
PyMC-Marketing's with each sampler it offers; CPU seconds of each process, compiling included.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.studies.media_mix.cases import make_bakery_case

_PEER = Path(__file__).with_name("media_mix_peer.py")
_OURS = """
import json, resource, sys, time
from benchmarks.studies.media_mix.cases import make_bakery_case
from ml.media_mix.fitting import MediaMixSettings, fit_media_mix
n = int(sys.argv[1])
started = time.monotonic()
mix = fit_media_mix(make_bakery_case().series, settings=MediaMixSettings(n_warmup=n, n_draws=n))
used, found = resource.getrusage(resource.RUSAGE_SELF), mix.diagnostics
print(json.dumps({"cpu_seconds": used.ru_utime + used.ru_stime,
    "seconds": time.monotonic() - started, "r_hat": found.largest_r_hat,
    "effective_draws": found.least_ess, "divergent": found.divergent_share}))
"""


def main() -> int:
    """Measure, print a table and a line."""
    parser = argparse.ArgumentParser(prog="media_mix", description=__doc__)
    parser.add_argument("--pymc", default="", help="a Python with pymc-marketing")
    parser.add_argument("--quick", action="store_true", help="ours alone, 100 draws")
    parsed = parser.parse_args()
    n_draws = 100 if parsed.quick else 800
    found = {"ours": _run([sys.executable, "-c", _OURS, str(n_draws)])}
    if parsed.pymc and not parsed.quick:
        series = make_bakery_case().series
        table = {
            "week": [str(week) for week in series.weeks],
            "kpi": series.kpi.tolist(),
            **{each: series.spend[:, c].tolist() for c, each in enumerate(series.channels)},
        }
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "series.json"
            file.write_text(json.dumps(table))
            for sampler in ("numpyro", "nutpie"):
                name = f"pymc_marketing_{sampler}"
                found[name] = _run([parsed.pymc, str(_PEER), str(file), sampler])
    print(f"{'':<26}{'CPU s':>8}{'wall s':>8}{'R-hat':>8}{'draws':>8}{'draws/CPU s':>12}")
    for name, each in found.items():
        print(
            f"{name:<26}{each['cpu_seconds']:8.1f}{each['seconds']:8.1f}{each['r_hat']:8.3f}"
            f"{each['effective_draws']:8.0f}{each['effective_draws'] / each['cpu_seconds']:12.1f}"
        )
    figures = {f"{name}_cpu_seconds": each["cpu_seconds"] for name, each in found.items()}
    for name, each in found.items():
        if name != "ours":
            figures[f"{name}_ratio"] = each["cpu_seconds"] / found["ours"]["cpu_seconds"]
    print(json.dumps({name: round(value, 3) for name, value in figures.items()}))
    return 0


def _run(command: list[str]) -> dict[str, float]:
    """Return what the last line of a command says; its other output goes to standard error."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{command[0]} failed:\n{done.stderr[-2000:]}")
    return dict(json.loads(done.stdout.strip().splitlines()[-1]))


if __name__ == "__main__":
    raise SystemExit(main())
