/** An instance as a card: its state, memory and disk as bars, CPU, GPUs, models. */

import { Children, make, say, sayWhole, set } from "./dom.js";
import * as words from "./words.js";

// Models that have a segment of the memory bar each; the smaller ones share one.
const SEGMENTS = 24;
const HIGH = 90; // percent, from which on a bar warns

/** `onOnly(instance)` is called by the button that shows the models of this instance alone. */
export class InstanceCard {
  constructor(onOnly) {
    this.node = make("article", "card");
    const head = this.node.appendChild(make("header"));
    this.name = head.appendChild(make("h4"));
    this.state = head.appendChild(make("span", "pill"));
    this.why = this.node.appendChild(make("p", "why"));
    this.bars = this.node.appendChild(make("div", "bars"));
    this.children = new Children(this.bars, () => new Bar());
    const foot = this.node.appendChild(make("footer"));
    this.figures = foot.appendChild(make("p", "figures"));
    this.only = foot.appendChild(make("button", "chip"));
    this.only.type = "button";
    this.only.addEventListener("click", () => onOnly(this.id));
    this.held = [];
  }

  show({ instance, departed, models, only }) {
    this.id = instance.id;
    sayWhole(this.name, instance.id);
    const state = departed ? (departed.lost ? "lost" : "stopped") : instance.state;
    say(this.state, state);
    set(this.state, "data-state", state);
    set(this.node, "data-state", state);
    sayWhole(this.why, departed ? departed.why || "It has been stopped." : "");
    this.why.hidden = !departed;
    this.bars.hidden = this.only.hidden = Boolean(departed);
    say(this.figures, departed ? "" : figuresOf(instance));
    if (departed) return;
    this.hold(models);
    this.children.show(barsOf(instance, this.held), ({ title }) => title);
    say(this.only, `${words.several(models?.loaded ?? 0, "model")} loaded`);
    set(this.only, "aria-label", `Show only models of ${instance.id}`);
    set(this.only, "aria-pressed", String(only === instance.id));
  }

  /** Look at what models hold when that has changed. */
  hold(models) {
    if (models === this.models && models?.version === this.version) return;
    this.models = models;
    this.version = models?.version;
    this.held = largest(models);
  }
}

function barsOf(instance, held) {
  const { memory, disk, gpus = [] } = instance;
  const bars = [];
  if (memory) {
    bars.push({
      title: "Memory", used: memory.used, limit: memory.limit,
      segments: segmentsOf(held, memory.used), note: "",
    });
  }
  for (const gpu of gpus) {
    const use = gpu.utilization_percent;
    const note = use == null ? "" : ` · ${words.percent(use)} busy`;
    bars.push({ title: `GPU ${gpu.index}`, used: gpu.used, limit: gpu.limit, note });
  }
  if (disk) {
    const note = disk.models ? ` · ${words.several(disk.models, "model")}` : "";
    bars.push({ title: "Disk", used: disk.used, limit: disk.budget, note });
  }
  return bars;
}

/** What the largest models hold, and all others together. */
function largest(models) {
  const held = [];
  for (const model of models?.values() ?? []) if (model.memory > 0) held.push(model);
  held.sort((one, other) => other.memory - one.memory);
  const large = held.slice(0, SEGMENTS).map(({ target, memory }) => ({ target, memory }));
  const small = held.slice(SEGMENTS);
  const rest = small.reduce((sum, model) => sum + model.memory, 0);
  if (rest > 0) large.push({ target: words.several(small.length, "smaller model"), memory: rest });
  return large;
}

/** What is no model's, then what models hold; nothing where the container does not tell. */
function segmentsOf(held, used) {
  if (held.length === 0) return [];
  const all = held.reduce((sum, one) => sum + one.memory, 0);
  return [{ target: "", memory: Math.max(0, used - all) }, ...held];
}

function figuresOf(instance) {
  const found = [`${words.count(instance.requests)} running`];
  if (instance.cpu_percent != null) found.unshift(`CPU ${words.percent(instance.cpu_percent)}`);
  return found.join(" · ");
}

/** How full something is, in words and as a bar; without a limit, of what it is made up. */
class Bar {
  constructor() {
    this.node = make("div", "measure");
    this.title = this.node.appendChild(make("span", "what"));
    this.text = this.node.appendChild(make("span", "how-much"));
    this.bar = this.node.appendChild(make("div", "bar"));
    this.drawn = "";
  }

  show({ title, used, limit, note, segments = [] }) {
    const share = limit ? Math.min(100, (100 * used) / limit) : null;
    const amount = limit ? `${words.bytes(used)} of ${words.bytes(limit)}` : words.bytes(used);
    const text = amount + note;
    say(this.title, title);
    say(this.text, text);
    set(this.bar, "role", share === null ? "img" : "meter");
    set(this.bar, "aria-label", share === null ? `${title}: ${text}, no limit` : title);
    set(this.bar, "aria-valuemin", share === null ? null : 0);
    set(this.bar, "aria-valuemax", share === null ? null : 100);
    set(this.bar, "aria-valuenow", share === null ? null : Math.round(share));
    set(this.bar, "aria-valuetext", share === null ? null : text);
    set(this.bar, "data-level", share !== null && share >= HIGH ? "high" : null);
    set(this.bar, "data-limit", share === null ? "none" : null);
    this.draw(segments.length ? segments : [{ target: "", memory: used }], limit || used);
  }

  draw(segments, whole) {
    const all = Math.max(whole, segments.reduce((sum, one) => sum + one.memory, 0), 1);
    const shares = segments.map(({ memory }) => ((100 * memory) / all).toFixed(2));
    const drawn = segments.map(({ target }, index) => `${shares[index]} ${target}`).join("\n");
    if (drawn === this.drawn) return;
    this.drawn = drawn;
    while (this.bar.childElementCount > segments.length) this.bar.lastElementChild.remove();
    while (this.bar.childElementCount < segments.length) this.bar.append(make("span"));
    segments.forEach(({ target, memory }, index) => {
      const node = this.bar.children[index];
      node.style.width = `${shares[index]}%`;
      node.className = target ? "segment" : "other";
      const title = `${target || "not of models"}: ${words.bytes(memory)}`;
      if (node.title !== title) node.title = title;
    });
  }
}
