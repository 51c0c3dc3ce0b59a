// The inspector's page: asks for the state every few seconds, and shows each change as it comes. Everything that is
// shown is set as text, never as markup: rows hold whatever somebody wrote.

const TYPES = ["insert", "update", "delete", "truncate"];
const MOST_SHOWN = 500; // changes that are kept; a browser draws more, but slowly
// Longer than gunicorn keeps a silent connection (2 s), so that any worker may answer, not the same one for ever.
const ASK_EVERY = 2500;

const at = (name) => new URL(`inspector/${name}`, location.href.replace(/\/?(\?.*)?$/, "").replace(/[^/]*$/, ""));
const $ = (id) => document.getElementById(id);

/** Make an element: el("p", { class: "x" }, "text", child). */
function el(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (value !== null && value !== false) made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...children.filter((child) => child !== null));
  return made;
}

const shown = (value) => (typeof value === "string" ? value : JSON.stringify(value));

// --- Changes

const changes = []; // the newest first
let paused = false;
const wanted = new Set(TYPES);

function matches(change) {
  if (!wanted.has(change.type) && change.type !== "note") return false;
  const table = $("table").value;
  if (table && change.name !== table) return false;
  const text = $("search").value.trim().toLowerCase();
  return !text || change.text.includes(text);
}

/** What an update changed, or what a row is, in one line. */
function brief(change) {
  if (change.type === "note") return change.note;
  if (change.truncated) return "only the key is known: the row is over the size cap, or not captured";
  if (change.type === "update") {
    return change.changed.map((name) => `${name}: ${shown(change.old?.[name])} → ${shown(change.row?.[name])}`).join(", ");
  }
  return change.row || change.old ? JSON.stringify(change.row ?? change.old) : "";
}

function values(change) {
  const names = [...new Set([...Object.keys(change.row ?? {}), ...Object.keys(change.old ?? {})])];
  if (!names.length) return null;
  const diff = change.type === "update";
  const cell = (row, name, kind) => el("td", { class: kind }, row && name in row ? shown(row[name]) : "");
  const rows = names.map((name) => {
    const touched = !diff || change.changed.includes(name);
    const before = touched ? cell(change.old, name, change.old ? "old" : "") : cell(change.row, name, "");
    const after = cell(change.row, name, touched && change.row ? "new" : "");
    return el("tr", {}, el("th", { scope: "row" }, name), ...(diff ? [before, after] : [change.row ? after : before]));
  });
  const heads = diff ? ["column", "old", "new"] : ["column", change.row ? "row" : "old row"];
  const head = el("tr", {}, ...heads.map((text) => el("th", { scope: "col" }, text)));
  return el("table", {}, el("thead", {}, head), el("tbody", {}, ...rows));
}

function detail(change) {
  const meta = [
    `id ${change.id}`, `transaction ${change.tx}${change.last ? " (its last change)" : ""}`, `at ${change.at}`,
    `key ${JSON.stringify(change.pk)}`,
    change.actor ? `actor ${JSON.stringify(change.actor)}` : "", change.old_pk ? `old key ${JSON.stringify(change.old_pk)}` : "", `cursor ${change.cursor}`,
  ];
  const spans = meta.filter(Boolean).map((text) => el("span", {}, text));
  return el("div", { class: "detail" }, el("div", { class: "meta" }, ...spans), values(change));
}

function item(change) {
  const time = new Date(change.at).toLocaleTimeString([], { hour12: false }) + "." + change.at.slice(20, 23);
  const key = Object.values(change.pk ?? {}).map(shown).join(", ");
  const line = el("summary", {},
    el("time", { datetime: change.at }, time),
    el("b", {}, change.type),
    el("code", {}, change.name ?? "", " ", el("span", { class: "key" }, key)),
    el("code", { title: brief(change).slice(0, 1000) }, brief(change)),
  );
  // The rest is made when somebody looks: most changes nobody does.
  const open = (event) => event.target.open && event.target.children.length === 1 && event.target.append(detail(change));
  const body = change.type === "note" ? line : el("details", { ontoggle: open }, line);
  return el("li", { "data-type": change.type }, body);
}

let drawing = false;
function draw() {
  if (drawing) return;
  drawing = true;
  requestAnimationFrame(() => {
    drawing = false;
    const found = changes.filter(matches);
    const list = $("list");
    const known = new Map([...list.children].map((li) => [li.change, li]));
    list.replaceChildren(...found.map((change) => known.get(change) ?? Object.assign(item(change), { change })));
    $("empty").hidden = found.length > 0;
  });
}

const held = [];
function take(change) {
  if (paused) {
    held.push(change);
    if (held.length > MOST_SHOWN) held.shift();
    $("pause").textContent = `Go on (${held.length})`;
    return;
  }
  changes.unshift(change);
  changes.length = Math.min(changes.length, MOST_SHOWN);
  draw();
}

function note(text) {
  take({ type: "note", note: text, at: new Date().toISOString(), text: text.toLowerCase() });
}

function listen(schema) {
  const source = new EventSource(at("stream"));
  for (const type of TYPES) {
    source.addEventListener(type, (event) => {
      const change = JSON.parse(event.data);
      const name = change.schema === schema ? change.table : `${change.schema}.${change.table}`;
      take({ ...change, name, cursor: event.lastEventId, text: event.data.toLowerCase() });
    });
  }
  source.addEventListener("gap", (event) => note(`gap: some changes may be missing here (${JSON.parse(event.data).reason})`));
  source.addEventListener("bye", (event) => note(`the stream ended: ${JSON.parse(event.data).reason}`));
}

function setUp() {
  for (const type of TYPES) {
    const toggle = (event) => {
      const on = wanted.delete(type) ? false : Boolean(wanted.add(type));
      event.target.setAttribute("aria-pressed", on);
      draw();
    };
    $("types").append(el("button", { "data-type": type, "aria-pressed": "true", onclick: toggle }, type));
  }
  $("table").addEventListener("change", draw);
  $("search").addEventListener("input", draw);
  $("clear").addEventListener("click", () => { changes.length = 0; held.length = 0; draw(); });
  $("pause").addEventListener("click", () => {
    paused = !paused;
    $("pause").setAttribute("aria-pressed", paused);
    $("pause").textContent = "Pause";
    for (const change of held.splice(0)) if (!paused) take(change);
  });
}

// --- State

function copying(text) {
  const copy = async (event) => {
    await navigator.clipboard.writeText(text);
    event.target.textContent = "copied";
  };
  return el("button", { onclick: copy }, "copy");
}

function snippets(table) {
  const stream = new URL(`stream?table=${encodeURIComponent(table.name)}`, at("")).href.replace("/inspector/", "/");
  const path = new URL(stream).pathname + new URL(stream).search;
  const browser = `const source = new EventSource(${JSON.stringify(path)})\nsource.addEventListener("insert", event => console.log(JSON.parse(event.data)))`;
  const made = [
    ["a handler, in Python", `@on_change(${JSON.stringify(table.name)})\ndef changed(event):\n    print(event.type, event.pk, event.changed)`],
    ["from a terminal", `flask pgevents tail ${JSON.stringify(table.name)}`],
  ];
  if (table.exposed) made.unshift(["in a page", browser], ["with curl", `curl -N '${stream}'`]);
  else made.unshift(["let browsers see it", `expose(${JSON.stringify(table.name)}, columns=["id"], authorize=may_see)`]);
  return made.map(([title, text]) => el("div", { class: "snippet" }, el("small", {}, title), el("pre", {}, text), copying(text)));
}

const plural = (count, word) => `${count} ${word}${count === 1 ? "" : "s"}`;

function tableCard(table) {
  const shows = !table.exposed ? "not exposed" : table.columns ? `shows ${table.columns.join(", ")}` : "shows all columns";
  const who = table.exposed && table.public ? " to everybody" : "";
  return el("div", { class: "card" },
    el("header", {}, el("b", {}, table.name), el("p", { class: "pill", "data-word": table.trigger }, table.trigger)),
    el("p", {}, `${shows}${who} · ${plural(table.streams, "stream")} · ${plural(table.handlers, "handler")}`),
    table.reason ? el("p", { class: "bad" }, table.reason) : null,
    el("details", { "data-name": table.name }, el("summary", {}, "try it"), ...snippets(table)),
  );
}

function streamCard(stream) {
  const views = stream.views.map((view) => {
    const types = view.types.length === TYPES.length ? "" : ` · ${view.types.join(", ")}`;
    return `${view.table}${types}${view.restricted ? " · filtered" : ""}${view.ref ? ` · ref ${view.ref}` : ""}`;
  });
  return el("div", { class: "card" },
    ...views.map((text) => el("b", {}, text)),
    el("p", {}, `open for ${stream.seconds} s · ${stream.queued_bytes.toLocaleString()} bytes wait`),
  );
}

function handlerCard(handler) {
  const { handled = 0, failed = 0, missed = 0 } = handler;
  const trouble = failed || missed ? ` · ${failed} failed · ${missed} missed` : "";
  return el("div", { class: "card" },
    el("b", {}, handler.name), el("p", {}, `${handled} handled${trouble}`),
    handler.last_error ? el("p", { class: "bad" }, handler.last_error) : null,
  );
}

/** Put new cards in place; what somebody has opened stays open. */
function fill(id, cards, otherwise) {
  const open = new Set([...$(id).querySelectorAll("details[open]")].map((details) => details.dataset.name));
  $(id).replaceChildren(...(cards.length ? cards : [el("p", {}, otherwise)]));
  for (const details of $(id).querySelectorAll("details")) details.open = open.has(details.dataset.name);
}

let before = "";
function show(state) {
  const { process, listener, counts } = state;
  $("health").textContent = $("health").dataset.word = listener.status;
  $("health").title = listener.error ?? "";
  const facts = {
    app: process.app, process: process.pid, read: listener.seconds_since_read === null ? "–" : `${listener.seconds_since_read} s ago`,
    reconnects: listener.reconnects ?? 0, changes: counts.events ?? 0, deliveries: counts.deliveries ?? 0,
  };
  $("facts").replaceChildren(...Object.entries(facts).map(([name, value]) => el("div", {}, el("dt", {}, name), el("dd", {}, String(value)))));
  const rest = JSON.stringify([state.tables, state.handlers]);
  if (rest !== before) {
    before = rest;
    fill("tables", state.tables.map(tableCard), "No table is declared: see expose() and @on_change.");
    fill("handlers", state.handlers.map(handlerCard), "No handler has run in this process yet.");
    const selected = $("table").value;
    $("table").replaceChildren(el("option", { value: "" }, "all"), ...state.tables.map(({ name }) => el("option", { value: name }, name)));
    $("table").value = selected;
  }
  fill("streams", state.streams.map(streamCard), "Nobody streams from this process.");
  $("streams-count").textContent = state.streams.length || "";
}

let open = false;
async function ask() {
  try {
    const answer = await fetch(at("state"), { cache: "no-store" });
    if (answer.status === 401) return letIn();
    if (!answer.ok) throw new Error(`HTTP ${answer.status}`);
    const state = await answer.json();
    $("door").hidden = true;
    $("desk").hidden = false;
    if (!open) {
      open = true;
      setUp();
      listen(state.process.default_schema);
    }
    show(state);
  } catch (error) {
    $("health").textContent = $("health").dataset.word = "unreachable";
    $("health").title = String(error);
  }
  setTimeout(ask, ASK_EVERY);
}

function letIn() {
  $("health").textContent = "locked";
  $("door").hidden = false;
  $("door").onsubmit = async (event) => {
    event.preventDefault();
    const answer = await (await fetch(at("pin"), { method: "POST", body: new FormData($("door")) })).json();
    if (answer.auth) return ask();
    $("refused").textContent = answer.exhausted ? "Too many attempts: restart the server." : "That is not the PIN.";
  };
}

ask();
