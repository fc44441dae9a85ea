/** One model of a variant: where it is, what was measured, how hot it is. */

// By which a request a while ago counts less for the rate; in seconds.
const MEMORY = 30;
// Of a shorter look there is no rate.
const LEAST = 3;
const NEAREST = ["loaded", "loading", "downloading", "evicted", "unloading", "on_disk"];
const NAMES = { on_disk: "on disk" };

/** Where a model is. The endpoint calls loaded, too, what its container evicted for a while. */
export const placeOf = (model) =>
  (model.state === "loaded" && model.memory === 0 ? "evicted" : model.state);

/** Made when the model is first heard of. */
export class Row {
  constructor(key, endpoint, variant, target, began) {
    this.key = key;
    this.endpoint = endpoint;
    this.variant = variant;
    this.target = target;
    this.sought = target.toLowerCase();
    this.places = new Map(); // by instance: the model there
    this.figures = null;
    this.heat = 0; // invokes of late
    this.heated = began; // when that was so, in seconds of the page's clock
    this.began = began; // when the page began to count
  }

  /** What was measured of it now; null when that was forgotten. `counts`: what is new is counted. */
  measure(figures, now, counts) {
    if (figures !== null && counts) {
      const more = figures.invocations - (this.figures?.invocations ?? 0);
      this.heat = this.warmth(now) + Math.max(0, more);
      this.heated = now;
    }
    this.figures = figures;
  }

  /** Invokes a second of late; `now` is by the page's clock, in seconds. */
  rate(now) {
    if (this.heat === 0) return 0;
    const seen = Math.max(LEAST, now - this.began);
    return this.warmth(now) / (MEMORY * (1 - Math.exp(-seen / MEMORY)));
  }

  warmth(now) {
    return this.heat * Math.exp(-Math.max(0, now - this.heated) / MEMORY);
  }

  /** How near it is to answering, 0 is nearest. */
  get distance() {
    let nearest = NEAREST.length;
    for (const model of this.places.values()) {
      const distance = NEAREST.indexOf(placeOf(model));
      if (distance >= 0 && distance < nearest) nearest = distance;
    }
    return nearest;
  }

  /** Its state in words, such as "loaded ×2". */
  get stateText() {
    const state = this.state;
    let copies = 0;
    for (const model of this.places.values()) if (placeOf(model) === state) copies += 1;
    const name = NAMES[state] ?? state;
    return copies > 1 ? `${name} ×${copies}` : name;
  }

  /** The word of the nearest place; "not loaded" when it is nowhere. */
  get state() {
    return NEAREST[this.distance] ?? "not loaded";
  }

  /** Bytes that it holds in memory, of all copies; null where no container tells. */
  get memory() {
    let sum = null;
    for (const model of this.places.values()) {
      if (model.memory != null) sum = (sum ?? 0) + model.memory;
    }
    return sum;
  }

  /** Requests that run or wait. */
  get requests() {
    let sum = 0;
    for (const model of this.places.values()) sum += model.requests;
    return sum;
  }

  /** When it was last asked, in seconds since 1970; null when that is not known. */
  get used() {
    return this.figures?.last_invoked ?? null;
  }
}
