/** Numbers, sizes and times in words that people read. Pure. */

/** What stands where nothing is known. */
export const NONE = "–";

const WHOLE = new Intl.NumberFormat("en");
const SIZES = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];

/** A size, such as "1.4 GiB". */
export function bytes(value) {
  if (value == null) return NONE;
  let size = value;
  let unit = 0;
  while (size >= 999.5 && unit < SIZES.length - 1) {
    size /= 1024;
    unit += 1;
  }
  return `${unit === 0 ? Math.round(size) : short(size)} ${SIZES[unit]}`;
}

/** A duration that is given in milliseconds, such as "12 ms" or "1.4 s". */
export function milliseconds(value) {
  if (value == null) return NONE;
  if (value < 999.5) return `${short(value)} ms`;
  if (value < 59_950) return `${short(value / 1000)} s`;
  return `${short(value / 60_000)} min`;
}

/** A whole number, such as "12,345" or "1.2 M". */
export function count(value) {
  if (value == null) return NONE;
  if (value >= 9_999_500) return `${short(value / 1e6)} M`;
  return WHOLE.format(Math.round(value));
}

/** Something a second, such as "0.3" or "214". */
export function rate(value) {
  if (value == null) return NONE;
  return value >= 999.5 ? count(value) : value < 0.05 ? "0" : short(value);
}

/** A share in percent, such as "34 %". */
export function percent(value) {
  return value == null ? NONE : `${Math.round(value)} %`;
}

/** How long ago, such as "8 s ago"; both in seconds since 1970. */
export function ago(time, now) {
  if (time == null) return NONE;
  const seconds = Math.max(0, now - time);
  if (seconds < 2) return "now";
  if (seconds < 60) return `${Math.floor(seconds)} s ago`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ago`;
  if (seconds < 86_400) return `${Math.floor(seconds / 3600)} h ago`;
  return `${Math.floor(seconds / 86_400)} d ago`;
}

const CLOCK = new Intl.DateTimeFormat(undefined, {
  hour: "2-digit", minute: "2-digit", second: "2-digit", hour12: false,
});

/** The time of day here, of seconds since 1970. */
export function clock(time) {
  return CLOCK.format(time * 1000);
}

/** "1 model", "2 models". */
export function several(number, noun) {
  return `${count(number)} ${noun}${number === 1 ? "" : "s"}`;
}

/** Two digits that count; whole numbers from ten on. */
function short(value) {
  if (value >= 9.95) return WHOLE.format(Math.round(value));
  return value.toFixed(value >= 0.0995 || value === 0 ? 1 : 2).replace(/\.0+$/, "");
}
