/**
 * Receives what happens, from main.js; tells those who listen to the page rather than see it.
 *
 * Changes are summed up every ten seconds at most, or a busy day would be one long speech.
 */

import { parts, who } from "./words.js";

const EVERY_MS = 10_000;

let unsaid = 0;
let last = "";
let timer = 0;

/** @param {import("./types.js").Change[]} changes */
export function announceChanges(changes) {
  const change = changes.at(-1);
  unsaid += changes.length;
  last = `${who(change)}: ${parts(change).map(({ label, value }) => `${label} ${value}`.trim()).join(", ")}`;
  timer ||= setTimeout(sumUp, EVERY_MS);
}

/** @param {string} text */
export function announce(text) {
  document.getElementById("announcer").textContent = text;
}

function sumUp() {
  announce(unsaid === 1 ? last : `${unsaid} changes, the last ${last}`);
  timer = 0;
  unsaid = 0;
}
