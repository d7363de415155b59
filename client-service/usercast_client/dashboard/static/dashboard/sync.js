/**
 * Receives changes as they are pushed; hands them to the page in order, each once, none left out.
 *
 * Cursors have no gaps, so one number says all: a change is the next one, an old one, or proof that
 * something was missed, which is then fetched.
 */

import { Fetcher } from "./fetcher.js";

/** @typedef {import("./types.js").Change} Change */

/** Further behind than one answer reaches, reading the page anew is cheaper than replaying. */
const REPLAY_AT_MOST = 200;
/** A tick can overtake the push of the change that it counts. */
const PUSH_COMES_WITHIN_MS = 1000;

export class Sync {
  #cursor;
  #newest;
  #waiting = /** @type {Map<number, Change>} */ (new Map());
  #fetcher;
  #isAsked = false;
  #anew = false;
  #greeted = false;
  #noticing = 0;
  #changesSince;
  #apply;
  #reload;

  /**
   * @param {object} options
   * @param {number} options.cursor everything up to it is on the page
   * @param {(since: number, limit: number) => Promise<import("./types.js").ChangesAnswer>} options.changesSince
   * @param {(changes: Change[]) => void} options.apply
   * @param {() => Promise<number>} options.reload renders the page anew; the cursor it then has
   * @param {(error: unknown) => void} options.onError before it is tried again; may stop() it
   */
  constructor({ cursor, changesSince, apply, reload, onError }) {
    this.#cursor = cursor;
    this.#newest = cursor;
    this.#changesSince = changesSince;
    this.#apply = apply;
    this.#reload = reload;
    this.#fetcher = new Fetcher({ fetch: () => this.#fetch(), onError });
  }

  get cursor() {
    return this.#cursor;
  }

  /**
   * The connection is open, and every change after this cursor will be pushed.
   * @param {{cursor: number, spread_ms: number}} hello
   */
  hello({ cursor, spread_ms }) {
    // The first time this page is alone; later, all pages may have lost the same service.
    this.#fetcher.spreadMs = this.#greeted ? spread_ms : 0;
    this.#greeted = true;
    if (cursor < this.#cursor) this.check();
    else this.receive(cursor);
    this.#fetcher.spreadMs = spread_ms;
  }

  /**
   * Take what was pushed: changes, or only the news that there are some.
   * @param {number} newest
   * @param {Change[]} changes
   */
  receive(newest, changes = []) {
    this.#newest = Math.max(this.#newest, newest);
    if (this.#newest - this.#cursor <= REPLAY_AT_MOST) this.#keep(changes);
    if (this.#fetcher.isFetching) return;
    this.#advance();
    if (this.#isBehind()) this.#fetcher.ask({ spread: true });
  }

  /**
   * Take the news from a tick that there are changes up to a cursor; their push mostly comes.
   * @param {number} newest
   */
  notice(newest) {
    if (newest <= this.#newest || this.#noticing) return;
    this.#noticing = setTimeout(() => {
      this.#noticing = 0;
      if (newest > this.#newest) this.receive(newest);
    }, PUSH_COMES_WITHIN_MS);
  }

  /** Ask whether a push was lost, or the service has begun to count anew. */
  check() {
    this.#isAsked = true;
    this.#fetcher.ask();
  }

  /** Have the page rendered anew. */
  readAnew() {
    this.#anew = true;
    this.#fetcher.ask();
  }

  /** Ask nothing any more. */
  stop() {
    this.#fetcher.stop();
  }

  #isBehind() {
    return this.#newest > this.#cursor;
  }

  async #fetch() {
    const tooFar = this.#newest - this.#cursor > REPLAY_AT_MOST;
    if (this.#anew || tooFar) await this.#reRead();
    else if (this.#isAsked || this.#isBehind()) await this.#replay();
    this.#isAsked = false;
    if (this.#isBehind() || this.#anew) this.#fetcher.ask({ spread: true });
  }

  async #replay() {
    const answer = await this.#changesSince(this.#cursor, REPLAY_AT_MOST);
    if (answer.newest < this.#cursor) {
      // The feed is another one: its database was made anew.
      this.#newest = 0;
      this.#waiting.clear();
    }
    if (!answer.complete) {
      await this.#reRead();
      return;
    }
    this.#newest = Math.max(this.#newest, answer.newest);
    this.#keep(answer.changes);
    this.#advance();
  }

  async #reRead() {
    this.#anew = false;
    try {
      this.#cursor = await this.#reload();
    } catch (error) {
      this.#anew = true;
      throw error;
    }
    this.#newest = Math.max(this.#newest, this.#cursor);
    this.#advance();
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
