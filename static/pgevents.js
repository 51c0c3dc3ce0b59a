// pgevents.js: changes of PostgreSQL tables, live in the page. One ES module, no dependency, no build step.

export const CHANGES = ["insert", "update", "delete", "truncate"];
const CONTROLS = ["ready", "gap", "sync", "bye"];
const LEAST_DELAY = 1000;
const MOST_DELAY = 30_000;
const REMEMBERED_IDS = 1024;
// Before `ready` tells the server's own heartbeat, in seconds.
const USUAL_HEARTBEAT = 15;
// Silence of so many heartbeats means that the connection is dead, whatever the socket says.
const MISSED_HEARTBEATS = 3;

/**
 * Open a hub: one stream for all the tables that the page follows.
 * @param {{url?: string | URL}} options url: of the stream; default: next to this module, `…/pgevents/stream`
 */
export function connect({ url = new URL("../stream", import.meta.url) } = {}) {
  return new Hub(url);
}

/** The address of one stream for several channels, resuming after `cursor` when there is one. Pure. */
export function streamUrl(base, channels, cursor) {
  const url = new URL(base, globalThis.location?.href);
  const tables = new Set(channels.map((channel) => channel.name));
  for (const table of tables) url.searchParams.append("table", table);
  // The query asks for what any channel wants; seenThrough() cuts out what each of them wants.
  const events = union(channels.map((channel) => channel.events)).join();
  if (events) url.searchParams.set("events", events);
  const columns = [...tables].flatMap((table) => {
    const wanted = union(channels.filter(({ name }) => name === table).map((channel) => channel.columns));
    return wanted.map((column) => `${table}.${column}`);
  });
  if (columns.length) url.searchParams.set("columns", columns.join());
  if (cursor) url.searchParams.set("lastEventId", cursor);
  return url.href;
}

// Empty when one of them wants everything.
function union(lists) {
  return lists.every(Boolean) ? [...new Set(lists.flat())] : [];
}

/** Milliseconds to wait before attempt n (0, 1, 2 …): equal jitter, so that clients come back spread out. Pure. */
export function backoff(attempt, random = Math.random) {
  const most = Math.min(MOST_DELAY, LEAST_DELAY * 2 ** attempt);
  return most / 2 + (random() * most) / 2;
}

/** A change as a channel sees it, or null when nothing that it asked for changed. Pure. */
export function seenThrough(change, { name, fullName = name, events, columns }) {
  const { type, schema, table } = change;
  if (fullName !== table && fullName !== `${schema}.${table}`) return null;
  if (events && !events.includes(type)) return null;
  if (!columns) return change;
  const changed = change.changed.filter((column) => columns.includes(column));
  if (type === "update" && !changed.length && !change.old_pk && !change.truncated) return null;
  return { ...change, changed, row: pick(change.row, columns), old: pick(change.old, columns) };
}

function pick(row, columns) {
  return row && Object.fromEntries(Object.entries(row).filter(([column]) => columns.includes(column)));
}

/** Says whether a value was not offered before; remembers only the latest `size`. */
export function onlyOnce(size = REMEMBERED_IDS) {
  const seen = new Set();
  return (value) => {
    const fresh = !seen.delete(value);
    seen.add(value);
    if (seen.size > size) seen.delete(seen.values().next().value);
    return fresh;
  };
}

/** One table of a hub. */
class Channel {
  #listeners = new Map();
  #leave;

  constructor(name, { events, columns }, leave) {
    Object.assign(this, { name, events, columns });
    this.#leave = leave;
  }

  /** Call back for a change type, "*" (each change), "ready", "gap", "sync", "bye", "state" or "error"; returns off(). */
  on(type, callback) {
    const entry = { callback };
    const entries = this.#listeners.get(type) ?? new Set();
    this.#listeners.set(type, entries.add(entry));
    return () => void entries.delete(entry);
  }

  /** For the hub: call the listeners of a type. One that throws is reported and disturbs no other. */
  emit(type, detail) {
    for (const { callback } of [...(this.#listeners.get(type) ?? [])]) {
      try {
        callback(detail);
      } catch (error) {
        globalThis.reportError ? reportError(error) : console.error(error);
      }
    }
  }

  /** Follow this table no longer. */
  close() {
    this.#leave(this);
  }
}

class Hub {
  /** "idle", "connecting", "live", "reconnecting" or "closed". */
  state = "idle";
  /** The cursor after the last frame, from which the next stream resumes. */
  lastEventId = "";
  #url;
  #channels = new Set();
  #source = null;
  #attempt = 0;
  #heartbeat = USUAL_HEARTBEAT;
  #isFresh = onlyOnce();
  #scheduled = false;
  #retryTimer;
  #watchTimer;

  constructor(url) {
    this.#url = url;
    // A page in the back/forward cache must hold no stream; a laptop that wakes up should not sit out a delay.
    globalThis.addEventListener?.("pagehide", this.#hide);
    for (const type of ["pageshow", "online"]) globalThis.addEventListener?.(type, this.#hurry);
    globalThis.document?.addEventListener("visibilitychange", this.#hurry);
  }

  /** Follow a table ("orders" or "sales.orders"), optionally only some change types and columns. */
  table(name, { events, columns } = {}) {
    const channel = new Channel(name, { events, columns }, (left) => {
      if (this.#channels.delete(left)) this.#openSoon();
    });
    this.#channels.add(channel);
    this.#openSoon();
    return channel;
  }

  /** End the stream for good. */
  close() {
    this.#drop();
    this.#setState("closed");
    this.#channels.clear();
    globalThis.removeEventListener?.("pagehide", this.#hide);
    for (const type of ["pageshow", "online"]) globalThis.removeEventListener?.(type, this.#hurry);
    globalThis.document?.removeEventListener("visibilitychange", this.#hurry);
  }

  // Tables named in one go share one opening.
  #openSoon() {
    if (this.#scheduled) return;
    this.#scheduled = true;
    queueMicrotask(() => {
      this.#scheduled = false;
      this.#open();
    });
  }

  #open() {
    if (this.state === "closed") return;
    this.#drop();
    if (!this.#channels.size) return this.#setState("idle");
    this.#setState(this.#attempt || this.state === "reconnecting" ? "reconnecting" : "connecting");
    const source = new EventSource(streamUrl(this.#url, [...this.#channels], this.lastEventId));
    this.#source = source;
    for (const type of [...CHANGES, ...CONTROLS]) {
      source.addEventListener(type, (message) => this.#source === source && this.#receive(type, message));
    }
    source.onerror = () => this.#source === source && this.#broken(source);
    this.#watch();
  }

  #drop() {
    clearTimeout(this.#retryTimer);
    clearTimeout(this.#watchTimer);
    this.#retryTimer = undefined;
    this.#source?.close();
    this.#source = null;
  }

  #receive(type, message) {
    this.lastEventId = message.lastEventId || this.lastEventId;
    this.#watch();
    let data;
    try {
      data = JSON.parse(message.data);
    } catch (error) {
      return this.#emit("error", { reason: "unreadable", error });
    }
    if (CHANGES.includes(type)) return this.#change(data);
    if (type === "ready") this.#live(data);
    this.#emit(type, data);
    if (type === "bye") this.#retry(data.retry);
  }

  #change(change) {
    if (!this.#isFresh(change.id)) return;
    for (const channel of [...this.#channels]) {
      const seen = seenThrough(change, channel);
      if (!seen) continue;
      channel.emit(seen.type, seen);
      channel.emit("*", seen);
    }
  }

  #live({ heartbeat, tables }) {
    // The server's full names, in the order of the query, tell equal names in two schemas apart.
    const names = [...new Set([...this.#channels].map((channel) => channel.name))];
    for (const channel of this.#channels) channel.fullName = tables?.[names.indexOf(channel.name)];
    // Only `ready` proves a healthy server: one that accepts and crashes must not be asked ever faster.
    this.#attempt = 0;
    this.#heartbeat = heartbeat || USUAL_HEARTBEAT;
    this.#watch();
    this.#setState("live");
  }

  #watch() {
    clearTimeout(this.#watchTimer);
    this.#watchTimer = setTimeout(() => {
      this.#emit("error", { reason: "silent" });
      this.#retry();
    }, this.#heartbeat * MISSED_HEARTBEATS * 1000);
  }

  // A browser gives an EventSource up after any answer but 200, so a proxy's 502 during a deploy would end it
  // for ever; and its own retries know no back-off. Therefore a broken source is never reused.
  #broken(source) {
    const refused = source.readyState === 2;
    this.#emit("error", { reason: refused ? "refused" : "connection" });
    this.#retry();
    if (refused) this.#askWhy();
  }

  // EventSource hides status and body: ask again in a way that shows them, for whoever debugs the page.
  async #askWhy() {
    const abort = new AbortController();
    try {
      const answer = await fetch(streamUrl(this.#url, [...this.#channels]), { signal: abort.signal });
      if (answer.ok) return;
      const { title, detail } = await answer.json().catch(() => ({}));
      this.#emit("error", { reason: "refused", status: answer.status, title, detail });
      // The caller's own fault will not pass in a second: no need to ask often.
      if (answer.status < 500 && answer.status !== 429) this.#attempt = Math.max(this.#attempt, 5);
    } catch {
      // The network is down: the next attempt will tell.
    } finally {
      abort.abort();
    }
  }

  #retry(delay = backoff(this.#attempt)) {
    if (this.state === "closed") return;
    this.#drop();
    this.#attempt += 1;
    this.#setState("reconnecting");
    this.#retryTimer = setTimeout(() => this.#open(), delay);
  }

  #hide = () => {
    if (this.#source) this.#retry(MOST_DELAY);
  };

  #hurry = () => {
    if (this.#retryTimer !== undefined && globalThis.document?.visibilityState !== "hidden") this.#open();
  };

  #setState(state) {
    if (state === this.state) return;
    this.state = state;
    this.#emit("state", { state });
  }

  #emit(type, detail) {
    for (const channel of [...this.#channels]) channel.emit(type, detail);
  }
}
