"""Runs JavaScript: node comes with Playwright's wheel, packages with npm, once, into an ignored folder."""

from __future__ import annotations

import fcntl
import shutil
import subprocess
from pathlib import Path

from playwright._impl._driver import compute_driver_executable

HERE = Path(__file__).parent
INSTALL_SECONDS = 300


def run_node(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run node and return what it said, also when it failed."""
    command = [compute_driver_executable()[0], *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)


def packages(folder: Path) -> Path:
    """Install what a folder's package-lock.json names, unless it is there; return its node_modules."""
    lock, modules = folder / "package-lock.json", folder / "node_modules"
    stamp = modules / ".installed.json"
    with lock.open() as one_at_a_time:  # of the processes that run tests
        fcntl.flock(one_at_a_time, fcntl.LOCK_EX)
        if not stamp.exists() or stamp.read_bytes() != lock.read_bytes():
            npm = shutil.which("npm")
            assert npm, f"npm is missing: it installs what {lock} names."
            command = [npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]
            subprocess.run(command, cwd=folder, check=True, timeout=INSTALL_SECONDS)
            shutil.copyfile(lock, stamp)
    return modules
