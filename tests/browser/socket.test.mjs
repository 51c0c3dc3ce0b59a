// The same API over a WebSocket.
import assert from "node:assert/strict";
import { afterEach, beforeEach, test } from "node:test";
import { connect } from "../../static/pgevents.js";
import { STREAM, all, allSockets, at, change, freshPage, leavePage, note, pass, socket, turn } from "./fake_page.mjs";

let page;
beforeEach(() => (page = freshPage()));
afterEach(leavePage);

const ids = (heard) => heard.of("*").map(({ id }) => id);
const ready = (ref, cursor, resumed = false) => socket().hear({ type: "ready", ref, cursor, resumed, tables: ["public.orders"], heartbeat: 15 });
const tell = (ref, id, more) => socket().hear({ ...change(id, more), ref, cursor: at(100 + +id) });

async function live(...wishes) {
  const hub = connect({ url: STREAM, transport: "ws" });
  const heard = wishes.map((wish) => note(hub.table("orders", wish), "*", "ready", "gap", "sync", "state", "error", "close"));
  await pass(0);
  socket().open();
  wishes.forEach((_, ref) => ready(`${ref}`, at(100)));
  return { hub, heard };
}

test("one socket carries a subscription for each distinct wish", async () => {
  const open = { filter: "status=eq.open", events: ["insert"], columns: ["id"] };
  const hub = connect({ url: "https://shop.test/pgevents/stream", transport: "ws" });
  const heard = [open, { filter: "status=eq.new", since: at(90) }, open].map((wish) => note(hub.table("orders", wish), "*"));
  await pass(0);
  assert.equal(socket().url, "wss://shop.test/pgevents/ws");
  socket().open();
  assert.deepEqual(socket().said, [
    { type: "subscribe", ref: "0", table: "orders", ...open },
    { type: "subscribe", ref: "1", table: "orders", filter: "status=eq.new", since: at(90) },
  ]);
  ready("0", at(100));
  ready("1", at(90), true);
  tell("0", "1");
  tell("1", "2");
  assert.deepEqual(heard.map(ids), [["1"], ["2"], ["1"]]);
  assert.equal(hub.state, "live");
  hub.close();
  assert.equal(socket().readyState, 3);
});

test("each subscription goes on from its own place; sync moves all of them", async () => {
  const { hub, heard } = await live({ filter: "a=eq.1" }, { filter: "a=eq.2" });
  tell("0", "1");
  socket().end(1012);
  await turn();
  assert.deepEqual([hub.state, heard[0].of("error")], ["reconnecting", [{ reason: "connection", code: 1012 }]]);
  await pass(500);
  socket().open();
  assert.deepEqual(socket().said.map(({ since }) => since), [at(101), at(100)]);
  ready("0", at(101), true);
  ready("1", at(100), true);
  assert.deepEqual(heard.map((one) => one.of("ready").map(({ resumed }) => resumed)), [[false, true], [false, true]]);
  socket().hear({ type: "sync", cursor: at(150) });
  socket().end(1006);
  await turn();
  await pass(500);
  socket().open();
  assert.deepEqual(socket().said.map(({ since }) => since), [at(150), at(150)]);
  hub.close();
});

test("it is live, and the server healthy, when all subscriptions are ready", async () => {
  const hub = connect({ url: STREAM, transport: "ws" });
  const heard = note(hub.table("orders"), "state");
  hub.table("lines");
  await pass(0);
  for (const most of [1000, 2000, 4000]) {
    socket().open();
    ready("0", at(100));
    assert.notEqual(hub.state, "live");
    socket().end(1006);
    await turn();
    const before = allSockets().length;
    await pass(most / 2 - 1);
    assert.equal(allSockets().length, before, "a half healthy server is not asked ever faster");
    await pass(1);
  }
  socket().open();
  ready("0", at(100));
  ready("1", at(100));
  assert.deepEqual(heard.map(([, { state }]) => state), ["connecting", "reconnecting", "reconnecting", "reconnecting", "live"]);
  hub.close();
});

test("a refused subscription ends its channel; the others go on", async () => {
  for (const code of [400, 403, 404, 429]) {
    const { hub, heard } = await live({ filter: "a=eq.1" }, { filter: "a=eq.2" });
    socket().hear({ type: "error", ref: "1", code, message: "No." });
    assert.deepEqual(heard[1].of("error"), [{ reason: "refused", status: code, detail: "No.", final: true }]);
    assert.deepEqual([heard[1].of("close").length, heard[0].of("close").length, heard[0].of("error")], [1, 0, []]);
    await pass(0);
    socket().open();
    assert.deepEqual(socket().said, [{ type: "subscribe", ref: "0", table: "orders", filter: "a=eq.1", since: at(100) }]);
    hub.close();
  }
});

test("what only a new handshake cures is tried again", async () => {
  for (const code of [401, 503]) {
    const { hub, heard } = await live({ filter: "a=eq.1" }, { filter: "a=eq.2" });
    const before = allSockets().length;
    socket().hear({ type: "error", ref: "1", code, message: "Not now." });
    await turn();
    assert.deepEqual([socket().readyState, heard[0].of("close")], [3, []]);
    await pass(500);
    assert.equal(allSockets().length, before + 1);
    hub.close();
  }
});

test("silence ends a socket, and what comes after its end is not heard", async () => {
  const { hub, heard } = await live({});
  const first = socket();
  await pass(45_000);
  assert.deepEqual([first.readyState, heard[0].of("error")], [3, [{ reason: "silent" }]]);
  first.onclose({ code: 1006 });
  await turn();
  assert.equal(heard[0].of("error").length, 1);
  await pass(500);
  assert.equal(allSockets().length, 2);
  hub.close();
});

test("two filters of one table, or one name in two schemas, are more than a stream can carry: a socket does it", async () => {
  for (const [first, second] of [
    [["orders", { filter: "a=eq.1" }], ["orders", { filter: "a=eq.2" }]],
    [["orders"], ["orders", { filter: "a=eq.2" }]],
    [["orders"], ["sales.orders"]],
    [["orders"], ['"sales"."orders"']],
  ]) {
    const hub = connect({ url: STREAM });
    hub.table(...first);
    hub.table("lines", { filter: "b=eq.1" });
    await pass(0);
    const streams = all().length;
    assert.equal(all().at(-1).query.getAll("table").length, 2);
    const extra = hub.table(...second);
    await pass(0);
    assert.ok(all().at(-1).aborted);
    socket().open();
    assert.equal(socket().said.length, 3);
    extra.close();
    await pass(0);
    assert.deepEqual([socket().readyState, all().length], [3, streams + 1], "and when it is plain again, a stream");
    hub.close();
    page.fire("online");
  }
});
