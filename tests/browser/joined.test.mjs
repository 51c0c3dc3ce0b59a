// The demo's join of present rows and live changes, with a server whose answers the test holds back.
import assert from "node:assert/strict";
import { beforeEach, test } from "node:test";
import { join, parseSnapshot, sees } from "../../demo/static/joined.js";

let pending;
let said;
let listeners;

beforeEach(() => {
  pending = [];
  said = [];
  listeners = {};
  globalThis.fetch = () => new Promise((resolve) => pending.push(resolve));
  const channel = { on: (type, listener) => (listeners[type] = listener) };
  join(channel, "/orders.json", {
    show: (rows) => said.push(["show", ...rows]),
    apply: (change) => said.push(["apply", change.id]),
  });
});

const turn = () => new Promise((resolve) => setImmediate(resolve));
async function answer(n, rows, snapshot) {
  pending[n]({ ok: true, json: async () => ({ rows, snapshot }) });
  await turn();
}

test("a snapshot sees what ended before it was taken", () => {
  const snapshot = parseSnapshot("10:20:12,15");
  assert.deepEqual(["9", "11", "12", "15", "19", "20"].map((xid) => sees(snapshot, xid)), [true, true, false, false, true, false]);
  assert.ok(sees(parseSnapshot("9007199254740993:9007199254740993:"), "9007199254740992"));
  assert.ok(!sees(parseSnapshot("9007199254740993:9007199254740993:"), "9007199254740993"));
});

test("changes that come while the rows load wait, and those that the rows contain are left out", async () => {
  listeners.ready({ resumed: false });
  listeners["*"]({ id: "1", tx: "9" });
  listeners["*"]({ id: "2", tx: "10" });
  assert.deepEqual(said, []);
  await answer(0, ["row"], "10:10:");
  listeners["*"]({ id: "3", tx: "8" });
  listeners["*"]({ id: "4", tx: "11" });
  assert.deepEqual(said, [["show", "row"], ["apply", "2"], ["apply", "4"]]);
});

test("a gap loads again; the answer of an overtaken load is dropped", async () => {
  listeners.ready({ resumed: false });
  listeners.gap({ reason: "retention" });
  await answer(1, ["new"], "20:20:");
  await answer(0, ["old"], "10:10:");
  assert.deepEqual(said, [["show", "new"]]);
});

test("a resumed stream goes on with the rows that are there", async () => {
  listeners.ready({ resumed: true });
  assert.equal(pending.length, 1, "nothing was loaded yet");
  await answer(0, [], "10:10:");
  listeners.ready({ resumed: true });
  assert.equal(pending.length, 1);
  listeners.ready({ resumed: false });
  assert.equal(pending.length, 2);
});
