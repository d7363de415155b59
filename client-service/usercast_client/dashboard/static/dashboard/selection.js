/**
 * Receives a user; tells table.js and arrivals.js whether the table, as it was searched and filtered,
 * is to show them.
 *
 * `selection.py` decides the same for all users: change both together.
 */

const HOUR_MS = 3_600_000;
const WITHIN_MS = { hour: HOUR_MS, day: 24 * HOUR_MS, week: 7 * 24 * HOUR_MS };
const FIELDS = /** @type {const} */ (["username", "email", "first_name", "last_name"]);

/** @param {Partial<import("./types.js").User>} user what is not known of them does not match */
export function isSelected(user) {
  const { q, active, group, changed } = selection();
  if (active && user.is_active !== (active === "yes")) return false;
  if (group && !user.groups?.includes(group)) return false;
  if (changed && !(Date.parse(user.changed_at) >= serviceNow() - WITHIN_MS[changed])) return false;
  const texts = FIELDS.map((field) => upper(user[field] ?? ""));
  return q.split(/\s+/).every((word) => texts.some((text) => text.includes(upper(word))));
}

/** The same selection, with whoever changed last on top. */
export function latestFirst() {
  const query = new URLSearchParams(location.search);
  query.delete("page");
  query.set("sort", "-changed");
  return `?${query}`;
}

/** Whether whoever changes now belongs on top of this very page. */
export function isLatestFirst() {
  const page = new URLSearchParams(location.search).get("page") ?? "1";
  return selection().sort === "-changed" && page === "1";
}

/** Whether it leaves anybody out. */
export function isNarrowed() {
  const { q, active, group, changed } = selection();
  return Boolean(q || active || group || changed);
}

/** By the last tick: the viewer's clock may be wrong. */
function serviceNow() {
  const { dateTime } = /** @type {HTMLTimeElement} */ (document.querySelector("#clock time"));
  return dateTime ? Date.parse(dateTime) : Date.now();
}

function selection() {
  return document.getElementById("table").dataset;
}

/** As PostgreSQL does it, letter by letter: none becomes two. */
function upper(text) {
  return [...text].map((letter) => (letter.toUpperCase().length === letter.length ? letter.toUpperCase() : letter)).join("");
}
