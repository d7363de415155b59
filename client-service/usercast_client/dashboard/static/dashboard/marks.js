/** Receives elements that have just changed; marks them, and takes the mark off after a while. */

const ROW_MS = 2000;
const FIELD_MS = 8000;

const timers = /** @type {WeakMap<Element, number>} */ (new WeakMap());

/** A whole row or entry, briefly. @param {Element} element */
export function flash(element) {
  mark(element, "flashed", ROW_MS);
}

/** What has changed in it, for some seconds longer. @param {Element} element */
export function markChanged(element) {
  mark(element, "changed", FIELD_MS);
}

function mark(element, name, ms) {
  clearTimeout(timers.get(element));
  element.classList.remove(name);
  void element.offsetWidth; // lets the animation start over
  element.classList.add(name);
  timers.set(element, setTimeout(() => element.classList.remove(name), ms));
}
