// Stands in for a page and its server: what fetch and WebSocket ask is kept, and the test answers by hand.
import { setMaxListeners } from "node:events";
import { mock } from "node:test";

export const STREAM = "http://shop.test/pgevents/stream";

let requests;
let answers;
let sockets;

/** A request of fetch; the test answers it, or has put an answer into `answer()` before. */
class FakeRequest {
  constructor(url, init, resolve, reject) {
    Object.assign(this, { url: new URL(url), headers: new Headers(init.headers), init, resolve, reject });
    init.signal?.addEventListener("abort", () => this.#abort());
  }
  #abort() {
    this.aborted = true;
    this.reject(new DOMException("This operation was aborted", "AbortError"));
    this.cut();
  }
  get query() {
    return this.url.searchParams;
  }
  get cursor() {
    return this.headers.get("last-event-id");
  }
  /** Answer with a stream that stays open. */
  open(headers = {}) {
    const start = (controller) => (this.controller = controller);
    const body = new ReadableStream({ start });
    this.resolve(new Response(body, { headers: { "content-type": "text/event-stream; charset=utf-8", ...headers } }));
    return this;
  }
  answer(status, body = {}, headers = {}) {
    const type = { "content-type": "application/json" };
    const text = [204, 304].includes(status) ? null : JSON.stringify(body);
    this.resolve(new Response(text, { status, headers: { ...type, ...headers } }));
  }
  bytes(bytes) {
    this.controller.enqueue(bytes);
  }
  text(text) {
    this.bytes(new TextEncoder().encode(text));
  }
  send(type, data, id) {
    this.text(`${id ? `id: ${id}\n` : ""}event: ${type}\ndata: ${JSON.stringify(data)}\n\n`);
  }
  ready(id, resumed = false, more = {}) {
    this.send("ready", { resumed, tables: ["public.orders"], heartbeat: 15, ...more }, id);
  }
  end() {
    this.controller.close();
  }
  cut() {
    try {
      this.controller?.error(new TypeError("network error"));
    } catch {
      // It has ended.
    }
  }
}

class FakeSocket {
  readyState = 0;
  said = [];
  constructor(url) {
    this.url = url;
    sockets.push(this);
  }
  send(text) {
    if (this.readyState !== 1) throw new DOMException("not open", "InvalidStateError");
    this.said.push(JSON.parse(text));
  }
  close() {
    this.readyState = 3;
  }
  open() {
    this.readyState = 1;
    this.onopen?.({});
    return this;
  }
  hear(message) {
    if (this.readyState === 1) this.onmessage?.({ data: JSON.stringify(message) });
  }
  end(code) {
    this.readyState = 3;
    this.onclose?.({ code });
  }
}

/** Web Locks of one browser: one holder for each name, the others in a queue. */
class FakeLocks {
  #queues = new Map();
  request(name, callback) {
    const queue = this.#queues.get(name) ?? [];
    this.#queues.set(name, queue);
    queue.push(callback);
    if (queue.length === 1) this.#grant(queue);
  }
  async #grant(queue) {
    await Promise.resolve();
    await queue[0]({});
    queue.shift();
    if (queue.length) this.#grant(queue);
  }
}

/** BroadcastChannel of one browser: every other one of that name hears a copy, later. */
class FakeBus {
  static open = new Set();
  constructor(name) {
    this.name = name;
    FakeBus.open.add(this);
  }
  postMessage(message) {
    if (!FakeBus.open.has(this)) throw new DOMException("closed", "InvalidStateError");
    const copy = JSON.stringify(message);
    for (const other of FakeBus.open) {
      if (other !== this && other.name === this.name) {
        queueMicrotask(() => FakeBus.open.has(other) && other.onmessage?.({ data: JSON.parse(copy) }));
      }
    }
  }
  close() {
    FakeBus.open.delete(this);
  }
}

/** Begin a test: a new page, an empty server, a clock that stands still. */
export function freshPage({ chance = 0 } = {}) {
  requests = [];
  answers = [];
  sockets = [];
  FakeBus.open.clear();
  const page = new EventTarget();
  setMaxListeners(0, page);
  const stored = new Map();
  const fake = {
    location: new URL("http://shop.test/board"),
    addEventListener: page.addEventListener.bind(page),
    sessionStorage: { getItem: (key) => stored.get(key) ?? null, setItem: (key, value) => stored.set(key, value) },
    WebSocket: FakeSocket,
    BroadcastChannel: FakeBus,
    navigator: { locks: new FakeLocks() },
    fetch: (url, init = {}) =>
      new Promise((resolve, reject) => {
        const request = new FakeRequest(url, init, resolve, reject);
        requests.push(request);
        answers.shift()?.(request);
      }),
  };
  for (const [name, value] of Object.entries(fake)) {
    Object.defineProperty(globalThis, name, { value, configurable: true, writable: true });
  }
  mock.timers.enable({ apis: ["setTimeout", "Date"] });
  mock.method(Math, "random", () => chance || unique());
  return { page, stored, fire: (type) => page.dispatchEvent(new Event(type)) };
}

export function leavePage() {
  mock.timers.reset();
  mock.restoreAll();
}

// No chance at all, and yet never the same: identities are made of it too.
let drawn = 0;
const unique = () => ++drawn * -1e-12;

export const all = () => requests;
export const streams = () => requests.filter((request) => request.url.pathname.endsWith("/stream"));
export const last = () => requests.at(-1);
export const socket = () => sockets.at(-1);
export const allSockets = () => sockets;
/** Answer a coming request at once, by this function. */
export const next = (answer) => answers.push(answer);

/** Let everything that waits for nobody run. */
export async function turn() {
  for (let n = 0; n < 12; n++) await new Promise((resolve) => setImmediate(resolve));
}

/** Let time pass. */
export async function pass(milliseconds) {
  mock.timers.tick(milliseconds);
  await turn();
}

/** A change as the server sends it. */
export const change = (id, more = {}) => ({
  id, type: "insert", schema: "public", table: "orders", pk: { id: +id }, row: { id: +id }, old: null, changed: [],
  tx: `${100 + +id}`, last: true, at: "2026-11-25T10:00:00.000000+00:00", ...more,
});
/** The cursor after everything up to a transaction. */
export const at = (tx) => `e1~${tx + 1}:${tx + 1}:`;

/** Note what an object with on() tells. */
export function note(channel, ...types) {
  const heard = [];
  for (const type of types) channel.on(type, (data) => heard.push([type, data]));
  return Object.assign(heard, { of: (type) => heard.filter(([name]) => name === type).map(([, data]) => data) });
}

/** Catch what event listeners throw, which a browser reports and node takes for its end; returns what tells it. */
export function catchErrors() {
  const others = process.listeners("uncaughtException");
  const caught = [];
  process.removeAllListeners("uncaughtException");
  process.on("uncaughtException", (error) => caught.push(error.message));
  return () => {
    process.removeAllListeners("uncaughtException");
    for (const other of others) process.on("uncaughtException", other);
    return caught;
  };
}
