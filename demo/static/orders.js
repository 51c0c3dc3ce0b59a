// The board: one card per order, in the column of its status.

const HINTS = {
  404: "", // somebody deleted or moved it a moment before, and the board shows it already
  409: "",
  503: "Another program holds this order in a transaction, or the database is away. Try again.",
};
const NEXT = { new: "Mark paid", paid: "Ship it" };
const columns = new Map([...document.querySelectorAll(".column")].map((column) => [column.dataset.status, column]));
const template = document.querySelector("#card");
const cards = new Map();

export function showOrders(rows) {
  clear();
  for (const row of rows) put(row, false);
  count();
}

export function applyOrder(change) {
  if (change.type === "truncate") clear();
  else if (change.type === "delete") remove(change.pk.id);
  else if (change.row) {
    if (change.old_pk) remove(change.old_pk.id);
    put(change.row, true);
  }
  count();
}

function clear() {
  for (const id of [...cards.keys()]) remove(id);
}

function remove(id) {
  cards.get(id)?.remove();
  cards.delete(id);
}

function put(row, flash) {
  const card = cards.get(row.id) ?? template.content.firstElementChild.cloneNode(true);
  cards.set(row.id, card);
  card.dataset.id = row.id;
  const say = (name, text) => (card.querySelector(`.${name}`).textContent = text);
  say("who", row.customer);
  say("number", `#${row.id}`);
  say("item", `${row.quantity} × ${row.item}`);
  say("total", Number(row.total).toFixed(2));
  const advance = card.querySelector(".advance");
  advance.hidden = !(row.status in NEXT);
  advance.textContent = NEXT[row.status] ?? "";
  advance.setAttribute("aria-label", `${advance.textContent}: order ${row.id} of ${row.customer}`);
  card.querySelector(".remove").setAttribute("aria-label", `Delete order ${row.id} of ${row.customer}`);
  if (card.dataset.status !== row.status) place(card, row);
  if (flash) blink(card);
}

// Newest first in each column.
function place(card, row) {
  card.dataset.status = row.status;
  const list = columns.get(row.status).querySelector(".cards");
  const older = [...list.children].find((other) => Number(other.dataset.id) < row.id);
  list.insertBefore(card, older ?? null);
}

function blink(card) {
  card.classList.remove("fresh");
  void card.offsetWidth; // lets the same animation run again
  card.classList.add("fresh");
}

function count() {
  for (const column of columns.values()) {
    column.querySelector(".count").textContent = column.querySelectorAll(".card").length;
  }
}

/** Send a form to the server, which writes through SQLAlchemy. The board changes only when the event comes back. */
async function send(address, fields) {
  const hint = document.querySelector("#hint");
  try {
    const answer = await fetch(address, { method: "POST", body: new URLSearchParams(fields) });
    hint.textContent = answer.ok ? "" : HINTS[answer.status] ?? `That did not work (${answer.status}).`;
    return answer.ok;
  } catch {
    hint.textContent = "The server cannot be reached.";
    return false;
  }
}

document.querySelector("#board").addEventListener("click", ({ target }) => {
  const card = target.closest(".card");
  if (target.matches(".advance")) send(`/orders/${card.dataset.id}/advance`, { status: card.dataset.status });
  if (target.matches(".remove")) send(`/orders/${card.dataset.id}/delete`, {});
});

document.querySelector("#add").addEventListener("submit", async (event) => {
  event.preventDefault();
  const form = event.target;
  if (await send(form.action, new FormData(form))) {
    form.reset();
    form.elements.customer.focus();
  }
});
