/**
 * Receives the service's ticks; shows their time, and tells live.js when they have stopped.
 *
 * What is shown is the service's clock, not the browser's: it stands still when the ticks do. How old
 * a tick is goes by the browser's clock since it came, so that the two need not agree.
 */

import { clockTime, zoneName } from "./times.js";

/** Five ticks were missed; strip.py says the same at first paint. */
const STALE_AFTER_MS = 2500;
const LOOK_EVERY_MS = 250;

export class Clock {
  #face = document.querySelector("#clock time");
  #heardAt = /** @type {number|null} */ (null);
  #isStale = /** @type {boolean|null} */ (null);
  #onStale;
  #onAge;

  /**
   * @param {object} options
   * @param {(isStale: boolean, since: string) => void} options.onStale when it stops or goes on; at first
   *   too. `since`: the time of the last tick, empty if there was none
   * @param {(ageMs: number|null) => void} options.onAge several times a second; null: there was no tick
   */
  constructor({ onStale, onAge }) {
    this.#onStale = onStale;
    this.#onAge = onAge;
  }

  /** Go on from the first paint. */
  start() {
    const { ageMs } = document.getElementById("clock").dataset;
    if (ageMs) this.#heardAt = Date.now() - Number(ageMs) - sinceResponse();
    this.#show();
    document.querySelector("#clock .zone").textContent = zoneName();
    setInterval(() => this.#look(), LOOK_EVERY_MS);
    this.#look();
  }

  /** @param {{time: string}} tick */
  tick({ time }) {
    this.#heardAt = Date.now();
    this.#face.dateTime = time;
    this.#show();
    this.#look();
  }

  #look() {
    const ageMs = this.#heardAt === null ? null : Date.now() - this.#heardAt;
    const isStale = ageMs === null || ageMs > STALE_AFTER_MS;
    if (isStale !== this.#isStale) this.#onStale(isStale, this.#time());
    this.#isStale = isStale;
    this.#onAge(ageMs);
  }

  #show() {
    const time = this.#time();
    if (time && this.#face.textContent !== time) this.#face.textContent = time;
  }

  #time() {
    return this.#face.dateTime ? clockTime(this.#face.dateTime) : "";
  }
}

/** How long ago the service sent this page. */
function sinceResponse() {
  const [page] = performance.getEntriesByType("navigation");
  return page ? performance.now() - /** @type {PerformanceNavigationTiming} */ (page).responseStart : 0;
}
