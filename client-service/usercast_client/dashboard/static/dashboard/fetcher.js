/**
 * Receives the wish that something be fetched, from sync.js or me.js; sees to when it is.
 *
 * One fetch at a time, at most every two seconds, again if it failed, and then not before its time.
 * What all open pages would fetch at the same moment is spread over the time that the service asks for.
 */

const APART_MS = 2000;
const FIRST_RETRY_MS = 3000;
const LONGEST_RETRY_MS = 30_000;

export class Fetcher {
  /** Over how long to spread what all pages fetch. */
  spreadMs = 0;
  #fetch;
  #onError;
  #fetching = false;
  #failures = 0;
  /** When the next fetch is due; Infinity if nobody wants one. */
  #at = Infinity;
  #notBefore = -Infinity;
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
    const soonest = Math.max(performance.now(), this.#notBefore);
    if (!spread) this.#plan(soonest);
    // Drawn once: the earliest of many draws would come at once.
    else if (this.#at === Infinity) this.#plan(soonest + Math.random() * this.spreadMs);
  }

  /**
   * The service answers again: a fetch that failed need not wait any longer.
   * @param {object} how
   * @param {boolean} how.spread whether all other pages find it back, too
   */
  retry({ spread }) {
    if (!this.#failures) return;
    this.#failures = 0;
    if (this.#fetching) return;
    this.#notBefore = -Infinity;
    this.#at = Infinity;
    this.ask({ spread });
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
    if (at >= this.#at) return;
    this.#at = at;
    this.#arm();
  }

  #arm() {
    clearTimeout(this.#timer);
    if (this.#stopped || this.#fetching || this.#at === Infinity) return;
    this.#timer = setTimeout(() => this.#run(), this.#at - performance.now());
  }

  async #run() {
    this.#at = Infinity;
    this.#fetching = true;
    let pauseMs = APART_MS;
    try {
      await this.#fetch();
      this.#failures = 0;
    } catch (error) {
      this.#onError(error);
      pauseMs = this.#nextDelay();
      this.#at = 0;
    }
    this.#fetching = false;
    this.#notBefore = performance.now() + pauseMs;
    // Asked for meanwhile, or failed: again, but not before.
    this.#at = Math.max(this.#at, this.#notBefore);
    this.#arm();
  }

  #nextDelay() {
    const longest = Math.min(LONGEST_RETRY_MS, FIRST_RETRY_MS * 2 ** this.#failures);
    this.#failures += 1;
    return longest * (0.5 + Math.random() / 2);
  }
}
