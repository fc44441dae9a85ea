/** The page: hears the feed, and shows what it says, at most twice a second. */

import { Board } from "./board.js";
import { say, set } from "./dom.js";
import { Endpoints } from "./endpoints.js";
import { EventList } from "./events.js";
import { Feed } from "./feed.js";
import { Models } from "./models.js";
import { clock, rate, several } from "./words.js";

// Between two times that the page is drawn, in milliseconds; what people do is answered at once.
const PAUSE = 500;
// How often words such as "8 s ago" are looked at while nothing else changes.
const TICK = 5000;
// What the browser's own tools, and our benchmark, call the moment when there is something to see.
const SHOWN = "models-shown";

const find = (id) => document.getElementById(id);

/** What the page knows; for tests. */
export const board = new Board();
/** How often it was drawn, and what it said of the connection; for tests. */
export const state = { drawn: 0, lost: null };

let pieces = []; // that are to be drawn
let again = false; // once they are: there was news meanwhile
let frame = 0; // that was asked for
let timer = 0;
let last = -PAUSE; // when it was drawn

const models = new Models(document, () => askFor(drawModels));
const events = new EventList(document, () => askFor(drawEvents));
const endpoints = new Endpoints(find("endpoints"), (instance) => {
  models.showOnly(instance);
  ask();
});

/** Have all of it drawn, from the next frame on. */
function ask() {
  pieces = [drawTop, drawModels, drawEvents];
  askFrame();
}

/** Have this drawn in the next frame, before anything else: somebody did something there. */
function askFor(piece) {
  pieces = [piece, ...pieces.filter((other) => other !== piece)];
  askFrame();
}

/** A tab that nobody sees is not drawn. */
function askFrame() {
  if (frame === 0 && !document.hidden) frame = requestAnimationFrame(draw);
}

/** Have it drawn when it is time. */
function askLater() {
  again = pieces.length > 0;
  if (again || timer !== 0 || document.hidden) return;
  const pause = last + PAUSE - performance.now();
  if (pause <= 0) ask();
  else {
    timer = setTimeout(() => {
      timer = 0;
      ask();
    }, pause);
  }
}

/** A piece in each frame, so that none takes long and scrolling goes on in between. */
function draw() {
  frame = 0;
  if (document.hidden) return;
  const piece = pieces.shift();
  piece();
  if (pieces.length > 0) askFrame();
  else rest();
}

function rest() {
  last = performance.now();
  state.drawn += 1;
  if (board.known && !performance.getEntriesByName(SHOWN).length) performance.mark(SHOWN);
  if (again) askLater();
}

function drawTop() {
  drawConnection();
  if (!board.known) return;
  const some = board.endpoints.length > 0;
  find("main").setAttribute("aria-busy", "false");
  find("empty").hidden = some;
  find("columns").hidden = !some;
  endpoints.show(board, models.only);
}

function drawModels() {
  if (board.known) models.show(board);
}

function drawEvents() {
  if (board.known) events.show(board);
}

function drawConnection() {
  const link = find("link");
  const notice = find("notice");
  const lost = state.lost !== null;
  set(link, "data-state", lost ? "lost" : board.known ? "live" : "connecting");
  say(link, lost ? "Not connected" : board.known ? "Live" : "Connecting…");
  notice.hidden = !lost;
  set(document.body, "data-lost", lost ? "" : null);
  if (!lost) return;
  const reason = state.lost ? ` The endpoint says: ${state.lost}` : "";
  const since = board.known ? ` What you see is from ${clock(board.time)}.` : "";
  say(notice, `The connection to the endpoint is lost; trying again.${since}${reason}`);
}

/** The tab tells how things are, also where nobody sees the page. */
function entitle() {
  const title = `${headline()} · Modelyard`;
  if (document.title !== title) document.title = title;
}

function headline() {
  if (state.lost !== null) return "✕ Not connected";
  if (board.endpoints.length === 0) return "No endpoint";
  const broken = board.endpoints.filter(({ status }) => /Fail/.test(status)).length;
  if (broken) return `✕ ${several(broken, "endpoint")} failed`;
  const coming = board.endpoints.find(({ status }) => status !== "InService");
  if (coming) return `… ${coming.name} ${coming.status}`;
  const variants = board.endpoints.flatMap((endpoint) => endpoint.variants);
  const serving = variants.flatMap((variant) => variant.instances)
    .filter((instance) => instance.state === "serving").length;
  const wanted = variants.reduce((sum, variant) => sum + variant.desired_instances, 0);
  const missing = serving < wanted ? `✕ ${serving} of ${wanted} instances · ` : "";
  const invokes = variants.reduce(
    (sum, variant) => sum + (variant.metrics?.invocations_per_second ?? 0), 0,
  );
  return `${missing}${rate(invokes)}/s · ${several(board.rows.size, "model")}`;
}

function hear(take) {
  return (news) => {
    take.call(board, news);
    state.lost = null;
    entitle();
    askLater();
  };
}

const feed = new Feed("/ui/feed", {
  onStatus: hear(board.status),
  onChange: hear(board.change),
  onLost: (reason) => {
    state.lost = reason || state.lost || "";
    entitle();
    ask();
  },
});

say(find("exports"), [
  `export AWS_ENDPOINT_URL_SAGEMAKER=${location.origin}`,
  `export AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME=${location.origin}`,
].join("\n"));
document.addEventListener("visibilitychange", () => {
  if (!document.hidden) ask();
});
document.addEventListener("keydown", (event) => {
  if (event.key !== "/" || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.target.closest("input, select, textarea")) return;
  event.preventDefault();
  find("filter").focus();
});
setInterval(() => {
  board.expire();
  askLater();
}, TICK);
feed.open();
