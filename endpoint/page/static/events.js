/** The last events, newest first. */

import { Children, make, sayWhole, set } from "./dom.js";
import { clock, milliseconds } from "./words.js";

// What each kind is called, and what it belongs to.
const KINDS = {
  load: ["loaded", "in"],
  download: ["downloaded", "in"],
  spill: ["copied", "in"],
  evict: ["evicted", "out"],
  unload: ["unloaded", "out"],
  delete: ["deleted from disk", "out"],
  copy_withdrawn: ["copy withdrawn", "out"],
  object_changed: ["object changed", "in"],
  object_gone: ["object gone", "bad"],
  load_failed: ["load failed", "bad"],
  instance_started: ["instance started", "instance"],
  instance_lost: ["instance lost", "bad"],
  endpoint_status: ["endpoint", "instance"],
};
// That are told twice: as a failure, and with the instances.
const ALSO = { instance_lost: "instance" };

/** The list, and the choice of kinds. `onAsk()` is called when it is to be shown anew. */
export class EventList {
  constructor(document, onAsk) {
    this.list = document.getElementById("events");
    this.quiet = document.getElementById("quiet");
    this.kinds = document.getElementById("kinds");
    this.children = new Children(this.list, (event) => new Item(event));
    this.shown = null;
    this.kinds.addEventListener("change", onAsk);
  }

  /** Show what is new. */
  show(board) {
    const kind = this.kinds.value;
    const last = board.events.at(-1);
    const shown = `${kind} ${board.events.length} ${last?.number} ${last?.time}`;
    if (shown === this.shown) return;
    this.shown = shown;
    const items = board.events.filter((event) => belongs(event, kind)).reverse();
    this.children.show(items, (event) => `${event.number} ${event.time}`);
    this.quiet.hidden = items.length > 0;
  }
}

function belongs({ kind }, wanted) {
  return !wanted || groupOf(kind) === wanted || ALSO[kind] === wanted;
}

function groupOf(kind) {
  return KINDS[kind]?.[1] ?? "other";
}

class Item {
  constructor(event) {
    this.node = make("li", "event");
    set(this.node, "data-group", groupOf(event.kind));
    set(this.node, "data-kind", event.kind);
    const time = this.node.appendChild(make("time", "", clock(event.time)));
    time.dateTime = new Date(1000 * event.time).toISOString();
    const kind = KINDS[event.kind]?.[0] ?? event.kind.replaceAll("_", " ");
    this.node.append(make("span", "kind", kind));
    if (event.seconds != null) {
      this.node.append(make("span", "took", milliseconds(1000 * event.seconds)));
    }
    const about = event.target || event.instance || event.endpoint;
    sayWhole(this.node.appendChild(make("span", "about")), about);
    const where = event.target ? event.instance : "";
    const text = [event.text, where && `on ${where}`].filter(Boolean).join(" · ");
    if (text) sayWhole(this.node.appendChild(make("span", "text")), text);
  }

  /** An event does not change. */
  show() {}
}
