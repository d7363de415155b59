/** Receives a user's page as rendered, with its cursor; renders it anew when something of theirs changes. */

import { changesSince } from "./api.js";
import { Live } from "./live.js";
import { refresh } from "./record.js";
import { Sync } from "./sync.js";

const { cursor, userId } = document.body.dataset;

const sync = new Sync({
  cursor: Number(cursor),
  changesSince,
  apply: (changes) => {
    if (changes.some(({ user_id }) => user_id === userId)) sync.readAnew();
    else document.body.dataset.cursor = String(sync.cursor);
  },
  reload: refresh,
  onError: (error) => live.onError(error),
});

const live = new Live({
  path: "/ws/live/",
  onHello: (hello) => sync.hello(hello),
  onSpread: (spreadMs) => sync.spread(spreadMs),
  onChanges: (newest, changes) => sync.receive(newest, changes),
  onTick: (tick) => sync.notice(tick.cursor),
  onDoubt: () => sync.check(),
  onEnded: () => sync.stop(),
});

live.start();
