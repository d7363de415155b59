/**
 * Receives changes in order, from index.js; counts the users whom the table would show now and does
 * not, in a button above the rows, and reads the table anew when it is pressed.
 *
 * `arrivals.py` counts the same for a page that has missed changes.
 */

import { thisPage } from "./api.js";
import { flash } from "./marks.js";
import { swap } from "./regions.js";
import { isLatestFirst, isSelected, latestFirst } from "./selection.js";
import { countGone, find, table } from "./table.js";
import { localizeAll } from "./times.js";
import { number } from "./words.js";

const SECOND_PRESS_WITHIN_MS = 700;

/** Who has arrived, and whether the service counts them as well, when it is asked. */
const arrived = /** @type {Map<string, boolean>} */ (new Map());
/** Of those whom the service has counted, only the number is known. */
let unnamed = 0;
let isFetching = false;
let hasFailed = false;

/** @param {import("./types.js").Change} change */
export function countArrival({ cursor, kind, user_id, user, before }) {
  if (cursor <= Number(table().dataset.cursor)) return; // the table was rendered after it
  if (!user || find(user_id) || !isSelected(user)) arrived.delete(user_id);
  else if (kind === "created" || isLatestFirst()) arrived.set(user_id, true);
  // A service of an older version does not tell when somebody had changed last.
  else if (!isSelected({ ...user, changed_at: undefined, ...before })) arrived.set(user_id, false);
}

/**
 * The table has been compared with the service's.
 * @param {object} now
 * @param {number} now.count how many users the selection has
 * @param {number|null} now.arrived how many of them came after the table was rendered; null: not known
 */
export function recount(now) {
  for (const [userId, isCounted] of arrived) if (isCounted) arrived.delete(userId);
  unnamed = now.arrived ?? Math.max(0, now.count - Number(table().dataset.count) + countGone() - arrived.size);
}

/** @returns {string} what the button says */
export function showArrivals() {
  const text = words();
  if (button().textContent !== text) button().textContent = text;
  button().hidden = !text;
  button().classList.toggle("primary", countNew() > 0);
  return text;
}

/**
 * @param {object} page
 * @param {(fresh: Document) => void} page.onShown the table is as this page has it
 * @param {(error: unknown) => void} page.onError
 */
export function startArrivals({ onShown, onError }) {
  button().addEventListener("click", async () => {
    // The second press of a double one finds nothing new, and shall lead nowhere.
    if (isFetching || !words()) return;
    setFetching(true);
    try {
      await showThem(onShown);
      hasFailed = false;
    } catch (error) {
      hasFailed = true;
      onError(error);
    }
    setFetching(false);
    showArrivals();
  });
}

async function showThem(onShown) {
  const fresh = await thisPage({ since: table().dataset.cursor });
  const news = [...fresh.querySelectorAll("#rows > tr")].filter(isNew);
  if (countNew() && !news.length && !isLatestFirst()) {
    location.assign(latestFirst());
    return;
  }
  for (const id of ["range", "table"]) swap(id, fresh);
  localizeAll(table());
  reveal(news);
  arrived.clear();
  unnamed = 0;
  onShown(fresh);
}

/** One who merely moved up from the next page is none. */
function isNew(row) {
  const { id } = row.dataset;
  return !find(id) && ("new" in row.dataset || arrived.has(id));
}

function reveal(news) {
  news.forEach(flash);
  const link = news[0]?.querySelector("a");
  (link ?? document.getElementById("users")).focus({ preventScroll: true });
  news[0]?.scrollIntoView({ block: "nearest" });
  if (link) ignoreSecondPress(link);
}

/** Who presses twice means the button, not the row that has the focus since. */
function ignoreSecondPress(link) {
  const ignore = (event) => event.preventDefault();
  link.addEventListener("click", ignore);
  setTimeout(() => link.removeEventListener("click", ignore), SECOND_PRESS_WITHIN_MS);
}

function words() {
  const gone = countGone();
  if (hasFailed) return "could not update, retry";
  if (countNew()) return `${number(countNew())} new`;
  return gone ? `${number(gone)} gone` : "";
}

function countNew() {
  return arrived.size + unnamed;
}

function setFetching(now) {
  isFetching = now;
  // Not `disabled`: that would take the focus away.
  button().setAttribute("aria-disabled", String(now));
  button().setAttribute("aria-busy", String(now));
}

function button() {
  return document.getElementById("new-users");
}
