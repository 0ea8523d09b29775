"""Slow, obvious off-policy estimators: one decision after the other."""


def value_by_loop(estimator, reward, action, propensity, policy, expected):
    """Return the policy value by IPS, SNIPS or DR."""
    total, weights = 0.0, 0.0
    for row in range(len(reward)):
        weight = policy[row][action[row]] / propensity[row]
        weights += weight
        if estimator == "dr":
            direct = sum(p * mu for p, mu in zip(policy[row], expected[row], strict=True))
            total += direct + weight * (reward[row] - expected[row][action[row]])
        else:
            total += weight * reward[row]
    return total / (weights if estimator == "snips" else len(reward))
