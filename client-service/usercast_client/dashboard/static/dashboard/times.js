/** Receives RFC 3339 times; hands on `<time>` elements in the viewer's own zone, exact on hover. */

const exact = new Intl.DateTimeFormat(undefined, { dateStyle: "long", timeStyle: "long" });
const clock = new Intl.DateTimeFormat(undefined, { timeStyle: "medium" });
const day = new Intl.DateTimeFormat(undefined, { day: "numeric", month: "short", hour: "2-digit", minute: "2-digit" });
const date = new Intl.DateTimeFormat(undefined, { dateStyle: "medium" });

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
  for (const element of root.querySelectorAll("time")) localize(element);
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
  if (at.toDateString() === now.toDateString()) return clock.format(at);
  return (at.getFullYear() === now.getFullYear() ? day : date).format(at);
}
