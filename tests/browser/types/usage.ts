// Compiled, never run: what users may write with pgevents.js. Each @ts-expect-error must be an error.
import { connect, liveTable, PgEventSource } from "../../../static/pgevents.js";
import type { Change, Channel, Hub, LiveTable } from "../../../static/pgevents.js";

// As `flask pgevents types` writes it.
interface Orders {
  id: number;
  status: "open" | "sent";
  total: number | string;
}
interface Tables {
  orders: Orders;
  "Order Line": { position: number };
}

const hub = connect<Tables>({ share: "user 7", persist: true, headers: async () => ({ Authorization: "Bearer x" }) });
const orders: Channel<Orders> = hub.table("orders", { events: ["insert", "update"], columns: ["id", "status"], filter: "status=eq.open" });
// @ts-expect-error no such column
hub.table("orders", { columns: ["nothing"] });
// @ts-expect-error no such event
hub.table("orders", { events: ["upsert"] });
// @ts-expect-error no such transport
connect({ transport: "pigeon" });

const off: () => void = orders.on("insert", (change) => {
  const total: number | string | undefined = change.row?.total;
  const old: null = change.old;
  // @ts-expect-error a row may be too large to come
  change.row.total;
  return [total, old];
});
off();
orders.on(["delete", "truncate"], (change) => change.row satisfies null);
orders.on("ready", ({ resumed, heartbeat }) => resumed && heartbeat.toFixed());
orders.on("state", ({ state }) => {
  // @ts-expect-error no such state
  return state === "broken";
});
orders.on("error", ({ status, final }) => final && status);
// @ts-expect-error no such event
orders.on("nothing", () => {});

async function follow(): Promise<void> {
  for await (const change of orders) show(change);
}
function show(change: Change<Orders>): string {
  switch (change.type) {
    case "insert":
      return change.row?.status ?? "large";
    case "update":
      return `${change.old?.status} ${change.changed.join()}`;
    case "delete":
      return `${change.pk.id} ${change.old?.total}`;
    case "truncate":
      return "all";
  }
}

const live: LiveTable<Orders> = liveTable(hub, "orders", { sort: (a, b) => b.id - a.id, limit: 10 });
const rows: readonly Orders[] = live.rows;
const one: Orders | undefined = live.get({ id: 7 });
// React: useSyncExternalStore(live.subscribe, live.getSnapshot)
function useSyncExternalStore<T>(subscribe: (changed: () => void) => () => void, getSnapshot: () => T): T {
  subscribe(() => {})();
  return getSnapshot();
}
const shown: readonly Orders[] = useSyncExternalStore(live.subscribe, live.getSnapshot);

// Without types of tables, or for one that is not among them.
const plain: Hub = connect();
plain.table<{ id: number }>("lines", { columns: ["id"], since: "e~1:1:" }).on("*", ({ row }) => row?.id.toFixed());
hub.table<{ a: string }>("sales.other").on("insert", ({ row }) => row?.a.length);
liveTable<{ id: number }>(plain, "lines").rows[0]?.id.toFixed();

// A drop-in: whatever takes an EventSource takes it.
const source: EventSource = new PgEventSource("/pgevents/stream?table=orders", { withCredentials: true, minDelay: 100 });
source.onmessage = ({ data }) => data;
new PgEventSource("/x").addEventListener("insert", ({ data, lastEventId }: MessageEvent) => [data, lastEventId]);
const closed: 2 = PgEventSource.CLOSED;

export { closed, follow, one, rows, shown };
