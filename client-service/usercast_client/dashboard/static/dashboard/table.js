/**
 * Receives changes in order, from main.js; puts them into the rows of the page that is shown.
 *
 * The elements are looked up each time: reading the page anew replaces them.
 */

import { timeElement } from "./times.js";
import { fullName } from "./words.js";

/** @typedef {import("./types.js").User} User */

const FLASH_MS = 2000;
const LEAVE_MS = 500;

/** @param {import("./types.js").Change} change */
export function applyToTable({ kind, user_id, user }) {
  const row = find(user_id);
  if (!user) {
    if (row) leave(row);
    if (row || !searching()) count(-1);
  } else if (row) {
    update(row, user);
  } else if (!searching()) {
    // Not only a created user: a renamed one may have come here from another page.
    if (belongsHere(user.username)) insert(user);
    if (kind === "created") count(+1);
  }
  showRange();
}

function update(row, user) {
  if (Number(row.dataset.version) >= user.version) return; // the page was newer than its cursor
  const renamed = name(row) !== user.username;
  fill(row, user);
  if (!renamed || searching()) return;
  row.remove();
  if (belongsHere(user.username)) place(row);
}

function insert(user) {
  const template = /** @type {HTMLTemplateElement} */ (document.getElementById("user-row"));
  const row = /** @type {HTMLElement} */ (template.content.firstElementChild.cloneNode(true));
  row.dataset.id = user.id;
  fill(row, user);
  place(row);
  flash(row);
}

function place(row) {
  rows().insertBefore(row, all().find((other) => name(other) > name(row)) ?? null);
  const { pageSize } = table().dataset;
  if (all().length <= Number(pageSize)) return;
  all().at(-1).remove();
  table().dataset.next = "";
}

function leave(row) {
  delete row.dataset.id; // from now on it is nobody's
  row.classList.add("leaving");
  setTimeout(() => {
    row.remove();
    showRange();
  }, LEAVE_MS);
}

/** Whether this username sorts into the page: after its first row, or before its last, unless no page is there. */
function belongsHere(username) {
  const { previous, next } = table().dataset;
  const shown = all();
  if (!shown.length) return previous === undefined && next === undefined;
  const after = previous === undefined || name(shown[0]) < username;
  const before = next === undefined || username < name(shown.at(-1));
  return after && before;
}

/** @param {HTMLElement} row @param {User} user */
function fill(row, user) {
  row.dataset.version = String(user.version);
  setText(row, "username", user.username);
  setText(row, "name", fullName(user));
  setText(row, "email", user.email);
  setGroups(cell(row, "groups"), user.groups);
  setStatus(cell(row, "status"), user.is_active);
  cell(row, "version").textContent = String(user.version);
  cell(row, "changed").replaceChildren(timeElement(user.changed_at));
}

function setText(row, field, text) {
  const span = cell(row, field).firstElementChild;
  if (span.textContent === text) return;
  span.textContent = text;
  span.title = text;
  flash(cell(row, field));
}

function setGroups(target, groups) {
  const shown = [...target.children].map((chip) => chip.textContent);
  if (shown.join("\n") === groups.join("\n")) return;
  target.replaceChildren(
    ...groups.flatMap((group) => {
      const chip = document.createElement("span");
      chip.className = "chip";
      chip.textContent = group;
      return [chip, " "];
    }),
  );
  flash(target);
}

function setStatus(target, active) {
  const badge = target.firstElementChild;
  if (badge.classList.contains("active") === active) return;
  badge.className = `badge ${active ? "active" : "inactive"}`;
  badge.textContent = active ? "Active" : "Inactive";
  flash(target);
}

/** Light an element up for a moment, afresh if it is already lit. */
function flash(element) {
  element.classList.remove("changed");
  void element.offsetWidth; // lets the animation start over
  element.classList.add("changed");
  clearTimeout(flashes.get(element));
  flashes.set(element, setTimeout(() => element.classList.remove("changed"), FLASH_MS));
}

const flashes = new WeakMap();

function count(step) {
  const { dataset } = table();
  dataset.count = String(Math.max(0, Number(dataset.count) + step));
}

function showRange() {
  const { first, count: total, next } = table().dataset;
  const shown = all().length;
  const start = Math.max(1, Number(first));
  document.getElementById("range").textContent = shown ? `${start}–${start + shown - 1} of ${total}` : "";
  document.getElementById("next").hidden = next === undefined;
  document.getElementById("no-users").hidden = rows().childElementCount > 0;
}

function table() {
  return document.getElementById("table");
}

function searching() {
  return table().dataset.searching !== undefined;
}

function rows() {
  return document.getElementById("rows");
}

/** @returns {HTMLElement[]} the rows of users, without those that are leaving */
function all() {
  return [...rows().querySelectorAll("tr[data-id]")];
}

function find(id) {
  return rows().querySelector(`tr[data-id="${CSS.escape(id)}"]`);
}

function cell(row, field) {
  return row.querySelector(`[data-field="${field}"]`);
}

function name(row) {
  return cell(row, "username").textContent;
}
