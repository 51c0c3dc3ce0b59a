"""docker-compose.yml and what it mounts and builds: complete, and in step with each other and the package."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from sqlalchemy.engine import make_url

ROOT = Path(__file__).parent.parent.parent
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, Any] = COMPOSE["services"]
NGINX = (ROOT / "demo" / "nginx.conf").read_text()
DOCKERFILE = (ROOT / "demo" / "Dockerfile").read_text()


def test_three_services() -> None:
    assert set(SERVICES) == {"database", "app", "nginx"}
    assert re.fullmatch(r"postgres:1[78]", SERVICES["database"]["image"])


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_each_service_proves_its_health(name: str) -> None:
    check = SERVICES[name]["healthcheck"]
    assert check["test"][0] == "CMD"
    assert {"interval", "timeout", "retries"} <= set(check)


def test_each_service_waits_for_the_one_below() -> None:
    assert SERVICES["app"]["depends_on"] == {"database": {"condition": "service_healthy"}}
    assert SERVICES["nginx"]["depends_on"] == {"app": {"condition": "service_healthy"}}


def test_only_nginx_is_reachable_and_only_from_this_machine() -> None:
    assert [name for name, service in SERVICES.items() if "ports" in service] == ["nginx"]
    assert all(port.startswith("127.0.0.1:") for port in SERVICES["nginx"]["ports"])


def test_app_finds_the_database() -> None:
    url = make_url(SERVICES["app"]["environment"]["DATABASE_URL"])
    database = SERVICES["database"]["environment"]
    assert url.drivername == "postgresql+psycopg2"
    assert (url.host, url.port) == ("database", 5432)
    assert (url.password, url.database) == (database["POSTGRES_PASSWORD"], database["POSTGRES_DB"])


def test_files_that_are_built_from_or_mounted_exist() -> None:
    assert (ROOT / SERVICES["app"]["build"]["dockerfile"]).is_file()
    for volume in SERVICES["nginx"]["volumes"]:
        assert (ROOT / volume.split(":")[0]).is_file(), volume
    for line in re.findall(r"^COPY (.+) \S+$", DOCKERFILE, re.M):
        for source in line.split():
            assert (ROOT / source).exists(), source


def test_image_runs_several_gevent_workers_as_nobody() -> None:
    command = DOCKERFILE.split("\nCMD ")[1]
    workers = re.search(r"-k gevent -w (\d+)", command)
    assert workers
    assert int(workers[1]) > 1
    assert "--preload" not in command
    assert re.search(r"^USER (?!root)\w+$", DOCKERFILE, re.M)


def test_ports_agree() -> None:
    port = re.search(r"-b 0\.0\.0\.0:(\d+)", DOCKERFILE)
    assert port
    assert f"server app:{port[1]};" in NGINX
    assert f"EXPOSE {port[1]}" in DOCKERFILE
    assert f":{port[1]}/pgevents/health" in SERVICES["app"]["healthcheck"]["test"][-1]


def test_containers_outlive_the_graceful_timeout() -> None:
    graceful = re.search(r"--graceful-timeout (\d+)", DOCKERFILE)
    assert graceful
    assert int(SERVICES["app"]["stop_grace_period"].rstrip("s")) > int(graceful[1])


def _location(path: str) -> str:
    found = re.search(rf"location {path} \{{(.*?)\}}", NGINX, re.S)
    assert found, path
    return found[1]


@pytest.mark.parametrize(
    "directive",
    [
        "proxy_buffering off",
        "proxy_read_timeout 1h",
        "proxy_set_header Host $http_host",
        "proxy_set_header Upgrade $http_upgrade",
        "proxy_set_header Connection $connection_upgrade",
        "proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for",
        "proxy_set_header X-Forwarded-Proto $scheme",
        "proxy_set_header X-Forwarded-Host $http_host",
    ],
)
def test_nginx_lets_streams_through(directive: str) -> None:
    assert f"{directive};" in _location("/pgevents/")


def test_nginx_speaks_http_1_1_to_the_app() -> None:
    assert "proxy_http_version 1.1;" in NGINX
    assert re.search(r'map \$http_upgrade \$connection_upgrade \{\s*default upgrade;\s*""\s+"";', NGINX)


def test_nginx_itself_accepts_the_file(tmp_path: Path) -> None:
    # Braces balance everywhere; where there is an nginx, it is asked too.
    assert NGINX.count("{") == NGINX.count("}")
    nginx = shutil.which("nginx", path="/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin")
    if nginx is None:
        return
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    temporary = "".join(f"{kind}_temp_path {tmp_path}/{kind};\n" for kind in kinds)
    text = NGINX.replace("http {", f"http {{\n{temporary}").replace("app:8000", "127.0.0.1:8000")
    text = text.replace("listen 80;", f"listen unix:{tmp_path}/nginx.sock;")
    conf = tmp_path / "nginx.conf"
    conf.write_text(text.replace("/dev/stdout", f"{tmp_path}/access.log"))
    command = [nginx, "-t", "-p", str(tmp_path), "-c", str(conf), "-g", f"pid {tmp_path}/pid;"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_gunicorn_comes_with_what_its_gevent_worker_imports() -> None:
    """Without the extra the worker of gunicorn 26 and newer ends at once: No module named 'packaging'."""
    for text in (DOCKERFILE, (ROOT / "pyproject.toml").read_text()):
        assert set(re.findall(r'"(gunicorn\S*)>=', text)) == {"gunicorn[gevent]"}
