"""`python -m demo`: a PostgreSQL of its own and two gunicorn workers, until Ctrl-C."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
from typing import Any

from gunicorn.app.base import BaseApplication

from demo.postgres import Postgres

HOST = "127.0.0.1"
FIRST_PORT = 5000
WORKERS = 2
GRACEFUL_SECONDS = 10


def leave_ctrl_c_to_the_master(worker: Any) -> None:
    """A terminal sends it to all processes, and gunicorn's master stops the workers: twice is a traceback."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def stop_politely_at_ctrl_c(arbiter: Any) -> None:
    """As at SIGTERM: streams end with a word. Else gunicorn makes a worker exit while it exits already, which is a
    traceback as well, every other time."""
    signal.signal(signal.SIGINT, lambda number, frame: os.kill(os.getpid(), signal.SIGTERM))


class Server(BaseApplication):  # type: ignore[misc]  # gunicorn has no types
    """gunicorn in this process: when it ends, so does everything else."""

    def __init__(self, port: int) -> None:
        self.port = port
        super().__init__()

    def load_config(self) -> None:
        settings: dict[str, Any] = {
            "bind": f"{HOST}:{self.port}",
            "workers": WORKERS,
            "worker_class": "gevent",
            "graceful_timeout": GRACEFUL_SECONDS,
            "loglevel": "warning",
            "control_socket_disable": True,
            "post_worker_init": leave_ctrl_c_to_the_master,
            "when_ready": stop_politely_at_ctrl_c,
        }
        for name, value in settings.items():
            if name in self.cfg.settings:  # the last one is new in gunicorn 25
                self.cfg.set(name, value)

    def load(self) -> Any:
        # In the worker, after gevent has patched it: nothing of the app may be imported before.
        from demo.app import create_app

        return create_app()


def free_port(first: int) -> int:
    """Return the first port from `first` on that nobody listens on."""
    for port in range(first, min(first + 100, 65536)):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((HOST, port))
            except OSError:
                continue
            return port
    raise SystemExit(f"No free port from {first} on. Choose another one: PORT=8000 python -m demo")


def main() -> None:
    wanted = int(os.environ.get("PORT") or FIRST_PORT)
    port = free_port(wanted)
    if port != wanted:
        print(f"Port {wanted} is taken, so the demo uses {port}.", flush=True)
    with Postgres(port=free_port(54320)) as postgres:
        program = "psql" if shutil.which("psql") else postgres.bin_dir / "psql"
        psql = f"{program} -h {HOST} -p {postgres.port} -U postgres postgres"
        os.environ["DATABASE_URL"] = postgres.url()
        os.environ["DEMO_PSQL"] = psql
        # The buttons of the page run psql: the one that came with the server, when there is no other.
        os.environ["PATH"] = os.pathsep.join([os.environ.get("PATH", os.defpath), str(postgres.bin_dir)])
        if subprocess.run([sys.executable, "-m", "demo.seed"], check=False).returncode:
            raise SystemExit("The tables could not be made: see above.")
        print_welcome(port, postgres, psql)
        Server(port).run()


def print_welcome(port: int, postgres: Postgres, psql: str) -> None:
    print(
        f"""
  The board      http://{HOST}:{port}
  The database   {shlex.join(postgres.psql_command())}
                 {psql}
  The stream     curl -N 'http://{HOST}:{port}/pgevents/stream?table=orders'

  Open two tabs, then write with any program. Ctrl-C stops everything.
""",
        flush=True,
    )


if __name__ == "__main__":
    main()
