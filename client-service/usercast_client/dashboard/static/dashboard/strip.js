/** Receives the service's ticks, from index.js; shows their numbers in the tiles on top. */

import { History } from "./history.js";
import { Sparkline } from "./sparkline.js";
import { timeElement } from "./times.js";
import { ageWords, lagWords, number } from "./words.js";

export class Strip {
  #history = new History(JSON.parse(document.getElementById("sparkline").dataset.history));
  #sparkline = new Sparkline(this.#history.lags);

  /** @param {import("./types.js").Tick} tick */
  tick(tick) {
    this.#history.add(tick.bucket);
    this.#sparkline.show(this.#history.lags);
    show("lag", lagWords(tick.lag_ms));
    show("worst", lagWords(this.#history.worst));
    showTime("newest", tick.applied_at);
    show("users", number(tick.users));
    show("active", number(tick.active));
    show("rate", number(tick.changes_per_minute));
    show("dead", number(tick.dead_letters));
    document.getElementById("dead").classList.toggle("bad", Boolean(tick.dead_letters));
  }

  /** @param {number|null} ageMs how old the last tick is */
  heartbeat(ageMs) {
    show("heartbeat", ageWords(ageMs));
  }
}

function show(name, text) {
  const element = document.querySelector(`[data-total="${name}"]`);
  if (element.textContent !== text) element.textContent = text;
}

function showTime(name, rfc3339) {
  const element = document.querySelector(`[data-total="${name}"]`);
  if (!rfc3339 || element.querySelector("time")?.dateTime === rfc3339) return;
  element.replaceChildren(timeElement(rfc3339));
}
