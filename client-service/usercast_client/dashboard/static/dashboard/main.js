/** Receives the page as rendered, with its cursor; connects the parts that keep it current from there. */

import { announceChanges } from "./announcer.js";
import { SessionEnded, changesSince, page, totals } from "./api.js";
import { Connection } from "./connection.js";
import { applyToFeed } from "./feed.js";
import { showConnection } from "./pill.js";
import { applyToSummary, settleTotals } from "./summary.js";
import { Sync } from "./sync.js";
import { applyToTable } from "./table.js";
import { localizeAll } from "./times.js";

const SILENCE_MS = 30_000;
const SETTLE_AFTER_MS = 5000;
const REGIONS = ["summary", "table", "feed", "no-changes"];

let heardAt = Date.now();
let settling = 0;

const sync = new Sync({ cursor: Number(document.body.dataset.cursor), changesSince, apply, reload, onError });

const connection = new Connection({
  url: Object.assign(new URL("/ws/live/", location.href), { protocol: location.protocol.replace("http", "ws") }).href,
  onFrame,
  onState: showConnection,
  // A refused handshake says nothing; a request tells an ended session from a service that is away.
  onRefused: () => sync.check(),
});

function onFrame({ type, cursor, changes }) {
  heardAt = Date.now();
  if (type === "hello" && cursor < sync.cursor) sync.check();
  else if (type === "hello" || type === "changes" || type === "heartbeat") sync.receive(cursor, changes);
}

/** @param {import("./types.js").Change[]} changes */
function apply(changes) {
  for (const change of changes) {
    applyToTable(change);
    applyToSummary(change);
  }
  applyToFeed(changes);
  announceChanges(changes);
  moveTo(sync.cursor);
  settling ||= setTimeout(settle, SETTLE_AFTER_MS);
}

/** Swap in what the service renders now; the search box and the scroll position stay. */
async function reload() {
  const fresh = await page();
  for (const id of REGIONS) document.getElementById(id).replaceWith(fresh.getElementById(id));
  localizeAll(document);
  const cursor = Number(fresh.body.dataset.cursor);
  moveTo(cursor);
  settling ||= setTimeout(settle, SETTLE_AFTER_MS);
  return cursor;
}

async function settle() {
  settling = 0;
  try {
    const counted = await totals();
    if (counted.cursor >= sync.cursor) settleTotals(counted);
    else settling ||= setTimeout(settle, SETTLE_AFTER_MS);
  } catch (error) {
    onError(error);
  }
}

function onError(error) {
  if (error instanceof SessionEnded) {
    connection.end();
    return false;
  }
  console.warn(error);
  return true;
}

/** The cursor stands in the page, for whoever looks at it from outside. */
function moveTo(cursor) {
  document.body.dataset.cursor = String(cursor);
}

/** A push can be lost without a trace, and a connection be dead without knowing: in silence, ask. */
function checkIfSilent() {
  if (Date.now() - heardAt < SILENCE_MS) return;
  heardAt = Date.now();
  sync.check();
}

function comeBack() {
  if (document.hidden) return;
  connection.open();
  sync.check();
}

localizeAll(document);
setInterval(() => localizeAll(document), 60_000);
setInterval(checkIfSilent, SILENCE_MS / 3);
document.addEventListener("visibilitychange", comeBack);
addEventListener("online", comeBack);
connection.open();
