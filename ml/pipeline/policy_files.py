"""Policies as files: JSON, LightGBM text and safetensors, hashed; no pickle."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from ml.allocation.budget import BudgetCut
from ml.allocation.limits import LimitedCut, Prices
from ml.core.actions import ActionSet
from ml.core.errors import ContractError
from ml.core.hashing import hash_folder
from ml.core.programme import Attribute
from ml.pipeline.agent_policy import AgentScorer, StateEncoder
from ml.pipeline.policies import (
    TREE,
    BudgetedPolicy,
    Guardrails,
    LifecycleRule,
    Scorer,
    UpliftScorer,
)
from ml.uplift.head_files import load_heads, save_heads


def save_policy(policy: BudgetedPolicy, folder: Path) -> str:
    """Write a policy as JSON, LightGBM text and safetensors; no pickle.

    Parameters
    ----------
    policy
        What to write.
    folder
        Made if missing.

    Returns
    -------
    str
        The hash of everything written, as ``hash_folder`` gives it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    scorer: dict[str, Any]
    uplift = policy.scorer.uplift
    if isinstance(policy.scorer, LifecycleRule):
        scorer = {
            "reactivation_action": policy.scorer.reactivation_action,
            "inactivity_days": policy.scorer.inactivity_days,
            "mean_value_effect": policy.scorer.mean_value_effect.tolist(),
            "mean_cost_effect": policy.scorer.mean_cost_effect.tolist(),
        }
    elif uplift is not None:
        save_heads(uplift.heads, folder / "heads")
        scorer = {
            "fallback_cost": uplift.fallback_cost.tolist(),
            "later_effect": uplift.later_effect.tolist(),
            "least_reward": uplift.least_reward,
            "guardrails": asdict(uplift.guardrails),
        }
        if isinstance(policy.scorer, AgentScorer):
            scorer["agent"] = _save_agent(policy.scorer, folder / "agent")
        elif policy.kind == TREE:
            scorer["tree"] = _save_tree(policy.scorer, folder / "tree")
    else:
        raise ContractError(f"a policy of kind '{policy.kind}' cannot be saved")
    actions = {
        "action_ids": policy.actions.action_ids,
        "families": policy.actions.families,
        "channels": policy.actions.channels,
        "face_values": policy.actions.face_values.tolist(),
        "message_costs": policy.actions.message_costs.tolist(),
    }
    described = {
        "kind": policy.kind,
        "schema_hash": policy.schema_hash,
        "floor": policy.floor,
        "cut": _describe_cut(policy.cut),
        "actions": actions,
        "attributes": [asdict(each) for each in policy.attributes],
        "scorer": scorer,
    }
    (folder / "policy.json").write_text(json.dumps(described, indent=2, sort_keys=True))
    return hash_folder(folder)


def load_policy(folder: Path) -> BudgetedPolicy:
    """Read what ``save_policy`` wrote.

    Parameters
    ----------
    folder
        With policy.json.

    Returns
    -------
    BudgetedPolicy
        Giving exactly the same probabilities as the one saved.

    Raises
    ------
    ContractError
        If the kind is unknown.
    """
    described = json.loads((folder / "policy.json").read_text())
    saved = described["actions"]
    actions = ActionSet(
        action_ids=tuple(saved["action_ids"]),
        families=tuple(saved["families"]),
        channels=tuple(saved["channels"]),
        face_values=np.array(saved["face_values"]),
        message_costs=np.array(saved["message_costs"]),
    )
    values = described["scorer"]
    scorer: Scorer
    if described["kind"] == "lifecycle_rule":
        scorer = LifecycleRule(
            reactivation_action=values["reactivation_action"],
            inactivity_days=values["inactivity_days"],
            mean_value_effect=np.array(values["mean_value_effect"]),
            mean_cost_effect=np.array(values["mean_cost_effect"]),
        )
    elif described["kind"] in ("uplift", "agent", TREE):
        rails = values["guardrails"]
        uplift = UpliftScorer(
            load_heads(folder / "heads"),
            np.array(values["fallback_cost"]),
            np.array(values["later_effect"]),
            values["least_reward"],
            Guardrails(**{**rails, "depths": tuple(map(tuple, rails["depths"]))}),
        )
        scorer = uplift
        if described["kind"] == "agent":
            scorer = _load_agent(values["agent"], uplift, folder / "agent")
        elif described["kind"] == TREE:
            scorer = _load_tree(values["tree"], uplift, actions, folder / "tree")
    else:
        raise ContractError(f"policy.json has the unknown kind '{described['kind']}'")
    return BudgetedPolicy(
        scorer=scorer,
        actions=actions,
        attributes=tuple(
            Attribute(**{**each, "levels": tuple(each["levels"])})
            for each in described["attributes"]
        ),
        schema_hash=described["schema_hash"],
        floor=described["floor"],
        cut=_read_cut(described["cut"]),
    )


def _save_agent(scorer: AgentScorer, folder: Path) -> dict[str, Any]:
    """Write an agent's networks; return the rest as JSON takes it."""
    # Torch takes seconds to import: only where a policy needs it.
    from ml.control.agent import Agent, save_agent

    if not isinstance(scorer.agent, Agent):
        raise ContractError("only agents of ml.control can be saved")
    save_agent(scorer.agent, folder)
    return {
        "feature_names": scorer.encoder.feature_names,
        "fill": scorer.encoder.fill.tolist(),
        "can_lack": scorer.encoder.can_lack.tolist(),
    }


def _load_agent(described: dict[str, Any], uplift: UpliftScorer, folder: Path) -> AgentScorer:
    """Read what ``_save_agent`` wrote."""
    from ml.control.agent import load_agent

    encoder = StateEncoder(
        tuple(described["feature_names"]),
        np.array(described["fill"]),
        np.array(described["can_lack"]),
    )
    return AgentScorer(uplift, load_agent(folder), encoder)


def _save_tree(scorer: Scorer, folder: Path) -> dict[str, Any]:
    """Write a tree and what reads its interactors; return the rest as JSON takes it."""
    # As above: codes need torch.
    from ml.pipeline.tree_scorer import TreeScorer, save_tree

    if not isinstance(scorer, TreeScorer):
        raise ContractError("only trees of ml.pipeline can be saved")
    save_tree(scorer.tree, scorer.reader, folder)
    return {
        "value_ratio": scorer.value_ratio.tolist(),
        "cost_ratio": scorer.cost_ratio.tolist(),
    }


def _load_tree(
    described: dict[str, Any], uplift: UpliftScorer, actions: ActionSet, folder: Path
) -> Scorer:
    """Read what ``_save_tree`` wrote."""
    from ml.pipeline.tree_scorer import TreeScorer, load_tree

    return TreeScorer(
        uplift,
        *load_tree(folder),
        actions,
        np.array(described["value_ratio"]),
        np.array(described["cost_ratio"]),
    )


def _describe_cut(cut: BudgetCut | LimitedCut) -> dict[str, Any]:
    """Return a cut as JSON takes it."""
    if isinstance(cut, BudgetCut):
        return asdict(cut)
    return {
        **{name: each for name, each in vars(cut).items() if name not in ("prices", "best")},
        "prices": [_describe_prices(each) for each in cut.prices],
        "best": _describe_prices(cut.best),
    }


def _describe_prices(prices: Prices) -> dict[str, Any]:
    return {"of_cost": prices.of_cost.tolist(), "of_offer": prices.of_offer.tolist()}


def _read_cut(described: dict[str, Any]) -> BudgetCut | LimitedCut:
    """Return what ``_describe_cut`` described."""
    if "prices" not in described:
        return BudgetCut(**described)
    return LimitedCut(
        **{
            **described,
            "prices": tuple(_read_prices(each) for each in described["prices"]),
            "shares": tuple(described["shares"]),
            "best": _read_prices(described["best"]),
        }
    )


def _read_prices(described: dict[str, Any]) -> Prices:
    return Prices(np.array(described["of_cost"]), np.array(described["of_offer"]))
