"""One log: heads are fitted on training customers and judged on the evaluation cohort's truth."""

from dataclasses import replace

import numpy as np
import polars as pl

from benchmarks.studies.effects.logs import KnownLog, draw_log
from ml.allocation.budget import cut_probabilities, solve_budget
from ml.pipeline.learn import fit_candidate
from ml.pipeline.policies import UpliftScorer
from ml.simulate.worlds import find_world

BUDGET_SHARE = 0.2
SMALLEST_ERROR = 0.01
"""Currency: where the constant effect errs by less there is nothing to be better at."""


def judge(world: str, n_decisions: int, seed: int) -> pl.DataFrame:
    """Draw a log, fit heads, and compare them with the constant effects and the truth.

    Parameters
    ----------
    world, n_decisions, seed
        Name, training decisions, seed of the world.

    Returns
    -------
    pl.DataFrame
        One row per lifecycle, outcome and offer: error (root mean square, currency) of the head
        and of the constant effect on eligible evaluation decisions, the candidate, whether it
        abstains; and the log's policy values (true net value per decision over no-offer at a fifth
        of what the oracle would spend without a budget), the same in each row.
    """
    config = replace(find_world(world), seed=seed)
    log = draw_log(config, n_decisions=n_decisions)
    programme = config.programme
    candidate = fit_candidate(log.snapshot, programme=programme, actions=log.actions)
    if not isinstance(candidate.scorer, UpliftScorer):
        raise AssertionError("fit_candidate fits uplift heads")
    heads, evaluation = candidate.scorer.heads, log.snapshot.evaluation
    lifecycle = evaluation.contexts.frame["lifecycle"].to_numpy()
    effects = {
        outcome: heads.predict_outcome(outcome, evaluation.contexts.context, lifecycle).mean
        for outcome in ("value", "cost")
    }
    truth = {"value": log.value_effect, "cost": log.cost_effect}
    constant = {outcome: _estimate_constants(log, outcome) for outcome in effects}
    rows = []
    for head in heads.heads:
        own = lifecycle == head.lifecycle
        for outcome, each in effects.items():
            fitted = head.outcomes[outcome]
            for action in range(1, log.actions.n_actions):
                judged = own & evaluation.contexts.eligible[:, action]
                if not judged.any():
                    continue
                true = truth[outcome][judged, action]
                rows.append(
                    {
                        "world": world,
                        "n_decisions": n_decisions,
                        "seed": seed,
                        "lifecycle": head.lifecycle,
                        "outcome": outcome,
                        "action_id": log.actions.action_ids[action],
                        "n_judged": int(judged.sum()),
                        "candidate": fitted.candidate,
                        "is_abstaining": fitted.calibrations[action].slope == 0,
                        "error": _rms(each[judged, action] - true),
                        "constant_error": _rms(constant[outcome][head.lifecycle][action] - true),
                    }
                )
    constant_value, constant_cost = (
        np.stack([constant[outcome][name] for name in lifecycle]) for outcome in ("value", "cost")
    )
    values = {
        "oracle": _value(truth["value"], truth["cost"], log),
        "heads": _value(effects["value"], effects["cost"], log),
        "constant": _value(constant_value, constant_cost, log),
    }
    return pl.DataFrame(rows).with_columns(
        pl.lit(value).alias(f"{name}_value") for name, value in values.items()
    )


def _estimate_constants(log: KnownLog, outcome: str) -> dict[str, np.ndarray]:
    """Return each lifecycle's weighted differences in means (cost: means), shape (K,)."""
    training = log.snapshot.training
    own = training.contexts.frame["lifecycle"].to_numpy()
    weights = training.logging_policy.mean(axis=0)[training.action] / training.propensity
    realised = getattr(training, outcome)
    constants = {}
    for name in np.unique(own):
        rows = own == name
        weight = np.bincount(
            training.action[rows], weights=weights[rows], minlength=log.actions.n_actions
        )
        total = np.bincount(
            training.action[rows],
            weights=(weights * realised)[rows],
            minlength=log.actions.n_actions,
        )
        means = np.divide(total, weight, out=np.zeros_like(total), where=weight > 0)
        effects = means - means[0] if outcome == "value" else means
        constants[str(name)] = np.where(weight > 0, effects, 0.0)
        constants[str(name)][0] = 0.0
    return constants


def _value(value_effect: np.ndarray, cost_effect: np.ndarray, log: KnownLog) -> float:
    """Return the true net value of the policy that spends a fifth of the oracle's free spending."""
    eligible = log.snapshot.evaluation.contexts.eligible
    true_net = log.value_effect - log.cost_effect
    best = np.where(eligible, true_net, -np.inf).argmax(axis=1)
    free = float(log.cost_effect[np.arange(len(best)), best].sum())
    reward, cost = value_effect - cost_effect, np.maximum(cost_effect, 0.0)
    allowed = eligible & (reward > 0)
    allowed[:, 0] = True
    cut = solve_budget(reward, cost, allowed, budget=BUDGET_SHARE * free)
    policy = cut_probabilities(reward, cost, allowed, cut=cut)
    return float((policy * true_net).sum() / len(best))


def _rms(values: np.ndarray) -> float:
    return float(np.sqrt((values**2).mean()))
