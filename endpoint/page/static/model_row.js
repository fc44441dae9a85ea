/** The columns of the table of models, and one row of it, which shows one model after another. */

import { make, say, sayWhole, set } from "./dom.js";
import * as words from "./words.js";

/**
 * What each column is called and shows. `key(row, clock)` is what it sorts by, null where nothing
 * is known; `down`: the largest first. `kind` is its class.
 */
export const COLUMNS = [
  {
    name: "target", title: "Model", kind: "name", down: false,
    help: "TargetModel of InvokeEndpoint",
    key: (row) => row.sought,
    text: (row, at) => (at.several ? `${row.target}  (${row.endpoint}/${row.variant})` : row.target),
  },
  {
    name: "state", title: "State", kind: "state", down: false,
    help: "Where it is nearest to answering",
    key: (row) => row.distance,
    text: (row) => row.stateText,
  },
  {
    name: "rate", title: "Per s", kind: "number", down: true,
    help: "Invokes a second, over about the last half minute",
    key: (row, clock) => Math.round(row.rate(clock) * 20),
    text: (row, at) => words.rate(row.rate(at.clock)),
  },
  {
    name: "now", title: "Now", kind: "number", down: true,
    help: "Requests that run or wait for the model",
    key: (row) => row.requests,
    text: (row) => (row.requests ? words.count(row.requests) : "0"),
  },
  {
    name: "p50", title: "p50", kind: "number", down: true,
    help: "Latency of the model, median of the last minutes",
    key: (row) => row.figures?.latency_ms?.p50 ?? null,
    text: (row) => words.milliseconds(row.figures?.latency_ms?.p50),
  },
  {
    name: "p99", title: "p99", kind: "number", down: true,
    help: "Latency of the model that 99 of 100 requests keep to, in the last minutes",
    key: (row) => row.figures?.latency_ms?.p99 ?? null,
    text: (row) => words.milliseconds(row.figures?.latency_ms?.p99),
  },
  {
    name: "memory", title: "Memory", kind: "number", down: true,
    help: "What its processes hold, of all copies; – where the container does not tell",
    key: (row) => row.memory,
    text: (row) => words.bytes(row.memory),
  },
  {
    name: "invocations", title: "Invokes", kind: "number", down: true,
    help: "Requests since the endpoint's process started",
    key: (row) => row.figures?.invocations ?? null,
    text: (row) => words.count(row.figures?.invocations),
  },
  {
    name: "cold", title: "Cold", kind: "number", down: true,
    help: "Cold starts: requests that found the model not in memory",
    key: (row) => row.figures?.cold_starts ?? null,
    text: (row) => words.count(row.figures?.cold_starts),
  },
  {
    name: "wait", title: "Wait", kind: "number", down: true,
    help: "How long a cold start waited for the model, median of the last minutes",
    key: (row) => row.figures?.loading_wait_ms?.p50 ?? null,
    text: (row) => words.milliseconds(row.figures?.loading_wait_ms?.p50),
  },
  {
    name: "errors", title: "Errors", kind: "number", down: true,
    help: "Requests that were answered with an error",
    key: (row) => row.figures?.errors ?? null,
    text: (row) => words.count(row.figures?.errors),
  },
  {
    name: "used", title: "Last", kind: "number", down: true,
    help: "When it was last invoked",
    key: (row) => row.used,
    text: (row, at) => words.ago(row.used, at.time),
  },
];

/** Elements of one row. */
export class ModelRow {
  constructor() {
    this.node = make("tr");
    this.cells = COLUMNS.map(({ name, kind }) => {
      const cell = make(name === "target" ? "th" : "td", kind);
      if (name === "target") cell.scope = "row";
      set(cell, "data-column", name);
      this.node.append(cell);
      return cell;
    });
  }

  /** Show a model; `index` is its place in the order, `at` says when and how. */
  show(row, index, at) {
    set(this.node, "aria-rowindex", index + 2);
    set(this.node, "data-state", row.state);
    set(this.node, "data-odd", index % 2 ? "" : null);
    set(this.node, "data-busy", row.requests > 0 ? "" : null);
    set(this.node, "data-bad", row.figures?.errors > 0 ? "" : null);
    COLUMNS.forEach((column, place) => {
      const cell = this.cells[place];
      const text = column.text(row, at);
      if (place === 0) sayWhole(cell, text);
      else say(cell, text);
    });
  }
}
