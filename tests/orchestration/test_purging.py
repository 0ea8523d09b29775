from datetime import UTC, datetime, timedelta

import dagster as dg
import pytest

from orchestration.purging import delete_runs, purge


@dg.job
def idle():
    pass


def test_old_finished_runs_go_with_their_events_and_others_stay():
    with dg.DagsterInstance.ephemeral() as instance:
        finished = idle.execute_in_process(instance=instance).run_id
        waiting = instance.create_run_for_job(idle).run_id
        soon = datetime.now(UTC) + timedelta(minutes=1)
        assert delete_runs(instance, before=soon - timedelta(days=1)) == 0
        assert delete_runs(instance, before=soon) == 1
        assert instance.get_run_by_id(finished) is None
        assert not instance.all_logs(finished)
        assert instance.get_run_by_id(waiting) is not None


@pytest.mark.parametrize(("keep_days", "is_success"), [(400, True), (7, False)])
def test_a_month_is_kept_at_least(keep_days, is_success):
    with dg.DagsterInstance.ephemeral() as instance:
        result = purge.execute_in_process(
            instance=instance,
            run_config={"ops": {"purge_runs": {"config": {"keep_days": keep_days}}}},
            raise_on_error=False,
        )
    assert result.success == is_success
