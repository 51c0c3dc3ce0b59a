// Present rows and live changes of one table, joined without a gap and without a change that counts twice.

const RETRY_MS = 1000;

/** Read what PostgreSQL prints of a snapshot: `xmin:xmax:xip,xip`. Transaction ids need BigInt. */
export function parseSnapshot(text) {
  const [xmin, xmax, xip] = text.split(":");
  return { xmin: BigInt(xmin), xmax: BigInt(xmax), xip: new Set(xip ? xip.split(",").map(BigInt) : []) };
}

/** Whether the changes of a transaction, once committed, are part of what the snapshot shows. */
export function sees({ xmin, xmax, xip }, transaction) {
  const xid = BigInt(transaction);
  return xid < xmin || (xid < xmax && !xip.has(xid));
}

/**
 * Load the rows after every `ready` that resumed nothing and after every `gap`. Changes that come meanwhile
 * wait; then those that the rows contain already are left out, and the others are applied in order.
 * show: called with all rows. apply: called with one change.
 */
export function join(channel, address, { show, apply }) {
  let waiting = [];
  let present = null;

  async function load() {
    const mine = (waiting = []);
    const answer = await fetchRows(address, () => mine === waiting);
    if (!answer) return; // a newer load took over
    present = parseSnapshot(answer.snapshot);
    show(answer.rows);
    waiting = null;
    mine.forEach(step);
  }

  function step(change) {
    if (waiting) waiting.push(change);
    else if (!sees(present, change.tx)) apply(change);
  }

  channel.on("*", step);
  channel.on("ready", ({ resumed }) => {
    if (!resumed || !present) load();
  });
  channel.on("gap", load);
}

async function fetchRows(address, wanted) {
  while (wanted()) {
    try {
      const answer = await fetch(address, { cache: "no-store" });
      if (answer.ok) {
        const rows = await answer.json();
        return wanted() ? rows : null;
      }
    } catch {
      // The server is away: the stream will say so, here it only needs another try.
    }
    await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
  }
  return null;
}
