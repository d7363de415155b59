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
/** And be overtaken; but who hears of lower cursors for longer than this has another feed before them. */
const OVERTAKEN_AT_MOST_MS = 2000;

export class Sync {
  #cursor;
  #newest;
  #waiting = /** @type {Map<number, Change>} */ (new Map());
  #fetcher;
  #isAsked = false;
  #anew = false;
  #noticing = 0;
  #lowerSince = Infinity;
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
   * Over how long all pages spread what they fetch.
   * @param {number} spreadMs
   */
  spread(spreadMs) {
    this.#fetcher.spreadMs = spreadMs;
  }

  /**
   * The connection is open, and every change after this cursor will be pushed.
   * @param {import("./types.js").Hello} hello
   */
  hello({ cursor, alone }) {
    this.#fetcher.retry({ spread: !alone });
    if (cursor < this.#cursor) this.#isAsked = true;
    else this.#learn(cursor);
    this.#goOn({ spread: !alone });
  }

  /**
   * Take what was pushed: changes, or only the news that there are some.
   * @param {number} newest
   * @param {Change[]} changes
   */
  receive(newest, changes = []) {
    this.#compare(newest);
    this.#learn(newest, changes);
    this.#goOn({ spread: true });
  }

  /**
   * Take the news from a tick that there are changes up to a cursor; their push mostly comes.
   * @param {number} newest
   */
  notice(newest) {
    this.#compare(newest);
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
    clearTimeout(this.#noticing);
    this.#fetcher.stop();
  }

  #learn(newest, changes = []) {
    this.#newest = Math.max(this.#newest, newest);
    if (this.#newest - this.#cursor <= REPLAY_AT_MOST) this.#keep(changes);
  }

  #goOn(how) {
    if (this.#fetcher.isFetching) return; // and then it goes on
    this.#advance();
    if (this.#isBehind() || this.#isAsked) this.#fetcher.ask(how);
  }

  /** The feed can be made anew while the socket stays open; its cursors begin at one again. */
  #compare(newest) {
    const now = performance.now();
    this.#lowerSince = newest < this.#cursor ? Math.min(this.#lowerSince, now) : Infinity;
    if (now - this.#lowerSince < OVERTAKEN_AT_MOST_MS) return;
    this.#lowerSince = Infinity;
    this.check();
  }

  #isBehind() {
    return this.#newest > this.#cursor;
  }

  async #fetch() {
    const tooFar = this.#newest - this.#cursor > REPLAY_AT_MOST;
    const wasAsked = this.#isAsked;
    this.#isAsked = false; // whoever asks from now on wants to know what is after this
    try {
      if (this.#anew || tooFar) await this.#reRead();
      else if (wasAsked || this.#isBehind()) await this.#replay();
    } catch (error) {
      this.#isAsked ||= wasAsked;
      throw error;
    }
    if (this.#isBehind() || this.#anew || this.#isAsked) this.#fetcher.ask({ spread: true });
  }

  async #replay() {
    const answer = await this.#changesSince(this.#cursor, REPLAY_AT_MOST);
    if (!answer.complete) {
      await this.#reRead();
      return;
    }
    this.#learn(answer.newest, answer.changes);
    this.#advance();
  }

  async #reRead() {
    this.#anew = false;
    const before = this.#cursor;
    try {
      this.#cursor = await this.#reload();
    } catch (error) {
      this.#anew = true;
      throw error;
    }
    if (this.#cursor < before) this.#beginAnew();
    this.#newest = Math.max(this.#newest, this.#cursor);
    this.#advance();
  }

  /** The feed is another one: its database was made anew. */
  #beginAnew() {
    this.#newest = this.#cursor;
    this.#waiting.clear();
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
