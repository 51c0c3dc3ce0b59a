// pgevents.d.ts: the types of pgevents.js.
// `flask pgevents types > tables.ts` writes the interface Tables of an app: connect<Tables>() then knows every row.

export type ChangeType = "insert" | "update" | "delete" | "truncate";
export type State = "idle" | "connecting" | "live" | "reconnecting" | "closed";
export type Row = Record<string, unknown>;
export type Key = Record<string, unknown>;

interface Common {
  /** Unique in its database. */
  id: string;
  schema: string;
  table: string;
  /** The primary key by column; empty for truncate and for tables without one. */
  pk: Key;
  /** The key before an update that changed it. */
  old_pk?: Key;
  changed: string[];
  /** The transaction. */
  tx: string;
  /** True on the last event of its transaction. */
  last: boolean;
  /** When it changed, ISO 8601 with offset. */
  at: string;
  /** True when the row was over the server's size cap: fetch it by its key. */
  truncated?: true;
}

export type Change<T = Row> =
  | (Common & { type: "insert"; row: T | null; old: null })
  | (Common & { type: "update"; row: T | null; old: Partial<T> | null })
  | (Common & { type: "delete"; row: null; old: Partial<T> | null })
  | (Common & { type: "truncate"; row: null; old: null });

export interface Ready {
  /** True when this channel missed nothing since it was last ready; false: load the present rows. */
  resumed: boolean;
  /** The full names of the tables. */
  tables: string[];
  /** Seconds of silence after which the server sends `sync`. */
  heartbeat: number;
}
export interface Gap {
  reason: "retention" | "epoch" | "overflow" | "schema" | "cursor";
}
export interface Bye {
  reason: string;
  /** Milliseconds until the next attempt. */
  retry?: number;
  /** What is wrong, where the reason is `uncaptured`. */
  detail?: string;
}
export interface StreamError {
  /** refused: the server's answer; connection: there was none, or it broke off; silent: nothing came for too long;
   * truncated: a live table lacks the row `pk`, which is over the server's size cap; keys: a transaction moves rows
   * over each other's keys, the live table loads its rows again. */
  reason: string;
  pk?: Key;
  /** Of HTTP, also over a WebSocket. */
  status?: number;
  title?: string;
  detail?: string;
  /** Of a WebSocket that was closed. */
  code?: number;
  /** Asking again would not help: the channel is closed. */
  final?: boolean;
  /** Milliseconds, from Retry-After. */
  wait?: number;
}

interface Told<T> {
  "*": Change<T>;
  insert: Extract<Change<T>, { type: "insert" }>;
  update: Extract<Change<T>, { type: "update" }>;
  delete: Extract<Change<T>, { type: "delete" }>;
  truncate: Extract<Change<T>, { type: "truncate" }>;
  ready: Ready;
  gap: Gap;
  sync: object;
  bye: Bye;
  state: { state: State };
  error: StreamError;
  close: object;
}

interface Telling<T> {
  readonly name: string;
  /** Call back for one type, or for several; returns what ends it. */
  on<K extends keyof Told<T>>(types: K | readonly K[], callback: (told: Told<T>[K]) => void): () => void;
  /** Follow this table no longer. */
  close(): void;
}

/** One table. A loop over it gets the changes from now on, and throws {reason} at a gap. */
export interface Channel<T = Row> extends Telling<T>, AsyncIterable<Change<T>> {}

export interface Wish<T = Row> {
  events?: readonly ChangeType[];
  /** More may come, where another channel of the connection asks for them. */
  columns?: readonly (keyof T & string)[];
  /** As in the query of the stream: "status=eq.open", "or=(status.eq.open,total.gt.9)". */
  filter?: string;
}

type RowOf<Tables, K> = K extends keyof Tables ? Tables[K] : Row;

export interface Hub<Tables = object> {
  readonly state: State;
  /** Follow a table. since: the cursor to begin after, such as /pgevents/snapshot gives. */
  table<K extends string>(name: K, options?: Wish<RowOf<Tables, K>> & { since?: string }): Channel<RowOf<Tables, K>>;
  table<T extends object>(name: string, options?: Wish<NoInfer<T>> & { since?: string }): Channel<T>;
  /** End the connection for good. */
  close(): void;
}

interface Delays {
  /** The first delay between attempts, in milliseconds; the server's `retry:` replaces it. Default: 1000. */
  minDelay?: number;
  /** Delays double up to this. Default: 30,000. */
  maxDelay?: number;
  /** The silence, in milliseconds, that counts as death, until the server tells its own heartbeat. Default: 45,000. */
  heartbeat?: number;
  /** Asked before each request; not for WebSockets, which have none. */
  headers?: () => Record<string, string> | Promise<Record<string, string>>;
}

export interface HubOptions extends Delays {
  /** Of the stream. Default: `../stream` seen from this module. */
  url?: string | URL;
  /** Default: "sse", by fetch, or by EventSource where fetch has no streams. */
  transport?: "sse" | "ws";
  /** Of fetch. */
  credentials?: RequestCredentials;
  /** One connection for all tabs with the same options. A text tells groups apart: one for each user. */
  share?: boolean | string;
  /** Go on after F5 where the page was. */
  persist?: boolean;
}

/** Open a hub: one connection for all the tables that a page follows. */
export function connect<Tables = object>(options?: HubOptions): Hub<Tables>;

/** A table's rows as they are now. The table needs a primary key. */
export interface LiveTable<T = Row> extends Telling<T> {
  /** The same array until something changes. */
  readonly rows: readonly T[];
  /** Find a row by its key, as `change.pk` has it. */
  get(pk: Key): T | undefined;
  /** As React's useSyncExternalStore wants them. */
  getSnapshot(): readonly T[];
  subscribe(callback: () => void): () => void;
}
export interface LiveTableOptions<T = Row> {
  columns?: readonly (keyof T & string)[];
  filter?: string;
  sort?: (a: T, b: T) => number;
  /** How many rows to show, after sorting; all that match are loaded. */
  limit?: number;
}

/** Load the rows of a table and keep them as they are. */
export function liveTable<Tables, K extends string>(
  hub: Hub<Tables>,
  name: K,
  options?: LiveTableOptions<RowOf<Tables, K>>,
): LiveTable<RowOf<Tables, K>>;
export function liveTable<T extends object>(
  hub: Pick<Hub, "state" | "close">,
  name: string,
  options?: LiveTableOptions<NoInfer<T>>,
): LiveTable<T>;

/** EventSource, but it survives every answer that may be another one next time. Its error events have a `detail`. */
export interface PgEventSource extends EventSource {}
export const PgEventSource: {
  new (url: string | URL, options?: EventSourceInit & Delays): PgEventSource;
  readonly prototype: PgEventSource;
  readonly CONNECTING: 0;
  readonly OPEN: 1;
  readonly CLOSED: 2;
};
