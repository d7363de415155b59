/** Receives a page about one user, rendered anew; puts it in the place of what user.js or me.js shows. */

import { announce } from "./announcer.js";
import { thisPage } from "./api.js";
import { adopt, swap } from "./regions.js";
import { localizeAll } from "./times.js";

const REGIONS = ["notice", "history"];

/** @returns {Promise<number>} the cursor of what is shown now */
export async function refresh() {
  const fresh = await thisPage();
  localizeAll(fresh);
  document.title = fresh.title;
  for (const id of REGIONS.filter((id) => document.getElementById(id))) swap(id, fresh);
  const main = document.getElementById("content");
  if (adopt(main, fresh.getElementById("content"))) announce("What is shown has changed.");
  document.body.dataset.cursor = fresh.body.dataset.cursor;
  return Number(fresh.body.dataset.cursor);
}
