"""Reports: any tutorial, or a notebook of your own that uses `sciviz.start`, run with parameters and kept as a page."""

from __future__ import annotations

from sciviz.reports.parameters import Parameter, check_parameters, read_parameters
from sciviz.reports.runner import Report, report
from sciviz.reports.verify import verify

__all__ = ["Parameter", "Report", "check_parameters", "read_parameters", "report", "verify"]
