"""The wheel holds what the package needs at run time, and nothing of the tests; so does an editable install."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from hatchling.builders.wheel import WheelBuilder

ROOT = Path(__file__).parents[2]
SQL = sorted(str(path.relative_to(ROOT)) for path in (ROOT / "pgevents_push").rglob("*.sql"))
MODULES = sorted(str(path.relative_to(ROOT)) for path in (ROOT / "pgevents_push").rglob("*.py"))
OTHERS = [f"pgevents_push/{name}" for name in ("py.typed", "static/pgevents.js", "static/pgevents.d.ts")]
# Run from elsewhere: no checkout on the path. Prints the static folder that the blueprint found, and reads all SQL.
LOOK = """
from flask import Flask
from pgevents_push import pgevents_bp, PGEvents
from pgevents_push.capture import ddl
from pgevents_push import listener
app = Flask("elsewhere")
app.config["PGEVENTS_DATABASE_URL"] = "postgresql://nobody@192.0.2.1/none"
app.register_blueprint(pgevents_bp)
answer = app.test_client().get("/pgevents/static/pgevents.js")
assert answer.status_code == 200, answer.status_code
assert b"EventSource" in answer.data
assert "capture_source_v1" in ddl((), max_row_bytes=1000)
print(pgevents_bp.static_folder)
"""


def look(*paths: Path, cwd: Path) -> str:
    environment = {"PYTHONPATH": ":".join(map(str, paths)), "PATH": "/usr/bin:/bin"}
    # An empty folder: the checkout itself is not importable unless a path says so.
    done = subprocess.run(
        [sys.executable, "-c", LOOK], cwd=cwd, env=environment, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    [path] = WheelBuilder(str(ROOT)).build(directory=str(tmp_path_factory.mktemp("wheel")), versions=["standard"])
    return Path(path)


def test_what_is_in_it(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert len(names) == len(set(names))
    assert not {*SQL, *MODULES, *OTHERS} - set(names)
    assert SQL
    tops = {name.split("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"pgevents_push"}
    assert not [name for name in names if "test" in Path(name).stem and Path(name).name != "testing.py"]
    assert not [name for name in names if name.endswith(".pyc")]


def test_its_metadata(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as opened:
        [metadata] = [name for name in opened.namelist() if name.endswith(".dist-info/METADATA")]
        text = opened.read(metadata).decode()
        [entry_points] = [name for name in opened.namelist() if name.endswith("entry_points.txt")]
        assert "pgevents = pgevents_push.cli:pgevents" in opened.read(entry_points).decode()
    assert "Requires-Python: >=3.10" in text
    assert "Name: pgevents-push" in text


def test_an_installed_wheel_finds_its_static_files_and_its_sql(wheel: Path, tmp_path: Path) -> None:
    target, elsewhere = tmp_path / "site", tmp_path / "elsewhere"
    elsewhere.mkdir()
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--disable-pip-version-check"]
    subprocess.run([*pip, "--target", str(target), str(wheel)], check=True, timeout=60, capture_output=True)
    assert look(target, cwd=elsewhere) == str(target / "pgevents_push" / "static")


def test_beside_the_checkout_as_in_an_editable_install_it_finds_them_too(tmp_path: Path) -> None:
    assert look(ROOT, cwd=tmp_path) == str(ROOT / "static")
