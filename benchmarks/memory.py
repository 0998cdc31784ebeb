"""Load and tokenize: peak memory and how time grows with the number of adverts.

    python benchmarks/memory.py [--sizes 5000 20000 80000 200000]

Synthetic adverts, written by the generator of the sample. Each size runs in a process
of its own: reading, cleaning, personal data, duplicates, split, overlap, tokens.
"""

import argparse
import json
import math
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from results import state


def measure(path: Path) -> dict:
    """Seconds of both steps and peak memory of this process."""
    from ojd_daps_language_models.advert_data import texts_by_part
    from ojd_daps_language_models.configs import AdvertSplit, MLMConfig
    from ojd_daps_language_models.getters.adverts import iter_advert_parts
    from ojd_daps_language_models.getters.checkpoints import get_checkpoint
    from ojd_daps_language_models.preprocessing.adverts import prepare_adverts
    from ojd_daps_language_models.stores import Folder
    from ojd_daps_language_models.tasks import mlm

    # The more adverts a generator invents, the more sentences it repeats.
    config = MLMConfig(split=AdvertSplit(max_verbatim_overlap=1, max_near_overlap=1))
    start = time.perf_counter()
    prepared = prepare_adverts(
        iter_advert_parts(str(path), None, None, config.data), config
    )
    loaded = time.perf_counter()
    tokens = mlm.tokenize(
        texts_by_part(prepared.adverts),
        get_checkpoint("embedded"),
        Folder(path.parent / "tokens"),
    )
    return {
        "kept": len(prepared.adverts),
        "tokens": sum(int(part["lengths"].sum()) for part in tokens.values()),
        "load": loaded - start,
        "tokenize": time.perf_counter() - loaded,
        "peak_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2,
    }


def exponent(sizes: list[int], seconds: list[float]) -> float:
    """Slope of log seconds over log size, by least squares."""
    xs, ys = [math.log(n) for n in sizes], [math.log(s) for s in seconds]
    mean_x, mean_y = sum(xs) / len(xs), sum(ys) / len(ys)
    return sum((x - mean_x) * (y - mean_y) for x, y in zip(xs, ys, strict=True)) / sum(
        (x - mean_x) ** 2 for x in xs
    )


def main() -> None:
    from ojd_daps_language_models.sample_data.generate_adverts import generate_adverts

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=[2000, 8000, 32000])
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        print(json.dumps(measure(arguments.measure)))
        return

    seconds = []
    with tempfile.TemporaryDirectory() as folder:
        for size in arguments.sizes:
            path = Path(folder, "adverts.jsonl")
            with path.open("w", encoding="utf-8") as file:
                for advert in generate_adverts(size, seed=1):
                    file.write(json.dumps(advert) + "\n")
            done = subprocess.run(
                [sys.executable, __file__, "--measure", str(path)],
                stdout=subprocess.PIPE,
                text=True,
                check=True,
            )
            found = json.loads(done.stdout.splitlines()[-1])
            seconds.append(found["load"] + found["tokenize"])
            print(
                f"{size:9,} adverts: load {found['load']:7.1f} s, tokenize "
                f"{found['tokenize']:6.1f} s, peak {found['peak_gb']:.2f} GB, "
                f"{found['kept']:,} kept, {found['tokens']:,} tokens",
                flush=True,
            )
    power = exponent(arguments.sizes, seconds)
    state(
        f"load and tokenize, {arguments.sizes[0]:,} to {size:,} adverts",
        "itself at other sizes",
        f"time grows as adverts to the power of {power:.2f}",
        f"at most {found['peak_gb']:.2f} GB",
    )


if __name__ == "__main__":
    main()
