/** Receives why access ended, from live.js; says so across the page, which from then on is only the past. */

const WHY = {
  deactivated: "Your account was deactivated.",
  deleted: "Your account was deleted.",
  signed_out: "You signed out.",
  password_changed: "Your password was changed.",
  expired: "Your session expired.",
  not_allowed: "You no longer have access to this page.",
  // Found by asking: nobody told the reason.
  not_signed_in: "You are no longer signed in.",
};

/** @param {import("./types.js").Reason} reason */
export function showEnded(reason) {
  document.getElementById("ended-why").textContent = WHY[reason] ?? WHY.not_signed_in;
  document.getElementById("ended").hidden = false;
  document.body.dataset.ended = reason;
}
