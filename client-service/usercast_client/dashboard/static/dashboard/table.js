/**
 * Receives changes in order, from index.js; shows them in the rows that are there.
 *
 * Nothing moves under the reader: a row that is gone, or does not belong here any more, says so and
 * stays until the table is read anew; new ones are counted in arrivals.js.
 * The elements are looked up each time: reading the table anew replaces them.
 */

import { flash } from "./marks.js";
import { adopt } from "./regions.js";
import { isNarrowed, isSelected } from "./selection.js";
import { timeElement } from "./times.js";
import { fullName, number } from "./words.js";

/** @typedef {import("./types.js").User} User */

const GONE = { deleted: "deleted", unmatched: "no longer matches" };

/** @param {import("./types.js").Change} change */
export function applyToTable({ user_id, user }) {
  const row = find(user_id);
  if (!row) return;
  if (!user) setGone(row, "deleted");
  else if (isNewer(row, user.version)) update(row, render(user));
}

/**
 * Bring all rows up to date at once.
 * @param {Document} fresh the same rows as the service has them now; a deleted user has none
 */
export function adoptRows(fresh) {
  for (const row of rows()) {
    const now = find(row.dataset.id, fresh);
    if (!now) setGone(row, "deleted");
    else if (isNewer(row, Number(now.dataset.version))) update(row, now);
    else setGone(row, now.dataset.gone ?? "");
  }
}

/**
 * How many users there are in the selection now, as far as somebody knows.
 * @param {object} counts
 * @param {number} [counts.all]
 * @param {number} [counts.selected]
 */
export function showCount({ all, selected }) {
  const count = isNarrowed() ? selected : (selected ?? all);
  const element = document.getElementById("count"); // none above an empty table
  if (element && count !== undefined) element.textContent = number(count);
}

/** The table as it was rendered last, with its selection and its cursor. */
export function table() {
  return document.getElementById("table");
}

/** @returns {HTMLElement[]} */
export function rows() {
  return [...document.querySelectorAll("#rows > tr")];
}

/** @param {string} userId @returns {HTMLElement|null} */
export function find(userId, root = document) {
  return root.querySelector(`#rows > tr[data-id="${CSS.escape(userId)}"]`);
}

/** How many of the rows do not belong here any more. */
export function countGone() {
  return rows().filter((row) => row.dataset.gone).length;
}

/** A deleted user who comes back goes on from the version they had. */
function isNewer(row, version) {
  return Number(row.dataset.version) < version;
}

function update(row, now) {
  row.dataset.version = now.dataset.version;
  setGone(row, "");
  adopt(row, now);
  flash(row);
  setGone(row, now.dataset.gone ?? "");
}

function setGone(row, why) {
  if ((row.dataset.gone ?? "") === why) return;
  row.querySelector(".gone")?.remove();
  delete row.dataset.gone;
  if (!why) return;
  row.dataset.gone = why;
  const note = document.createElement("span");
  note.className = "gone badge";
  note.textContent = GONE[why];
  cell(row, "status").append(note);
}

/** @param {User} user @returns {HTMLElement} a row as the service would render it */
function render(user) {
  const template = /** @type {HTMLTemplateElement} */ (document.getElementById("user-row"));
  const row = /** @type {HTMLElement} */ (template.content.firstElementChild.cloneNode(true));
  row.dataset.id = user.id;
  row.dataset.version = String(user.version);
  if (!isSelected(user)) row.dataset.gone = "unmatched";
  setText(row, "username", user.username).href = `/users/${user.id}/`;
  setText(row, "name", fullName(user));
  setText(row, "email", user.email);
  setText(row, "groups", user.groups.join(", ")).replaceChildren(...user.groups.flatMap((name) => [chip(name), " "]));
  cell(row, "status").replaceChildren(badge(user.is_active));
  cell(row, "version").textContent = String(user.version);
  cell(row, "changed").replaceChildren(timeElement(user.changed_at));
  return row;
}

function setText(row, field, text) {
  const element = cell(row, field).firstElementChild;
  element.textContent = text;
  element.title = text;
  return element;
}

function chip(name) {
  return span("chip", name);
}

function badge(active) {
  return active ? span("badge active", "Active") : span("badge inactive", "Inactive");
}

function span(className, text) {
  const element = document.createElement("span");
  element.className = className;
  element.textContent = text;
  return element;
}

function cell(row, field) {
  return row.querySelector(`[data-field="${field}"]`);
}
