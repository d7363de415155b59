/**
 * Receives the wish that something be fetched, from sync.js or me.js; sees to when it is.
 *
 * One fetch at a time, at most every two seconds, again if it failed. What all open pages would fetch
 * at the same moment is spread over the time that the service asks for.
 */

const APART_MS = 2000;
const FIRST_RETRY_MS = 3000;
const LONGEST_RETRY_MS = 30_000;

export class Fetcher {
  /** Over how long to spread what all pages fetch. */
  spreadMs = 0;
  #fetch;
  #onError;
  #fetchedAt = -Infinity;
  #fetching = false;
  #failures = 0;
  #at = Infinity;
  #timer = 0;
  #stopped = false;

  /**
   * @param {object} options
   * @param {() => Promise<void>} options.fetch
   * @param {(error: unknown) => void} options.onError before it is tried again; may stop() it
   */
  constructor({ fetch, onError }) {
    this.#fetch = fetch;
    this.#onError = onError;
  }

  /**
   * Have it fetched; a fetch that is under way began too early to count.
   * @param {object} [how]
   * @param {boolean} [how.spread] whether all other pages want to, too
   */
  ask({ spread = false } = {}) {
    const soonest = Math.max(Date.now(), this.#fetchedAt + APART_MS);
    this.#plan(soonest + (spread ? Math.random() * this.spreadMs : 0));
  }

  /** Fetch nothing any more. */
  stop() {
    this.#stopped = true;
    clearTimeout(this.#timer);
  }

  get isFetching() {
    return this.#fetching;
  }

  #plan(at) {
    if (this.#stopped || at >= this.#at) return;
    this.#at = at;
    clearTimeout(this.#timer);
    if (!this.#fetching) this.#timer = setTimeout(() => this.#run(), at - Date.now());
  }

  async #run() {
    this.#at = Infinity;
    this.#fetching = true;
    try {
      await this.#fetch();
      this.#failures = 0;
    } catch (error) {
      this.#onError(error);
      this.#plan(Date.now() + this.#nextDelay());
    }
    this.#fetching = false;
    this.#fetchedAt = Date.now();
    const next = Math.max(this.#at, this.#fetchedAt + APART_MS);
    this.#at = Infinity;
    if (Number.isFinite(next)) this.#plan(next);
  }

  #nextDelay() {
    const longest = Math.min(LONGEST_RETRY_MS, FIRST_RETRY_MS * 2 ** this.#failures);
    this.#failures += 1;
    return longest * (0.5 + Math.random() / 2);
  }
}
