"""Studies in parts that are kept: a part that is finished is not worked out again."""

import json
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from functools import partial
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


def keep_seeds(
    folder: str, sizes: str, seeds: Iterable[int], live: Callable[[int], pl.DataFrame]
) -> pl.DataFrame:
    """Return every seed's table, those that were kept before and those worked out now.

    Parameters
    ----------
    folder
        Where tables are kept.
    sizes
        What else a table depends on, part of its file's name.
    seeds
        Of the worlds.
    live
        Makes a seed's table: a function of an importable module or a partial of one.
    """
    out = Path(folder)
    out.mkdir(parents=True, exist_ok=True)
    parts = {out / f"{sizes}-{seed}.parquet": partial(live, seed) for seed in seeds}
    run_missing(parts)
    return pl.concat([pl.read_parquet(file) for file in parts])


def print_line(figures: Mapping[str, float]) -> None:
    """Print a study's last line, JSON of its figures to four digits."""
    print(json.dumps({name: float(f"{value:.4g}") for name, value in figures.items()}))
