/** Receives the dashboard as rendered, with its cursor; connects the parts that keep it current from there. */

import { announceChanges } from "./announcer.js";
import { changesSince, rowsNow } from "./api.js";
import { countArrival, recount, startArrivals } from "./arrivals.js";
import { applyToFeed, swapFeed } from "./feed.js";
import { Live } from "./live.js";
import { Strip } from "./strip.js";
import { Sync } from "./sync.js";
import { adoptRows, applyToTable, rows } from "./table.js";
import { localizeAll } from "./times.js";

const strip = new Strip();

const sync = new Sync({
  cursor: Number(document.body.dataset.cursor),
  changesSince,
  apply,
  reload,
  onError: (error) => live.onError(error),
});

const live = new Live({
  path: "/ws/live/",
  onHello: (hello) => sync.hello(hello),
  onChanges: (cursor, changes) => sync.receive(cursor, changes),
  onTick: (tick) => {
    strip.tick(tick);
    sync.notice(tick.cursor);
  },
  onAge: (ageMs) => strip.heartbeat(ageMs),
  onDoubt: () => sync.check(),
  onEnded: () => sync.stop(),
});

startArrivals({
  // What was pushed while the page came is not in it.
  onShown: (fresh) => cursorOf(fresh) < sync.cursor && sync.readAnew(),
  onError: (error) => live.onError(error),
});

/** @param {import("./types.js").Change[]} changes */
function apply(changes) {
  for (const change of changes) {
    applyToTable(change);
    countArrival(change);
  }
  applyToFeed(changes);
  announceChanges(changes);
  moveTo(sync.cursor);
}

/** The rows that are shown stay where they are, but as the service has them now. */
async function reload() {
  const fresh = await rowsNow(rows().map((row) => row.dataset.id));
  localizeAll(fresh);
  adoptRows(fresh);
  recount(Number(fresh.getElementById("rows").dataset.count));
  swapFeed(fresh);
  moveTo(cursorOf(fresh));
  return cursorOf(fresh);
}

function cursorOf(fresh) {
  return Number(fresh.body.dataset.cursor);
}

/** The cursor stands in the page, for whoever looks at it from outside. */
function moveTo(cursor) {
  document.body.dataset.cursor = String(cursor);
}

live.start();
