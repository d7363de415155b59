/**
 * Receives a WebSocket's path; hands each frame and each state of the connection to live.js.
 *
 * It reconnects for ever, each time later and at a random moment, so that a restarted service is not
 * met by all its pages at once. Only the end of access ends it. A connection can be dead without
 * knowing, so in silence it asks.
 */

/** @typedef {import("./types.js").State} State */

const FIRST_DELAY_MS = 500;
const LONGEST_DELAY_MS = 20_000;
/** Reconnecting is spread too, but nobody shall wait for long without trying. */
const SPREAD_AT_MOST_MS = 5000;
/** The service ticks twice a second. */
const PING_AFTER_MS = 2500;
const ANSWER_WITHIN_MS = 3000;
const OPEN_WITHIN_MS = 10_000;
const LOOK_EVERY_MS = 500;
const ACCESS_ENDED = 4001;
/** The socket has lived for as long as the service lets one: nothing is amiss. */
const RENEW = 4002;

export class Connection {
  #url;
  #onFrame;
  #onState;
  #onRefused;
  #socket = /** @type {WebSocket|null} */ (null);
  #heardAt = -Infinity;
  #pingedAt = -Infinity;
  #spreadMs = 0;
  #failures = 0;
  #isGreeted = false;
  #timer = 0;
  #ended = false;
  /** Whether this page connects by itself, and not with all others that have lost the service. */
  #alone = true;

  /**
   * @param {object} options
   * @param {string} options.path
   * @param {(frame: any) => void} options.onFrame
   * @param {(state: State) => void} options.onState
   * @param {() => void} options.onRefused the handshake failed; the browser does not tell us why
   */
  constructor({ path, onFrame, onState, onRefused }) {
    const url = new URL(path, location.href);
    url.protocol = url.protocol.replace("http", "ws");
    this.#url = url.href;
    this.#onFrame = onFrame;
    this.#onState = onState;
    this.#onRefused = onRefused;
    setInterval(() => this.#look(), LOOK_EVERY_MS);
  }

  open() {
    clearTimeout(this.#timer);
    if (this.#ended || this.#socket) return;
    this.#onState({ name: "connecting" });
    this.#connect();
  }

  #connect() {
    const socket = new WebSocket(this.#url);
    this.#socket = socket;
    this.#heardAt = performance.now();
    let opened = false;
    socket.onopen = () => {
      opened = true;
    };
    socket.onmessage = ({ data }) => this.#receive(JSON.parse(data));
    socket.onclose = ({ code }) => {
      if (code === ACCESS_ENDED) {
        this.end("not_signed_in");
      } else if (code === RENEW && this.#isGreeted) {
        this.#renew();
      } else {
        this.#lose();
        if (!opened) this.#onRefused();
      }
    };
  }

  #renew() {
    this.#drop();
    this.#alone = true;
    this.#connect();
  }

  get isOpen() {
    return this.#socket?.readyState === WebSocket.OPEN;
  }

  /** The machine slept, or the page was out of sight: make sure of the connection, or try at once. */
  wake() {
    if (this.#socket) this.#ping();
    else this.open();
  }

  /**
   * Access is over: close, say so, and never reconnect.
   * @param {import("./types.js").Reason} reason
   */
  end(reason) {
    if (this.#ended) return;
    this.#ended = true;
    clearTimeout(this.#timer);
    this.#drop();
    this.#onState({ name: "ended", reason });
  }

  #receive(frame) {
    this.#heardAt = performance.now();
    if (frame.type === "ended") {
      this.end(frame.reason);
      return;
    }
    if ("spread_ms" in frame) this.#spreadMs = Math.min(frame.spread_ms, SPREAD_AT_MOST_MS);
    if (frame.type === "hello") this.#greet(frame);
    else this.#onFrame(frame);
  }

  #greet(hello) {
    this.#failures = 0;
    this.#isGreeted = true;
    this.#onState({ name: "live" });
    this.#onFrame({ ...hello, alone: this.#alone });
  }

  #look() {
    if (!this.#socket) return;
    const now = performance.now();
    const isOpening = this.#socket.readyState === WebSocket.CONNECTING;
    const isAsking = this.#pingedAt > this.#heardAt;
    if (isOpening ? now - this.#heardAt > OPEN_WITHIN_MS : isAsking && now - this.#pingedAt > ANSWER_WITHIN_MS) {
      this.#lose();
    } else if (!isAsking && now - this.#heardAt > PING_AFTER_MS) {
      this.#ping();
    }
  }

  #ping() {
    if (this.#socket?.readyState !== WebSocket.OPEN) return;
    this.#pingedAt = performance.now();
    this.#socket.send('{"type":"ping"}');
  }

  #lose() {
    this.#drop();
    this.#alone = false;
    this.#waitUntil(performance.now() + this.#nextDelay());
  }

  /** A dead connection's close takes its time, and is not waited for. */
  #drop() {
    const socket = this.#socket;
    if (!socket) return;
    this.#socket = null;
    this.#isGreeted = false;
    socket.onopen = socket.onmessage = socket.onclose = null;
    socket.close();
  }

  #nextDelay() {
    const longest = Math.min(LONGEST_DELAY_MS, FIRST_DELAY_MS * 2 ** this.#failures);
    this.#failures += 1;
    return longest * (0.5 + Math.random() / 2) + Math.random() * this.#spreadMs;
  }

  #waitUntil(time) {
    const left = time - performance.now();
    if (left <= 0) {
      this.open();
      return;
    }
    this.#onState({ name: "reconnecting", seconds: Math.ceil(left / 1000) });
    this.#timer = setTimeout(() => this.#waitUntil(time), Math.min(1000, left));
  }
}
