"""The doctor: examines an app's database, process and proxy from outside, and names a cure for each finding."""

from pgevents_push.doctor.examination import examine
from pgevents_push.doctor.finding import Finding, Severity, worst

__all__ = ["Finding", "Severity", "examine", "worst"]
