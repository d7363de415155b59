/** Receives RFC 3339 times; hands on `<time>` elements in the viewer's own zone, exact on hover. */

const exact = new Intl.DateTimeFormat(undefined, { dateStyle: "long", timeStyle: "long" });
const today = new Intl.DateTimeFormat(undefined, { timeStyle: "medium" });
const day = new Intl.DateTimeFormat(undefined, { day: "numeric", month: "short", hour: "2-digit", minute: "2-digit" });
const date = new Intl.DateTimeFormat(undefined, { dateStyle: "medium" });
const clock = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", second: "2-digit" });
const zone = new Intl.DateTimeFormat("en-GB", { timeZoneName: "short" });

/** @param {string} rfc3339 */
export function timeElement(rfc3339) {
  const element = document.createElement("time");
  element.dateTime = rfc3339;
  localize(element);
  return element;
}

/**
 * Say each time below `root` by the viewer's clock. Again after midnight: "14:03" is today's only.
 * @param {ParentNode} root
 */
export function localizeAll(root) {
  for (const element of root.querySelectorAll("time:not(#clock time)")) localize(element);
}

/** @param {string} rfc3339 @returns {string} HH:MM:SS */
export function clockTime(rfc3339) {
  return clock.format(new Date(rfc3339));
}

/** What the viewer's zone is called now. */
export function zoneName() {
  return zone.formatToParts(new Date()).find(({ type }) => type === "timeZoneName")?.value ?? "";
}

/** @param {HTMLTimeElement} element */
function localize(element) {
  const at = new Date(element.dateTime);
  if (Number.isNaN(at.getTime())) return;
  element.title = exact.format(at);
  const text = short(at, new Date());
  if (element.textContent !== text) element.textContent = text;
}

function short(at, now) {
  if (at.toDateString() === now.toDateString()) return today.format(at);
  return (at.getFullYear() === now.getFullYear() ? day : date).format(at);
}
