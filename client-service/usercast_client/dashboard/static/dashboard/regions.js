/**
 * Receives what the service renders now, in parts; puts each in the place of what is shown.
 *
 * Whoever has the focus in there has it afterwards; what was read stays where it was.
 */

import { markChanged } from "./marks.js";

/** Of these fields of a record one expects it. */
const ALWAYS_CHANGE = ["version", "changed"];

/**
 * Swap an element for the one with the same id.
 * @param {string} id
 * @param {Document} fresh
 */
export function swap(id, fresh) {
  keepingFocus(() => document.getElementById(id).replaceWith(fresh.getElementById(id)));
}

/**
 * Take over each `[data-field]` whose text is another one, and mark it.
 * @param {Element} shown
 * @param {Element} fresh
 * @returns {boolean} whether anything was marked
 */
export function adopt(shown, fresh) {
  let marked = false;
  keepingFocus(() => {
    for (const cell of fresh.querySelectorAll("[data-field]")) {
      const { field } = cell.dataset;
      const target = shown.querySelector(`[data-field="${field}"]`);
      if (!target || text(target) === text(cell)) continue;
      target.replaceChildren(...cell.childNodes);
      if (ALWAYS_CHANGE.includes(field)) continue;
      markChanged(target);
      marked = true;
    }
  });
  return marked;
}

/**
 * Change a list that grows at its top; who has scrolled past it goes on reading the same entry.
 * @param {HTMLElement} list
 * @param {() => void} change
 */
export function keepingPlace(list, change) {
  const read = itemRead(list);
  const before = read?.getBoundingClientRect().top;
  keepingFocus(change);
  if (!read) return;
  const now = read.isConnected ? read : covering(list, Number(read.dataset.cursor));
  if (now) scrollerOf(list).scrollBy(0, now.getBoundingClientRect().top - before);
}

/**
 * The topmost entry that is in sight; null for the first, as whoever sees it wants to see what comes.
 * @param {HTMLElement} list
 * @returns {HTMLElement|null}
 */
export function itemRead(list) {
  const top = scrollerOf(list).getBoundingClientRect?.().top ?? 0;
  const read = /** @type {HTMLElement[]} */ ([...list.children]).find((item) => item.getBoundingClientRect().bottom > top);
  return !read || read === list.firstElementChild ? null : read;
}

/** The entry for a change, if not by itself then among others. */
function covering(list, cursor) {
  return [...list.children].find(({ dataset }) => Number(dataset.first ?? dataset.cursor) <= cursor && cursor <= Number(dataset.cursor));
}

/** @param {() => void} change */
function keepingFocus(change) {
  const focused = document.activeElement;
  const find = finder(focused);
  change();
  if (!focused.isConnected) find()?.focus({ preventScroll: true });
}

/** How to find an element again once it is another one. */
function finder(element) {
  const { id } = element;
  const href = element.getAttribute("href");
  const place = element.closest("[id]")?.id;
  if (id) return () => document.getElementById(id);
  if (!href) return () => null;
  const selector = `a[href="${CSS.escape(href)}"]`;
  return () => document.querySelector(place ? `#${CSS.escape(place)} ${selector}` : selector);
}

function scrollerOf(list) {
  const parent = list.parentElement;
  return parent.scrollHeight > parent.clientHeight ? parent : window;
}

function text(element) {
  return element.textContent.split(/\s+/).join(" ").trim();
}
