/** Receives changes in order, from main.js; puts them on top of the feed, newest first. */

import { timeElement } from "./times.js";
import { lag, parts, who } from "./words.js";

/** @typedef {import("./types.js").Change} Change */

const MOST_ENTRIES = 100;

/** @param {Change[]} changes */
export function applyToFeed(changes) {
  const list = document.getElementById("feed");
  list.prepend(...changes.slice(-MOST_ENTRIES).reverse().map(entry));
  while (list.childElementCount > MOST_ENTRIES) list.lastElementChild.remove();
  document.getElementById("no-changes").hidden = true;
}

/** @param {Change} change */
function entry(change) {
  const template = /** @type {HTMLTemplateElement} */ (document.getElementById("change"));
  const item = /** @type {HTMLElement} */ (template.content.firstElementChild.cloneNode(true));
  item.classList.add(change.kind, "new");
  item.dataset.cursor = String(change.cursor);
  const name = item.querySelector(".who");
  name.textContent = who(change);
  name.title = who(change);
  item.querySelector(".when").replaceChildren(timeElement(change.changed_at));
  item.querySelector(".parts").replaceChildren(...parts(change).map(partItem));
  item.querySelector(".lag").textContent = lag(change);
  return item;
}

function partItem({ label, value }) {
  const item = document.createElement("li");
  const span = document.createElement("span");
  span.className = "label";
  span.textContent = label;
  item.append(span, value ? ` ${value}` : "");
  return item;
}
