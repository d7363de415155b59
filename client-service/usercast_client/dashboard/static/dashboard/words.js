/**
 * Receives changes and numbers; hands feed.js, strip.js and announcer.js what to say of them.
 *
 * `entries.py` says the same for the first paint: change both together.
 */

/** @typedef {import("./types.js").Change} Change */
/** @typedef {import("./types.js").Counts} Counts */
/** @typedef {{label: string, value: string}} Part */

const NOTHING = "(none)";
const UNKNOWN = "–";
/** More changes than this in one transaction are a bulk write, told as one. */
export const BULK = Number(document.body.dataset.bulk);
const KINDS = /** @type {const} */ (["created", "updated", "deleted"]);
const grouped = new Intl.NumberFormat("en");

/** @param {Change} change */
export function isBulk({ batch_size }) {
  return batch_size > BULK;
}

/**
 * Whether many users came at once of whom only the number is told.
 * @param {Change} change
 */
export function isBootstrap({ kind }) {
  return kind === "bootstrap";
}

/** @param {Change} change */
export function who(change) {
  if (isBootstrap(change)) return `bootstrap: ${number(change.before.users)} users`;
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
  if (kind === "bootstrap") return [part("created")];
  if (kind !== "updated" || !user) return [part(kind)];
  const said = [];
  if ("is_active" in before) said.push(part(user.is_active ? "activated" : "deactivated"));
  if ("username" in before) said.push(moved("username", before.username, user.username));
  if ("first_name" in before || "last_name" in before) {
    said.push(moved("name", fullName({ ...user, ...before }), fullName(user)));
  }
  if ("email" in before) said.push(moved("e-mail", before.email, user.email));
  if (before.groups) said.push(part("groups", groups(before.groups, user.groups)));
  if ("date_joined" in before) said.push(moved("joining date", day(before.date_joined), day(user.date_joined)));
  return said.length ? said : [part("updated")];
}

/**
 * How many users a bulk write was about, and what became of them if not one thing.
 * @param {Counts} counts
 * @returns {{title: string, parts: Part[]}}
 */
export function bulkWords(counts) {
  const kinds = KINDS.filter((kind) => counts[kind]);
  const total = number(kinds.reduce((sum, kind) => sum + counts[kind], 0));
  if (kinds.length === 1) return { title: `${total} users ${kinds[0]}`, parts: [] };
  return { title: `${total} users changed`, parts: kinds.map((kind) => part(kind, number(counts[kind]))) };
}

/** @param {Change[]} changes @returns {Counts} */
export function countKinds(changes) {
  const counts = { created: 0, updated: 0, deleted: 0 };
  for (const { kind } of changes) counts[kind] += 1;
  return counts;
}

/**
 * The time from the save on the master to this service's copy; 0 when the clocks disagree.
 * @param {Change} change
 */
export function lagMs({ changed_at, applied_at }) {
  return Math.max(0, Math.floor((microseconds(applied_at) - microseconds(changed_at) + 500) / 1000));
}

/** @param {number|null} ms */
export function lagWords(ms) {
  if (ms === null) return UNKNOWN;
  if (ms < 1000) return `${ms} ms`;
  if (ms < 60_000) return `${(Math.floor(ms / 100) / 10).toFixed(1)} s`;
  if (ms < 3_600_000) return `${Math.floor(ms / 60_000)} min`;
  return `${Math.floor(ms / 3_600_000)} h`;
}

/** @param {number|null} ms how long ago something was; null: never */
export function ageWords(ms) {
  if (ms === null) return UNKNOWN;
  if (ms < 2000) return "now";
  if (ms < 60_000) return `${Math.floor(ms / 1000)} s ago`;
  if (ms < 3_600_000) return `${Math.floor(ms / 60_000)} min ago`;
  return `${Math.floor(ms / 3_600_000)} h ago`;
}

/** @param {number|null} count */
export function number(count) {
  return count === null ? UNKNOWN : grouped.format(count);
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

/** The same for all who look, wherever they are: in UTC. */
function day(rfc3339) {
  return new Date(rfc3339).toISOString().slice(0, "YYYY-MM-DD".length);
}

/** Since 1970. A Date has milliseconds only, and the service rounds later. */
function microseconds(rfc3339) {
  const [, fraction = ""] = rfc3339.match(/\.(\d+)/) ?? [];
  const whole = Date.parse(rfc3339.replace(/\.\d+/, ""));
  return whole * 1000 + Number(fraction.padEnd(6, "0").slice(0, 6));
}
