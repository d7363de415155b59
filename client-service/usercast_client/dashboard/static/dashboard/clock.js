/**
 * Receives the service's ticks; shows their time, and tells live.js when they have stopped.
 *
 * What is shown is the service's clock, not the browser's: it stands still when the ticks do. How old
 * a tick is goes by the time since it came, so that no two clocks need agree, or keep going forwards.
 */

import { clockTime, zoneName } from "./times.js";

/** As the service has it for the first paint. */
const STALE_AFTER_MS = Number(document.body.dataset.staleAfterMs);
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
    if (ageMs) this.#heardAt = respondedAt() - Number(ageMs);
    this.#show();
    document.querySelector("#clock .zone").textContent = zoneName();
    setInterval(() => this.#look(), LOOK_EVERY_MS);
    this.#look();
  }

  /** @param {{time: string}} tick */
  tick({ time }) {
    this.#heardAt = performance.now();
    this.#face.dateTime = time;
    this.#show();
    this.#look();
  }

  #look() {
    const ageMs = this.#heardAt === null ? null : performance.now() - this.#heardAt;
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

/** When the service sent this page. */
function respondedAt() {
  const [page] = performance.getEntriesByType("navigation");
  return page ? /** @type {PerformanceNavigationTiming} */ (page).responseStart : performance.now();
}
