// Events counted by stretches of time, for the chart.

import { toneOf } from './profile.js';
import { parseTime } from './values.js';

const MINUTE = 60_000;
export const RANGES = [
  { name: '15 min', ms: 15 * MINUTE, bins: 45 },
  { name: '1 h', ms: 60 * MINUTE, bins: 60 },
  { name: '6 h', ms: 360 * MINUTE, bins: 72 },
  { name: '24 h', ms: 1_440 * MINUTE, bins: 72 },
  { name: '7 d', ms: 10_080 * MINUTE, bins: 84 },
  { name: 'All', ms: 0, bins: 72 },
];
/** In the order in which they stand on each other, from the ground up. */
export const TONES = ['bad', 'busy', 'plain', 'good'];

/** `{at, tone}` of each entry whose time can be read; kept with the entry, for 10,000 of them are drawn again and again. */
export function pointsOf(entries, { time, status }) {
  const points = [];
  for (const entry of entries) {
    if (entry.point?.by !== time) {
      entry.point = { by: time, at: parseTime(entry.row[time])?.ms ?? 0, tone: status ? toneOf(entry.row[status]) : 'plain' };
    }
    if (entry.point.at > 0) points.push(entry.point);
  }
  return points;
}

/** The range of this name, or the shortest one that shows most of what there is. */
export function chooseRange(name, points, now) {
  const chosen = RANGES.find((range) => range.name === name);
  if (chosen) return chosen;
  const within = (ms) => points.reduce((n, { at }) => n + (at >= now - ms), 0);
  const enough = Math.max(1, Math.min(points.length * 0.8, 200));
  return RANGES.find(({ ms }) => ms > 0 && within(ms) >= enough) ?? RANGES[points.length > 0 ? 5 : 1];
}

/** Points from `start` to `end` (ms) in `n` bins: `{from, to, all, good, bad, busy, plain}`. With `open` an end of now takes what is later. */
export function binsOf(points, { start, end, n, open }) {
  const width = (end - start) / n;
  const bins = Array.from({ length: n }, (_, i) => ({ from: start + i * width, to: start + (i + 1) * width, all: 0, good: 0, bad: 0, busy: 0, plain: 0 }));
  for (const { at, tone } of points) {
    // A writer's clock may run ahead of this one: its rows belong to the newest bar, not to nowhere.
    const place = Math.floor((at - start) / width);
    const bin = bins[open ? Math.min(n - 1, place) : place];
    if (!bin) continue;
    bin.all += 1;
    bin[tone] += 1;
  }
  return bins;
}
