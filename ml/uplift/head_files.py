"""Uplift heads as files: LightGBM's text and one JSON; no pickle."""

import json
from dataclasses import asdict
from pathlib import Path

import lightgbm as lgb

from ml.uplift.calibration import Calibration
from ml.uplift.heads import ActionHead, LifecycleHead, UpliftHeads
from ml.uplift.x_learner import EffectModel


def save_heads(heads: UpliftHeads, folder: Path) -> None:
    """Write heads as LightGBM text and JSON; no pickle.

    Parameters
    ----------
    heads
        Fitted.
    folder
        Made if missing.
    """
    folder.mkdir(parents=True, exist_ok=True)
    described = []
    for head in heads.heads:
        models = {f"{head.lifecycle}.control_value": head.control_value}
        actions = []
        for each in head.actions:
            stem = f"{head.lifecycle}.{each.action}"
            if each.value is not None:
                models[f"{stem}.value_treated"] = each.value.tau_treated
                models[f"{stem}.value_control"] = each.value.tau_control
            if each.cost is not None:
                models[f"{stem}.cost"] = each.cost
            actions.append(
                {
                    "action": each.action,
                    "n_rows": each.n_rows,
                    "is_supported": each.is_supported,
                    "treated_share": None if each.value is None else each.value.treated_share,
                    "has_cost": each.cost is not None,
                    "value_calibration": asdict(each.value_calibration),
                    "cost_calibration": asdict(each.cost_calibration),
                }
            )
        for name, model in models.items():
            (folder / f"{name}.txt").write_text(model.model_to_string())
        described.append({"lifecycle": head.lifecycle, "actions": actions})
    summary = {
        "n_actions": heads.n_actions,
        "feature_names": heads.feature_names,
        "schema_hash": heads.schema_hash,
        "heads": described,
    }
    (folder / "heads.json").write_text(json.dumps(summary, indent=2, sort_keys=True))


def load_heads(folder: Path) -> UpliftHeads:
    """Read what ``save_heads`` wrote.

    Parameters
    ----------
    folder
        With heads.json and the boosters' text files.

    Returns
    -------
    UpliftHeads
        Predicting exactly as those saved.
    """
    summary = json.loads((folder / "heads.json").read_text())

    def load(name: str) -> lgb.Booster:
        return lgb.Booster(model_str=(folder / f"{name}.txt").read_text())

    heads = []
    for described in summary["heads"]:
        lifecycle = described["lifecycle"]
        actions = []
        for each in described["actions"]:
            stem = f"{lifecycle}.{each['action']}"
            share = each["treated_share"]
            actions.append(
                ActionHead(
                    action=each["action"],
                    n_rows=each["n_rows"],
                    is_supported=each["is_supported"],
                    value=None
                    if share is None
                    else EffectModel(
                        load(f"{stem}.value_treated"), load(f"{stem}.value_control"), share
                    ),
                    value_calibration=Calibration(**each["value_calibration"]),
                    cost=load(f"{stem}.cost") if each["has_cost"] else None,
                    cost_calibration=Calibration(**each["cost_calibration"]),
                )
            )
        heads.append(LifecycleHead(lifecycle, load(f"{lifecycle}.control_value"), tuple(actions)))
    return UpliftHeads(
        heads=tuple(heads),
        n_actions=summary["n_actions"],
        feature_names=tuple(summary["feature_names"]),
        schema_hash=summary["schema_hash"],
    )
