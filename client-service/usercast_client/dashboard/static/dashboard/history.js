/** Receives the clock's buckets of ten seconds; keeps the last ten minutes of them for strip.js and sparkline.js. */

/** @typedef {import("./types.js").Bucket} Bucket */

const BUCKET_SECONDS = 10;
const BUCKETS = 60;

export class History {
  #buckets = /** @type {Map<number, Bucket>} */ (new Map());

  /** @param {Bucket[]} buckets oldest first; where one is missing, nothing changed */
  constructor(buckets) {
    buckets.forEach((bucket) => this.add(bucket));
  }

  /** @param {Bucket} bucket the current one, as it is now */
  add(bucket) {
    const [start] = bucket;
    this.#buckets.delete(start); // so that the newest is the last
    this.#buckets.set(start, bucket);
    for (const old of this.#buckets.keys()) {
      if (old <= start - BUCKETS * BUCKET_SECONDS) this.#buckets.delete(old);
    }
  }

  /** @returns {number|null} the worst lag in ten minutes; null when nothing changed */
  get worst() {
    const lags = this.lags.filter((lag) => lag !== null);
    return lags.length ? Math.max(...lags) : null;
  }

  /** @returns {(number|null)[]} the worst lag of each ten seconds, oldest first */
  get lags() {
    const newest = [...this.#buckets.keys()].at(-1) ?? 0;
    return Array.from({ length: BUCKETS }, (_, index) => {
      const start = newest - (BUCKETS - 1 - index) * BUCKET_SECONDS;
      return this.#buckets.get(start)?.[2] ?? null;
    });
  }
}
