/**
 * Receives one's own page as rendered; renders it anew when it is told that something of one's own
 * has changed. Of others' changes this page learns nothing but how many there were.
 */

import { Fetcher } from "./fetcher.js";
import { Live } from "./live.js";
import { refresh } from "./record.js";
import { BULK } from "./words.js";

let newest = Infinity;

const fetcher = new Fetcher({
  fetch: async () => {
    await refresh();
  },
  onError: (error) => live.onError(error),
});

const live = new Live({
  path: "/ws/me/",
  onHello: ({ cursor, alone }) => {
    fetcher.retry({ spread: !alone });
    if (cursor !== Number(document.body.dataset.cursor)) fetcher.ask({ spread: !alone });
  },
  onSpread: (spreadMs) => {
    fetcher.spreadMs = spreadMs;
  },
  // A leap of the newest cursor is a bulk write, which many such pages hear of.
  onChanges: (cursor) => fetcher.ask({ spread: cursor - newest > BULK }),
  onTick: ({ cursor }) => {
    newest = cursor;
  },
  onDoubt: () => fetcher.ask(),
  onEnded: () => fetcher.stop(),
});

live.start();
