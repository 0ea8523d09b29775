"""One log: heads are fitted on training customers and judged on the evaluation cohort's truth."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import polars as pl

from benchmarks.studies.effects import peers
from benchmarks.studies.effects.logs import KnownLog, draw_log
from ml.allocation.budget import cut_probabilities, solve_budget
from ml.pipeline.learn import fit_candidate
from ml.pipeline.policies import UpliftScorer
from ml.simulate.worlds import find_world
from ml.uplift.caution import USUAL_CAUTION
from ml.uplift.fitting import LearningSettings

BUDGET_SHARE = 0.2
SMALLEST_ERROR = 0.01
"""Currency: where the constant effect errs by less there is nothing to be better at."""


def judge(
    world: str, n_decisions: int, seed: int, *, with_peers: bool = False, causalml: str = ""
) -> pl.DataFrame:
    """Draw a log, fit heads, and compare them with the constant effects and the truth.

    Parameters
    ----------
    world, n_decisions, seed
        Name, training decisions, seed of the world.
    with_peers
        Whether EconML's learners are fitted on the same rows.
    causalml
        A Python with causalml, whose learners are fitted then too.

    Returns
    -------
    pl.DataFrame
        One row per lifecycle, outcome and offer: error (root mean square, currency) of the head
        and of the constant effect on eligible evaluation decisions, the candidate, whether it
        abstains, the z that the true effects themselves would reach as a ranking (below 2 no
        learner could prove anything); and, the same in each row, the log's policy values (true net
        value per decision over no-offer at a fifth of what the oracle would spend without a
        budget) and each peer's error over all offers.
    """
    config = replace(find_world(world), seed=seed)
    log = draw_log(config, n_decisions=n_decisions)
    programme = config.programme
    # Logs are judged side by side.
    candidate = fit_candidate(
        log.snapshot,
        programme=programme,
        actions=log.actions,
        settings=LearningSettings(n_threads=1),
    )
    if not isinstance(candidate.scorer, UpliftScorer):
        raise AssertionError("fit_candidate fits uplift heads")
    heads, evaluation = candidate.scorer.heads, log.snapshot.evaluation
    lifecycle = evaluation.contexts.frame["lifecycle"].to_numpy()
    estimates = {
        outcome: heads.predict_outcome(outcome, evaluation.contexts.context, lifecycle)
        for outcome in ("value", "cost")
    }
    effects = {outcome: each.mean for outcome, each in estimates.items()}
    bound = effects["value"] - USUAL_CAUTION * estimates["value"].spread
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
                        "ideal_z": _rank_ideally(log, outcome, action, judged, n_decisions),
                    }
                )
    constant_value, constant_cost = (
        np.stack([constant[outcome][name] for name in lifecycle]) for outcome in ("value", "cost")
    )
    values = {
        "oracle": value_effects(truth["value"], truth["cost"], log),
        "heads": value_effects(effects["value"], effects["cost"], log),
        "cautious": value_effects(bound, effects["cost"], log),
        "constant": value_effects(constant_value, constant_cost, log),
    }
    table = pl.DataFrame(rows).with_columns(
        pl.lit(value).alias(f"{name}_value") for name, value in values.items()
    )
    if with_peers:
        judged = evaluation.contexts.eligible.copy()
        judged[:, 0] = False
        errors = {
            f"heads_{outcome}_error": _rms((effects[outcome] - truth[outcome])[judged])
            for outcome in effects
        }
        errors |= fit_peers(log, causalml=causalml)
        table = table.with_columns(pl.lit(error).alias(name) for name, error in errors.items())
    return table


def fit_peers(log: KnownLog, *, causalml: str) -> dict[str, float]:
    """Return published learners' errors on a log, each library in a process of its own.

    Parameters
    ----------
    log
        Its training rows are fitted on, its evaluation rows judged.
    causalml
        A Python with causalml; empty: EconML alone.

    Returns
    -------
    dict
        ``<peer>_value_error`` and ``<peer>_cost_error``, currency.
    """
    training, evaluation = log.snapshot.training, log.snapshot.evaluation
    errors: dict[str, float] = {}
    with TemporaryDirectory() as folder:
        file = Path(folder) / "log.npz"
        np.savez(
            file,
            context=training.contexts.context,
            action=training.action,
            policy=training.logging_policy,
            value=training.value,
            cost=training.cost,
            test=evaluation.contexts.context,
            eligible=evaluation.contexts.eligible,
            value_effect=log.value_effect,
            cost_effect=log.cost_effect,
        )
        for python, names in ((sys.executable, peers.ECONML), (causalml, peers.CAUSALML)):
            if not python:
                continue
            lines = subprocess.run(
                [python, "-W", "ignore", peers.__file__, str(file), *names],
                check=True,
                capture_output=True,
                text=True,
            ).stdout.splitlines()
            for line in lines:
                each = json.loads(line)
                for outcome in ("value", "cost"):
                    errors[f"{each['peer']}_{outcome}_error"] = each[f"{outcome}_error"]
    return errors


def _rank_ideally(
    log: KnownLog, outcome: str, action: int, rows: np.ndarray, n_decisions: int
) -> float:
    """Return the z of true effects as a ranking of one head, at the training log's size."""
    evaluation = log.snapshot.evaluation
    policy, taken = evaluation.logging_policy[rows], evaluation.action[rows]
    realised = getattr(evaluation, outcome)[rows]
    realised = realised - realised.mean()
    possible = (policy[:, action] > 0) & (policy[:, 0] > 0)
    true = {"value": log.value_effect, "cost": log.cost_effect}[outcome][rows, action]
    pseudo = np.where(taken == action, realised / np.maximum(policy[:, action], 1e-9), 0.0)
    if outcome == "value":
        pseudo -= np.where(taken == 0, realised / np.maximum(policy[:, 0], 1e-9), 0.0)
    score = true[possible] - true[possible].mean()
    noise = float(np.sqrt(((score * pseudo[possible]) ** 2).sum()))
    share = n_decisions / evaluation.n_decisions
    return float(score @ score) / noise * float(np.sqrt(share)) if noise > 0 else 0.0


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


def value_effects(
    value_effect: np.ndarray,
    cost_effect: np.ndarray,
    log: KnownLog,
    *,
    per_decision: float | None = None,
) -> float:
    """Return the true net value a decision of the policy that spends a budget by some effects.

    Without a budget per decision: a fifth of what the oracle would spend without any.
    """
    eligible = log.snapshot.evaluation.contexts.eligible
    true_net = log.value_effect - log.cost_effect
    best = np.where(eligible, true_net, -np.inf).argmax(axis=1)
    free = float(log.cost_effect[np.arange(len(best)), best].sum())
    reward, cost = value_effect - cost_effect, np.maximum(cost_effect, 0.0)
    allowed = eligible & (reward > 0)
    allowed[:, 0] = True
    budget = BUDGET_SHARE * free if per_decision is None else per_decision * len(best)
    cut = solve_budget(reward, cost, allowed, budget=budget)
    policy = cut_probabilities(reward, cost, allowed, cut=cut)
    return float((policy * true_net).sum() / len(best))


def _rms(values: np.ndarray) -> float:
    return float(np.sqrt((values**2).mean()))
