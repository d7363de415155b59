/** Receives the states of the connection and of the clock, from live.js; shows both in one pill. */

import { announce } from "./announcer.js";

/** @typedef {import("./types.js").State} State */

/** Most attempts succeed or fail within an instant, in which nothing is gained by saying so. */
const ATTEMPT_SHOWN_AFTER_MS = 700;

let socket = /** @type {State} */ ({ name: "connecting" });
let stale = { isStale: false, since: "" };
/** Whether connecting takes so long that it is said. */
let isTrying = false;
let timer = 0;
let said = "";

/** @param {State} state */
export function showConnection(state) {
  clearTimeout(timer);
  isTrying = false;
  if (state.name !== "connecting") socket = state;
  else timer = setTimeout(() => showAttempt(state), ATTEMPT_SHOWN_AFTER_MS);
  show();
}

/** @param {boolean} isStale @param {string} since the last tick's time, as shown */
export function showStale(isStale, since) {
  stale = { isStale, since };
  show();
}

function showAttempt(state) {
  socket = state;
  isTrying = true;
  show();
}

/** What is worst for the reader comes first: no access, old data, no connection. */
function show() {
  const pill = document.getElementById("connection");
  const name = socket.name === "ended" || !stale.isStale ? socket.name : "stale";
  pill.hidden = false;
  pill.dataset.state = name;
  pill.dataset.socket = socket.name;
  pill.title = name === "stale" ? staleWords() : "";
  document.getElementById("connection-text").replaceChildren(...words(name));
  say(name);
}

/** What is being done about it is said first; since when it is so, where there is room. */
function words(name) {
  const doing = socket.name === "reconnecting" ? `reconnecting in ${socket.seconds} s` : isTrying ? "connecting…" : "";
  if (name === "stale") return doing ? [doing, aside(`, ${staleWords()}`)] : [staleWords()];
  return [doing || (name === "connecting" ? "connecting…" : name)];
}

function staleWords() {
  return stale.since ? `stale since ${stale.since}` : "stale, no tick yet";
}

function aside(text) {
  const span = document.createElement("span");
  span.className = "aside";
  span.textContent = text;
  return span;
}

function say(name) {
  const speech = { reconnecting: "Connection lost. Reconnecting.", stale: "What is shown may be out of date.", live: "Live again." };
  if (name === said || name === "connecting") return;
  if (speech[name] && !(name === "live" && !said)) announce(speech[name]);
  said = name;
}
