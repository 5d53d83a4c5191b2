// SPDX-License-Identifier: Apache-2.0
// Numbers and times as people read them, by the rules of client/view/format.c.

function scaled(value, units) {
  if (!Number.isFinite(value) || value < 0) return "?";
  let unit = 0;
  while (value >= 999.5 && unit + 1 < units.length) {
    value /= 1000;
    unit += 1;
  }
  const digits = unit === 0 || value >= 99.95 ? 0 : value >= 9.995 ? 1 : 2;
  return value.toFixed(digits) + (units[unit] === "" ? "" : ` ${units[unit]}`);
}

export function formatBytes(bytes) {
  return scaled(bytes, ["B", "kB", "MB", "GB", "TB", "PB", "EB"]);
}

export function formatCount(count) {
  return scaled(count, ["", "k", "M", "G", "T", "P", "E"]);
}

/** 3:07, 1:02:03 */
export function formatDuration(seconds) {
  if (!Number.isFinite(seconds) || seconds < 0 || seconds > 1e9) return "-";
  const whole = Math.round(seconds);
  const two = (number) => String(number).padStart(2, "0");
  const hours = Math.floor(whole / 3600);
  const minutes = Math.floor(whole / 60) % 60;
  return hours > 0 ? `${hours}:${two(minutes)}:${two(whole % 60)}`
                   : `${minutes}:${two(whole % 60)}`;
}

/** As C's %.*g. */
export function formatNumber(number, digits = 3) {
  if (typeof number !== "number" || !Number.isFinite(number)) return "-";
  if (number === 0) return "0";
  const exponent = Number(number.toExponential(digits - 1).split("e")[1]);
  if (exponent < -4 || exponent >= digits) {
    const [mantissa, power] = number.toExponential(digits - 1).split("e");
    const short = mantissa.includes(".") ? mantissa.replace(/\.?0+$/, "") : mantissa;
    return `${short}e${power[0]}${power.slice(1).padStart(2, "0")}`;
  }
  const fixed = number.toFixed(Math.max(0, digits - 1 - exponent));
  return fixed.includes(".") ? fixed.replace(/\.?0+$/, "") : fixed;
}

/** A part of one as a percentage: 0.0123 -> 1.23 %. */
export function formatPercent(part) {
  return typeof part === "number" && Number.isFinite(part) ? `${formatNumber(part * 100)} %` : "-";
}

/** How long ago a time of the interface was: 5m ago. */
export function formatAge(text, now = Date.now()) {
  const seconds = Math.max(0, (now - Date.parse(text)) / 1000);
  if (!Number.isFinite(seconds)) return "-";
  for (const [limit, unit, letter] of [[120, 1, "s"], [7200, 60, "m"], [172800, 3600, "h"]])
    if (seconds < limit) return `${Math.floor(seconds / unit)}${letter} ago`;
  return `${Math.floor(seconds / 86400)}d ago`;
}

/** A moment in the reader's own time zone, to the second. */
export function formatMoment(text) {
  const moment = new Date(text);
  if (Number.isNaN(moment.getTime())) return "-";
  const two = (number) => String(number).padStart(2, "0");
  return `${moment.getFullYear()}-${two(moment.getMonth() + 1)}-${two(moment.getDate())} ` +
    `${two(moment.getHours())}:${two(moment.getMinutes())}:${two(moment.getSeconds())}`;
}

/** The budget of a specification, as client/view/budget_text.c shows it. */
export function formatBudget(budget, dtype = null) {
  if (typeof budget === "string") return budget;
  if (typeof budget === "number")
    return `${formatNumber(budget, 5)} ${dtype === "auto" ? "16-bit " : ""}models`;
  if (typeof budget?.bytes === "number") return formatBytes(budget.bytes);
  if (typeof budget?.bytes_ratio === "number")
    return `${formatNumber(budget.bytes_ratio, 5)} of the base's bytes`;
  if (typeof budget?.max_error === "number") return `error ${formatNumber(budget.max_error, 5)}`;
  return "-";
}

/** "1 task", "3 tasks" */
export function formatMany(count, one, many = `${one}s`) {
  return `${count} ${count === 1 ? one : many}`;
}
