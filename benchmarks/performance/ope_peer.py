"""obp's estimators on a log, alone in a process: what benchmarks.performance.ope compares with.

It needs nothing of ours: numpy and obp (sb-obp), in an environment of its own.
"""

import json
import resource
import sys
import time
import warnings
from typing import Any

import numpy as np


def main(file: str, n_resamples: str) -> None:
    """Value a policy by five estimators, and their intervals by few resamples; print what it took.

    Parameters
    ----------
    file
        An .npz with action, reward, propensity (n,), policy, expected (n, K), limit.
    n_resamples
        Of the bootstrap, timed at so many and at three times so many: the difference is theirs.
    """
    warnings.filterwarnings("ignore")
    from obp.ope import (
        DoublyRobust,
        DoublyRobustWithShrinkage,
        InverseProbabilityWeighting,
        OffPolicyEvaluation,
        SelfNormalizedInverseProbabilityWeighting,
        SwitchDoublyRobust,
    )

    log = dict(np.load(file))
    n, n_actions = log["policy"].shape
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started = time.process_time()
    evaluation = OffPolicyEvaluation(
        bandit_feedback={
            "n_rounds": n,
            "n_actions": n_actions,
            "context": np.zeros((n, 1)),
            "action": log["action"],
            "position": np.zeros(n, dtype=int),
            "reward": log["reward"],
            "pscore": log["propensity"],
        },
        ope_estimators=[
            InverseProbabilityWeighting(estimator_name="ips"),
            SelfNormalizedInverseProbabilityWeighting(estimator_name="snips"),
            DoublyRobust(estimator_name="dr"),
            SwitchDoublyRobust(lambda_=float(log["limit"]), estimator_name="switch_dr"),
            DoublyRobustWithShrinkage(lambda_=float(log["limit"]), estimator_name="dros"),
        ],
    )
    policy, expected = log["policy"][:, :, None], log["expected"][:, :, None]
    arguments = {"action_dist": policy, "estimated_rewards_by_reg_model": expected}
    values = evaluation.estimate_policy_values(**arguments)
    point_cpu = time.process_time() - started
    extra = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    few, more = (
        _time_intervals(evaluation, arguments, factor * int(n_resamples)) for factor in (1, 3)
    )
    print(
        json.dumps(
            {
                "values": values,
                "point_cpu": point_cpu,
                "extra_mib": extra / 1024,
                "cpu_per_resample": (more - few) / (2 * int(n_resamples)),
            }
        )
    )


def _time_intervals(evaluation: Any, arguments: dict[str, np.ndarray], n_resamples: int) -> float:
    started = time.process_time()
    evaluation.estimate_intervals(**arguments, n_bootstrap_samples=n_resamples, random_state=1)
    return time.process_time() - started


if __name__ == "__main__":
    main(*sys.argv[1:])
