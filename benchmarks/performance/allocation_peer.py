"""OR-tools PDLP on an allocation, alone in a process: the peer of the allocation benchmark.

It needs nothing of ours: numpy, scipy and ortools, in an environment of its own.
"""

import json
import sys
import time

import numpy as np

_MOST_SECONDS = 600.0


def main(file: str) -> None:
    """Solve the linear programme of one budget and print its value and what it took.

    After ten minutes it is stopped: what it took is then a lower bound.

    Parameters
    ----------
    file
        An .npz with reward, cost (n, K), control in column 0, and budget.
    """
    # ortools is in the peer's environment alone, so mypy, in ours, can't find it.
    import scipy.sparse
    from ortools.pdlp import solve_log_pb2, solvers_pb2  # type: ignore[import-not-found]
    from ortools.pdlp.python import pdlp  # type: ignore[import-not-found]

    problem = dict(np.load(file))
    reward, cost = problem["reward"][:, 1:], problem["cost"][:, 1:]
    n, n_offers = reward.shape
    started = time.process_time()
    place = np.arange(n * n_offers)
    programme = pdlp.QuadraticProgram()
    programme.objective_vector = -reward.ravel()
    programme.constraint_matrix = scipy.sparse.csc_matrix(
        (
            np.concatenate([np.ones(n * n_offers), cost.ravel()]),
            (np.concatenate([place // n_offers, np.full(n * n_offers, n)]), np.tile(place, 2)),
        ),
        shape=(n + 1, n * n_offers),
    )
    programme.constraint_lower_bounds = np.full(n + 1, -np.inf)
    programme.constraint_upper_bounds = np.append(np.ones(n), float(problem["budget"]))
    programme.variable_lower_bounds = np.zeros(n * n_offers)
    programme.variable_upper_bounds = np.full(n * n_offers, np.inf)
    settings = solvers_pb2.PrimalDualHybridGradientParams()
    optimality = settings.termination_criteria.simple_optimality_criteria
    optimality.eps_optimal_relative = 1e-6
    optimality.eps_optimal_absolute = 0.0
    settings.num_threads = 1
    settings.termination_criteria.time_sec_limit = _MOST_SECONDS
    found = pdlp.primal_dual_hybrid_gradient(programme, settings)
    reason = solve_log_pb2.TerminationReason.Name(found.solve_log.termination_reason)
    print(
        json.dumps(
            {
                "cpu": time.process_time() - started,
                "reward": float(reward.ravel() @ found.primal_solution),
                "reason": reason,
            }
        )
    )


if __name__ == "__main__":
    main(sys.argv[1])
