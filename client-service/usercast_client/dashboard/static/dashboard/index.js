/** Receives the dashboard as rendered, with its cursor; connects the parts that keep it current from there. */

import { announceChanges, announceReRead } from "./announcer.js";
import { changesSince, rowsNow } from "./api.js";
import { countArrival, recount, showArrivals, startArrivals } from "./arrivals.js";
import { applyToFeed, renewFeed } from "./feed.js";
import { Live } from "./live.js";
import { Strip } from "./strip.js";
import { Sync } from "./sync.js";
import { adoptRows, applyToTable, rows, showCount, table } from "./table.js";
import { localizeAll } from "./times.js";
import { isBootstrap } from "./words.js";

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
  onSpread: (spreadMs) => sync.spread(spreadMs),
  onChanges: (cursor, changes) => sync.receive(cursor, changes),
  onTick: (tick) => {
    strip.tick(tick);
    showCount({ all: tick.users });
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
  showArrivals();
  applyToFeed(changes);
  announceChanges(changes);
  moveTo(sync.cursor);
  if (changes.some(isBootstrap)) sync.readAnew();
}

/** The rows that are shown stay where they are, but as the service has them now. */
async function reload() {
  const shown = table();
  const fresh = await rowsNow(rows().map((row) => row.dataset.id), shown.dataset.cursor);
  localizeAll(fresh);
  if (shown.isConnected) takeOver(fresh);
  // The button was pressed meanwhile: these rows say nothing of those that are there now.
  else sync.readAnew();
  const bulk = renewFeed(fresh);
  const button = showArrivals();
  announceReRead(bulk || (button.endsWith(" new") ? `${button} users` : ""));
  moveTo(cursorOf(fresh));
  return cursorOf(fresh);
}

function takeOver(fresh) {
  const { count, arrived } = fresh.getElementById("rows").dataset;
  adoptRows(fresh);
  // A feed that was made anew counts from one again.
  if (cursorOf(fresh) < Number(table().dataset.cursor)) table().dataset.cursor = String(cursorOf(fresh));
  recount({ count: Number(count), arrived: arrived ? Number(arrived) : null });
  showCount({ selected: Number(count) });
}

function cursorOf(fresh) {
  return Number(fresh.body.dataset.cursor);
}

/** The cursor stands in the page, for whoever looks at it from outside. */
function moveTo(cursor) {
  document.body.dataset.cursor = String(cursor);
}

live.start();
