"""How fast and how right uplift heads are: python -m benchmarks.performance.uplift (--quick).

Ours against EconML's X- and S-learner and causalml's X-learner, one after the other on the same
rows, on a trial whose value is a hurdle and on one whose value is not. Peers: 200 trees x 31
leaves, rate .05, as measured elsewhere; a user would fit one per bootstrap resample, so figures
are per resample. causalml runs in an environment of its own (--causalml <its python>).
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import spearmanr

from benchmarks.performance.uplift_trials import DESCRIPTORS, SHARES, TRIALS, TrialData

_SCRIPT = Path(__file__).with_name("uplift_contenders.py")
_ROOT = Path(__file__).resolve().parents[2]
_N_TEST = 50_000
_BUDGET_SHARE = 0.5
_PEERS = ("econml_x", "econml_s", "causalml_x")
# causalml took longer than a whole run may at a million rows; nobody learns from it there.
_MOST_ROWS = {"causalml_x": 200_000, "ours_200x31": 200_000}


@dataclass(frozen=True)
class Result:
    """One contender on one trial; errors are over the constant effect's."""

    trial: str
    rows: int
    contender: str
    fit_cpu: float
    score_cpu: float
    value_error: float
    cost_error: float
    value_rank: float
    policy_value: float
    peak_mib: float
    extra: dict[str, Any]


def measure(
    trial: str, n: int, contenders: dict[str, str], *, seed: int, seconds: int
) -> list[Result]:
    """Fit and score every contender on one trial.

    Parameters
    ----------
    trial, n, seed
        Which trial, how many rows, the seed of its draws.
    contenders
        Name to the Python that runs it.
    seconds
        After which a contender is given up.

    Returns
    -------
    list
        In the contenders' order; without those that did not end.
    """
    data, test = TRIALS[trial](n, seed), TRIALS[trial](_N_TEST, seed + 1_000)
    constant = _estimate_constants(data)
    results = []
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "trial.npz"
        np.savez(
            file,
            context=data.context,
            action=data.action,
            value=data.value,
            cost=data.cost,
            test=test.context,
            descriptors=DESCRIPTORS,
        )
        for name, python in contenders.items():
            if n > _MOST_ROWS.get(name, n):
                continue
            figures = _run(python, name, file, seconds)
            if figures is None:
                print(f"  {name} on {n:,} rows of {trial}: given up after {seconds} s", flush=True)
                continue
            with np.load(file.with_name(f"{name}.npz")) as effects:
                value, cost = effects["value"], effects["cost"]
            best = _value_policy(test.value_effect, test)
            results.append(
                Result(
                    trial=trial,
                    rows=n,
                    contender=name,
                    fit_cpu=figures.pop("fit_cpu"),
                    score_cpu=figures.pop("score_cpu"),
                    value_error=_error(value, test.value_effect, constant[0]),
                    cost_error=_error(cost, test.cost_effect, constant[1]),
                    value_rank=_correlate_ranks(value, test.value_effect),
                    policy_value=_value_policy(value, test) / best,
                    peak_mib=figures.pop("peak_mib"),
                    extra=figures,
                )
            )
            print(_write_row(results[-1]), flush=True)
    return results


def _run(python: str, name: str, file: Path, seconds: int) -> dict[str, Any] | None:
    """Run a contender in its own process; None if it took too long."""
    single = dict.fromkeys(
        ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"), "1"
    )
    try:
        done = subprocess.run(
            [python, str(_SCRIPT), name, str(file)],
            check=False,
            capture_output=True,
            text=True,
            timeout=seconds,
            env={**os.environ, **single, "PYTHONPATH": str(_ROOT)},
        )
    except subprocess.TimeoutExpired:
        return None
    if done.returncode:
        raise SystemExit(f"{name} failed:\n{done.stderr[-3000:]}")
    figures: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return figures


def _estimate_constants(data: TrialData) -> tuple[np.ndarray, np.ndarray]:
    """Return differences in means of value, means of cost, each (4,): the constant effects."""
    value = np.array([data.value[data.action == k].mean() for k in range(len(SHARES))])
    cost = np.array([data.cost[data.action == k].mean() for k in range(len(SHARES))])
    return value - value[0], cost


def _error(effects: np.ndarray, truth: np.ndarray, constant: np.ndarray) -> float:
    """Return the root mean squared error over the constant effect's."""
    ours = ((effects - truth)[:, 1:] ** 2).mean()
    return float(np.sqrt(ours / ((constant - truth)[:, 1:] ** 2).mean()))


def _correlate_ranks(effects: np.ndarray, truth: np.ndarray) -> float:
    """Return Spearman's correlation with the truth, mean over offers."""
    return float(
        np.mean([spearmanr(effects[:, k], truth[:, k]).statistic for k in range(1, truth.shape[1])])
    )


def _value_policy(effects: np.ndarray, test: TrialData) -> float:
    """Return the true value of giving half the customers the offer that promises most."""
    best = effects.argmax(axis=1)
    promise = effects[np.arange(len(effects)), best]
    n_given = int(_BUDGET_SHARE * len(effects))
    given = np.argsort(-promise, kind="stable")[:n_given]
    return float(test.value_effect[given, best[given]].sum() / len(effects))


def _write_row(each: Result) -> str:
    extra = ", ".join(each.extra.get("learners", []))
    selection = each.extra.get("selection_cpu")
    chosen = f"  {extra} (chosen in {selection:.1f} CPU s)" if selection else ""
    return (
        f"{each.trial:<8}{each.rows:>10,}  {each.contender:<12}{each.fit_cpu:>9.2f}"
        f"{each.score_cpu:>9.2f}{each.value_error:>8.2f}{each.cost_error:>8.2f}"
        f"{each.value_rank:>7.2f}{each.policy_value:>8.3f}{each.peak_mib:>8,.0f}{chosen}"
    )


def write_line(results: list[Result]) -> str:
    """Return one JSON line: the figures of the largest size on the hurdle trial, and all ratios.

    Parameters
    ----------
    results
        Of every trial and size.

    Returns
    -------
    str
        Flat names; ratios are the EconML X loop's CPU over ours.
    """
    figures: dict[str, float] = {}
    largest = max(each.rows for each in results)
    for each in results:
        peer = [
            one
            for one in results
            if (one.trial, one.rows, one.contender) == (each.trial, each.rows, "econml_x")
        ]
        if each.contender == "ours" and peer:
            stem = f"{each.trial}_{each.rows}"
            figures[f"fit_cpu_ratio_{stem}"] = peer[0].fit_cpu / each.fit_cpu
            figures[f"score_cpu_ratio_{stem}"] = peer[0].score_cpu / each.score_cpu
            figures[f"value_error_vs_constant_{stem}"] = each.value_error
        if (each.trial, each.rows) != ("hurdle", largest):
            continue
        prefix = "" if each.contender == "ours" else f"{each.contender}_"
        if each.contender in ("ours", *_PEERS):
            figures |= {
                f"{prefix}value_error_vs_constant": each.value_error,
                f"{prefix}cost_error_vs_constant": each.cost_error,
                f"{prefix}value_rank_correlation": each.value_rank,
                f"{prefix}policy_value_vs_oracle": each.policy_value,
            }
        if each.contender == "ours" and peer:
            figures |= {
                "rows": each.rows,
                "fit_cpu_ratio": peer[0].fit_cpu / each.fit_cpu,
                "score_cpu_ratio": peer[0].score_cpu / each.score_cpu,
                "peak_mib": each.peak_mib,
            }
    return json.dumps({name: round(value, 4) for name, value in figures.items()})


def main() -> int:
    """Measure every size on both trials."""
    parser = argparse.ArgumentParser(prog="uplift", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="10,000 rows, EconML alone: a minute")
    parser.add_argument("--rows", type=int, nargs="+", default=[50_000, 200_000, 1_000_000])
    parser.add_argument("--trials", nargs="+", default=list(TRIALS), choices=list(TRIALS))
    parser.add_argument("--causalml", default="", help="a Python with causalml 0.18")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--seconds", type=int, default=900, help="patience with one contender")
    parsed = parser.parse_args()
    if find_spec("econml") is None:
        parser.error(
            "EconML, the peer, is missing: .venv/bin/pip install -c constraints.txt -e '.[causal]'"
        )
    contenders = dict.fromkeys(("ours", "ours_200x31", "econml_x", "econml_s"), sys.executable)
    if parsed.causalml:
        contenders["causalml_x"] = parsed.causalml
    if parsed.quick:
        parsed.rows, contenders = [10_000], dict.fromkeys(("ours", "econml_x"), sys.executable)
    print(
        f"{'trial':<8}{'rows':>10}  {'':<12}{'fit s':>9}{'score s':>9}{'value':>8}{'cost':>8}"
        f"{'rank':>7}{'policy':>8}{'MiB':>8}   (CPU s per resample, scoring {_N_TEST:,} rows)"
    )
    results = [
        each
        for trial in parsed.trials
        for rows in parsed.rows
        for each in measure(trial, rows, contenders, seed=parsed.seed, seconds=parsed.seconds)
    ]
    print(write_line(results))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
