/**
 * Receives a change; hands the feed and the announcer what to say of it.
 *
 * `entries.py` says the same for the first paint: change both together.
 */

/** @typedef {import("./types.js").Change} Change */
/** @typedef {{label: string, value: string}} Part */

const NOTHING = "(none)";

/** @param {Change} change */
export function who(change) {
  return (change.user ?? change.before).username || change.user_id;
}

/** @param {Partial<import("./types.js").User>} user */
export function fullName(user) {
  return `${user.first_name ?? ""} ${user.last_name ?? ""}`.trim();
}

/**
 * What changed, most telling first; never empty.
 * @param {Change} change
 * @returns {Part[]}
 */
export function parts({ kind, user, before }) {
  if (kind !== "updated" || !user) return [part(kind)];
  const said = [];
  if ("is_active" in before) said.push(part(user.is_active ? "activated" : "deactivated"));
  if ("username" in before) said.push(moved("username", before.username, user.username));
  if ("first_name" in before || "last_name" in before) {
    said.push(moved("name", fullName({ ...user, ...before }), fullName(user)));
  }
  if ("email" in before) said.push(moved("e-mail", before.email, user.email));
  if (before.groups) said.push(part("groups", groups(before.groups, user.groups)));
  if ("date_joined" in before) said.push(part("joining date"));
  return said.length ? said : [part("updated")];
}

/**
 * The time from the save on the master to this service's copy; 0 ms when the clocks disagree.
 * @param {Change} change
 */
export function lag(change) {
  const ms = Math.max(0, Math.round(Date.parse(change.applied_at) - Date.parse(change.changed_at)));
  if (ms < 1000) return `${ms} ms`;
  if (ms < 60_000) return `${(Math.floor(ms / 100) / 10).toFixed(1)} s`;
  if (ms < 3_600_000) return `${Math.floor(ms / 60_000)} min`;
  return `${Math.floor(ms / 3_600_000)} h`;
}

function part(label, value = "") {
  return { label, value };
}

function moved(label, old, now) {
  return part(label, `${old || NOTHING} → ${now || NOTHING}`);
}

function groups(old, now) {
  const joined = now.filter((name) => !old.includes(name)).map((name) => `+ ${name}`);
  const left = old.filter((name) => !now.includes(name)).map((name) => `− ${name}`);
  return [...joined, ...left].join(" ");
}
