/**
 * Receives a page's socket; keeps the connection, the clock and the end of access, which all pages
 * share, and hands the rest to the page: index.js, user.js or me.js.
 */

import { AccessEnded } from "./api.js";
import { showEnded } from "./banner.js";
import { Clock } from "./clock.js";
import { Connection } from "./connection.js";
import { showConnection, showStale } from "./pill.js";
import { localizeAll } from "./times.js";

const MINUTE_MS = 60_000;
/** A request is refused without a reason; an open socket is told one, perhaps a moment later. */
const REASON_COMES_WITHIN_MS = 2000;

export class Live {
  #connection;
  #clock;
  #onEnded;
  #onDoubt;
  #isOver = false;
  #wasStale = false;

  /**
   * @param {object} page
   * @param {string} page.path the socket's
   * @param {(hello: import("./types.js").Hello) => void} page.onHello
   * @param {(spreadMs: number) => void} page.onSpread over how long to spread what all pages would fetch
   * @param {(cursor: number, changes: import("./types.js").Change[]) => void} page.onChanges
   * @param {(tick: import("./types.js").Tick) => void} page.onTick
   * @param {(ageMs: number|null) => void} [page.onAge] how old the last tick is, several times a second
   * @param {() => void} page.onDoubt something may have been missed, or access have ended: ask by REST
   * @param {() => void} page.onEnded ask nothing any more
   */
  constructor({ path, onHello, onSpread, onChanges, onTick, onAge = () => {}, onDoubt, onEnded }) {
    this.#onEnded = onEnded;
    this.#onDoubt = onDoubt;
    const handlers = {
      hello: (hello) => {
        onSpread(hello.spread_ms);
        onHello(hello);
      },
      spread: ({ spread_ms }) => onSpread(spread_ms),
      changes: ({ cursor, changes }) => onChanges(cursor, changes),
      tick: (tick) => {
        this.#clock.tick(tick);
        onTick(tick);
      },
    };
    this.#connection = new Connection({
      path,
      onFrame: (frame) => handlers[frame.type]?.(frame),
      onState: (state) => this.#onState(state),
      // A refused handshake says nothing; a request tells ended access from a service that is away.
      onRefused: onDoubt,
    });
    this.#clock = new Clock({ onStale: (isStale, since) => this.#onStale(isStale, since), onAge });
  }

  /** Go on from the first paint. */
  start() {
    localizeAll(document);
    setInterval(() => localizeAll(document), MINUTE_MS);
    this.#clock.start();
    document.addEventListener("visibilitychange", () => document.hidden || this.#wake());
    addEventListener("online", () => this.#wake());
    addEventListener("pageshow", ({ persisted }) => persisted && this.#wake());
    this.#connection.open();
  }

  /**
   * What a request failed with: the end of access is taken as such, anything else passes.
   * @param {unknown} error
   */
  onError(error) {
    if (this.#isOver) return; // what was still being asked is of no interest any more
    if (!(error instanceof AccessEnded)) console.warn(error);
    else if (!this.#connection.isOpen) this.#connection.end(error.reason);
    else setTimeout(() => this.#connection.end(error.reason), REASON_COMES_WITHIN_MS);
  }

  #wake() {
    this.#connection.wake();
    this.#onDoubt();
  }

  #onState(state) {
    showConnection(state);
    if (state.name !== "ended") return;
    this.#isOver = true;
    showEnded(state.reason);
    this.#onEnded();
  }

  /** While the ticks were away, pushes may have been lost with them. */
  #onStale(isStale, since) {
    showStale(isStale, since);
    if (this.#wasStale && !isStale) this.#onDoubt();
    this.#wasStale = isStale;
  }
}
