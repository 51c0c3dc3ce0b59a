// The client without a browser: a scripted EventSource and a clock that the test moves.
import assert from "node:assert/strict";
import { afterEach, beforeEach, mock, test } from "node:test";
import { backoff, connect, onlyOnce, seenThrough, streamUrl } from "../../static/pgevents.js";

const STREAM = "http://shop.test/pgevents/stream";
let sources = [];
let answers = [];

class ScriptedSource {
  constructor(url) {
    Object.assign(this, { url: new URL(url), readyState: 0, listeners: {} });
    sources.push(this);
  }
  addEventListener(type, listener) {
    this.listeners[type] = listener;
  }
  close() {
    this.readyState = 2;
    this.closed = true;
  }
  send(type, data, lastEventId = "") {
    this.listeners[type]({ data: JSON.stringify(data), lastEventId });
  }
  fail(readyState) {
    this.readyState = readyState;
    this.onerror();
  }
}

const change = (id, more = {}) => ({
  id, type: "insert", schema: "public", table: "orders", pk: { id: 1 }, row: { id: 1 }, old: null, changed: [], ...more,
});
const turn = () => new Promise((resolve) => setImmediate(resolve));
const last = () => sources.at(-1);

beforeEach(() => {
  sources = [];
  answers = [];
  globalThis.EventSource = ScriptedSource;
  globalThis.fetch = async () => answers.shift() ?? { ok: true };
  mock.timers.enable({ apis: ["setTimeout"] });
});
afterEach(() => mock.timers.reset());

async function live() {
  const hub = connect({ url: STREAM });
  const orders = hub.table("orders");
  const heard = [];
  for (const type of ["*", "ready", "gap", "sync", "bye", "state", "error"]) orders.on(type, (data) => heard.push([type, data]));
  await turn();
  last().send("ready", { resumed: false, tables: ["public.orders"], heartbeat: 15 }, "c0");
  return { hub, orders, heard, of: (type) => heard.filter(([name]) => name === type).map(([, data]) => data) };
}

test("the address names each table once, and what all channels together want", () => {
  const url = new URL(streamUrl(STREAM, [
    { name: "orders", events: ["insert"], columns: ["id", "status"] },
    { name: "orders", events: ["insert", "delete"], columns: ["total"] },
    { name: "sales.log", events: ["update"] },
  ], "c~1:2:"));
  assert.deepEqual(url.searchParams.getAll("table"), ["orders", "sales.log"]);
  assert.equal(url.searchParams.get("events"), "insert,delete,update");
  assert.equal(url.searchParams.get("columns"), "orders.id,orders.status,orders.total");
  assert.equal(url.searchParams.get("lastEventId"), "c~1:2:");
  const everything = new URL(streamUrl(STREAM, [{ name: "orders", columns: ["id"] }, { name: "orders" }]));
  assert.deepEqual([...everything.searchParams.keys()], ["table"]);
});

test("a channel sees its own table, types and columns", () => {
  const update = change("1", { type: "update", row: { id: 1, a: 2, b: 3 }, old: { b: 1 }, changed: ["b"] });
  assert.equal(seenThrough(update, { name: "orders" }), update);
  assert.equal(seenThrough(update, { name: "public.orders" }), update);
  assert.equal(seenThrough(update, { name: "sales.orders" }), null);
  assert.equal(seenThrough(update, { name: "orders", fullName: "sales.orders" }), null);
  assert.equal(seenThrough(update, { name: "orders", events: ["insert"] }), null);
  assert.equal(seenThrough(update, { name: "orders", columns: ["a"] }), null);
  const seen = seenThrough(update, { name: "orders", columns: ["b"] });
  assert.deepEqual([seen.row, seen.old, seen.changed], [{ b: 3 }, { b: 1 }, ["b"]]);
  const moved = { ...update, old_pk: { id: 0 } };
  assert.deepEqual(seenThrough(moved, { name: "orders", columns: ["a"] }).row, { a: 2 });
});

test("the back-off doubles to its cap and keeps at least half", () => {
  assert.deepEqual([0, 1, 2].map((n) => backoff(n, () => 0)), [500, 1000, 2000]);
  assert.deepEqual([0, 1, 9].map((n) => backoff(n, () => 1)), [1000, 2000, 30000]);
});

test("ids are remembered once, the oldest forgotten first", () => {
  const isFresh = onlyOnce(2);
  assert.deepEqual(["a", "b", "a", "c", "a", "b"].map(isFresh), [true, true, false, true, false, true]);
});

test("tables added in one go share one stream, a later one reopens it from the cursor", async () => {
  const hub = connect({ url: STREAM });
  hub.table("orders");
  hub.table("lines");
  await turn();
  assert.equal(sources.length, 1);
  assert.deepEqual(last().url.searchParams.getAll("table"), ["orders", "lines"]);
  last().send("ready", { heartbeat: 15 }, "c5");
  const third = hub.table("stock");
  await turn();
  assert.equal(sources.length, 2);
  assert.ok(sources[0].closed);
  assert.equal(last().url.searchParams.get("lastEventId"), "c5");
  third.close();
  await turn();
  assert.deepEqual(last().url.searchParams.getAll("table"), ["orders", "lines"]);
  hub.close();
});

test("changes reach the listeners of their type and of *, once each, until off()", async () => {
  const { orders, of, hub } = await live();
  const inserts = [];
  const off = orders.on("insert", (data) => inserts.push(data.id));
  last().send("insert", change("1"), "c1");
  last().send("insert", change("1"), "c1");
  last().send("delete", change("2", { type: "delete", row: null }), "c2");
  off();
  last().send("insert", change("3"), "c3");
  assert.deepEqual(inserts, ["1"]);
  assert.deepEqual(of("*").map((data) => data.id), ["1", "2", "3"]);
  assert.equal(hub.lastEventId, "c3");
  hub.close();
});

test("equal table names of two schemas are told apart by what ready says", async () => {
  const hub = connect({ url: STREAM });
  const heard = [];
  hub.table("orders").on("*", (data) => heard.push(["orders", data.id]));
  hub.table("sales.orders").on("*", (data) => heard.push(["sales", data.id]));
  await turn();
  last().send("ready", { tables: ["public.orders", "sales.orders"], heartbeat: 15 });
  last().send("insert", change("1"));
  last().send("insert", change("2", { schema: "sales" }));
  assert.deepEqual(heard, [["orders", "1"], ["sales", "2"]]);
  hub.close();
});

test("a listener that throws disturbs no other", async () => {
  const { orders, of, hub } = await live();
  const reported = mock.method(console, "error", () => {});
  orders.on("insert", () => { throw new Error("mine"); });
  last().send("insert", change("1"));
  assert.equal(of("*").length, 1);
  assert.equal(reported.mock.callCount(), 1);
  reported.mock.restore();
  hub.close();
});

test("a lost connection comes back from the cursor, ever later until ready", async () => {
  const { of, hub } = await live();
  last().send("sync", {}, "c7");
  for (const most of [1000, 2000, 4000]) {
    last().fail(0);
    const before = sources.length;
    mock.timers.tick(most / 2 - 1);
    assert.equal(sources.length, before, `earlier than half of ${most} ms`);
    mock.timers.tick(most / 2 + 1);
    assert.equal(sources.length, before + 1, `later than ${most} ms`);
    assert.equal(last().url.searchParams.get("lastEventId"), "c7");
  }
  last().send("ready", { resumed: true, heartbeat: 15 });
  last().fail(0);
  const before = sources.length;
  mock.timers.tick(1000);
  assert.equal(sources.length, before + 1, "ready resets the back-off");
  assert.deepEqual(of("state").map((data) => data.state), ["connecting", "live", "reconnecting", "live", "reconnecting"]);
  hub.close();
});

test("an answer that is not 200 ends a browser's EventSource, not ours, and is told with its status", async () => {
  const { of, hub } = await live();
  answers.push({ ok: false, status: 404, json: async () => ({ title: "Not found" }) });
  last().fail(2);
  await turn();
  assert.deepEqual(of("error").at(-1), { reason: "refused", status: 404, title: "Not found", detail: undefined });
  mock.timers.tick(1000);
  assert.equal(sources.length, 2);
  answers.push({ ok: false, status: 404, json: async () => { throw new SyntaxError("html"); } });
  last().fail(2);
  await turn();
  mock.timers.tick(30_000);
  assert.equal(sources.length, 3, "it is still tried, rarely");
  hub.close();
});

test("three silent heartbeats mean a dead connection", async () => {
  const { of, hub } = await live();
  mock.timers.tick(44_999);
  last().send("sync", {}, "c9");
  mock.timers.tick(44_999);
  assert.equal(sources.length, 1);
  mock.timers.tick(1);
  assert.deepEqual(of("error"), [{ reason: "silent" }]);
  assert.ok(sources[0].closed);
  mock.timers.tick(1000);
  assert.equal(last().url.searchParams.get("lastEventId"), "c9");
  hub.close();
});

test("bye says when to come back; gap is passed on", async () => {
  const { of, hub } = await live();
  last().send("gap", { reason: "retention" }, "c2");
  last().send("bye", { reason: "shutdown", retry: 700 }, "c3");
  assert.ok(sources[0].closed);
  mock.timers.tick(699);
  assert.equal(sources.length, 1);
  mock.timers.tick(1);
  assert.equal(last().url.searchParams.get("lastEventId"), "c3");
  assert.deepEqual([of("gap"), of("bye").length], [[{ reason: "retention" }], 1]);
  hub.close();
});

test("what cannot be read is an error event, not an exception", async () => {
  const { of, hub } = await live();
  last().listeners.insert({ data: "{", lastEventId: "c1" });
  assert.equal(of("error")[0].reason, "unreadable");
  hub.close();
});

test("close is for good", async () => {
  const { of, hub } = await live();
  last().fail(0);
  hub.close();
  hub.close();
  mock.timers.tick(60_000);
  assert.equal(sources.length, 1);
  assert.equal(of("state").at(-1).state, "closed");
});
