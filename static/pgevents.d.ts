// pgevents.d.ts: the types of pgevents.js.

export type ChangeType = "insert" | "update" | "delete" | "truncate";
export type State = "idle" | "connecting" | "live" | "reconnecting" | "closed";
export type Key = Record<string, unknown>;

interface Common {
  /** Unique in its database. */
  id: string;
  schema: string;
  table: string;
  /** The primary key by column; empty for truncate and for tables without one. */
  pk: Key;
  /** The key before an update that changed it. */
  old_pk?: Key | null;
  changed: string[];
  /** The transaction. */
  tx: string;
  /** True on the last event of its transaction. */
  last: boolean;
  /** When it changed, ISO 8601 with offset. */
  at: string;
  /** True when the row was over the server's size cap: fetch it by its key. */
  truncated?: boolean;
}

export type Change<T = Record<string, unknown>> =
  | (Common & { type: "insert"; row: T | null; old: null })
  | (Common & { type: "update"; row: T | null; old: Partial<T> | null })
  | (Common & { type: "delete"; row: null; old: Partial<T> | null })
  | (Common & { type: "truncate"; row: null; old: null });

export interface Ready {
  /** True when nothing was missed since the last stream; false: load the present rows. */
  resumed: boolean;
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
}
export interface StreamError {
  reason: "connection" | "refused" | "silent" | "unreadable";
  status?: number;
  title?: string;
  detail?: string;
  error?: unknown;
}

export interface Channel<T = Record<string, unknown>> {
  readonly name: string;
  on<K extends ChangeType>(type: K, callback: (change: Extract<Change<T>, { type: K }>) => void): () => void;
  on(type: "*", callback: (change: Change<T>) => void): () => void;
  on(type: "ready", callback: (ready: Ready) => void): () => void;
  on(type: "gap", callback: (gap: Gap) => void): () => void;
  on(type: "sync", callback: (empty: object) => void): () => void;
  on(type: "bye", callback: (bye: Bye) => void): () => void;
  on(type: "state", callback: (change: { state: State }) => void): () => void;
  on(type: "error", callback: (error: StreamError) => void): () => void;
  /** Follow this table no longer. */
  close(): void;
}

export interface Hub {
  readonly state: State;
  /** The cursor after the last frame, from which the next stream resumes. */
  readonly lastEventId: string;
  table<T = Record<string, unknown>>(
    name: string,
    options?: { events?: ChangeType[]; columns?: (keyof T & string)[] },
  ): Channel<T>;
  /** End the stream for good. */
  close(): void;
}

/** Open a hub. url: of the stream; default: `../stream` seen from this module. */
export function connect(options?: { url?: string | URL }): Hub;

export const CHANGES: readonly ChangeType[];
type Wish = { name: string; events?: ChangeType[]; columns?: string[] };
export function streamUrl(base: string | URL, channels: Wish[], cursor?: string): string;
export function backoff(attempt: number, random?: () => number): number;
export function seenThrough<T>(change: Change<T>, wish: Wish): Change<T> | null;
export function onlyOnce(size?: number): (value: string) => boolean;
