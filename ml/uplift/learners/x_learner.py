"""Each action against control: effects imputed from the other arm's outcome model.

D1 = y - mu_0(x) among the treated, D0 = mu_a(x) - y among controls, each regressed on x;
tau = e tau_0 + (1 - e) tau_1 weights the side that the larger arm makes precise, e the action's
mean share of the two arms. The outcome models are shared by members.

Kuenzel, Sekhon, Bickel, Yu (2019), PNAS 116(10), eq. 8 and 9.
"""

from collections.abc import Mapping

import numpy as np

from ml.uplift.arms import fit_arms
from ml.uplift.ensemble import Learner, Part, Prepared
from ml.uplift.forest import score_forests
from ml.uplift.sample import Sample, Scores, refuse_zero_control
from ml.uplift.trees import TreeSettings, fit_forest


def _prepare(sample: Sample, settings: TreeSettings) -> Prepared:
    arms = fit_arms(sample, counts=np.ones(sample.n_rows), settings=settings)
    means = score_forests(list(arms.values()), sample.context, sample.descriptors)
    shares = sample.logging_policy.mean(axis=0)
    return Prepared(
        arrays=dict(zip(arms, means, strict=True)),
        part=Part(numbers={"share": shares / (shares + shares[0])}),
    )


def _fit(sample: Sample, prepared: Prepared, counts: np.ndarray, settings: TreeSettings) -> Part:
    weights, means = sample.weights * counts, prepared.arrays
    forests = {}
    for action in range(1, sample.n_actions):
        if f"mean_{action}" not in means or "mean_0" not in means:
            continue
        for side, arm, imputed in (
            ("treated", action, sample.capped - means["mean_0"]),
            ("control", 0, means[f"mean_{action}"] - sample.capped),
        ):
            forests[f"{side}_{action}"] = fit_forest(
                sample.binned,
                imputed,
                weights=weights * (sample.action == arm) * sample.is_possible[:, action],
                settings=settings,
                is_joint=False,
            )
    return Part(forests)


def _combine(
    scores: Scores, numbers: Mapping[str, np.ndarray], shape: tuple[int, int]
) -> np.ndarray:
    effects = np.zeros(shape)
    for action in range(1, shape[1]):
        if f"treated_{action}" in scores:
            share = numbers["share"][action]
            treated, control = scores[f"treated_{action}"], scores[f"control_{action}"]
            effects[:, action] = share * control + (1 - share) * treated
    return effects


LEARNER = Learner("x_learner", _combine, _fit, _prepare, refuse_zero_control)
