"""What hardware a step ran on, and how much energy that took."""

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

EVERY = 10  # seconds between two readings of the counters; those of processors wrap
COUNTERS = {
    "intel_rapl": "RAPL",
    "intel_power_gadget": "Power Gadget",
    "windows_emi": "EMI",
}


@contextmanager
def meter_energy() -> Iterator[dict[str, Any]]:
    """Meter the energy of what runs inside, by codecarbon, without network or files.

    Where it cannot be metered, one printed line says why, and what runs inside goes on.

    Yields:
        A dict that is filled at the end, whether or not there was an error:
        `hardware`; `energy_kwh` of processors, GPUs and memory; both None where they
        could not be had; and `energy_by`, which says how sure it is, or why there is
        none.
    """
    found: dict[str, Any] = {}
    logger = logging.getLogger("codecarbon")
    faults: list[BaseException] = []

    def hush(record: logging.LogRecord) -> bool:
        """Keep what codecarbon caught, and let nothing of its log through."""
        if record.exc_info and record.exc_info[1]:
            faults.append(record.exc_info[1])
        return False

    logger.addFilter(hush)  # before the import, which logs too
    tracker = None
    try:
        tracker = _start()
    except Exception as error:  # it reads whatever the machine has; a run needs none
        faults.append(error)
    try:
        yield found
    finally:
        try:
            found |= _stop(tracker)
        except Exception as error:
            fault = next(iter(faults), error)
            reason = f"not metered: {type(fault).__name__}: {fault}"
            found |= {"hardware": None, "energy_kwh": None, "energy_by": reason}
            print(f"energy: {reason}")
        logger.removeFilter(hush)


def _start():
    from codecarbon import OfflineEmissionsTracker

    tracker = OfflineEmissionsTracker(
        # Of a shared machine, and of branches side by side, each counts its own part.
        tracking_mode="process",
        measure_power_secs=EVERY,
        force_carbon_intensity_g_co2e_kwh=0,  # of CO2, which depends on the country
        allow_multiple_runs=True,  # and so without a lock file
        log_level="warning",
        # Said here, for the user's own settings of codecarbon come next.
        output_methods=[],
        output_handlers=[],
        emissions_endpoint=False,
        electricitymaps_api_token=False,
    )
    tracker.start()
    return tracker


def _stop(tracker) -> dict[str, Any]:
    schedulers = [tracker._scheduler, tracker._scheduler_monitor_power]
    try:
        tracker.stop()
    finally:
        _end_threads(schedulers)
    read = tracker.final_emissions_data
    hardware = [
        f"{read.cpu_count} cores of {read.cpu_model or 'an unknown processor'}",
        f"{read.ram_total_size:.0f} GB of memory",
    ]
    if read.gpu_count:
        hardware.insert(0, str(read.gpu_model))
    return {
        "hardware": ", ".join(hardware),
        "energy_kwh": float(read.energy_consumed),
        "energy_by": "; ".join(map(_say_how, reversed(tracker._hardware))),
    }


def _end_threads(schedulers: list) -> None:
    """Wait until no thread of a tracker is left.

    One that is reading as its scheduler stops would schedule the next reading.
    """
    for _ in range(5):
        timers = [
            thread
            for thread in threading.enumerate()
            if isinstance(thread, threading.Timer)
            and getattr(thread.function, "__self__", None) in schedulers
        ]
        for scheduler in schedulers if timers else ():
            scheduler.stop()
        for timer in timers:
            timer.cancel()
            timer.join(1)


def _say_how(part) -> str:
    """How sure the energy of a part of the machine is."""
    kind, mode = type(part).__name__, getattr(part, "_mode", None)
    if kind == "RAM":
        return "memory: estimated from how much this run holds"
    if kind == "GPU":
        if any(device._use_power_fallback for device in part.devices.devices):
            return "GPU: its power, sampled each second, that of other jobs included"
        return "GPU: read from its counter, other jobs included"
    if mode in COUNTERS:
        return (
            f"processor: read from its counter ({COUNTERS[mode]}), other jobs included"
        )
    if mode is None:
        return f"{kind}: read from the machine"
    return (
        f"processor: estimated from a rated power of {part._tdp:g} W and this run's "
        "share of its time; on a virtual machine this may be several times off"
    )
