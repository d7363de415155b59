/**
 * Receives what happens; tells those who listen to the page rather than see it.
 *
 * The first change is said at once, later ones are summed up, the longer they go on the more rarely:
 * or a busy day would be one long speech. A state of the page does not wait for them.
 */

import { bulkWords, countKinds, isBulk, number, parts, who } from "./words.js";

/** @typedef {import("./types.js").Change} Change */

const PAUSES_MS = [10_000, 30_000, 60_000, 300_000];

let state = "";
let reRead = "";
let count = 0;
let bulk = { created: 0, updated: 0, deleted: 0 };
let last = /** @type {Change|null} */ (null);

let spokeAt = -Infinity;
let toldAt = -Infinity;
let pause = 0;
/** Whether news came during the pause: then the next one is longer. */
let goesOn = false;
let timer = 0;

/**
 * A state of the page; a newer one takes its place if it was not said yet.
 * @param {string} text
 */
export function announce(text) {
  state = text;
  plan();
}

/** @param {Change[]} more */
export function announceChanges(more) {
  count += more.length;
  const counted = countKinds(more.filter(isBulk));
  for (const kind of Object.keys(bulk)) bulk[kind] += counted[kind];
  last = more.at(-1) ?? last;
  planNews();
}

/**
 * The page was too far behind to say what has changed one by one.
 * @param {string} text what there is to say of it; may be empty
 */
export function announceReRead(text) {
  if (!text) return;
  reRead = text;
  planNews();
}

function planNews() {
  goesOn ||= performance.now() < nextNews();
  plan();
}

function plan() {
  clearTimeout(timer);
  const due = Math.min(state ? spokeAt + PAUSES_MS[0] : Infinity, hasNews() ? nextNews() : Infinity);
  if (due < Infinity) timer = setTimeout(speak, due - performance.now());
}

function speak() {
  const said = [state, performance.now() >= nextNews() ? takeNews() : ""].filter(Boolean).join(" ");
  if (said) {
    document.getElementById("announcer").textContent = said;
    spokeAt = performance.now();
    state = "";
  }
  plan();
}

function nextNews() {
  return toldAt + PAUSES_MS[pause];
}

function hasNews() {
  return Boolean(reRead || count);
}

function takeNews() {
  const news = [reRead && `${reRead}.`, summary()].filter(Boolean).join(" ");
  pause = goesOn ? Math.min(pause + 1, PAUSES_MS.length - 1) : 0;
  goesOn = false;
  toldAt = performance.now();
  reRead = "";
  count = 0;
  bulk = { created: 0, updated: 0, deleted: 0 };
  return news;
}

function summary() {
  if (!count || !last) return "";
  if (isBulk(last)) return `${bulkWords(bulk).title}.`;
  const said = `${who(last)}: ${parts(last).map(({ label, value }) => `${label} ${value}`.trim()).join(", ")}.`;
  return count === 1 ? said : `${number(count)} changes, the last ${said}`;
}
