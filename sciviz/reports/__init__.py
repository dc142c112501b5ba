"""Reports and sweeps: any tutorial, or a notebook of your own that uses `sciviz.start`, at one point or over a grid."""

from __future__ import annotations

from sciviz.reports.collect import open_sweep
from sciviz.reports.comparison import diff
from sciviz.reports.parameters import Parameter, check_parameters, read_parameters
from sciviz.reports.runner import Report, report
from sciviz.reports.sweeps import Sweep, SweepStopped, sweep
from sciviz.reports.verification import verify

__all__ = [
    "Parameter",
    "Report",
    "Sweep",
    "SweepStopped",
    "check_parameters",
    "diff",
    "open_sweep",
    "read_parameters",
    "report",
    "sweep",
    "verify",
]
