// pgevents.js: changes of PostgreSQL tables, live in the page. One ES module, no dependency, no build step.
//
// From below: pure functions; asking the server; keepOpen, a connection that comes back; PgEventSource; the ways to
// carry changes; openLink, the one connection of a hub or of all tabs; openChannel and connect; liveTable.

// Silence for three of the server's heartbeats means that a connection is dead, whatever the socket says.
const MISSED_HEARTBEATS = 3000;
const SILENCE = 45_000;
const MOST_WAITING = 10_000;
const LONGEST_WAIT = 3_600_000;
const GATHER = 50; // how long the leading tab waits for what the others want

// --- Pure functions

/** Milliseconds to wait before attempt n (0, 1, 2 …): equal jitter, so that clients come back spread out. */
function backoff(attempt, least = 1000, most = 30_000) {
  return (Math.min(most, least * 2 ** attempt) * (1 + Math.random())) / 2;
}

/** The address of one stream for several wishes. It asks for whatever any of them wants. */
function streamUrl(base, wishes) {
  const url = new URL(base);
  const add = (name, value) => url.searchParams.append(name, value);
  for (const table of distinct(wishes, "table")) {
    const mine = wishes.filter((wish) => wish.table === table);
    const [{ filter }] = mine;
    add("table", table);
    if (filter) add("filter", `${table}.${filter}`);
    for (const column of union(mine, "columns")) add("columns", `${table}.${column}`);
  }
  for (const type of union(wishes, "events")) add("events", type);
  return url.href;
}

const distinct = (wishes, what) => [...new Set(wishes.flatMap((wish) => wish[what]))];
// Empty when one of them wants everything.
const union = (wishes, what) => (wishes.every((wish) => wish[what]) ? distinct(wishes, what) : []);

// Without schema and quotes.
const bare = (table) => table.replaceAll('"', "").split(".").pop();

// A cursor is `epoch~xmin:xmax:running`, perhaps with more behind it: a snapshot of PostgreSQL, its running
// transactions as the distances from xmin on. That is the server's business; this module comes from the server.
const snapshot = (cursor = "", [xmin, xmax, text] = `${cursor.split("~")[1]}::`.split(":"), tx = +xmin) => [
  xmin,
  xmax,
  text && text.split(".").map((distance) => (tx += +distance)),
];
// Of two with one xmax the one with more running transactions is older. None, or one that was too long to be told, is
// the oldest.
const age = (cursor, [, xmax, running] = snapshot(cursor)) => xmax - running.length / 1e4 || 0;

/** Whether a transaction, once committed, is part of what a cursor has behind it. */
function contains(cursor, tx) {
  const [xmin, xmax, running] = snapshot(cursor);
  return +tx < +xmin || (+tx < +xmax && !running.includes(+tx));
}

/** The cursor from which all wishes can go on. Two inside one batch have no order: then it is where that began. */
function oldest(wishes) {
  const known = distinct(wishes, "since").filter(Boolean);
  const [first, second] = known.sort((a, b) => age(a) - age(b));
  const start = first?.split("~", 2).join("~");
  return second?.startsWith(start) ? start : first;
}

/** A reader of an event stream that may be cut anywhere: give it text, it calls hear(type, data, id). */
function eventStream(hear, retry, id = "") {
  let half = "";
  let data = "";
  let type, afterCR;
  const take = (line) => {
    const [, field, value] = /^([^:]*):? ?(.*)$/s.exec(line);
    if (!line) {
      if (data) hear(type || "message", data.slice(0, -1), id);
      data = type = "";
    } else if (field === "data") data += `${value}\n`;
    else if (field === "event") type = value;
    else if (field === "id" && !value.includes("\0")) id = value;
    else if (field === "retry" && value > 0) retry(value);
  };
  return (text) => {
    if (afterCR) text = text.replace(/^\n/, ""); // a CRLF that was cut in two
    afterCR = text.endsWith("\r");
    const lines = text.split(/\r\n?|\n/);
    lines[0] = half + lines[0];
    half = lines.pop();
    lines.forEach(take);
  };
}

// --- Asking the server

const isFinal = (status) => status < 500 && ![200, 401, 408, 425, 429].includes(status);
const asError = (error) => (error?.reason ? error : { reason: "connection", detail: `${error}` });
// Calls in one go count as one.
const gathered = (act) => {
  let timer;
  return () => (timer ??= setTimeout(() => act((timer = undefined)), 0));
};
const pause = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));

/** Fetch. What is not as it should be is thrown, as an error event; `final`: asking again would not help. */
async function ask(url, mime, { headers, credentials }, signal, more) {
  headers = { Accept: mime, ...more, ...(await headers?.()) };
  const answer = await fetch(url, { headers, credentials, signal, cache: "no-store" });
  const { status } = answer;
  if (status === 200 && answer.headers.get("content-type")?.startsWith(mime)) return answer;
  const wait = Math.min(LONGEST_WAIT, answer.headers.get("retry-after") * 1000 || 0);
  throw { ...(await answer.json().catch(() => {})), reason: "refused", status, wait, final: isFinal(status) };
}

/** A connection that comes back by itself: carry(signal, connection) opens it and settles when it has ended. */
function keepOpen({ minDelay, maxDelay, heartbeat = SILENCE }, carry, failed) {
  const end = new AbortController();
  let attempt = 0;
  let notBefore = 0;
  let heardAt, timer, abort; // the timer watches over what is open; when nothing is, it waits to try again

  const stop = () => {
    clearTimeout(timer);
    abort = abort?.abort();
  };
  const open = async () => {
    stop();
    const { signal } = (abort = new AbortController());
    connection.heard();
    watch();
    const error = await carry(signal, connection).catch(asError);
    signal.aborted || fail(error);
  };
  const fail = (error = {}) => {
    const { wait = 0 } = error;
    stop();
    notBefore = Date.now() + wait;
    if (!error.final) timer = setTimeout(open, Math.max(wait, backoff(attempt++, minDelay, maxDelay)));
    failed(error);
  };
  // A timer does not run while a laptop sleeps, therefore the clock. Called also when the network came back or
  // somebody looks at the page: then do not sit out a delay.
  const watch = () => {
    if (!abort) return Date.now() >= notBefore && open();
    clearTimeout(timer);
    const left = heardAt + heartbeat - Date.now();
    if (left > 0) timer = setTimeout(watch, left);
    else fail({ reason: "silent" });
  };
  for (const type of ["online", "pageshow", "visibilitychange"]) addEventListener(type, watch, end);
  const connection = {
    open,
    heard() {
      heardAt = Date.now();
    },
    close() {
      end.abort();
      stop();
    },
    /** The server's `retry:`. */
    retry: (milliseconds) => (minDelay = milliseconds),
    /** Only `ready` proves a healthy server: one that accepts and crashes must not be asked ever faster. */
    good(seconds) {
      attempt = 0;
      if (seconds) heartbeat = seconds * MISSED_HEARTBEATS;
      watch();
    },
  };
  return connection;
}

/** EventSource, but it survives every answer that may be another one next time. */
export class PgEventSource extends EventTarget {
  static CONNECTING = 0;
  static OPEN = 1;
  static CLOSED = 2;
  CONNECTING = 0;
  OPEN = 1;
  CLOSED = 2;
  readyState = 0;

  constructor(url, { withCredentials = false, ...options } = {}) {
    super();
    const { href, origin } = new URL(url, location);
    this.url = href;
    this.withCredentials = withCredentials;
    if (withCredentials) options.credentials = "include";
    let cursor;
    const tell = (readyState, event) => {
      this.readyState = readyState;
      this.dispatchEvent(event);
    };
    const carry = (signal, connection) => {
      const hear = (type, data, lastEventId) => {
        if (type !== "bye") connection.good(type === "ready" && /heartbeat":([\d.]+)/.exec(data)?.[1]);
        cursor = lastEventId;
        tell(1, new MessageEvent(type, { data, lastEventId, origin }));
      };
      return fetchStream(href, options, cursor, signal, connection, hear, () => tell(1, new Event("open")));
    };
    const { open, close } = keepOpen(options, carry, (detail) => {
      if (detail.final) this.close();
      tell(detail.final ? 2 : 0, new CustomEvent("error", { detail }));
    });
    this.close = () => {
      close();
      this.readyState = 2;
    };
    for (const type of ["open", "message", "error"]) this.addEventListener(type, (event) => this[`on${type}`]?.(event));
    open();
  }
}

// --- The ways to carry changes; each settles when it has ended

async function fetchStream(url, options, cursor, signal, { heard, retry }, hear, opened) {
  const answer = await ask(url, "text/event-stream", options, signal, cursor && { "Last-Event-ID": cursor });
  opened?.();
  const read = eventStream((...event) => signal.aborted || hear(...event), retry, cursor);
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  for (let piece; !(piece = await reader.read()).done; read(piece.value)) heard();
}

/** The same where fetch has no streams; the browser hides every status. */
const nativeStream = (url, options, cursor = "", signal, { heard }, hear) =>
  new Promise((_, fail) => {
    const source = new EventSource(`${url}&lastEventId=${cursor}`);
    signal.onabort = () => source.close();
    source.onerror = fail;
    for (const type of ["insert", "update", "delete", "truncate", "ready", "gap", "sync", "bye"]) {
      source.addEventListener(type, ({ data, lastEventId }) => hear(type, data, lastEventId, heard()));
    }
  });

/** Many subscriptions, one for each distinct wish. */
const converse = (url, wishes, signal, { heard }, hear) =>
  new Promise((_, fail) => {
    const keys = distinct(wishes, "key");
    const of = (ref) => wishes.filter(({ key }) => key === keys[ref]);
    const socket = new WebSocket(new URL("ws", url).href.replace("http", "ws"));
    signal.onabort = () => socket.close();
    socket.onclose = ({ code }) => fail({ reason: "connection", code });
    socket.onopen = () =>
      keys.forEach((_, ref) => {
        const [{ id, key, ...wish }] = of(ref);
        socket.send(JSON.stringify({ type: "subscribe", ref: `${ref}`, ...wish, since: oldest(of(ref)) }));
      });
    socket.onmessage = ({ data: text }) => {
      heard();
      const { ref, cursor, ...data } = JSON.parse(text);
      const { type, code: status, message: detail } = data;
      if (type !== "error") return hear(type, data, cursor, ref && of(ref));
      // Only a new handshake brings new cookies.
      const error = { reason: "refused", status, detail, final: status < 500 && status !== 401 };
      error.final ? hear(type, error, "", of(ref)) : fail(error);
    };
  });

/**
 * The one connection of a hub, or of all tabs: then whoever holds the lock leads, asks the others what they want and
 * tells them what it hears. own(): what this page wants; say(type, data, cursor, to): a frame for all of its channels,
 * or for those whose ids are in `to`.
 */
function openLink(options, own, say) {
  const name = JSON.stringify(options);
  const bus = options.share && navigator.locks && new BroadcastChannel(name);
  let patience = GATHER;
  let closed = false;
  let wishes = [];
  let connection, answers, resign, pending;

  const post = (...message) => bus?.postMessage(message);
  const tell = (...frame) => {
    post("say", ...frame);
    say(...frame);
  };
  const become = (state) => tell("state", { state });
  const gather = async () => {
    const mine = (answers = []);
    post("gather");
    if (bus) await pause(patience);
    if (mine === answers) answers = undefined;
    return [own(), ...mine].flat();
  };
  const hear = (type, data, cursor, to) => {
    tell(type, data, cursor, to && distinct(to, "id"));
    if (type !== "ready" || (pending -= to.length)) return;
    connection.good(data.heartbeat);
    become("live");
  };
  const carry = async (signal) => {
    wishes = await gather();
    pending = wishes.length;
    if (signal.aborted) return;
    const { url, transport } = options;
    // A stream has one filter for each table, and tells tables of one name in two schemas badly apart.
    const count = (what) => new Set(wishes.map(what)).size;
    const isPlain = count(({ table, filter }) => table + filter) === count(({ table }) => bare(table));
    if (transport === "ws" || !isPlain) return converse(url, wishes, signal, connection, hear);
    const read = "body" in Response.prototype ? fetchStream : nativeStream;
    return read(streamUrl(url, wishes), options, oldest(wishes), signal, connection, (type, data, cursor) =>
      hear(type, JSON.parse(data), cursor, type === "ready" && wishes),
    );
  };
  const failed = (error) => {
    // A stream is refused as a whole: blame the tables that it was never opened with.
    const fresh = wishes.filter(({ since }) => !since);
    if (error.reason) hear("error", error, "", error.final && (fresh[0] ? fresh : wishes));
    error.final || become("reconnecting");
  };
  const lead = () => {
    if (closed) return;
    connection = keepOpen(options, carry, failed);
    if (bus) link.open();
    return new Promise((resolve) => (resign = resolve));
  };
  const link = {
    open() {
      if (!connection) return post("change");
      become("connecting");
      connection.open();
    },
    close() {
      closed = true;
      post("change");
      connection?.close();
      resign?.();
      bus?.close();
    },
  };
  if (!bus) lead();
  else {
    navigator.locks.request(name, lead);
    bus.onmessage = ({ data: [what, ...rest] }) => {
      if (what === "say") say(...rest);
      else if (what === "gather") post("want", own());
      else if (connection) {
        if (what === "want") {
          if (answers) return answers.push(...rest);
          patience *= 2; // this one came too late
        }
        link.open();
      }
    };
  }
  return link;
}

// --- What pages use

/** One table of a hub: what its page sees, and for the hub wish() and hear(). */
function openChannel(table, { events, columns, filter, since }, kept, left) {
  const id = Math.random();
  const key = JSON.stringify([table, events, columns, filter]);
  const target = new EventTarget();
  const emit = (type, detail) => target.dispatchEvent(new CustomEvent(type, { detail }));
  const seen = new Set(); // the latest changes
  let live;
  since ??= kept.get(key);

  const take = (change, cursor) => {
    const { type, tx } = change;
    const mark = cursor.split("~")[0] + change.id; // ids begin anew in another database
    if (contains(since, tx) || seen.has(mark)) return;
    seen.add(mark);
    if (seen.size > MOST_WAITING) seen.delete(seen.values().next().value);
    if (age(since) <= age(cursor)) since = cursor;
    if (bare(change.table) !== bare(table) || events?.includes(type) === false) return;
    emit(type, change);
    emit("*", change);
  };
  const channel = {
    name: table,
    emit,

    /** Call back for a change type, "*" (each change), "ready", "gap", "sync", "bye", "state" or "error"; returns off(). */
    on(types, callback) {
      const end = new AbortController();
      for (const type of [types].flat()) target.addEventListener(type, ({ detail }) => callback(detail), end);
      return () => end.abort();
    },

    /** The changes from now on. Throws at a gap, also when the loop falls too far behind. */
    [Symbol.asyncIterator]() {
      const waiting = [];
      let wake;
      const stop = channel.on(["*", "gap", "close"], (item) => {
        if (waiting.push(item) > MOST_WAITING) stop(waiting.push({ reason: "overflow" }));
        wake?.();
      });
      return {
        async next() {
          while (!waiting[0]) await new Promise((resolve) => (wake = resolve));
          const value = waiting.shift();
          if (value.pk) return { value };
          if (value.reason) throw Object.assign(Error(`gap: ${value.reason}`), value);
          return this.return();
        },
        async return() {
          stop();
          return { done: true };
        },
      };
    },

    /** Follow this table no longer. */
    close() {
      left();
      emit("close", {});
    },

    wish: () => ({ id, key, table, events, columns, filter, since }),

    /** Take a frame, when it is for this channel. */
    hear(type, data, cursor, to) {
      if (to && !to.includes(id)) return;
      if (type === "state") live &&= data.state === "live";
      else if (type === "ready") {
        live = true;
        kept.delete(key); // a channel that is opened later is another one
        data = { ...data, resumed: data.resumed && !!since };
      } else if (!live && type !== "error") return;
      if (data.tx) return take(data, cursor);
      if (cursor && !data.resumed) since = cursor;
      emit(type, data);
      if (data.final) channel.close();
    },
  };
  return channel;
}

/**
 * Open a hub: one connection for all the tables that a page follows.
 * @param {object} [options] see HubOptions in pgevents.d.ts
 */
export function connect(options = {}) {
  const url = new URL(options.url ?? "../stream", options.url ? location : import.meta.url).href;
  const { persist } = (options = { ...options, url });
  const stored = JSON.parse((persist && sessionStorage.getItem(url)) || "[]");
  const kept = new Map(stored.map((wish) => [wish.key, wish.since]));
  const channels = new Set();
  const closing = new AbortController();
  let link;

  const wishes = () => [...channels].map((channel) => channel.wish());
  const hear = (type, data, ...rest) => {
    if (type === "state") hub.state = data.state;
    for (const channel of channels) channel.hear(type, data, ...rest);
  };
  // Tables that are named in one go share one opening.
  const changed = gathered(() => {
    if (closing.signal.aborted) return;
    if (!channels.size) return hide((hub.state = "idle"));
    link ??= openLink(options, wishes, hear);
    link.open();
  });
  // A page in the back/forward cache must hold no connection.
  const hide = () => {
    if (persist) sessionStorage.setItem(url, JSON.stringify(wishes()));
    link = link?.close();
  };
  addEventListener("pagehide", hide, closing);
  addEventListener("pageshow", () => link ?? changed(), closing);

  const hub = {
    /** "idle", "connecting", "live", "reconnecting" or "closed". */
    state: "idle",

    /** Follow a table ("orders" or "sales.orders"), optionally only some change types, columns and rows. */
    table(name, wish = {}) {
      const channel = openChannel(name, wish, kept, () => channels.delete(channel) && changed());
      channels.add(channel);
      changed();
      return channel;
    },

    /** End the connection for good. */
    close() {
      closing.abort();
      hide();
      hear("state", { state: "closed" });
      for (const channel of channels) channel.close();
    },

    /** For a live table: its rows as they are now. */
    rows: async (wish) => (await ask(streamUrl(new URL("snapshot", url), [wish]), "application/json", options)).json(),
  };
  return hub;
}

/** The rows of a table as they are now. See LiveTable in pgevents.d.ts. */
export function liveTable(hub, table, options = {}) {
  const channel = hub.table(table, options);
  const rows = new Map();
  let sorted, closed;

  const follow = async () => {
    for (let attempt = 0, least = 0; !closed; await pause(Math.max(least, backoff(attempt++)))) {
      const changes = channel[Symbol.asyncIterator]();
      try {
        const { cursor, rows: present } = await hub.rows(channel.wish());
        rows.clear();
        present.forEach(put);
        changed((attempt = least = 0));
        for (let next; !(next = await changes.next()).done; ) contains(cursor, next.value.tx) || put(next.value);
      } catch (error) {
        channel.hear("error", (error = asError(error)));
        least = error.wait ?? 0;
      }
      changes.return();
    }
  };
  // Of a change, or of a row that is there.
  const put = ({ type, pk, old_pk, row, truncated }) => {
    const key = keyOf(pk);
    if (type === "truncate") rows.clear();
    if (old_pk) rows.delete(keyOf(old_pk));
    // Two rows with one key, as in the middle of a transaction that swaps deferrable keys: who goes, who stays?
    if ((old_pk || type === "insert") && rows.has(key)) throw { reason: "keys" };
    if (row) rows.set(key, row);
    else rows.delete(key);
    // Over the server's size cap, also in a snapshot.
    if (truncated) channel.hear("error", { reason: "truncated", pk });
    changed();
  };
  const tell = gathered(() => channel.emit("rows"));
  const changed = () => tell((sorted = undefined));
  const getSnapshot = () => (sorted ??= [...rows.values()].sort(options.sort).slice(0, options.limit));

  channel.on("close", () => (closed = true));
  const off = channel.on("ready", () => follow(off()));
  return {
    ...channel,
    get rows() {
      return getSnapshot();
    },
    get: (pk) => rows.get(keyOf(pk)),
    getSnapshot,
    subscribe: (tell) => channel.on("rows", () => tell()),
  };
}

const keyOf = (pk) => JSON.stringify(Object.entries(pk).sort());
