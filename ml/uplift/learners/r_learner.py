"""Each action against control by the R-loss: residual outcome on residual assignment.

sum (A - e)^2 [ (y - m(x)) / (A - e) - tau(x) ]^2 over the two arms, m cross-fitted, e the logged
propensity of the action among the two.

Nie, Wager (2021), Biometrika 108(2), eq. 4.
"""

import numpy as np

from ml.uplift.baseline import fit_baseline
from ml.uplift.ensemble import Learner, Part, Prepared, stack_actions
from ml.uplift.sample import Sample, refuse_zero_control
from ml.uplift.trees import TreeSettings, fit_forest


def _prepare(sample: Sample, settings: TreeSettings) -> Prepared:
    baseline = fit_baseline(sample, sample.capped, settings=settings)
    return Prepared(arrays={"residual": sample.capped - baseline.offset})


def _fit(sample: Sample, prepared: Prepared, counts: np.ndarray, settings: TreeSettings) -> Part:
    forests = {}
    control = sample.logging_policy[:, 0]
    for action in range(1, sample.n_actions):
        own = sample.logging_policy[:, action]
        arms = ((sample.action == action) | (sample.action == 0)) & sample.is_possible[:, action]
        arms &= sample.is_usable
        if not arms.any():
            continue
        propensity = np.divide(own, own + control, out=np.full(len(own), 0.5), where=arms)
        assigned = (sample.action == action) - propensity
        forests[f"effect_{action}"] = fit_forest(
            sample.binned,
            prepared.arrays["residual"] / assigned,
            weights=counts * arms * assigned**2,
            settings=settings,
            is_joint=False,
        )
    return Part(forests)


LEARNER = Learner("r_learner", stack_actions, _fit, _prepare, refuse_zero_control)
