"""Studies in parts that are kept: a part that is finished is not worked out again."""

from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path

import polars as pl

_WORKERS = 2


def run_missing(parts: Mapping[Path, Callable[[], pl.DataFrame]]) -> None:
    """Work out the parts whose file is missing, two at a time, and keep each as it ends.

    Parameters
    ----------
    parts
        File to what makes its table, a function of an importable module: it is handed to another
        process, which doesn't know a package's ``__main__``.
    """
    missing = {file: work for file, work in parts.items() if not file.exists()}
    # Forked, a worker would wait for ever on the threads of libraries that this process has used.
    with ProcessPoolExecutor(_WORKERS, mp_context=get_context("spawn")) as pool:
        running = {pool.submit(work): file for file, work in missing.items()}
        for done, future in enumerate(as_completed(running), start=1):
            file = running[future]
            temporary = file.with_suffix(".tmp")
            future.result().write_parquet(temporary)
            temporary.replace(file)
            print(f"  {file.stem} ({done} of {len(missing)})", flush=True)
