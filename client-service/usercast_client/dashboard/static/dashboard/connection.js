/**
 * Receives the WebSocket's address; hands each frame and each state of the connection to main.js.
 *
 * It reconnects for ever, each time later and at a random moment, so that a restarted service is not
 * met by all its pages at once. Only the end of the session ends it.
 */

/**
 * @typedef {{name: "connecting"} | {name: "live"} | {name: "reconnecting", seconds: number} | {name: "ended"}} State
 */

const FIRST_DELAY_MS = 500;
const LONGEST_DELAY_MS = 20_000;
const SESSION_ENDED = [4001, 4003];

export class Connection {
  #url;
  #onFrame;
  #onState;
  #onRefused;
  #socket = /** @type {WebSocket|null} */ (null);
  #failures = 0;
  #timer = 0;
  #ended = false;

  /**
   * @param {object} options
   * @param {string} options.url
   * @param {(frame: any) => void} options.onFrame
   * @param {(state: State) => void} options.onState
   * @param {() => void} options.onRefused the handshake failed; the browser does not tell us why
   */
  constructor({ url, onFrame, onState, onRefused }) {
    this.#url = url;
    this.#onFrame = onFrame;
    this.#onState = onState;
    this.#onRefused = onRefused;
  }

  open() {
    clearTimeout(this.#timer);
    if (this.#ended || this.#socket) return;
    this.#onState({ name: "connecting" });
    const socket = new WebSocket(this.#url);
    this.#socket = socket;
    let opened = false;
    socket.onopen = () => {
      opened = true;
    };
    socket.onmessage = ({ data }) => {
      const frame = JSON.parse(data);
      if (frame.type === "hello") this.#greeted();
      this.#onFrame(frame);
    };
    socket.onclose = ({ code }) => {
      this.#socket = null;
      if (this.#ended) return;
      if (SESSION_ENDED.includes(code)) {
        this.end();
        return;
      }
      this.#waitUntil(Date.now() + this.#nextDelay());
      if (!opened) this.#onRefused();
    };
  }

  /** The session is over: close, say so, and never reconnect. */
  end() {
    if (this.#ended) return;
    this.#ended = true;
    clearTimeout(this.#timer);
    this.#socket?.close();
    this.#onState({ name: "ended" });
  }

  #greeted() {
    this.#failures = 0;
    this.#onState({ name: "live" });
  }

  #nextDelay() {
    const longest = Math.min(LONGEST_DELAY_MS, FIRST_DELAY_MS * 2 ** this.#failures);
    this.#failures += 1;
    return longest * (0.5 + Math.random() / 2);
  }

  #waitUntil(time) {
    const left = time - Date.now();
    if (left <= 0) {
      this.open();
      return;
    }
    this.#onState({ name: "reconnecting", seconds: Math.ceil(left / 1000) });
    this.#timer = setTimeout(() => this.#waitUntil(time), Math.min(1000, left));
  }
}
