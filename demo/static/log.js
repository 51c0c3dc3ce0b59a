// The log of what the handlers on the server saw, newest first; each process has a colour.

const MOST_LINES = 60;
const COLOURS = 4;
const list = document.querySelector("#log");
const template = document.querySelector("#entry");
const processes = [];

export function showLog(rows) {
  list.replaceChildren(...rows.map(line));
}

export function applyLog({ row }) {
  if (!row) return;
  const entry = line(row);
  entry.classList.add("fresh");
  list.prepend(entry);
  while (list.children.length > MOST_LINES) list.lastElementChild.remove();
}

function line(row) {
  const entry = template.content.firstElementChild.cloneNode(true);
  const say = (name, text) => (entry.querySelector(`.${name}`).textContent = text);
  say("pid", row.pid);
  say("handler", row.handler);
  say("change", row.change);
  say("ms", `${row.delay_ms.toFixed(1)} ms`);
  entry.dataset.process = processNumber(row.pid) % COLOURS;
  entry.dataset.event = row.event_id;
  return entry;
}

function processNumber(pid) {
  if (!processes.includes(pid)) processes.push(pid);
  return processes.indexOf(pid);
}
