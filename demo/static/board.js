// The page: one stream for both tables, its state, and counters of what it brought.

import { connect } from "/pgevents/static/pgevents.js";
import { join } from "./joined.js";
import { applyLog, showLog } from "./log.js";
import { applyOrder, showOrders } from "./orders.js";
import "./programs.js";

const hub = connect();
const orders = hub.table("orders");
const lines = hub.table("handler_log", { events: ["insert"] });
join(orders, "/orders.json", { show: showOrders, apply: applyOrder });
join(lines, "/log.json", { show: showLog, apply: applyLog });

const state = document.querySelector("#state");
orders.on("state", (change) => {
  state.textContent = change.state;
  state.dataset.state = change.state;
});

const counts = { insert: 0, update: 0, delete: 0, truncate: 0 };
orders.on("*", ({ type, at }) => {
  counts[type] += 1;
  const counter = document.querySelector(`#count-${type}`);
  if (counter) counter.textContent = counts[type];
  // Browser and database share this machine's clock; across machines it would not mean much.
  document.querySelector("#delay").textContent = `${Math.max(0, Date.now() - Date.parse(at))} ms`;
});
