// What the tabs of the matrix run: an expression. `heard` are ids of changes in the order in which they came, `rows`
// what they make of the rows that were there: {id: quantity}. The pages of htmx and Turbo have theirs in the document.
(() => {
  const heard = (globalThis.heard = []);
  const rows = new Map();
  let broken = 0; // how often the connection was lost, as far as the client tells

  function take({ id, type, pk, row }) {
    heard.push(Number(id));
    if (type === "truncate") rows.clear();
    else if (row) rows.set(row.id, row.quantity);
    else rows.delete(pk.id);
  }

  async function present() {
    const snapshot = await (await fetch("/pgevents/snapshot?table=orders")).json();
    for (const { row } of snapshot.rows) rows.set(row.id, row.quantity);
    return snapshot.cursor;
  }

  async function follow(options) {
    const { connect, liveTable } = await import("/pgevents/static/pgevents.js");
    const hub = connect({ maxDelay: 1000, ...options });
    const channel = hub.table("orders", { since: await present() });
    channel.on("*", take);
    channel.on("state", ({ state }) => (broken += state === "reconnecting"));
    globalThis.live = liveTable(hub, "orders", { sort: (a, b) => a.id - b.id });
    return new Promise((resolve) => channel.on("ready", () => resolve()));
  }

  async function listen(make) {
    const source = make(`/pgevents/stream?table=orders&lastEventId=${await present()}`);
    for (const type of ["insert", "update", "delete", "truncate"]) {
      source.addEventListener(type, ({ data }) => take(JSON.parse(data)));
    }
    watch(source);
    return new Promise((resolve) => source.addEventListener("ready", () => resolve()));
  }

  function watch(source) {
    globalThis.source = source;
    source.addEventListener("error", () => (broken += 1));
  }

  /** Each element that comes into the list names the change that it was made of. */
  function observe() {
    new MutationObserver((records) => {
      for (const { addedNodes } of records) {
        for (const { dataset } of addedNodes) if (dataset?.change) heard.push(Number(dataset.change));
      }
    }).observe(document.querySelector("#orders"), { childList: true });
  }

  globalThis.start = {
    "pgevents.js, SSE": () => follow({}),
    "pgevents.js, WebSocket": () => follow({ transport: "ws", minDelay: 300 }),
    "pgevents.js, share": () => follow({ share: true }),
    PgEventSource: async () => {
      const { PgEventSource } = await import("/pgevents/static/pgevents.js");
      return listen((url) => new PgEventSource(url, { maxDelay: 1000 }));
    },
    EventSource: () => listen((url) => new EventSource(url)),
    "htmx 2, PgEventSource": observe,
    "htmx 4": observe,
    "Turbo, PgEventSource": observe,
    "Turbo alone": () => {
      observe();
      watch(document.querySelector("turbo-stream-source").streamSource);
    },
  };

  const number = (text) => Number(/\d+/.exec(text)[0]);
  const line = (one) => [number(one.id), number(one.querySelector("span").textContent)];
  const byId = (one, other) => one[0] - other[0];

  /** What a tab shows: the changes from the n-th on, its rows, and those of its live table. */
  globalThis.state = (from) => ({
    heard: heard.slice(from),
    rows: document.querySelector("#orders") ? [...document.querySelectorAll("#orders > li")].map(line) : [...rows].sort(byId),
    live: globalThis.live?.rows.map(({ id, quantity }) => [id, quantity]),
    dead: globalThis.source?.readyState === 2,
    broken,
  });
})()
