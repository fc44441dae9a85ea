/** Endpoints with their variants: what they do at the moment, and their instances below. */

import { Children, draw, make, say, set } from "./dom.js";
import { InstanceCard } from "./instances.js";
import * as words from "./words.js";

const LISTS = { variants: "", coming: "coming", leaving: "leaving" };
// Points of the line of invokes a second, and milliseconds between two of them.
const POINTS = 60;
const STEP = 1000;
const WIDTH = 120;
const HEIGHT = 28;

/** All endpoints. `onOnly(instance)` is called when somebody wants the models of one instance. */
export class Endpoints {
  constructor(parent, onOnly) {
    this.children = new Children(parent, () => new Endpoint(onOnly));
  }

  /** Bring all up to date; `only` is the instance whose models are shown. */
  show(board, only) {
    const items = board.endpoints.map((endpoint) => ({ endpoint, board, only }));
    this.children.show(items, ({ endpoint }) => endpoint.name);
  }
}

class Endpoint {
  constructor(onOnly) {
    this.node = make("section", "endpoint");
    const head = this.node.appendChild(make("header", "endpoint-head"));
    this.name = head.appendChild(make("h2"));
    this.status = head.appendChild(make("span", "pill"));
    this.children = new Children(
      this.node.appendChild(make("div", "variants")), () => new Variant(onOnly),
    );
  }

  show({ endpoint, board, only }) {
    say(this.name, endpoint.name);
    say(this.status, spaced(endpoint.status));
    set(this.status, "data-state", endpoint.status);
    const items = Object.keys(LISTS).flatMap((list) =>
      (endpoint[list] ?? []).map((variant) => ({ endpoint, list, variant, board, only })));
    const alone = items.length === 1;
    this.children.show(
      items.map((item) => ({ ...item, alone })), ({ list, variant }) => `${list}/${variant.name}`,
    );
  }
}

class Variant {
  constructor(onOnly) {
    this.node = make("section", "variant");
    this.title = this.node.appendChild(make("h3"));
    const tiles = this.node.appendChild(make("dl", "tiles"));
    this.tiles = Object.fromEntries(
      Object.keys(TILES).map((name) => [name, new Tile(tiles, TILES[name].title)]),
    );
    this.line = new Line();
    this.tiles.rate.node.append(this.line.node);
    const cards = this.node.appendChild(make("div", "cards"));
    this.children = new Children(cards, () => new InstanceCard(onOnly));
  }

  show({ endpoint, list, variant, board, only, alone }) {
    const home = `${endpoint.name}/${variant.name}`;
    const metrics = variant.metrics ?? {};
    say(this.title, titleOf(variant, list));
    this.title.className = alone && !LISTS[list] ? "unseen" : "";
    for (const [name, tile] of Object.entries(TILES)) {
      this.tiles[name].show(tile.value(metrics, variant), tile.detail(metrics, variant, board));
    }
    set(this.tiles.errors.node, "data-bad", metrics.errors > 0 ? "" : null);
    this.line.show(metrics.invocations, board.clock());
    const gone = list === "variants"
      ? [...board.departed.values()].filter((one) => one.home === home) : [];
    const items = [
      ...variant.instances.map((instance) => ({ instance })),
      ...gone.map((departed) => ({ instance: departed.instance, departed })),
    ].map((item) => ({ ...item, models: board.models.get(item.instance.id), only }));
    this.children.show(items, ({ instance }) => instance.id);
  }
}

const TILES = {
  rate: {
    title: "Invokes a second",
    value: (metrics) => words.rate(metrics.invocations_per_second),
    detail: (metrics) => `${words.count(metrics.invocations)} in all`,
  },
  running: {
    title: "Running now",
    value: (_, variant) => words.count(sum(variant.instances.map((one) => one.requests))),
    detail: (_, variant) => {
      const serving = variant.instances.filter((one) => one.state === "serving").length;
      return `${serving} of ${words.several(variant.desired_instances, "instance")} serving`;
    },
  },
  latency: {
    title: "Model latency, p50 · p99",
    value: ({ model_latency_ms: latency }) => pair(latency),
    detail: ({ overhead_latency_ms: overhead }) => `overhead ${pair(overhead)}`,
  },
  cold: {
    title: "Cold starts",
    value: (metrics) => words.count(metrics.cold_starts),
    detail: ({ loading_wait_ms: wait }) => (wait ? `waited ${pair(wait)}` : "none lately"),
  },
  evictions: {
    title: "Evictions",
    value: (metrics) => words.count(metrics.evictions),
    detail: (_, variant, board) => {
      const loaded = variant.instances.map(({ id }) => board.models.get(id)?.loaded ?? 0);
      return `${words.several(sum(loaded), "model")} loaded`;
    },
  },
  errors: {
    title: "Errors",
    value: (metrics) => words.count(metrics.errors),
    detail: (metrics) => `${words.count(metrics.model_errors)} by models`,
  },
};

class Tile {
  constructor(parent, title) {
    this.node = parent.appendChild(make("div", "tile"));
    this.node.append(make("dt", "", title));
    this.value = this.node.appendChild(make("dd", "value"));
    this.detail = this.node.appendChild(make("dd", "detail"));
  }

  show(value, detail) {
    say(this.value, value);
    say(this.detail, detail);
  }
}

/** Invokes a second over the last minute, as a line; the number beside it says the same. */
class Line {
  constructor() {
    this.node = draw("svg", {
      class: "line", viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none",
      "aria-hidden": "true",
    });
    this.path = this.node.appendChild(draw("polyline", { points: "" }));
    this.rates = [];
    this.counted = null;
    this.at = 0;
  }

  show(invocations, now) {
    if (invocations == null || now - this.at < STEP) return;
    if (this.counted !== null) {
      this.rates.push(Math.max(0, invocations - this.counted) / ((now - this.at) / 1000));
      if (this.rates.length > POINTS) this.rates.shift();
    }
    this.counted = invocations;
    this.at = now;
    const most = Math.max(1, ...this.rates);
    const first = POINTS - this.rates.length;
    const points = this.rates.map((rate, index) => {
      const x = ((first + index) * WIDTH) / (POINTS - 1);
      return `${x.toFixed(1)},${(HEIGHT - 2 - (rate / most) * (HEIGHT - 4)).toFixed(1)}`;
    });
    set(this.path, "points", points.join(" "));
  }
}

function titleOf(variant, list) {
  const found = [`Variant ${variant.name}`, `weight ${variant.weight}`];
  if (LISTS[list]) found.push(LISTS[list]);
  return found.join(" · ");
}

function pair(latency) {
  if (!latency) return words.NONE;
  return `${words.milliseconds(latency.p50)} · ${words.milliseconds(latency.p99)}`;
}

function sum(numbers) {
  return numbers.reduce((total, number) => total + number, 0);
}

/** "InService" as "In service". */
function spaced(status) {
  return status.replace(/(?<=[a-z])[A-Z]/g, (letter) => ` ${letter.toLowerCase()}`);
}
