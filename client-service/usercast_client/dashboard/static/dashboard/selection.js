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
  if (changed && !(Date.parse(user.changed_at) >= Date.now() - WITHIN_MS[changed])) return false;
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

export function isLatestFirst() {
  return selection().sort === "-changed" && !new URLSearchParams(location.search).has("page");
}

function selection() {
  return document.getElementById("table").dataset;
}

/** As PostgreSQL does it, letter by letter: none becomes two. */
function upper(text) {
  return [...text].map((letter) => (letter.toUpperCase().length === letter.length ? letter.toUpperCase() : letter)).join("");
}
