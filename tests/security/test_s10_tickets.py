"""S10, S31: a ticket in a URL is good for seconds, once, for one caller and what was named; and nobody logs it."""

from __future__ import annotations

import base64
import http.client
import json
import re
import threading
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import pytest
from flask import Flask, request

from pgevents_push import PGEvents
from pgevents_push.errors import ConfigurationError
from pgevents_push.transports import ticket as module
from tests.fixtures.house import House
from tests.fixtures.patience import wait_until
from tests.fixtures.servers import Serving
from tests.fixtures.watch import Watch
from tests.fixtures.web import Site, Stream
from tests.fixtures.ws_client import StrictClient


@pytest.fixture
def site(house: House) -> Site:
    """`docs` is ann's, `news` is for all who have a name; /ticket issues what the query names."""
    house.sql("CREATE TABLE news (id int PRIMARY KEY)")
    house.events.identify(lambda: request.headers.get("X-User"))
    house.events.expose("docs", columns=["id", "title"], authorize=lambda asked: asked.identity == "ann")
    house.events.expose("news", columns=["id"], authorize=lambda asked: asked.identity is not None)
    return house.open()


def issue(house: House, *tables: str, user: str = "ann", **more: Any) -> str:
    with house.apps[0].test_request_context(headers={"X-User": user}):
        return house.events.ticket(*tables, **more)


def test_s10_a_page_that_cannot_send_headers_streams_with_a_ticket(site: Site, house: House) -> None:
    assert site.ask("/pgevents/stream?table=docs").status == 403
    stream = site.stream(f"table=docs&ticket={issue(house, 'docs')}")
    stream.next("ready")
    house.sql("INSERT INTO docs VALUES (1, 'a', 'b')")
    assert stream.changes(1)[0].data["pk"] == {"id": 1}
    with house.apps[0].app_context():
        house.events.revoke("ann")  # it is hers, as if she had sent the header
    assert stream.next("bye").data["reason"] == "revoked"


def test_s10_a_ticket_opens_a_document_of_rows_as_it_opens_a_stream(site: Site, house: House) -> None:
    house.sql(f"GRANT SELECT ON docs TO {house.role}; INSERT INTO docs VALUES (1, 'a', 'b'), (2, 'b', 'c')")
    for bound, query, status in (
        ({}, "", 200), ({}, "&limit=1&columns=id", 200), ({"columns": ["id"]}, "", 403),
        ({"columns": ["id"]}, "&columns=id", 200), ({"filter": "id=eq.1"}, "", 403), ({"events": ["insert"]}, "", 403),
    ):  # fmt: skip
        text = issue(house, "docs", **bound)
        for status_ in (status, 401):  # also one that was refused in the end is used
            assert site.ask(f"/pgevents/snapshot?table=docs{query}&ticket={text}").status == status_, (bound, query)
    assert site.ask(f"/pgevents/snapshot?table=docs&ticket={issue(house, 'news')}").status == 403
    text = issue(house, "docs", filter="id=eq.1")
    answer = site.ask(f"/pgevents/snapshot?table=docs&filter=id=eq.1&ticket={text}")
    assert [row["pk"] for row in json.loads(answer.body)["rows"]] == [{"id": 1}]
    assert site.ask(f"/pgevents/snapshot?table=docs&ticket={issue(house, 'docs', user='bob')}").status == 403
    assert house.inside() == 0


def test_s10_a_ticket_is_good_once_in_all_processes(
    house: House, site: Site, connect: Callable[..., StrictClient]
) -> None:
    other = house.open()
    text = issue(house, "docs")
    site.stream(f"table=docs&ticket={text}").next("ready")
    for place in (site, other):
        assert place.ask(f"/pgevents/stream?table=docs&ticket={text}").status == 401
        assert connect(place, f"/pgevents/ws?ticket={text}").status == 401
    text = issue(house, "docs")
    assert connect(other, f"/pgevents/ws?ticket={text}").subscribe(table="docs")["type"] == "ready"
    assert site.ask(f"/pgevents/stream?table=docs&ticket={text}").status == 401


def test_s10_of_many_at_once_one_gets_in(house: House, site: Site) -> None:
    other, text = house.open(), issue(house, "docs")
    barrier, statuses = threading.Barrier(12), list[int]()

    def try_it(place: Site) -> None:
        barrier.wait(10)
        statuses.append(place.ask(f"/pgevents/stream?table=docs&ticket={text}", "HEAD").status)

    threads = [threading.Thread(target=try_it, args=[place]) for place in (site, other) * 6]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(statuses) == [200, *[401] * 11]


@pytest.mark.parametrize(
    ("granted", "more", "query", "status"),
    [(["docs"], {}, "table=docs", 200), (["public.docs"], {}, "table=docs&columns=id", 200),
     (["docs"], {}, "table=news", 403), (["docs"], {}, "table=docs,news", 403),
     (["docs", "news"], {}, "table=news", 200),
     (["docs"], {"columns": ["id"]}, "table=docs&columns=id", 200), (["docs"], {"columns": ["id"]}, "table=docs", 403),
     (["docs"], {"columns": ["id"]}, "table=docs&columns=title", 403),
     (["docs"], {"events": ["insert"]}, "table=docs&events=insert", 200),
     (["docs"], {"filter": "id=eq.1"}, "table=docs&filter=id=eq.1", 200),
     (["docs"], {"filter": "id=eq.1"}, "table=docs", 403), (["docs"], {}, "table=docs&filter=id=gt.1", 200),
     (["docs"], {"filter": "id=eq.1"}, "table=docs&filter=id=eq.2", 403),
     (["docs"], {"filter": "id=eq.1"}, "table=docs&filter=id=eq.1&filter=id=eq.2", 403),
     (["docs"], {"events": ["insert"]}, "table=docs", 403), (["docs"], {"identity": "bob"}, "table=docs", 403)],
)  # fmt: skip
def test_s10_a_ticket_is_bound(
    site: Site, house: House, granted: list[str], more: dict[str, Any], query: str, status: int
) -> None:
    text = issue(house, *granted, **more)
    assert site.ask(f"/pgevents/stream?{query}&ticket={text}", "HEAD").status == status
    assert house.inside() == 0


def test_s10_a_socket_with_a_ticket_gets_its_tables_and_no_others(
    site: Site, house: House, connect: Callable[..., StrictClient]
) -> None:
    socket = connect(site, f"/pgevents/ws?ticket={issue(house, 'docs')}")
    assert socket.subscribe("1", table="news")["code"] == 403
    assert socket.subscribe("2", table="docs")["type"] == "ready"


def test_s10_a_ticket_is_no_right(site: Site, house: House) -> None:
    """Who was given one and has lost the right since is refused."""
    text = issue(house, "docs", user="bob")
    assert site.ask(f"/pgevents/stream?table=docs&ticket={text}").status == 403


def test_s10_an_old_ticket_opens_nothing(site: Site, house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SECONDS", -1)
    assert site.ask(f"/pgevents/stream?table=docs&ticket={issue(house, 'docs')}").status == 401


def test_s10_the_ticket_of_another_instance_opens_nothing(site: Site, house: House) -> None:
    audit = PGEvents(config_prefix="AUDIT_PGEVENTS")
    audit.expose("news", columns=["id"], public=True)
    app = Flask("audit")
    app.config.update(SQLALCHEMY_DATABASE_URI=house.url(), AUDIT_PGEVENTS_DATABASE_URL=house.url(), SECRET_KEY="k")
    audit.init_app(app)
    with app.test_request_context():
        text = audit.ticket("news", identity="ann")
    assert site.ask(f"/pgevents/stream?table=news&ticket={text}").status == 401


def test_s10_when_the_database_cannot_say_it_is_refused_for_now(site: Site, house: House) -> None:
    text = issue(house, "docs")
    house.sql("ALTER FUNCTION pgevents.spend_v1(text) RENAME TO spend_gone")
    answer = site.ask(f"/pgevents/stream?table=docs&ticket={text}")
    assert (answer.status, answer.headers["retry-after"]) == (503, "1")
    house.sql("ALTER FUNCTION pgevents.spend_gone(text) RENAME TO spend_v1")
    site.stream(f"table=docs&ticket={text}").next("ready")


def test_s10_what_is_missing_is_said_when_it_is_issued(house: House, site: Site) -> None:
    app = house.apps[0]
    nobody = PGEvents()
    with app.test_request_context(), pytest.raises(Exception, match="401"):
        house.events.ticket("docs")
    with app.test_request_context(), pytest.raises(ConfigurationError, match="There can be no such ticket"):
        house.events.ticket(identity="ann")
    other = Flask("other")
    other.config["SQLALCHEMY_DATABASE_URI"] = house.url()
    nobody.init_app(other)
    with other.test_request_context(), pytest.raises(ConfigurationError, match="wants to know for whom"):
        nobody.ticket("docs")
    with other.test_request_context(), pytest.raises(ConfigurationError, match=r"app\.secret_key, which is not set"):
        nobody.ticket("docs", identity="ann")


def test_s10_no_log_holds_a_ticket(serve_doors: Callable[..., Serving], watch: Watch) -> None:
    """Neither ours nor gunicorn's access log: a ticket that was refused is still good for some seconds."""
    server = serve_doors(options=["--access-logfile", "-", "--error-logfile", "-"])
    port = server.ports[0]
    text = get(port, "/ticket", **{"X-User": "ann"})[1].decode()
    stream = Stream(port, f"/pgevents/stream?table=docs&ticket={text}")
    stream.next("ready")
    stream.close()
    assert get(port, f"/pgevents/stream?ticket={text}&table=docs")[0] == 401  # by whatever worker
    other = get(port, "/ticket", **{"X-User": "ann"})[1].decode()
    assert get(port, f"/pgevents/stream?table=nosuch&ticket={other}&x")[0] in (400, 403)
    with StrictClient(port, f"/pgevents/ws?ticket={text}") as refused:
        assert refused.status == 401
    wait_until(lambda: server.printed().count("ticket=-") >= 4)
    printed = server.printed() + "\n".join(watch.lines)
    assert text[-20:] not in printed
    assert other[-20:] not in printed


def get(port: int, path: str, **headers: str) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request("GET", path, headers=headers)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


# --- S31


def part(value: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


@pytest.mark.parametrize(
    "header",
    [{"alg": "none"}, {"alg": "HS256", "jku": "http://127.0.0.1:1/"}, {"alg": "RS256", "kid": "k" * 2000},
     {"alg": "HS256", "kid": "../../dev/null"}],
)  # fmt: skip
def test_s31_no_claim_of_a_token_is_believed_or_fetched(site: Site, house: House, header: dict[str, str]) -> None:
    """We read no tokens but our own, which name no algorithm, no key and no address."""
    claims = {"sub": "ann", "iss": "http://127.0.0.1:1/", "tables": ["docs"]}
    for signature in ("", "x", part("x")):
        text = f"{part(header)}.{part(claims)}.{signature}"
        answer = site.ask(f"/pgevents/stream?table=docs&ticket={quote(text)}")
        assert answer.status == 401
        assert re.search(rb'"detail": "This ticket is not valid', answer.body)
    assert house.inside() == 0
