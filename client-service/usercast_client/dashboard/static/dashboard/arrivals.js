/**
 * Receives changes in order, from index.js; counts the users whom the table would show now and does
 * not, in a button above the rows, and reads the table anew when it is pressed.
 */

import { thisPage } from "./api.js";
import { flash } from "./marks.js";
import { swap } from "./regions.js";
import { isLatestFirst, isSelected, latestFirst } from "./selection.js";
import { countGone, find } from "./table.js";
import { localizeAll } from "./times.js";
import { number } from "./words.js";

const arrived = /** @type {Set<string>} */ (new Set());
/** Of bulk writes only the number is known. */
let unnamed = 0;

/** @param {import("./types.js").Change} change */
export function countArrival({ kind, user_id, user, before }) {
  if (!user || find(user_id) || !isSelected(user)) arrived.delete(user_id);
  // When somebody changed last is not among the old values, so with that filter all count as new.
  else if (kind === "created" || !isSelected({ ...user, changed_at: undefined, ...before })) arrived.add(user_id);
  show();
}

/**
 * The table has been compared with the service's.
 * @param {number} count how many users the selection has now
 */
export function recount(count) {
  const total = Math.max(0, count - Number(table().dataset.count) + countGone());
  if (total < arrived.size) arrived.clear(); // some have gone again, and nobody said who
  unnamed = total - arrived.size;
  show();
}

/**
 * @param {object} page
 * @param {(fresh: Document) => void} page.onShown the table is as this page has it
 * @param {(error: unknown) => void} page.onError
 */
export function startArrivals({ onShown, onError }) {
  button().addEventListener("click", async () => {
    try {
      await showThem(onShown);
    } catch (error) {
      onError(error);
    }
  });
}

async function showThem(onShown) {
  const fresh = await thisPage();
  const news = [...fresh.querySelectorAll("#rows > tr")].filter(isNew);
  if (!news.length && !isLatestFirst()) {
    location.assign(latestFirst());
    return;
  }
  for (const id of ["range", "table"]) swap(id, fresh);
  localizeAll(table());
  reveal(news);
  arrived.clear();
  unnamed = 0;
  show();
  onShown(fresh);
}

/** One who merely moved up from the next page has not changed since the table was read. */
function isNew(row) {
  const changedAt = row.querySelector("[data-field=changed] time").dateTime;
  const isUnknown = !find(row.dataset.id) && Date.parse(changedAt) >= Date.parse(table().dataset.at);
  return arrived.has(row.dataset.id) || (unnamed > 0 && isUnknown);
}

function reveal(news) {
  news.forEach(flash);
  const link = news[0]?.querySelector("a");
  (link ?? document.getElementById("users")).focus({ preventScroll: true });
  news[0]?.scrollIntoView({ block: "nearest" });
}

function show() {
  const count = arrived.size + unnamed;
  const text = count ? `${number(count)} new` : "";
  if (button().textContent === text) return;
  button().textContent = text;
  button().hidden = !count;
}

function table() {
  return document.getElementById("table");
}

function button() {
  return document.getElementById("new-users");
}
