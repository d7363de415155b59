/**
 * Receives changes in order, and now and then the service's own count, from main.js; keeps the
 * numbers on top.
 *
 * Adding and subtracting is for the moment: what a deleted user was is not always told, and the page
 * may be newer than its cursor. The service's count then settles it.
 */

import { timeElement } from "./times.js";
import { lag } from "./words.js";

/** @param {import("./types.js").Change} change */
export function applyToSummary(change) {
  if (change.cursor > countedTo()) {
    const { kind, user, before } = change;
    const active = Number(user?.is_active ?? false);
    if (kind === "created") add(1, active);
    else if (kind === "deleted") add(-1, -Number(before.is_active ?? false));
    else if ("is_active" in before) add(0, active || -1);
  }
  total("lag").textContent = lag(change);
  total("changed").replaceChildren(timeElement(change.changed_at));
}

/** @param {import("./types.js").Totals} totals */
export function settleTotals({ cursor, users, active }) {
  document.getElementById("summary").dataset.countedTo = String(cursor);
  total("users").textContent = String(users);
  total("active").textContent = String(active);
}

/** Changes up to this cursor are in the numbers already. */
function countedTo() {
  return Number(document.getElementById("summary").dataset.countedTo ?? 0);
}

function add(users, active) {
  total("users").textContent = String(Math.max(0, Number(total("users").textContent) + users));
  total("active").textContent = String(Math.max(0, Number(total("active").textContent) + active));
}

function total(name) {
  return document.querySelector(`[data-total="${name}"]`);
}
