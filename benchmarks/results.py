"""What benchmarks report: each result is printed, and `make benchmark` tabulates it."""

import json
import os
import statistics
from collections.abc import Sequence

FILE = "BENCHMARK_RESULTS"  # names the file of rows, one JSON object a line


def report(
    what: str, peer: str, ratios: Sequence[float], note: str = "", unit: str = "times"
) -> None:
    """Report how many times as fast ours is as a peer.

    Args:
        what: is measured, in which unit.
        peer: that ours is held against.
        ratios: one of each repetition.
        note: what else belongs beside it, such as the quality that comes with it.
        unit: of the ratios, where they mean something else.
    """
    middle, least, most = statistics.median(ratios), min(ratios), max(ratios)
    spread = f"{least:.2f} to {most:.2f}" if len(ratios) > 1 else "one repetition"
    state(what, peer, f"{middle:.2f} {unit} ({spread})", note)


def state(what: str, peer: str, result: str, note: str = "") -> None:
    """Report a result that is no ratio, as `report` does."""
    row = {"what": what, "peer": peer, "result": result, "note": note}
    print(f"{what}: {result}; peer: {peer}" + (f"; {note}" if note else ""), flush=True)
    if path := os.environ.get(FILE):
        with open(path, "a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
