"""Uplift heads as files: LightGBM's text and one JSON; no pickle."""

import json
from dataclasses import asdict
from pathlib import Path

import lightgbm as lgb
import numpy as np

from ml.uplift.calibration import Calibration
from ml.uplift.heads import LifecycleHead, UpliftHeads

_MODELS = ("baseline", "value", "cost")


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
    for name in _MODELS:
        (folder / f"{name}.txt").write_text(getattr(heads, name).model_to_string())
    summary = {
        "descriptors": heads.descriptors.tolist(),
        "feature_names": heads.feature_names,
        "schema_hash": heads.schema_hash,
        "value_calibration": [asdict(each) for each in heads.value_calibration],
        "cost_calibration": [asdict(each) for each in heads.cost_calibration],
        "heads": [
            {
                "lifecycle": head.lifecycle,
                "n_rows": head.n_rows.tolist(),
                "is_supported": head.is_supported.tolist(),
                "value_effect": head.value_effect.tolist(),
                "cost_effect": head.cost_effect.tolist(),
            }
            for head in heads.heads
        ],
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
    baseline, value, cost = (
        lgb.Booster(model_str=(folder / f"{name}.txt").read_text()) for name in _MODELS
    )
    return UpliftHeads(
        heads=tuple(
            LifecycleHead(
                lifecycle=each["lifecycle"],
                n_rows=np.array(each["n_rows"]),
                is_supported=np.array(each["is_supported"], dtype=bool),
                value_effect=np.array(each["value_effect"]),
                cost_effect=np.array(each["cost_effect"]),
            )
            for each in summary["heads"]
        ),
        baseline=baseline,
        value=value,
        cost=cost,
        descriptors=np.array(summary["descriptors"]),
        value_calibration=tuple(Calibration(**each) for each in summary["value_calibration"]),
        cost_calibration=tuple(Calibration(**each) for each in summary["cost_calibration"]),
        feature_names=tuple(summary["feature_names"]),
        schema_hash=summary["schema_hash"],
    )
