"""Uplift heads as files: LightGBM's text and one JSON; no pickle."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from ml.core.errors import ContractError
from ml.uplift.calibration import Calibration
from ml.uplift.ensemble import Ensemble, Part
from ml.uplift.forest import Forest
from ml.uplift.heads import LifecycleHead, OutcomeHead, OutcomeModel, UpliftHeads
from ml.uplift.learners import find_learner
from ml.uplift.personas import PERSONAS
from ml.uplift.report import BINS, CAUTION, CURVES, EFFICIENCY, RANKING, HeadReport
from ml.uplift.trial import EVIDENCE

_REPORT = {
    "evidence": EVIDENCE,
    "ranking": RANKING,
    "bins": BINS,
    "efficiency": EFFICIENCY,
    "personas": PERSONAS,
    "curves": CURVES,
    "caution": CAUTION,
}


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
    for name in ("baseline", "added"):
        (folder / f"{name}.txt").write_text(getattr(heads.outcome_model, name).text)
    for name, ensemble in heads.ensembles.items():
        _save_forests(ensemble.shared, folder / name)
        for number, member in enumerate(ensemble.members):
            _save_forests(member, folder / name / f"member-{number:02d}")
    summary = {
        "descriptors": heads.descriptors.tolist(),
        "feature_names": heads.feature_names,
        "schema_hash": heads.schema_hash,
        "caution": heads.caution,
        "belief_version": heads.belief_version,
        "ensembles": {
            name: {
                "learner": ensemble.learner.name,
                "shared": _describe_part(ensemble.shared),
                "members": [_describe_part(member) for member in ensemble.members],
                "is_zero_without_offer": ensemble.is_zero_without_offer,
            }
            for name, ensemble in heads.ensembles.items()
        },
        "heads": [_describe_head(head) for head in heads.heads],
    }
    (folder / "heads.json").write_text(json.dumps(summary, indent=2, sort_keys=True))
    tables = {name: getattr(heads.report, name).to_dicts() for name in _REPORT}
    (folder / "report.json").write_text(json.dumps(tables, indent=2, sort_keys=True))


def load_heads(folder: Path) -> UpliftHeads:
    """Read what ``save_heads`` wrote.

    Parameters
    ----------
    folder
        With heads.json and the forests' text files.

    Returns
    -------
    UpliftHeads
        Predicting exactly as those saved.

    Raises
    ------
    ContractError
        If an earlier version of this software wrote them.
    """
    summary = json.loads((folder / "heads.json").read_text())
    if "ensembles" not in summary:
        raise ContractError(
            "the policy's heads were written by an earlier version and can't be read: begin a new "
            "state folder, or go back to that version"
        )
    n_context = len(summary["feature_names"])
    outcome_model = OutcomeModel(
        *(Forest((folder / f"{name}.txt").read_text(), n_context) for name in ("baseline", "added"))
    )
    ensembles = {
        name: Ensemble(
            learner=find_learner(each["learner"]),
            shared=_load_part(folder / name, each["shared"], n_context),
            members=tuple(
                _load_part(folder / name / f"member-{number:02d}", member, n_context)
                for number, member in enumerate(each["members"])
            ),
            is_zero_without_offer=each["is_zero_without_offer"],
        )
        for name, each in summary["ensembles"].items()
    }
    return UpliftHeads(
        heads=tuple(_read_head(each) for each in summary["heads"]),
        ensembles=ensembles,
        outcome_model=outcome_model,
        descriptors=np.array(summary["descriptors"]),
        feature_names=tuple(summary["feature_names"]),
        schema_hash=summary["schema_hash"],
        report=_read_report(folder / "report.json"),
        caution=summary["caution"],
        belief_version=summary.get("belief_version"),
    )


def _read_report(file: Path) -> HeadReport:
    tables = json.loads(file.read_text())
    return HeadReport(
        # Heads of an earlier version lack a table that later ones have.
        **{
            name: pl.DataFrame(tables.get(name, []), schema=schema)
            for name, schema in _REPORT.items()
        }
    )


def _save_forests(part: Part, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, forest in part.forests.items():
        (folder / f"{name}.txt").write_text(forest.text)


def _describe_part(part: Part) -> dict[str, Any]:
    numbers = {name: each.tolist() for name, each in part.numbers.items()}
    return {"forests": list(part.forests), "numbers": numbers}


def _load_part(folder: Path, saved: Mapping[str, Any], n_context: int) -> Part:
    return Part(
        {
            name: Forest((folder / f"{name}.txt").read_text(), n_context)
            for name in saved["forests"]
        },
        {name: np.array(values) for name, values in saved["numbers"].items()},
    )


def _describe_head(head: LifecycleHead) -> dict[str, Any]:
    return {
        "lifecycle": head.lifecycle,
        "n_rows": head.n_rows.tolist(),
        "refusals": head.refusals,
        "outcomes": {
            outcome: {
                "candidate": each.candidate,
                "mixture": dict(each.mixture),
                "calibrations": [asdict(one) for one in each.calibrations],
                "effect": each.effect.tolist(),
            }
            for outcome, each in head.outcomes.items()
        },
    }


def _read_head(saved: Mapping[str, Any]) -> LifecycleHead:
    return LifecycleHead(
        lifecycle=saved["lifecycle"],
        n_rows=np.array(saved["n_rows"]),
        refusals=tuple(saved["refusals"]),
        outcomes={
            outcome: OutcomeHead(
                candidate=each["candidate"],
                mixture=each["mixture"],
                calibrations=tuple(Calibration(**one) for one in each["calibrations"]),
                effect=np.array(each["effect"]),
            )
            for outcome, each in saved["outcomes"].items()
        },
    )
