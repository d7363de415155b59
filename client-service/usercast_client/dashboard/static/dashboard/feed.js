/**
 * Receives changes in order, from index.js; puts them on top of the feed, newest first.
 *
 * Bulk writes that follow each other within seconds are one entry that grows, as `live.latest` of the
 * service tells them.
 */

import { flash } from "./marks.js";
import { itemRead, keepingPlace } from "./regions.js";
import { timeElement } from "./times.js";
import { bulkWords, countKinds, isBootstrap, isBulk, lagMs, lagWords, number, parts, who } from "./words.js";

/** @typedef {import("./types.js").Change} Change */

const MOST_ENTRIES = 100;
/** What somebody is reading is not taken away, for as long as that is bearable. */
const MOST_WHILE_READ = 1000;
const SAME_BULK_WITHIN_MS = 10_000;

/** @param {Change[]} changes */
export function applyToFeed(changes) {
  const most = mostEntries();
  keepingPlace(list(), () => {
    // The service may have rendered some of them already.
    for (const change of changes.filter(({ cursor }) => cursor > newest())) {
      if (isBulk(change)) applyBulk(change);
      else list().prepend(entry(change));
      flash(list().firstElementChild);
    }
    while (list().childElementCount > most) list().lastElementChild.remove();
  });
}

/**
 * Take over the latest entries; older ones stay below, for whoever is reading down there.
 * @param {Document} fresh
 * @returns {string} what there is to say of a bulk write that is new on top
 */
export function renewFeed(fresh) {
  const latest = itemsOf(fresh.getElementById("feed"));
  const newestWas = newest();
  const kept = older(latest).slice(0, mostEntries() - latest.length);
  keepingPlace(list(), () => list().replaceChildren(...latest, ...kept));
  const isNewBulk = newest() !== newestWas && latest[0]?.classList.contains("bulk");
  return isNewBulk ? latest[0].querySelector(".who").textContent : "";
}

function mostEntries() {
  return itemRead(list()) ? MOST_WHILE_READ : MOST_ENTRIES;
}

function older(latest) {
  // A feed that ends earlier than ours is another one, made anew.
  if (!latest.length || lastOf(latest[0]) < newest()) return [];
  const from = firstOf(latest.at(-1));
  const kept = itemsOf(list()).filter((item) => lastOf(item) < from);
  const missed = kept.length ? from - 1 - lastOf(kept[0]) : 0;
  return missed ? [gap(lastOf(kept[0]) + 1, from - 1), ...kept] : kept;
}

/** Stands for changes that came too fast to be shown. */
function gap(first, last) {
  const item = fromTemplate("bulk");
  item.className = "change gap";
  Object.assign(item.dataset, { first: String(first), cursor: String(last) });
  item.querySelector(".who").textContent = `${number(last - first + 1)} more, not shown here`;
  return item;
}

/** @param {Change} change */
function entry(change) {
  const item = fromTemplate("change");
  item.classList.add(change.kind);
  item.dataset.cursor = String(change.cursor);
  const link = item.querySelector(".who");
  link.textContent = link.title = who(change);
  if (!isBootstrap(change)) link.href = `/users/${change.user_id}/`;
  item.querySelector(".when").replaceChildren(timeElement(change.changed_at));
  item.querySelector(".parts").replaceChildren(...parts(change).map(partItem));
  item.querySelector(".lag").textContent = lagWords(lagMs(change));
  return item;
}

/** @param {Change} change */
function applyBulk(change) {
  if (!continues(list().firstElementChild, change)) list().prepend(emptyBulk(change.cursor));
  const { dataset } = list().firstElementChild;
  const added = countKinds([change]);
  for (const kind of Object.keys(added)) dataset[kind] = String(Number(dataset[kind]) + added[kind]);
  dataset.cursor = String(change.cursor);
  dataset.appliedAt = change.applied_at;
  dataset.lagMs = String(Math.max(Number(dataset.lagMs), lagMs(change)));
  showBulk(list().firstElementChild);
}

/** @param {HTMLElement|null} top @param {Change} change */
function continues(top, change) {
  if (!top?.classList.contains("bulk")) return false;
  return Date.parse(change.applied_at) - Date.parse(top.dataset.appliedAt) <= SAME_BULK_WITHIN_MS;
}

function emptyBulk(first) {
  const item = fromTemplate("bulk");
  Object.assign(item.dataset, { first: String(first), created: "0", updated: "0", deleted: "0", lagMs: "0" });
  return item;
}

function showBulk(item) {
  const { created, updated, deleted, appliedAt, lagMs: worst } = item.dataset;
  const said = bulkWords({ created: Number(created), updated: Number(updated), deleted: Number(deleted) });
  item.querySelector(".who").textContent = said.title;
  item.querySelector(".when").replaceChildren(timeElement(appliedAt));
  item.querySelector(".parts").replaceChildren(...said.parts.map(partItem));
  item.querySelector(".lag").textContent = `up to ${lagWords(Number(worst))}`;
}

function partItem({ label, value }) {
  const item = document.createElement("li");
  const span = document.createElement("span");
  span.className = "label";
  span.textContent = label;
  item.append(span, value ? ` ${value}` : "");
  return item;
}

function fromTemplate(id) {
  const template = /** @type {HTMLTemplateElement} */ (document.getElementById(id));
  return /** @type {HTMLElement} */ (template.content.firstElementChild.cloneNode(true));
}

function newest() {
  const [top] = itemsOf(list());
  return top ? lastOf(top) : 0;
}

function lastOf({ dataset }) {
  return Number(dataset.cursor);
}

/** Of a single change, its own cursor. */
function firstOf({ dataset }) {
  return Number(dataset.first ?? dataset.cursor);
}

/** @returns {HTMLElement[]} */
function itemsOf(feed) {
  return [...feed.children];
}

function list() {
  return document.getElementById("feed");
}
