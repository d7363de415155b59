/**
 * Receives changes as they are pushed; hands them to main.js in order, each once, none left out.
 *
 * Cursors have no gaps, so one number says all: a change is the next one, an old one, or proof that
 * something was missed, which is then fetched. One fetch is under way at a time.
 */

/** @typedef {import("./types.js").Change} Change */

/** Further behind than this, reading the page anew is cheaper than replaying. */
const REPLAY_AT_MOST = 1000;
const PAUSE_MS = 250;
const READ_ANEW_PAUSE_MS = 2000;
const RETRY_MS = 3000;

export class Sync {
  #cursor;
  #newest;
  #waiting = /** @type {Map<number, Change>} */ (new Map());
  #fetching = false;
  #retry = 0;
  #changesSince;
  #apply;
  #reload;
  #onError;

  /**
   * @param {object} options
   * @param {number} options.cursor everything up to it is on the page
   * @param {(since: number) => Promise<import("./types.js").ChangesAnswer>} options.changesSince
   * @param {(changes: Change[]) => void} options.apply
   * @param {() => Promise<number>} options.reload renders the page anew; the cursor it then has
   * @param {(error: unknown) => boolean} options.onError whether to try again
   */
  constructor({ cursor, changesSince, apply, reload, onError }) {
    this.#cursor = cursor;
    this.#newest = cursor;
    this.#changesSince = changesSince;
    this.#apply = apply;
    this.#reload = reload;
    this.#onError = onError;
  }

  get cursor() {
    return this.#cursor;
  }

  /**
   * Take what was pushed: changes, or only the news that there are some.
   * @param {number} newest
   * @param {Change[]} changes
   */
  receive(newest, changes = []) {
    this.#newest = Math.max(this.#newest, newest);
    if (this.#newest - this.#cursor <= REPLAY_AT_MOST) this.#keep(changes);
    if (this.#fetching) return;
    this.#advance();
    if (this.#behind()) this.#catchUp();
  }

  /** Ask whether a push was lost, or the service has begun to count anew. */
  check() {
    this.#catchUp();
  }

  #behind() {
    return this.#newest > this.#cursor;
  }

  async #catchUp() {
    if (this.#fetching) return;
    this.#fetching = true;
    clearTimeout(this.#retry);
    try {
      await this.#fetchOnce();
      while (this.#behind()) {
        await pause(PAUSE_MS);
        await this.#fetchOnce();
      }
    } catch (error) {
      if (!this.#onError(error)) return; // #fetching stays: nothing is asked again
      this.#retry = setTimeout(() => this.#catchUp(), RETRY_MS * (1 + Math.random()));
    }
    this.#fetching = false;
  }

  async #fetchOnce() {
    if (this.#newest - this.#cursor > REPLAY_AT_MOST) {
      await this.#readAnew();
      return;
    }
    const since = this.#cursor;
    const answer = await this.#changesSince(since);
    if (answer.newest < since) {
      // The feed is another one: its database was made anew.
      this.#newest = 0;
      this.#waiting.clear();
      await this.#readAnew();
      return;
    }
    if (!answer.complete) {
      await this.#readAnew();
      return;
    }
    this.#newest = Math.max(this.#newest, answer.newest);
    this.#keep(answer.changes);
    this.#advance();
    if (this.#behind() && this.#cursor === since) throw new Error(`no change after ${since}, but ${this.#newest} announced`);
  }

  async #readAnew() {
    this.#cursor = await this.#reload();
    this.#newest = Math.max(this.#newest, this.#cursor);
    this.#advance();
    if (this.#behind()) await pause(READ_ANEW_PAUSE_MS);
  }

  #keep(changes) {
    for (const change of changes) this.#waiting.set(change.cursor, change);
  }

  #advance() {
    const next = [];
    for (let change; (change = this.#waiting.get(this.#cursor + 1)); ) {
      next.push(change);
      this.#cursor = change.cursor;
    }
    for (const cursor of this.#waiting.keys()) {
      if (cursor <= this.#cursor) this.#waiting.delete(cursor);
    }
    if (next.length) this.#apply(next);
  }
}

function pause(ms) {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
