/** Receives the connection's states, from main.js; shows them in the header and announces a loss once. */

import { announce } from "./announcer.js";

let shown = "";

/** @param {import("./connection.js").State} state */
export function showConnection(state) {
  const pill = document.getElementById("connection");
  pill.hidden = false;
  // Between two attempts nothing is gained by "connecting" for an instant.
  const name = state.name === "connecting" && shown === "reconnecting" ? shown : state.name;
  pill.dataset.state = name;
  document.getElementById("connection-text").textContent = words(state);
  document.getElementById("sign-in").hidden = name !== "ended";
  if (name === shown) return;
  if (name === "reconnecting") announce("Connection lost. Reconnecting.");
  if (name === "live" && shown === "reconnecting") announce("Live again.");
  if (name === "ended") announce("Your session has ended. Sign in again.");
  shown = name;
}

function words(state) {
  if (state.name === "reconnecting") return `reconnecting in ${state.seconds} s`;
  if (state.name === "ended") return "session ended";
  return state.name;
}
