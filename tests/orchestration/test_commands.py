import polars as pl
from conftest import run_liftloop


def _deliver(folder):
    at = "2026-01-01T00:00:00Z"
    (folder / "customers").mkdir(parents=True)
    pl.DataFrame(
        {
            "customer_id": ["c1", "c2"],
            "valid_from": [at] * 2,
            "signed_up_at": [at] * 2,
            "attributes": ["{}", "no json"],
            "available_at": [at] * 2,
        }
    ).write_csv(folder / "customers" / "monday.csv")


def test_validate_reports_without_loading(tmp_path):
    _deliver(tmp_path / "delivery")
    home = tmp_path / "home"
    printed = run_liftloop(home, "validate", "--input", str(tmp_path / "delivery"), expect=1)
    assert "2 delivered" in printed
    assert "1 to quarantine" in printed
    assert "customers, monday.csv, row 2: attributes: is no JSON object" in printed
    assert not (home / "lake").exists()


def test_validate_names_what_it_expected(tmp_path):
    (tmp_path / "empty").mkdir()
    printed = run_liftloop(
        tmp_path / "home", "validate", "--input", str(tmp_path / "empty"), expect=1
    )
    assert "holds no contract table" in printed
    assert "Traceback" not in printed


def test_plan_exploration_says_how_long(tmp_path):
    printed = run_liftloop(
        tmp_path,
        "plan-exploration",
        "--effect=0.2",
        "--standard-deviation=6",
        "--decisions-per-week=20000",
        "--propensities=no_offer=.4,a=.3,b=.3",
    )
    assert "weeks for all of them" in printed


def test_a_missing_hillstrom_file_is_explained(tmp_path):
    printed = run_liftloop(
        tmp_path / "home", "nightly", "--source", "hillstrom", "--input", "nowhere.csv", expect=1
    )
    assert "pass INPUT=" in printed
    assert "Traceback" not in printed
