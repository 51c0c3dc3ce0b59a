// liveTable(): the rows as they are now, whatever happens meanwhile.
import assert from "node:assert/strict";
import { afterEach, beforeEach, test } from "node:test";
import { connect, liveTable } from "../../static/pgevents.js";
import { STREAM, all, at, change, freshPage, last, leavePage, note, pass, streams, turn } from "./fake_page.mjs";

beforeEach(() => freshPage());
afterEach(leavePage);

const snapshots = () => all().filter(({ url }) => url.pathname === "/pgevents/snapshot");
const row = (id, more = {}) => ({ id, ...more });
const shown = (...rows) => rows.map((one) => ({ pk: { id: one.id }, row: one }));
const send = async (type, id, more = {}, tx = 100 + id) => {
  streams().at(-1).send(type, change(`${id}`, { type, tx: `${tx}`, ...more }), at(tx));
  await turn();
};

async function answer(tx, ...rows) {
  snapshots().at(-1).answer(200, { cursor: at(tx), rows: shown(...rows) });
  await turn();
  await pass(0);
}
async function open(options) {
  const hub = connect({ url: STREAM });
  const live = liveTable(hub, "orders", options);
  const told = [];
  live.subscribe(() => told.push(live.getSnapshot()));
  await pass(0);
  last().open().ready(at(100));
  await turn();
  return { hub, live, told };
}

test("rows and changes join without a gap, and no change counts twice", async () => {
  const { hub, live, told } = await open({ columns: ["id", "a"], filter: "a=gt.0" });
  assert.deepEqual([...snapshots()[0].query], [["table", "orders"], ["filter", "orders.a=gt.0"], ["columns", "orders.id"], ["columns", "orders.a"]]);
  assert.deepEqual(live.rows, []);
  // All of this happens while the rows are on their way, which were read when 101 and 103 had ended.
  await send("insert", 1, { row: row(1, { a: "old" }) }, 101);
  await send("insert", 2, { row: row(2) }, 102);
  await send("delete", 3, { row: null }, 103);
  snapshots()[0].answer(200, { cursor: "e1~102:104:0", rows: shown(row(1, { a: "new" })) });
  await turn();
  await pass(0);
  assert.deepEqual(live.rows, [row(1, { a: "new" }), row(2)]);
  assert.equal(told.length, 1, "one call for all of it");
  await send("update", 4, { pk: { id: 1 }, row: row(1, { a: "newest" }) });
  await pass(0);
  assert.deepEqual(live.get({ id: 1 }), row(1, { a: "newest" }));
  assert.equal(live.get({ id: 9 }), undefined);
  hub.close();
});

test("every kind of change", async () => {
  const { hub, live } = await open();
  await answer(100, row(1), row(2), row(3));
  await send("update", 11, { pk: { id: 9 }, old_pk: { id: 1 }, row: row(9) });
  await send("delete", 12, { pk: { id: 2 }, row: null });
  await send("insert", 13, { pk: { id: 4 }, row: row(4) });
  assert.deepEqual(live.rows, [row(3), row(9), row(4)]);
  await send("truncate", 14, { pk: {}, row: null });
  assert.deepEqual(live.rows, []);
  await send("insert", 15, { pk: { b: 2, a: "x" }, row: { a: "x", b: 2 } });
  assert.deepEqual(live.get({ a: "x", b: 2 }), { a: "x", b: 2 }, "a key in any order of its columns");
  hub.close();
});

test("the same array as long as nothing changed, as useSyncExternalStore wants it", async () => {
  const { hub, live, told } = await open();
  assert.equal(live.getSnapshot(), live.getSnapshot());
  await answer(100, row(1));
  const before = live.getSnapshot();
  assert.equal(before, live.rows);
  await send("insert", 2);
  assert.notEqual(live.getSnapshot(), before);
  assert.deepEqual(before, [row(1)], "and what was given away does not change");
  const more = [];
  const off = live.subscribe((...args) => more.push(args));
  await pass(0);
  off();
  await send("insert", 3);
  await pass(0);
  assert.deepEqual([more, told.length], [[[]], 3]);
  hub.close();
});

test("sorted and cut as asked, and filled up again from what was cut", async () => {
  const { hub, live } = await open({ sort: (a, b) => b.at - a.at, limit: 2 });
  await answer(100, row(1, { at: 1 }), row(2, { at: 3 }), row(3, { at: 2 }));
  assert.deepEqual(live.rows.map(({ id }) => id), [2, 3]);
  await send("delete", 12, { pk: { id: 2 }, row: null });
  assert.deepEqual(live.rows.map(({ id }) => id), [3, 1]);
  hub.close();
});

test("a resumed stream goes on; a gap loads again, and the old rows stay until then", async () => {
  const { hub, live } = await open();
  await answer(100, row(1));
  streams().at(-1).cut();
  await turn();
  await pass(500);
  streams().at(-1).open().ready(at(100), true);
  await send("insert", 2);
  assert.deepEqual([live.rows, snapshots().length], [[row(1), row(2)], 1]);
  streams().at(-1).send("gap", { reason: "retention" }, at(200));
  await turn();
  assert.deepEqual(live.rows, [row(1), row(2)]);
  await pass(500);
  assert.equal(snapshots().length, 2);
  await send("insert", 3, {}, 203);
  await answer(202, row(8));
  assert.deepEqual(live.rows, [row(8), row(3)]);
  hub.close();
});

test("rows that cannot be had are asked for again, ever later", async () => {
  const { hub, live } = await open();
  const errors = note(live, "error");
  for (const [n, wait] of [500, 1000, 2000].entries()) {
    snapshots().at(-1).answer(503, { title: "Unavailable" });
    await turn();
    await send("insert", n);
    const before = snapshots().length;
    await pass(wait - 1);
    assert.equal(snapshots().length, before);
    await pass(1);
    assert.equal(snapshots().length, before + 1);
  }
  assert.deepEqual(errors.map(([, { status }]) => status), [503, 503, 503]);
  await answer(90, row(1));
  await send("insert", 5);
  assert.deepEqual(live.rows, [row(1), row(5)]);
  hub.close();
});

test("a row that is too large to send is left out, and said", async () => {
  const { hub, live } = await open();
  const errors = note(live, "error");
  snapshots()[0].answer(200, { cursor: at(100), rows: [...shown(row(1), row(2)), { pk: { id: 3 }, row: null, truncated: true }] });
  await turn();
  await pass(0);
  assert.deepEqual(live.rows, [row(1), row(2)]);
  await send("update", 5, { pk: { id: 1 }, row: null, truncated: true }, 101);
  assert.deepEqual([live.rows, live.get({ id: 1 })], [[row(2)], undefined]);
  assert.deepEqual(errors.of("error"), [3, 1].map((id) => ({ reason: "truncated", pk: { id } })));
  await send("update", 6, { pk: { id: 1 }, row: row(1, { small: "again" }) }, 102);
  assert.deepEqual(live.get({ id: 1 }), row(1, { small: "again" }));
  await pass(60_000);
  assert.equal(snapshots().length, 1, "asking for it would bring the same");
  hub.close();
});

test("Retry-After counts for the rows too", async () => {
  const { hub, live } = await open();
  for (const wait of [7000, 1000]) {
    const before = snapshots().length;
    snapshots().at(-1).answer(503, {}, { "retry-after": `${wait / 1000}` });
    await turn();
    await pass(wait - 1);
    assert.equal(snapshots().length, before);
    await pass(1);
    assert.equal(snapshots().length, before + 1);
  }
  await answer(100, row(1));
  assert.deepEqual(live.rows, [row(1)]);
  hub.close();
});

test("more changes than may wait while the rows load: it loads again", async () => {
  const { hub, live } = await open();
  const frames = [];
  for (let id = 1; id <= 10_050; id++) frames.push(`id: ${at(100 + id)}\nevent: insert\ndata: ${JSON.stringify(change(`${id}`))}\n\n`);
  streams()[0].text(frames.join(""));
  await turn();
  await answer(100);
  await pass(500);
  assert.equal(snapshots().length, 2);
  await answer(20_000, row(7));
  assert.deepEqual(live.rows, [row(7)]);
  hub.close();
});

test("closed is closed, also in the middle of loading", async () => {
  const { hub, live, told } = await open();
  live.close();
  snapshots()[0].answer(503);
  await pass(120_000);
  assert.deepEqual([snapshots().length, streams().length, hub.state, told], [1, 1, "idle", []]);
  hub.close();
});

test("a wrong address of one table does not ask for ever", async () => {
  const { hub, live } = await open();
  const heard = note(live, "error", "close");
  snapshots()[0].answer(404, { title: "Not found" });
  await turn();
  assert.equal(heard.of("error")[0].final, true);
  await pass(120_000);
  assert.deepEqual([snapshots().length, heard.of("close").length], [1, 1]);
  hub.close();
});

test("keys that change places in one transaction: the rows are loaded again, none is lost", async () => {
  const rekeyed = { pk: { id: 2 }, old_pk: { id: 1 }, row: row(2, { a: "x" }) };
  for (const [type, more] of [["update", rekeyed], ["insert", { pk: { id: 2 }, row: row(2, { a: "x" }) }]]) {
    const { hub, live } = await open();
    const errors = note(live, "error");
    await answer(100, row(1, { a: "x" }), row(2, { a: "y" }));
    await send(type, 11, { ...more, last: false }, 111);
    await send("delete", 12, { pk: { id: 2 }, row: null }, 111);
    assert.deepEqual([live.rows.length, errors.of("error")], [2, [{ reason: "keys" }]]);
    await pass(500);
    await answer(111, row(2, { a: "x" }));
    assert.deepEqual(live.rows, [row(2, { a: "x" })]);
    hub.close();
  }
});

test("headers() may reject with nothing at all", async () => {
  let fails = false;
  const hub = connect({ url: STREAM, headers: () => (fails ? Promise.reject() : {}) });
  const live = liveTable(hub, "orders");
  const errors = note(live, "error");
  await pass(0);
  fails = true;
  last().open().ready(at(100));
  await turn();
  assert.equal(errors.of("error")[0].reason, "connection");
  fails = false;
  await pass(500);
  await answer(100, row(1));
  assert.deepEqual(live.rows, [row(1)]);
  hub.close();
});

test("a subscriber is told while changes keep coming, also in a hidden tab, whose timers are held back", async () => {
  const { hub, told } = await open();
  await answer(100);
  const punctual = globalThis.setTimeout;
  globalThis.setTimeout = (act, wait) => punctual(act, Math.max(wait, 1000));
  for (let id = 1; id <= 10; id++) {
    await send("insert", id);
    await pass(900);
  }
  assert.ok(told.length >= 5, `${told.length} times`);
  hub.close();
});
