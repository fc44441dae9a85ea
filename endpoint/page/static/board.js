/**
 * All that the page knows, kept up to date by the feed's documents. No element is touched here.
 *
 * What is gone at the endpoint is gone here: rows of models, instances, variants; of events the
 * last are kept. So a page that is open for days does not grow.
 */

import { Row, placeOf } from "./row.js";

/** Events that are kept. */
export const EVENTS = 500;
/** An instance that has gone is shown for so long, in milliseconds. */
export const FAREWELL = 8000;
const LISTS = ["variants", "coming", "leaving"];

const isLoaded = (model) => Number(model != null && placeOf(model) === "loaded");

/** What an instance has, by target. `version` changes when what they hold in memory does. */
class Held extends Map {
  version = 0;
  loaded = 0; // models

  /** A model as it is now; null when it is there no more. */
  put(target, model) {
    const before = this.get(target);
    if ((before?.memory ?? 0) !== (model?.memory ?? 0)) this.version += 1;
    this.loaded += isLoaded(model) - isLoaded(before);
    if (model === null) this.delete(target);
    else this.set(target, model);
  }
}

/** Endpoints, their models and the last events. `clock()` is in milliseconds. */
export class Board {
  constructor(clock = () => performance.now()) {
    this.clock = clock;
    this.known = false; // whether there was a first document
    this.began = 0; // when that came, in seconds of the page's clock
    this.endpoints = [];
    this.rows = new Map(); // by rowKey: a model of a variant, wherever it is
    this.models = new Map(); // by instance: what it has, by target
    this.departed = new Map(); // by instance: what it was, why it went, until when it is shown
    this.events = []; // oldest first
    this.lastEvent = 0; // its number
    this.version = 0; // changes with every document
    this.order = 0; // changes when rows come or go
    this.homes = new Map(); // by instance: "ENDPOINT/VARIANT"
    this.time = 0; // the endpoint's, when it was heard
    this.heard = 0;
  }

  /** The endpoint's time now, in seconds since 1970. */
  now() {
    return this.time + (this.clock() - this.heard) / 1000;
  }

  /** Take over a whole document: what it does not name is gone. */
  status(document) {
    this.events = [];
    this.lastEvent = 0;
    const models = {};
    const metrics = {};
    for (const endpoint of document.endpoints) {
      for (const variant of LISTS.flatMap((list) => endpoint[list] ?? [])) {
        const key = `${endpoint.name}/${variant.name}`;
        metrics[key] = { ...metrics[key], ...variant.models };
        for (const instance of variant.instances) {
          models[instance.id] = fromPairs(instance.models ?? []);
        }
      }
    }
    for (const [instance, held] of this.models) {
      models[instance] = { ...gone(held.keys()), ...models[instance] };
    }
    for (const row of this.rows.values()) {
      const key = `${row.endpoint}/${row.variant}`;
      if (row.figures && !Object.hasOwn(metrics[key] ?? {}, row.target)) {
        metrics[key] = { ...metrics[key], ...gone([row.target]) };
      }
    }
    if (!this.known) this.began = this.clock() / 1000;
    this.take({ ...document, models, metrics });
    this.known = true;
  }

  /** Take over what has changed since. */
  change(document) {
    if (this.known) this.take(document);
  }

  take(document) {
    this.time = document.time;
    this.heard = this.clock();
    this.hear(document.events);
    this.settle(document.endpoints);
    for (const [instance, models] of Object.entries(document.models)) {
      this.place(instance, models);
    }
    for (const [variant, rows] of Object.entries(document.metrics)) this.measure(variant, rows);
    this.version += 1;
  }

  /** Events that are not known yet. */
  hear(events) {
    for (const event of events) {
      if (event.number > this.lastEvent) {
        this.events.push(event);
        this.lastEvent = event.number;
      }
    }
    if (this.events.length > EVENTS) this.events = this.events.slice(-EVENTS);
  }

  /** Endpoints and instances as they are now; those that went take their models along. */
  settle(endpoints) {
    const before = this.endpoints;
    const homes = new Map();
    for (const { home, instance } of instancesOf(endpoints)) {
      homes.set(instance.id, home);
      this.departed.delete(instance.id);
    }
    for (const one of instancesOf(before)) {
      if (!homes.has(one.instance.id)) this.bury(one);
    }
    this.expire();
    const variants = new Set(homes.values());
    for (const endpoint of endpoints) {
      for (const list of LISTS) {
        for (const variant of endpoint[list] ?? []) variants.add(`${endpoint.name}/${variant.name}`);
      }
    }
    for (const row of [...this.rows.values()]) {
      if (!variants.has(`${row.endpoint}/${row.variant}`)) this.drop(row);
    }
    this.homes = homes;
    this.endpoints = endpoints;
  }

  bury({ home, instance }) {
    const held = this.models.get(instance.id) ?? new Map();
    this.place(instance.id, gone(held.keys()));
    this.models.delete(instance.id);
    const last = this.events.findLast(
      (event) => event.kind === "instance_lost" && event.instance === instance.id,
    );
    this.departed.set(instance.id, {
      home, instance, lost: last !== undefined || instance.state === "lost",
      why: last?.text ?? "", until: this.clock() + FAREWELL,
    });
  }

  /** Forget instances that have been shown for long enough; whether there were any. */
  expire() {
    const before = this.departed.size;
    for (const [id, one] of this.departed) {
      if (one.until <= this.clock()) this.departed.delete(id);
    }
    return this.departed.size < before;
  }

  /** Models of an instance that changed; null is one that left it. */
  place(instance, models) {
    const home = this.homes.get(instance);
    if (home === undefined) return;
    const held = this.models.get(instance) ?? new Held();
    this.models.set(instance, held);
    for (const [target, model] of Object.entries(models)) {
      held.put(target, model);
      this.row(home, target, (row) => {
        if (model === null) row.places.delete(instance);
        else row.places.set(instance, model);
      });
    }
  }

  /** Figures of a variant's models that changed; null where there are none any more. */
  measure(variant, rows) {
    for (const [target, figures] of Object.entries(rows)) {
      this.row(variant, target, (row) => row.measure(figures, this.clock() / 1000, this.known));
    }
  }

  row(home, target, update) {
    const key = `${home}/${target}`;
    let row = this.rows.get(key);
    if (row === undefined) {
      const [endpoint, variant] = home.split("/");
      row = new Row(key, endpoint, variant, target, this.began);
      this.rows.set(key, row);
      this.order += 1;
    }
    update(row);
    if (row.places.size === 0 && row.figures === null) this.drop(row);
  }

  drop(row) {
    this.rows.delete(row.key);
    this.order += 1;
  }
}

/** All instances of endpoints, each with its variant and "ENDPOINT/VARIANT". */
export function* instancesOf(endpoints) {
  for (const endpoint of endpoints) {
    for (const list of LISTS) {
      for (const variant of endpoint[list] ?? []) {
        for (const instance of variant.instances) {
          yield { list, variant, home: `${endpoint.name}/${variant.name}`, instance };
        }
      }
    }
  }
}

/** An object without inheritance, since a model may have any name. */
function fromPairs(models) {
  const found = Object.create(null);
  for (const model of models) found[model.target] = model;
  return found;
}

function gone(targets) {
  const found = Object.create(null);
  for (const target of targets) found[target] = null;
  return found;
}
