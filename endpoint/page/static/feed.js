/** The connection to the endpoint: documents as they come, and words when none can come. */

// Between two tries after the endpoint refused, in milliseconds. What only broke off, the browser
// takes up again by itself.
const RETRY = [1000, 2000, 4000, 8000, 15_000];
// Of silence, after which a tab that is looked at again does not trust the connection.
const STALE = 30_000;
const MOST_WORDS = 300;

/** Reads until the page is closed. */
export class Feed {
  /** `onStatus` and `onChange` get documents, `onLost` the reason in words. */
  constructor(url, { onStatus, onChange, onLost }) {
    this.url = url;
    this.hears = { status: onStatus, change: onChange };
    this.onLost = onLost;
    this.failures = 0;
    this.heard = 0;
    this.source = null;
    this.timer = 0;
    addEventListener("online", () => this.refresh());
    document.addEventListener("visibilitychange", () => this.refresh());
  }

  /** Connect; a connection that there was is given up. */
  open() {
    clearTimeout(this.timer);
    this.source?.close();
    const source = new EventSource(this.url);
    this.source = source;
    this.heard = performance.now();
    for (const [kind, hear] of Object.entries(this.hears)) {
      source.addEventListener(kind, (event) => {
        this.failures = 0;
        this.heard = performance.now();
        hear(JSON.parse(event.data));
      });
    }
    source.addEventListener("error", () => this.broken(source));
  }

  /** After a long silence nobody knows whether the connection is still there. */
  refresh() {
    if (!document.hidden && performance.now() - this.heard > STALE) this.open();
  }

  async broken(source) {
    if (source !== this.source) return;
    this.onLost("");
    if (source.readyState !== EventSource.CLOSED) return;
    const pause = RETRY[Math.min(this.failures, RETRY.length - 1)];
    this.failures += 1;
    this.timer = setTimeout(() => this.open(), pause);
    const reason = await this.reason();
    if (reason && source === this.source) this.onLost(reason);
  }

  /** Why the endpoint refuses; "" when it does not, or cannot be asked. */
  async reason() {
    const asking = new AbortController();
    try {
      const answer = await fetch(this.url, { signal: asking.signal, cache: "no-store" });
      if (answer.ok) return "";
      const text = (await answer.text()).slice(0, 10 * MOST_WORDS);
      return wordsOf(text, answer.status).slice(0, MOST_WORDS);
    } catch {
      return "";
    } finally {
      asking.abort();
    }
  }
}

function wordsOf(text, status) {
  try {
    const found = JSON.parse(text);
    return String(found.message ?? found.Message ?? text);
  } catch {
    return text || `HTTP ${status}`;
  }
}
