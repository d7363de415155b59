/**
 * Receives what happens; tells those who listen to the page rather than see it.
 *
 * All is summed up, every ten seconds at most, or a busy day would be one long speech.
 */

import { bulkWords, countKinds, isBulk, parts, who } from "./words.js";

/** @typedef {import("./types.js").Change} Change */

const EVERY_MS = 10_000;

let state = "";
let changes = /** @type {Change[]} */ ([]);
let spokeAt = -Infinity;
let timer = 0;

/**
 * A state of the page; a newer one takes its place if it was not said yet.
 * @param {string} text
 */
export function announce(text) {
  state = text;
  speakSoon();
}

/** @param {Change[]} more */
export function announceChanges(more) {
  changes.push(...more);
  speakSoon();
}

function speakSoon() {
  timer ||= setTimeout(speak, Math.max(0, spokeAt + EVERY_MS - Date.now()));
}

function speak() {
  document.getElementById("announcer").textContent = [state, summary()].filter(Boolean).join(" ");
  spokeAt = Date.now();
  timer = 0;
  state = "";
  changes = [];
}

function summary() {
  const last = changes.at(-1);
  if (!last) return "";
  if (isBulk(last)) return `${bulkWords(countKinds(changes)).title}.`;
  const said = `${who(last)}: ${parts(last).map(({ label, value }) => `${label} ${value}`.trim()).join(", ")}.`;
  return changes.length === 1 ? said : `${changes.length} changes, the last ${said}`;
}
