// PgEventSource: the reader of event streams, and how a connection comes back.
import assert from "node:assert/strict";
import { afterEach, beforeEach, mock, test } from "node:test";
import { PgEventSource } from "../../static/pgevents.js";
import { STREAM, all, catchErrors, freshPage, last, leavePage, pass, turn } from "./fake_page.mjs";

let page;
beforeEach(() => (page = freshPage()));
afterEach(leavePage);

const TYPES = ["message", "insert", "update", "ready", "bye", "open", "error"];
async function open(options) {
  const source = new PgEventSource(STREAM, options);
  const heard = [];
  for (const type of TYPES) {
    source.addEventListener(type, (event) => heard.push(event.data === undefined ? [type] : [type, event.data, event.lastEventId]));
  }
  await turn();
  return { source, heard, messages: () => heard.filter(([type]) => !["open", "error"].includes(type)) };
}

// Each line end that there is, characters of one to four bytes, and all that a line may be.
const TEXT =
  "\uFEFF: a comment\n\nid: 1\r\nevent: insert\r\ndata: häß€𐍈\r\n\r\ndata: a\rdata:b\rdata\rdata:  c\r\r" +
  "id: 2\n\nid\ndata: no id\n\nid: 3\0\ndata: NUL\n\nevent: \ndata:\n\nunknown: x\ndata: y: z\nretry: 1x\n\n" +
  "event: update\n\ndata: last\n\ndata: never ended";
const EVENTS = [
  ["insert", "häß€𐍈", "1"],
  ["message", "a\nb\n\n c", "1"],
  ["message", "no id", ""],
  ["message", "NUL", ""],
  ["message", "", ""],
  ["message", "y: z", ""],
  ["message", "last", ""],
];

test("a stream is read alike wherever it is cut", async () => {
  const bytes = new TextEncoder().encode(TEXT);
  const cuts = [...bytes.keys()].map((at) => [at]);
  for (const ends of [[], ...cuts, [...bytes.keys()].slice(1)]) {
    const { source, messages } = await open();
    last().open();
    await turn();
    [0, ...ends].forEach((from, n) => last().bytes(bytes.slice(from, ends[n])));
    await turn();
    assert.deepEqual(messages(), EVENTS, `cut at ${ends}`);
    source.close();
  }
});

test("a line that ends with CR is not held back until the next byte", async () => {
  const { messages } = await open();
  last().open().text("data: now\r\r");
  await turn();
  assert.deepEqual(messages(), [["message", "now", ""]]);
  last().text("\ndata: then\r\n\r");
  await turn();
  assert.equal(messages().length, 2);
});

test("it looks like an EventSource", async () => {
  const { source, heard } = await open({ withCredentials: true });
  assert.deepEqual([PgEventSource.CONNECTING, PgEventSource.OPEN, PgEventSource.CLOSED], [0, 1, 2]);
  assert.deepEqual([source.CONNECTING, source.OPEN, source.CLOSED], [0, 1, 2]);
  assert.deepEqual([source.url, source.withCredentials, source.readyState], [STREAM, true, 0]);
  assert.deepEqual([last().init.credentials, last().headers.get("accept")], ["include", "text/event-stream"]);
  const called = [];
  source.onopen = () => called.push("open");
  source.onmessage = ({ data, origin }) => called.push(data, origin);
  source.onerror = () => called.push("error");
  last().open();
  await turn();
  assert.equal(source.readyState, 1);
  last().text("data: x\n\n");
  await turn();
  last().cut();
  await turn();
  assert.equal(source.readyState, 0);
  assert.deepEqual(called, ["open", "x", "http://shop.test", "error"]);
  source.close();
  assert.equal(source.readyState, 2);
  await pass(60_000);
  assert.equal(all().length, 1);
  assert.deepEqual(heard.map(([type]) => type), ["open", "message", "error"]);
  assert.equal(new PgEventSource("/relative").url, "http://shop.test/relative");
});

test("a handler that throws ends nothing", async () => {
  const { source, messages } = await open();
  const reported = catchErrors();
  source.onmessage = () => {
    throw new Error("mine");
  };
  last().open().text("data: a\n\ndata: b\n\n");
  await turn();
  assert.deepEqual(messages().map(([, data]) => data), ["a", "b"]);
  assert.deepEqual(reported(), ["mine", "mine"]);
});

test("it resumes after the last id, with fresh headers each time", async () => {
  let asked = 0;
  const { source } = await open({ headers: async () => ({ Authorization: `Bearer ${++asked}` }), minDelay: 100 });
  assert.deepEqual([last().cursor, last().headers.get("authorization")], [null, "Bearer 1"]);
  last().open().text("id: c7\nevent: sync\ndata: {}\n\n");
  await turn();
  last().end();
  await turn();
  await pass(100);
  assert.deepEqual([last().cursor, last().headers.get("authorization")], ["c7", "Bearer 2"]);
  source.close();
});

const TRANSIENT = [200, 401, 408, 425, 429, 500, 502, 503, 504];
const FINAL = [204, 400, 403, 404, 406, 410];
for (const status of [...TRANSIENT, ...FINAL]) {
  test(`the answer ${status} is ${TRANSIENT.includes(status) ? "asked again" : "final"}`, async () => {
    const { source } = await open();
    const errors = [];
    source.onerror = ({ detail }) => errors.push(detail);
    last().answer(status, { title: "No", detail: "Because." }, { "content-type": "application/problem+json" });
    await turn();
    const final = FINAL.includes(status);
    const said = status === 204 ? [undefined, undefined] : ["No", "Because."];
    assert.deepEqual([errors[0].reason, errors[0].status, errors[0].title, errors[0].detail], ["refused", status, ...said]);
    assert.deepEqual([errors[0].final, source.readyState], [final, final ? 2 : 0]);
    for (let n = 0; n < 3; n++) {
      page.fire("online");
      await pass(30_000);
    }
    assert.equal(all().length > 1, !final);
    source.close();
  });
}

test("Retry-After is waited for, whatever the tab does", async () => {
  const { source } = await open();
  last().answer(429, {}, { "retry-after": "7" });
  await turn();
  page.fire("visibilitychange");
  await pass(6999);
  assert.equal(all().length, 1);
  await pass(1);
  assert.equal(all().length, 2);
  last().answer(503, {}, { "retry-after": "1e9" });
  await turn();
  await pass(3_599_999);
  assert.equal(all().length, 2);
  await pass(1);
  assert.equal(all().length, 3, "an hour at most: a longer timer would fire at once");
  last().answer(503, {}, { "retry-after": "soon" });
  await turn();
  await pass(2000);
  assert.equal(all().length, 4);
  source.close();
});

test("the delays double until the first event, and the server's retry is the first of them", async () => {
  const { source } = await open();
  const delays = async () => {
    const before = all().length;
    let waited = 0;
    while (all().length === before) {
      await pass(50);
      waited += 50;
    }
    return waited;
  };
  const seen = [];
  for (let n = 0; n < 7; n++) {
    last().cut();
    last().reject(new TypeError("refused"));
    await turn();
    seen.push(await delays());
  }
  assert.deepEqual(seen, [500, 1000, 2000, 4000, 8000, 15_000, 15_000]);
  last().open().text("event: bye\ndata: {}\n\n");
  await turn();
  last().end();
  await turn();
  assert.equal(await delays(), 15_000, "bye proves nothing");
  last().open().text("retry: 600\n\nevent: ready\ndata: {}\n\n");
  await turn();
  last().end();
  await turn();
  assert.equal(await delays(), 300);
  last().open().text("retry: 0\n\nretry: x\n\n");
  await turn();
  last().end();
  await turn();
  assert.equal(await delays(), 600, "no client may come back at once, for ever");
  source.close();
});

test("a thousand clients that lose one server come back spread out", async () => {
  mock.restoreAll();
  const sources = Array.from({ length: 1000 }, () => new PgEventSource(STREAM));
  await turn();
  const begun = all().splice(0);
  begun.forEach((request) => request.reject(new TypeError("refused")));
  await turn();
  const perTenth = [];
  for (let n = 0; n < 10; n++) {
    await pass(100);
    perTenth.push(all().splice(0).length);
  }
  // 0.5 to 1 s: five tenths with 200 each; four standard deviations are 51.
  assert.deepEqual(perTenth.slice(0, 4), [0, 0, 0, 0]);
  assert.equal(perTenth.reduce((sum, n) => sum + n), 1000);
  for (const n of perTenth.slice(5)) assert.ok(Math.abs(n - 200) < 51, `${perTenth}`);
  sources.forEach((source) => source.close());
});

test("three silent heartbeats mean a dead connection; the server names the heartbeat", async () => {
  const { source } = await open();
  const errors = [];
  source.onerror = ({ detail }) => errors.push(detail.reason);
  last().open().text('id: c1\nevent: ready\ndata: {"heartbeat":0.5}\n\n');
  await pass(1499);
  last().text(": anything\n\n");
  await turn();
  await pass(1499);
  assert.deepEqual([all().length, errors], [1, []]);
  await pass(1);
  assert.deepEqual([last().aborted, errors], [true, ["silent"]]);
  await pass(500);
  assert.deepEqual([all().length, last().cursor], [2, "c1"]);
  await pass(1500);
  assert.deepEqual(errors, ["silent", "silent"], "one that never answers is dead too");
  source.close();
});

test("a laptop that wakes up does not trust the silence that it slept through", async () => {
  const { source } = await open({ heartbeat: 10_000 });
  last().open().text("data: x\n\n");
  await turn();
  mock.timers.setTime(Date.now() + 3_600_000); // the clock went on, the timers did not
  await turn();
  page.fire("visibilitychange");
  await turn();
  assert.ok(all()[0].aborted);
  page.fire("online");
  await turn();
  assert.equal(all().length, 2, "and nobody sits out a delay");
  last().open().text("data: y\n\n");
  await turn();
  page.fire("pageshow");
  await turn();
  assert.equal(all().length, 2, "what lives is left alone");
  source.close();
});
