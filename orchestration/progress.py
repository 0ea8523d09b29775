"""Progress for people: one line when a stage starts and ends, its own messages between.

Writes: standard output.
"""

import logging
import sys
import time

import dagster as dg

STAGES = {
    "ingestion": "Identify: screen the delivery",
    "warehouse_models": "Identify: build features and outcomes (dbt)",
    "marts": "Identify: export the marts to the lake",
    "randomisation": "Identify: check the randomisation",
    "lifecycle_rule": "Learn: the lifecycle rule",
    "uplift_heads": "Learn: value and cost effects",
    "fit_media_mix": "Learn: the media mix",
    "policy_evaluation": "Validate: policies on the evaluation cohort",
    "champion": "Validate: promotion gate",
    "online_validation": "Validate: the champion's arm against the challenger's",
    "withdraw_champion": "Validate: rollback",
    "assignment": "Decide: tonight's offers",
    "monitoring": "Validate: what matured against what was expected",
    "nightly_summary": "Validate: summary and page",
}


class ProgressHandler(logging.Handler):
    """Prints Dagster's step events and the assets' own log lines."""

    def __init__(self) -> None:
        super().__init__(level=logging.DEBUG)
        self._started: dict[str, float] = {}

    def emit(self, record: logging.LogRecord) -> None:
        """Print one record if it says something about progress."""
        meta = getattr(record, "dagster_meta", {})
        event = meta.get("dagster_event") if isinstance(meta, dict) else None
        step = (meta.get("step_key") or "").split("[")[0] if isinstance(meta, dict) else ""
        if event is None:
            if record.levelno >= logging.INFO and step and step != "warehouse_models":
                self._print(f"    {meta.get('orig_message', record.getMessage())}")
            return
        title = STAGES.get(step, step)
        kind = event.event_type_value
        if kind == "STEP_START":
            self._started[step] = time.monotonic()
            self._print(f"> {title}")
        elif kind in ("STEP_SUCCESS", "STEP_FAILURE", "STEP_UP_FOR_RETRY"):
            seconds = time.monotonic() - self._started.get(step, time.monotonic())
            outcome = {"STEP_SUCCESS": "done", "STEP_FAILURE": "FAILED"}.get(kind, "will retry")
            self._print(f"  {title}: {outcome} in {seconds:.1f} s")
            if kind == "STEP_FAILURE":
                self._print(f"  {_explain(event)}")
        elif kind == "ASSET_CHECK_EVALUATION":
            check = event.asset_check_evaluation_data
            if not check.passed and check.severity == dg.AssetCheckSeverity.ERROR:
                detail = check.metadata.get("detail")
                self._print(f"  CHECK {check.check_name} failed: {detail.value if detail else ''}")

    def _print(self, line: str) -> None:
        print(line, file=sys.__stdout__, flush=True)


def _explain(event: dg.DagsterEvent) -> str:
    """Return the innermost message of a failed step."""
    error = getattr(event.event_specific_data, "error", None)
    while error is not None and error.cause is not None:
        error = error.cause
    return "" if error is None else str(error.message).strip()


@dg.logger({}, description="One line a stage, for people.")
def progress_logger(init_context: dg.InitLoggerContext) -> logging.Logger:
    """Return a logger that prints progress to standard output."""
    logger = logging.Logger("liftloop.progress", level=logging.DEBUG)
    logger.addHandler(ProgressHandler())
    return logger
