// SPDX-License-Identifier: Apache-2.0
// From numbers to places on a drawing.

/** A step of 1, 2 or 5 times a power of ten, of which about `count` fit into the span. */
function roundStep(span, count) {
  const rough = span / Math.max(1, count);
  const power = 10 ** Math.floor(Math.log10(rough));
  const factor = [1, 2, 5, 10].find((multiple) => multiple * power >= rough);
  return factor * power;
}

/** Round numbers from `low` to `high`, about `count` of them. */
export function ticks(low, high, count) {
  if (!(high > low)) return [low];
  const step = roundStep(high - low, count);
  const found = [];
  for (let n = Math.ceil(low / step - 1e-9); n * step <= high + step * 1e-9; n += 1)
    found.push(Number((n * step).toPrecision(12)));
  return found;
}

/** Powers of ten between two positive numbers, with 2 and 5 times them where these are few. */
export function logTicks(low, high) {
  const decades = Math.log10(high / low);
  const factors = decades < 1.5 ? [1, 2, 3, 5, 7] : decades < 3 ? [1, 3] : [1];
  const found = [];
  for (let power = Math.floor(Math.log10(low)); power <= Math.ceil(Math.log10(high)); power += 1)
    for (const factor of factors) {
      const value = Number((factor * 10 ** power).toPrecision(12));
      if (value >= low * 0.999 && value <= high * 1.001) found.push(value);
    }
  return found;
}

/** A function from [low, high], both positive, to [from, to] by logarithms. */
export function logarithmic(low, high, from, to) {
  const scale = linear(Math.log(low), Math.log(high), from, to);
  return (value) => scale(Math.log(Math.max(value, low)));
}

/** A function from [low, high] to [from, to]; what is outside stays outside. */
export function linear(low, high, from, to) {
  const span = high - low;
  return (value) => span === 0 ? (from + to) / 2 : from + ((value - low) / span) * (to - from);
}
