"""Slow, obvious off-policy estimators: one decision after the other."""

import math


def value_by_loop(estimator, reward, action, propensity, policy, expected, limit=math.inf):
    """Return the policy value by one of the estimators of ml.ope.estimators."""
    total, residuals, weights = 0.0, 0.0, 0.0
    n = len(reward)
    for row in range(n):
        weight = policy[row][action[row]] / propensity[row]
        direct = sum(p * mu for p, mu in zip(policy[row], expected[row], strict=True))
        residual = reward[row] - expected[row][action[row]]
        weights += weight
        if estimator in ("ips", "snips"):
            total += weight * reward[row]
        elif estimator == "clipped_ips":
            total += min(weight, limit) * reward[row]
        elif estimator == "dm":
            total += direct
        elif estimator == "dr":
            total += direct + weight * residual
        elif estimator == "sndr":
            total += direct
            residuals += weight * residual
        elif estimator == "switch_dr":
            total += direct + (weight * residual if weight <= limit else 0.0)
        elif estimator == "dros":
            shrunk = limit * weight / (weight**2 + limit) if math.isfinite(limit) else weight
            total += direct + shrunk * residual
    if estimator == "snips":
        return total / weights
    return total / n + (residuals / weights if estimator == "sndr" else 0.0)
