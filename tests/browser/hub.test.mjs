// connect() and its channels over Server-Sent Events.
import assert from "node:assert/strict";
import { afterEach, beforeEach, test } from "node:test";
import { connect } from "../../static/pgevents.js";
import { STREAM, all, at, catchErrors, change, freshPage, last, leavePage, note, pass, turn } from "./fake_page.mjs";

let page;
beforeEach(() => (page = freshPage()));
afterEach(leavePage);

const EVERYTHING = ["*", "ready", "gap", "sync", "bye", "state", "error", "close"];

async function live(options, wish) {
  const hub = connect({ url: STREAM, ...options });
  const orders = hub.table("orders", wish);
  const heard = note(orders, ...EVERYTHING);
  await pass(0);
  last().open().ready(at(100));
  await turn();
  return { hub, orders, heard };
}
async function send(type, data, cursor) {
  last().send(type, data, cursor);
  await turn();
}
const ids = (heard) => heard.of("*").map(({ id }) => id);

test("tables named in one go share one stream, which asks for what any of them wants", async () => {
  const hub = connect();
  hub.table("orders", { events: ["insert"], columns: ["id", "status"] });
  hub.table("orders", { events: ["insert", "delete"], columns: ["total"] });
  hub.table("sales.log", { events: ["update"], filter: "level=eq.warn" });
  await pass(0);
  assert.equal(all().length, 1);
  assert.match(last().url.href, /static\/\.\.\/stream|\/stream\?/, "beside the module");
  assert.deepEqual(last().query.getAll("table"), ["orders", "sales.log"]);
  assert.deepEqual(last().query.getAll("events"), ["insert", "delete", "update"]);
  assert.deepEqual(last().query.getAll("columns"), ["orders.id", "orders.status", "orders.total"]);
  assert.deepEqual(last().query.getAll("filter"), ["sales.log.level=eq.warn"]);
  hub.table("orders");
  await pass(0);
  assert.deepEqual([...new Set(last().query.keys())], ["table", "filter"], "one of them wants everything");
  hub.close();
});

test("a later table reopens the stream from the cursor, a closed one too, the last one ends it", async () => {
  const { hub, orders, heard } = await live();
  await send("insert", change("1"), at(101));
  const lines = hub.table("lines");
  const of = note(lines, "ready", "*");
  await pass(0);
  assert.ok(all()[0].aborted);
  assert.deepEqual([last().query.getAll("table"), last().cursor], [["orders", "lines"], at(101)]);
  last().open().ready(at(101), true);
  await turn();
  assert.deepEqual(heard.of("ready").map(({ resumed }) => resumed), [false, true]);
  assert.deepEqual(of.of("ready").map(({ resumed }) => resumed), [false], "it never had anything to resume");
  await send("insert", change("2", { table: "lines" }), at(102));
  assert.deepEqual([ids(heard), ids(of)], [["1"], ["2"]]);
  orders.close();
  await pass(0);
  assert.deepEqual([last().query.getAll("table"), last().cursor], [["lines"], at(102)]);
  lines.close();
  lines.close();
  await pass(0);
  assert.ok(last().aborted);
  assert.equal(hub.state, "idle");
  hub.table("orders");
  await pass(0);
  assert.deepEqual([all().length, last().cursor, hub.state], [4, null, "connecting"]);
  hub.close();
});

test("changes reach the listeners of their type and of *, once each, until off()", async () => {
  const { orders, heard, hub } = await live();
  const inserts = note(orders, "insert");
  const some = [];
  const off = orders.on(["insert", "delete"], ({ id }) => some.push(id));
  await send("insert", change("1"), at(101));
  await send("insert", change("1"), at(101));
  await send("delete", change("2", { type: "delete", row: null }), at(102));
  off();
  await send("insert", change("3"), at(103));
  assert.deepEqual([inserts.map(([, { id }]) => id), some, ids(heard)], [["1", "3"], ["1", "2"], ["1", "2", "3"]]);
  hub.close();
});

test("types that only another channel wants are left out", async () => {
  const { heard, hub } = await live({}, { events: ["delete"] });
  hub.table("orders");
  await pass(0);
  last().open().ready(at(100), true);
  await send("insert", change("1"), at(101));
  await send("delete", change("2", { type: "delete", row: null }), at(102));
  assert.deepEqual(ids(heard), ["2"]);
  hub.close();
});

test("quoted names, mixed case, a schema: the changes find their channel", async () => {
  const hub = connect({ url: STREAM });
  const names = ["Order Line", '"my.schema"."my.table"', "sales.Orders"];
  const heard = names.map((name) => note(hub.table(name), "*"));
  await pass(0);
  assert.deepEqual(last().query.getAll("table"), names);
  last().open().ready(at(1));
  const tables = [["public", "Order Line"], ["my.schema", "my.table"], ["sales", "Orders"], ["public", "orders"]];
  for (const [n, [schema, table]] of tables.entries()) await send("insert", change(`${n}`, { schema, table }), at(100 + n));
  assert.deepEqual(heard.map(ids), [["0"], ["1"], ["2"]]);
  hub.close();
});

test("a listener that throws disturbs no other", async () => {
  const { orders, heard, hub } = await live();
  orders.on("insert", () => {
    throw new Error("mine");
  });
  const reported = catchErrors();
  await send("insert", change("1"), at(101));
  assert.deepEqual([ids(heard), reported()], [["1"], ["mine"]]);
  hub.close();
});

test("what a change's listener changes takes effect, and nothing is lost or comes twice", async () => {
  const { orders, heard, hub } = await live();
  const off = orders.on("insert", () => {
    off();
    hub.table("lines");
  });
  last().text(["1", "2"].map((id) => `id: ${at(100 + +id)}\nevent: insert\ndata: ${JSON.stringify(change(id))}\n\n`).join(""));
  await turn();
  await pass(0);
  assert.equal(last().cursor, at(102));
  last().open().ready(at(102), true);
  await send("insert", change("2"), at(102));
  await send("insert", change("3"), at(103));
  assert.deepEqual(ids(heard), ["1", "2", "3"]);
  hub.close();
});

test("a lost connection comes back from the cursor of the last frame, also one that concerned nobody", async () => {
  const { heard, hub } = await live();
  await send("sync", {}, at(150));
  last().cut();
  await turn();
  assert.equal(hub.state, "reconnecting");
  await pass(500);
  assert.equal(last().cursor, at(150));
  last().open().ready(at(150), true);
  await turn();
  assert.deepEqual(heard.of("state").map(({ state }) => state), ["connecting", "live", "reconnecting", "live"]);
  assert.deepEqual(heard.of("error").map(({ reason }) => reason), ["connection"]);
  hub.close();
});

test("a server that says goodbye is no error", async () => {
  const { heard, hub } = await live();
  last().text("retry: 700\n\n");
  await send("bye", { reason: "shutdown", retry: 700 });
  last().end();
  await turn();
  assert.deepEqual([heard.of("bye").length, heard.of("error"), hub.state], [1, [], "reconnecting"]);
  await pass(349);
  assert.equal(all().length, 1);
  await pass(1);
  assert.deepEqual([all().length, last().cursor], [2, at(100)]);
  hub.close();
});

test("after a gap nothing that came before it counts", async () => {
  const { heard, hub } = await live();
  await send("insert", change("7", { tx: "107" }), at(107));
  await send("gap", { reason: "epoch" }, "e2~50:50:");
  // A restored database counts again from lower numbers.
  await send("insert", change("7", { tx: "51" }), "e2~52:52:");
  assert.deepEqual([heard.of("gap"), ids(heard)], [[{ reason: "epoch" }], ["7", "7"]]);
  last().cut();
  await turn();
  await pass(500);
  assert.equal(last().cursor, "e2~52:52:");
  hub.close();
});

test("a channel begins where it is told to", async () => {
  const hub = connect({ url: STREAM });
  const heard = note(hub.table("orders", { since: at(90) }), "ready");
  await pass(0);
  assert.equal(last().cursor, at(90));
  last().open().ready(at(90), true);
  await turn();
  assert.equal(heard.of("ready")[0].resumed, true);
  hub.close();
});

// What each cursor has behind it, in the order of age. The last two are inside one batch.
const AGES = ["e1~100:100:", "e1~100:110:0.5.4", "e1~100:110:0.9", "e1~109:110:", "e1~109:120:0~119:125:3~7", "e1~109:120:0~119:125:3~9"];

test("channels that are at different places go on from the oldest, and nobody hears anything twice", async () => {
  for (const [n, older] of AGES.slice(0, -2).entries()) {
    for (const newer of AGES.slice(n + 1)) {
      const hub = connect({ url: STREAM });
      hub.table("orders", { since: newer });
      hub.table("lines", { since: older });
      await pass(0);
      assert.equal(last().cursor, older);
      hub.close();
    }
  }
  const hub = connect({ url: STREAM });
  const heard = note(hub.table("orders", { since: AGES[5] }), "*");
  hub.table("lines", { since: AGES[4] });
  await pass(0);
  assert.equal(last().cursor, "e1~109:120:0", "two inside one batch have no order: from where it began");
  last().open().ready("e1~109:120:0", true);
  for (const tx of ["100", "109", "110", "119", "120"]) await send("insert", change(tx, { tx }), `e1~109:120:0~119:125:3~${tx}`);
  assert.deepEqual(ids(heard), ["109", "120"], "109 was running, 120 was to come");
  hub.close();
});

test("what was running when a cursor was taken is heard behind it, and nothing else again", async () => {
  const hub = connect({ url: STREAM });
  // 100, 200, 201 and 5321 were running.
  const heard = note(hub.table("orders", { since: "e1~100:6000:0.100.1.5120" }), "*");
  hub.table("lines", { since: "e1~50:50:" });
  await pass(0);
  last().open().ready("e1~50:50:", true);
  for (const tx of [99, 100, 101, 199, 200, 201, 202, 5320, 5321, 5322, 6000]) {
    await send("insert", change(`${tx}`, { tx: `${tx}` }), `e1~50:50:~7000:7000:~${tx}`);
  }
  assert.deepEqual(ids(heard), ["100", "200", "201", "5321", "6000"]);
  hub.close();
});

test("what comes again, because two channels were inside one batch, is heard once", async () => {
  const { hub, heard } = await live();
  await send("insert", change("1", { tx: "105" }), "e1~101:101:~110:110:~1");
  hub.table("lines", { since: "e1~101:101:~110:110:~2" });
  await pass(0);
  assert.equal(last().cursor, "e1~101:101:");
  last().open().ready("e1~101:101:", true);
  for (const id of ["1", "3"]) await send("insert", change(id, { tx: "105" }), `e1~101:101:~110:110:~${id}`);
  assert.deepEqual(ids(heard), ["1", "3"]);
  hub.close();
});

test("an answer that is final ends the channels that the server was never asked for, and no others", async () => {
  const { heard, hub } = await live();
  const secret = note(hub.table("secret"), "error", "close");
  await pass(0);
  last().answer(404, { title: "Not found", detail: "There is no such table." });
  await turn();
  assert.deepEqual([secret.of("error")[0].status, secret.of("error")[0].detail], [404, "There is no such table."]);
  assert.equal(secret.of("close").length, 1);
  await pass(0);
  assert.deepEqual([last().query.getAll("table"), last().cursor], [["orders"], at(100)]);
  last().open().ready(at(100), true);
  await send("insert", change("1"), at(101));
  assert.deepEqual([ids(heard), heard.of("error")], [["1"], []]);
  last().cut();
  await turn();
  await pass(500);
  last().answer(403, { title: "Forbidden" });
  await turn();
  assert.deepEqual([heard.of("error").at(-1).final, heard.of("close").length], [true, 1], "now it is refused itself");
  await pass(60_000);
  assert.deepEqual([all().length, hub.state], [4, "idle"]);
  hub.close();
});

test("what is refused for a moment is told, and asked again", async () => {
  const { heard, hub } = await live();
  last().end();
  await turn();
  await pass(500);
  last().answer(503, { title: "Unavailable" }, { "retry-after": "2" });
  await turn();
  assert.deepEqual([heard.of("error")[0].status, heard.of("error")[0].final], [503, false]);
  await pass(1999);
  assert.equal(all().length, 2);
  await pass(1);
  assert.equal(all().length, 3);
  hub.close();
});

test("a frame that is no JSON is an error, and the stream begins anew after the last good one", async () => {
  const { heard, hub } = await live();
  last().text("id: x\nevent: insert\ndata: {\n\n");
  await turn();
  assert.match(heard.of("error")[0].detail, /JSON/);
  await pass(500);
  assert.equal(last().cursor, at(100));
  hub.close();
});

test("close is for good", async () => {
  const { heard, orders, hub } = await live();
  hub.close();
  hub.close();
  hub.table("lines");
  page.fire("pageshow");
  await pass(60_000);
  assert.ok(all()[0].aborted);
  assert.deepEqual([all().length, hub.state, heard.of("state").at(-1), heard.of("close").length], [1, "closed", { state: "closed" }, 1]);
  orders.close();
});

test("a page in the back/forward cache holds no stream, and goes on where it was", async () => {
  const { heard, hub } = await live();
  page.fire("pageshow"); // every page load ends with one
  await pass(0);
  assert.equal(all().length, 1);
  page.fire("pagehide");
  await turn();
  assert.ok(last().aborted);
  await pass(60_000);
  assert.equal(all().length, 1);
  page.fire("pageshow");
  await pass(0);
  assert.deepEqual([all().length, last().cursor], [2, at(100)]);
  last().open().ready(at(100), true);
  await turn();
  assert.equal(heard.of("ready")[1].resumed, true);
  hub.close();
});

test("after F5 a page goes on where it was, when it was asked to", async () => {
  for (const persist of [true, false]) {
    const { hub } = await live({ persist });
    const other = hub.table("lines", { columns: ["id"] });
    await send("insert", change("1"), at(101));
    page.fire("pagehide");
    hub.close();
    assert.equal(page.stored.size, persist ? 1 : 0);
    const again = connect({ url: STREAM, persist });
    const orders = note(again.table("orders"), "ready", "*");
    const lines = note(again.table("lines"), "ready");
    await pass(0);
    assert.equal(last().cursor, persist ? at(101) : null);
    last().open().ready(at(101), persist);
    await turn();
    assert.deepEqual([orders.of("ready")[0].resumed, lines.of("ready")[0].resumed], [persist, false]);
    again.close();
    other.close();
    leavePage();
    page = freshPage();
  }
});

test("what F5 kept is used once: a table that is opened again begins now", async () => {
  const wish = { key: JSON.stringify(["orders", undefined, undefined, undefined]) };
  for (const since of [at(100), undefined]) {
    page.stored.set(STREAM, JSON.stringify([{ ...wish, since }]));
    const hub = connect({ url: STREAM, persist: true });
    const first = hub.table("orders");
    const heard = note(first, "insert");
    await pass(0);
    assert.equal(last().cursor, since ?? null);
    last().open().ready(at(100), !!since);
    await turn();
    await send("insert", change("1"), at(101));
    assert.equal(heard.length, 1);
    first.close();
    await pass(0);
    const again = note(hub.table("orders"), "ready", "insert");
    await pass(0);
    assert.equal(last().cursor, null);
    last().open().ready(at(101));
    await send("insert", change("1"), at(101));
    assert.deepEqual(again.map(([type]) => type), ["ready"]);
    hub.close();
  }
});

test("a gap in the middle of a batch that comes twice", async () => {
  const { orders, heard, hub } = await live();
  const tell = async () => {
    for (const id of [1, 2, 3]) {
      const place = `${at(100)}~${at(104).slice(3)}~${id}`;
      await (id === 2 ? send("gap", { reason: "overflow" }, place) : send("insert", change(`${id}`, { tx: "104" }), place));
    }
  };
  await tell();
  hub.table("lines", { since: at(100) });
  await pass(0);
  assert.equal(last().cursor, at(100));
  last().open().ready(at(100), true);
  await tell();
  assert.deepEqual([ids(heard), heard.of("gap").length], [["1", "3"], 2]);
  hub.close();
  orders.close();
});

test("iteration yields the changes in order, until break, close or a gap", async () => {
  const { orders, hub } = await live();
  const got = [];
  const loop = async (stop) => {
    for await (const { id } of orders) {
      got.push(id);
      if (id === stop) break;
    }
    got.push("end");
  };
  const first = loop("2");
  for (const id of ["1", "2", "3"]) await send("insert", change(id), at(100 + +id));
  await first;
  const second = assert.rejects(loop(), { message: "gap: retention", reason: "retention" });
  await send("insert", change("4"), at(104));
  last().send("insert", change("5"), at(105));
  await send("gap", { reason: "retention" }, at(200));
  await second;
  const third = loop();
  orders.close();
  await third;
  assert.deepEqual(got, ["1", "2", "end", "4", "5", "end"]);
  hub.close();
});

test("a loop that falls too far behind is told, and holds no more than it may", async () => {
  const { orders, hub } = await live();
  const changes = orders[Symbol.asyncIterator]();
  const lines = [];
  for (let id = 1; id <= 10_050; id++) lines.push(`id: ${at(100 + id)}\nevent: insert\ndata: ${JSON.stringify(change(`${id}`))}\n\n`);
  last().text(lines.join(""));
  await turn();
  for (let id = 1; id <= 10_001; id++) assert.equal((await changes.next()).value.id, `${id}`);
  await assert.rejects(changes.next(), { reason: "overflow" });
  await changes.return();
  hub.close();
});

test("without streams in fetch the browser's own EventSource does it", async () => {
  const sources = [];
  globalThis.EventSource = class {
    constructor(url) {
      Object.assign(this, { url: new URL(url), listeners: {} });
      sources.push(this);
    }
    addEventListener(type, listener) {
      this.listeners[type] = listener;
    }
    close() {
      this.closed = true;
    }
    send(type, data, lastEventId) {
      this.listeners[type]({ data: JSON.stringify(data), lastEventId });
    }
  };
  const body = Object.getOwnPropertyDescriptor(Response.prototype, "body");
  delete Response.prototype.body;
  try {
    const hub = connect({ url: STREAM });
    const heard = note(hub.table("orders"), ...EVERYTHING);
    await pass(0);
    sources[0].send("ready", { heartbeat: 15, tables: ["public.orders"] }, at(100));
    sources[0].send("insert", change("1"), at(101));
    sources[0].send("sync", {}, at(102));
    sources[0].onerror({ type: "error" });
    await turn();
    assert.ok(sources[0].closed, "its own retries know no back-off, and end with the first 502");
    await pass(500);
    assert.equal(sources[1].url.searchParams.get("lastEventId"), at(102));
    assert.deepEqual(sources[1].url.searchParams.getAll("table"), ["orders"]);
    assert.deepEqual([ids(heard), heard.of("error").map(({ reason }) => reason)], [["1"], ["connection"]]);
    await pass(45_000);
    assert.ok(sources[1].closed, "silence counts here too");
    hub.close();
  } finally {
    Object.defineProperty(Response.prototype, "body", body);
    delete globalThis.EventSource;
  }
});
