/**
 * The table of models. Only the rows in view are elements, and they are used again for others, so
 * that a thousand models cost as much as thirty.
 */

import { make, say, sayWhole, set } from "./dom.js";
import { ModelRow, COLUMNS } from "./model_row.js";
import { count, several } from "./words.js";

// Rows above and below those in view.
const BEYOND = 6;
// Between two times that the order is made anew, in milliseconds.
const SETTLED = 2000;
const ROW_HEIGHT = 32; // until one has been seen

/** The table, its filter and its order. `onAsk()` is called when it is to be shown anew. */
export class Models {
  constructor(document, onAsk) {
    const find = (id) => document.getElementById(id);
    this.onAsk = onAsk;
    this.scroll = find("scroll");
    this.table = find("models");
    this.above = find("above");
    this.below = find("below");
    this.body = find("rows");
    this.count = find("count");
    this.nothing = find("nothing");
    this.filter = find("filter");
    this.chip = find("only");
    this.pool = [];
    this.height = ROW_HEIGHT; // of a row
    this.seen = 0; // of what is seen of the rows
    this.top = 0; // how far they are scrolled
    this.order = [];
    this.only = null; // an instance, whose models are shown alone
    this.sort = { column: "rate", down: true };
    this.pointed = false; // the pointer is over rows: they stay where they are
    this.arranged = null;
    this.heads = COLUMNS.map((column) => this.head(column));
    find("heads").append(...this.heads.map(({ node }) => node));
    this.listen();
  }

  listen() {
    this.scroll.addEventListener("scroll", () => {
      this.top = this.scroll.scrollTop;
      this.onAsk();
    }, { passive: true });
    const sizes = new ResizeObserver(() => this.measure());
    sizes.observe(this.scroll);
    sizes.observe(this.body);
    this.filter.addEventListener("input", () => {
      this.scroll.scrollTop = 0;
      this.onAsk();
    });
    this.chip.addEventListener("click", () => this.showOnly(null));
    this.body.addEventListener("pointerenter", (event) => {
      this.pointed = event.pointerType === "mouse";
    });
    this.body.addEventListener("pointerleave", () => {
      this.pointed = false;
      this.onAsk();
    });
  }

  /** Sizes are read when they change, not for each drawing: that would lay out all in between. */
  measure() {
    const height = this.pool[0]?.node.offsetHeight || ROW_HEIGHT;
    const seen = this.scroll.clientHeight;
    if (height === this.height && seen === this.seen) return;
    this.height = height;
    this.seen = seen;
    this.onAsk();
  }

  head(column) {
    const node = make("th", column.kind);
    node.scope = "col";
    set(node, "data-column", column.name);
    const button = node.appendChild(make("button", "", column.title));
    button.type = "button";
    button.title = column.help;
    button.addEventListener("click", () => this.sortBy(column));
    return { column, node };
  }

  /** Sort by a column; the one that sorts already turns round. */
  sortBy(column) {
    const again = this.sort.column === column.name;
    this.sort = { column: column.name, down: again ? !this.sort.down : column.down };
    this.arranged = null;
    this.scroll.scrollTop = 0;
    this.onAsk();
  }

  /** Show models of one instance alone, or of all: null, or the one that is shown already. */
  showOnly(instance) {
    this.only = instance === this.only ? null : instance;
    this.scroll.scrollTop = 0;
    this.onAsk();
  }

  /** Bring the rows in view up to date. */
  show(board) {
    if (this.only !== null && !board.homes.has(this.only)) this.only = null;
    this.arrange(board);
    for (const { column, node } of this.heads) {
      const sorts = column.name === this.sort.column;
      set(node, "aria-sort", sorts ? (this.sort.down ? "descending" : "ascending") : null);
    }
    const { order } = this;
    const visible = Math.ceil(this.seen / this.height) + 2 * BEYOND;
    const wanted = Math.floor(this.top / this.height) - BEYOND;
    const first = Math.max(0, Math.min(wanted, order.length - visible));
    const shown = order.slice(first, first + visible);
    this.draw(board, shown, first);
    this.tell(board);
  }

  /** Make the order anew, if anything but the figures has changed, or now and then. */
  arrange(board) {
    const sought = this.filter.value.trim().toLowerCase();
    const now = board.clock();
    const last = this.arranged;
    const same = last !== null && last.sought === sought && last.only === this.only
      && last.order === board.order;
    if (same && !this.only && (this.pointed || now - last.at < SETTLED)) return;
    if (same && this.only && this.pointed) return;
    const column = COLUMNS.find(({ name }) => name === this.sort.column);
    const seconds = now / 1000;
    const found = [];
    for (const row of board.rows.values()) {
      if (sought && !row.sought.includes(sought)) continue;
      if (this.only !== null && !row.places.has(this.only)) continue;
      found.push({ row, key: column.key(row, seconds) });
    }
    found.sort((one, other) => compare(one, other, this.sort.down));
    this.order = found.map(({ row }) => row);
    this.arranged = { sought, only: this.only, order: board.order, at: now };
  }

  draw(board, shown, first) {
    while (this.pool.length > shown.length) this.pool.pop().node.remove();
    while (this.pool.length < shown.length) {
      const row = new ModelRow();
      this.pool.push(row);
      this.body.append(row.node);
    }
    const several = board.endpoints.length > 1
      || board.endpoints.some((one) => (one.variants ?? []).length > 1);
    const at = { clock: board.clock() / 1000, time: board.now(), several };
    shown.forEach((row, index) => this.pool[index].show(row, first + index, at));
    const { height, order } = this;
    setHeight(this.above, first * height);
    setHeight(this.below, (order.length - first - shown.length) * height);
    set(this.table, "aria-rowcount", order.length + 1);
  }

  tell(board) {
    const all = board.rows.size;
    const some = this.order.length;
    say(this.count, some === all ? count(all) : `${count(some)} of ${count(all)}`);
    this.chip.hidden = this.only === null;
    sayWhole(this.chip, this.only === null ? "" : `on ${this.only} ×`);
    set(this.chip, "aria-label", this.only === null ? null : `Show models of all instances, not only ${this.only}`);
    this.nothing.hidden = some > 0;
    say(this.nothing, some > 0 ? "" : all > 0
      ? `None of ${several(all, "model")} matches.`
      : "No model yet: a model shows up when it is invoked for the first time.");
  }
}

function compare(one, other, down) {
  if (one.key !== other.key) {
    if (one.key === null) return 1; // what is not known is last, either way
    if (other.key === null) return -1;
    return (one.key < other.key) === down ? 1 : -1;
  }
  const more = (other.row.figures?.invocations ?? 0) - (one.row.figures?.invocations ?? 0);
  return more || (one.row.key < other.row.key ? -1 : 1);
}

function setHeight(cell, pixels) {
  const height = `${pixels}px`;
  if (cell.style.height !== height) cell.style.height = height;
  cell.parentElement.hidden = pixels === 0;
}
