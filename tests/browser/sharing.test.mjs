// share: true. Each hub here stands for a tab: they share nothing but the browser's locks and its bus.
import assert from "node:assert/strict";
import { afterEach, beforeEach, test } from "node:test";
import { connect } from "../../static/pgevents.js";
import { STREAM, all, allSockets, at, change, freshPage, last, leavePage, note, pass, socket, turn } from "./fake_page.mjs";

beforeEach(() => freshPage());
afterEach(leavePage);

const TYPES = ["*", "ready", "gap", "error", "close", "state"];
const ids = (heard) => heard.of("*").map(({ id }) => id);
const openStreams = () => all().filter(({ aborted }) => !aborted);

async function tab(tables = ["orders"], options = {}, wish = {}) {
  const hub = connect({ url: STREAM, share: true, ...options });
  const channels = tables.map((table) => hub.table(table, wish));
  const heard = channels.map((channel) => note(channel, ...TYPES));
  await settle();
  return { hub, channels, heard, ids: () => heard.map(ids) };
}
/** What was named in one go, what the leader asks, and what the others answer. */
async function settle() {
  await pass(0);
  await pass(50);
}
async function ready(cursor, resumed) {
  last().open().ready(cursor, resumed);
  await turn();
}
async function tell(id, more = {}, cursor = at(100 + +id)) {
  last().send(more.type ?? "insert", change(id, more), cursor);
  await turn();
}

test("ten tabs with twelve tables use one stream, which asks for whatever any of them wants", async () => {
  const tabs = [];
  for (let n = 0; n < 10; n++) tabs.push(await tab([`t${n}`, `t${n + 1}`, `t${n + 2}`]));
  assert.equal(openStreams().length, 1);
  assert.equal(last().query.getAll("table").length, 12);
  await ready(at(100));
  for (const { hub, heard } of tabs) {
    assert.equal(hub.state, "live");
    for (const one of heard) assert.deepEqual(one.of("ready").map(({ resumed }) => resumed), [false]);
  }
  await tell("1", { table: "t2" });
  assert.deepEqual(tabs.slice(0, 4).map((one) => one.ids()), [
    [[], [], ["1"]], [[], ["1"], []], [["1"], [], []], [[], [], []],
  ]);
  tabs.forEach(({ hub }) => hub.close());
});

test("tabs that are opened at once share one opening", async () => {
  const hubs = Array.from({ length: 10 }, () => connect({ url: STREAM, share: true }));
  hubs.forEach((hub, n) => hub.table(`t${n}`));
  await settle();
  await settle();
  assert.deepEqual([all().length, last().query.getAll("table").length], [1, 10]);
  hubs.forEach((hub) => hub.close());
});

test("when the leading tab goes, another one goes on, and nobody misses or repeats anything", async () => {
  const tabs = [await tab(), await tab(), await tab(["orders", "lines"])];
  await ready(at(100));
  for (let n = 0; n < 3; n++) {
    await tell(`${n}1`);
    tabs[n].hub.close();
    await settle();
    assert.equal(openStreams().length, n < 2 ? 1 : 0);
    if (n < 2) {
      assert.equal(last().cursor, at(100 + +`${n}1`));
      await ready(last().cursor, true);
      await tell(`${n}1`); // the server may well say it again
    }
  }
  assert.deepEqual(tabs.map((one) => one.ids()[0]), [["01"], ["01", "11"], ["01", "11", "21"]]);
  for (const { heard } of tabs) assert.ok(heard[0].of("ready").slice(1).every(({ resumed }) => resumed));
});

test("a tab that comes late begins at its own ready, one that comes back goes on where it was", async () => {
  const first = await tab();
  await ready(at(100));
  await tell("1");
  const late = await tab();
  assert.deepEqual([all()[0].aborted, last().cursor], [true, at(101)]);
  await ready(at(101), true);
  assert.equal(late.heard[0].of("ready")[0].resumed, false);
  await tell("2");
  const back = await tab(["orders"], {}, { since: at(100) });
  assert.equal(last().cursor, at(100), "the stream goes back to where this tab was");
  await ready(at(100), true);
  for (const id of ["1", "2", "3"]) await tell(id);
  assert.deepEqual([first.ids(), late.ids(), back.ids()], [[["1", "2", "3"]], [["2", "3"]], [["1", "2", "3"]]]);
  assert.deepEqual(first.heard[0].of("ready").map(({ resumed }) => resumed), [false, true, true]);
  [first, late, back].forEach(({ hub }) => hub.close());
});

test("while the stream goes back for one tab, the place of the others does not", async () => {
  const first = await tab();
  await ready(at(100));
  for (const id of ["1", "2", "3"]) await tell(id);
  const back = await tab(["orders"], {}, { since: at(100) });
  await ready(at(100), true);
  await tell("1");
  last().cut();
  await turn();
  await pass(500);
  await pass(50);
  assert.equal(last().cursor, at(101), "the oldest of both");
  back.hub.close();
  await turn();
  last().cut();
  last().reject(new TypeError("refused"));
  await turn();
  await pass(1000);
  await pass(50);
  assert.equal(last().cursor, at(103));
  first.hub.close();
});

test("filters that differ from tab to tab go over one socket", async () => {
  const tabs = [];
  for (const id of [5, 6, 7]) tabs.push(await tab(["orders"], {}, { filter: `id=eq.${id}` }));
  assert.deepEqual([openStreams().length, allSockets().filter(({ readyState }) => readyState < 3).length], [0, 1]);
  socket().open();
  assert.deepEqual(socket().said.map(({ filter }) => filter), ["id=eq.5", "id=eq.6", "id=eq.7"]);
  ["0", "1", "2"].forEach((ref) => socket().hear({ type: "ready", ref, cursor: at(100), resumed: false }));
  socket().hear({ ...change("6"), ref: "1", cursor: at(106) });
  await turn();
  assert.deepEqual(tabs.map((one) => one.ids()), [[[]], [["6"]], [[]]]);
  tabs.forEach(({ hub }) => hub.close());
});

test("what one tab may not see ends only that", async () => {
  const good = await tab();
  await ready(at(100));
  const bad = await tab(["secret"]);
  last().answer(403, { title: "Forbidden" });
  await turn();
  assert.deepEqual([bad.heard[0].of("error")[0].status, bad.heard[0].of("close").length, good.heard[0].of("error")], [403, 1, []]);
  await settle();
  assert.deepEqual([openStreams().length, last().query.getAll("table")], [1, ["orders"]]);
  good.hub.close();
});

test("a tab that answers late is waited for, and the stream does not begin for ever", async () => {
  const leader = await tab();
  const slow = connect({ url: STREAM, share: true });
  const heard = note(slow.table("lines"), "ready", "*");
  // Its main thread is busy: each message reaches it 120 ms later.
  const bus = [...BroadcastChannel.open];
  await settle();
  const own = [...BroadcastChannel.open].find((one) => !bus.includes(one));
  const quick = own.onmessage;
  own.onmessage = (event) => void setTimeout(() => quick(event), 120);
  last().cut();
  last().reject(new TypeError("refused"));
  await turn();
  const before = all().length;
  for (let n = 0; n < 40; n++) await pass(50);
  const begun = all().length - before;
  assert.ok(begun <= 4, `${begun} streams`);
  assert.deepEqual(last().query.getAll("table").sort(), ["lines", "orders"]);
  last().open().ready(at(100));
  await turn();
  await pass(120);
  assert.equal(heard.of("ready").length, 1);
  leader.hub.close();
  slow.close();
});

test("without locks each tab has its own; other options make other groups", async () => {
  const one = await tab(["orders"], { share: "user 1" });
  const other = await tab(["orders"], { share: "user 2" });
  assert.equal(openStreams().length, 2);
  one.hub.close();
  other.hub.close();
  Object.defineProperty(globalThis, "navigator", { value: {}, configurable: true });
  const alone = [await tab(), await tab()];
  assert.equal(openStreams().length, 2);
  alone.forEach(({ hub }) => hub.close());
});

test("a tab that leaves while the leader asks around is not answered for", async () => {
  const first = await tab();
  await ready(at(100));
  const other = connect({ url: STREAM, share: true });
  other.table("no_such_table");
  await pass(0); // the leader has its answer, and waits for others
  other.close();
  await settle();
  assert.deepEqual(last().query.getAll("table"), ["orders"]);
  await ready(at(100), true);
  assert.equal(first.hub.state, "live");
  first.hub.close();
});
