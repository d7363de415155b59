/** Receives the states of the connection and of the clock, from live.js; shows both in one pill. */

import { announce } from "./announcer.js";

/** @typedef {import("./types.js").State} State */

let socket = /** @type {State} */ ({ name: "connecting" });
let stale = { isStale: false, since: "" };
let said = "";

/** @param {State} state */
export function showConnection(state) {
  // Between two attempts nothing is gained by "connecting" for an instant.
  if (state.name === "connecting" && socket.name === "reconnecting") return;
  socket = state;
  show();
}

/** @param {boolean} isStale @param {string} since the last tick's time, as shown */
export function showStale(isStale, since) {
  stale = { isStale, since };
  show();
}

/** What is worst for the reader comes first: no access, old data, no connection. */
function show() {
  const pill = document.getElementById("connection");
  const name = socket.name === "ended" || !stale.isStale ? socket.name : "stale";
  pill.hidden = false;
  pill.dataset.state = name;
  pill.dataset.socket = socket.name;
  document.getElementById("connection-text").replaceChildren(...words(name));
  say(name);
}

function words(name) {
  const left = socket.name === "reconnecting" ? `in ${socket.seconds} s` : "";
  if (name === "reconnecting") return [`reconnecting ${left}`];
  if (name !== "stale") return [name];
  const since = stale.since ? `stale since ${stale.since}` : "stale, no tick yet";
  return left ? [since, retry(`, retry ${left}`)] : [since];
}

function retry(text) {
  const span = document.createElement("span");
  span.className = "retry";
  span.textContent = text;
  return span;
}

function say(name) {
  const speech = { reconnecting: "Connection lost. Reconnecting.", stale: "What is shown may be out of date.", live: "Live again." };
  if (name === said || name === "connecting") return;
  if (speech[name] && !(name === "live" && !said)) announce(speech[name]);
  said = name;
}
