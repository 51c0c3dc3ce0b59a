"""S18: whoever writes huge rows disturbs neither oneself nor those who listen."""

from __future__ import annotations

from collections.abc import Callable

import psutil

from tests.fixtures.postgres import Database
from tests.fixtures.servers import Serving
from tests.fixtures.web import Stream


def test_s18_a_row_of_50_mb_disturbs_neither_its_writer_nor_the_worker(
    serve_doors: Callable[..., Serving], database: Database
) -> None:
    server = serve_doors("gevent", workers=1)
    (pid,) = server.pids
    stream = Stream(server.ports[0], "/pgevents/stream?table=docs", {"X-User": "ann"})
    stream.next("ready")
    before = psutil.Process(pid).memory_info().rss
    database.execute("INSERT INTO docs SELECT 1, string_agg(md5(n::text), '') FROM generate_series(1, 1600000) AS n")
    assert database.execute("SELECT length(title) FROM docs") == [(51_200_000,)]
    change = stream.next("insert").data
    assert (change["pk"], change["row"], change["truncated"]) == ({"id": 1}, None, True)
    assert psutil.Process(pid).memory_info().rss - before < 5_000_000
    stream.close()
