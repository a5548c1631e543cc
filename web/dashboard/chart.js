// Events over time as a small SVG: stacked by outcome where the feed has one, and honest about
// the stretch of time whose rows the page does not hold.

import { toneOf } from './profile.js';
import { clock, count, parseTime, span } from './values.js';

const SVG = 'http://www.w3.org/2000/svg';
const MINUTE = 60_000;
export const RANGES = [
  { name: '15 min', ms: 15 * MINUTE, bins: 45 },
  { name: '1 h', ms: 60 * MINUTE, bins: 60 },
  { name: '6 h', ms: 360 * MINUTE, bins: 72 },
  { name: '24 h', ms: 1_440 * MINUTE, bins: 72 },
  { name: '7 d', ms: 10_080 * MINUTE, bins: 84 },
  { name: 'All', ms: 0, bins: 72 },
];
const WIDTH = 600;
const HEIGHT = 64;
const TONES = ['bad', 'busy', 'plain', 'good'];

const shape = (tag, attributes) => {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  return element;
};

export class Chart {
  /** A range's name, or null for the shortest one that shows most of what there is. */
  range = null;
  #bins = [];
  #shown = null;

  constructor({ name, svg, readout, axis, select }) {
    Object.assign(this, { name, svg, readout, axis, select });
    svg.setAttribute('viewBox', `0 0 ${WIDTH} ${HEIGHT}`);
    svg.setAttribute('preserveAspectRatio', 'none');
    svg.addEventListener('pointermove', (event) => this.#hover(event));
    svg.addEventListener('pointerleave', () => this.#summarise());
    for (const { name } of RANGES) select.add(new Option(name, name));
    select.addEventListener('change', () => {
      this.range = select.value;
      if (this.#shown) this.draw(this.#shown);
    });
  }

  /**
   * `entries` oldest first; `complete` when they are all the rows there are. Without a time column rows are counted when
   * they arrive, from `opened` (ms since the epoch) on.
   */
  draw(view) {
    this.#shown = view;
    const { entries, profile, complete, opened } = view;
    const { time, status } = profile;
    const points = [];
    for (const entry of entries) {
      // Kept with the entry: 10,000 of them are drawn again and again.
      if (entry.point?.by !== time) {
        const at = time ? parseTime(entry.row[time])?.ms : entry.arrived;
        entry.point = { by: time, at: at ?? 0, tone: status ? toneOf(entry.row[status]) : 'plain' };
      }
      if (entry.point.at > 0) points.push(entry.point);
    }
    const now = Date.now();
    const oldest = points.reduce((min, { at }) => Math.min(min, at), now);
    const range = this.#choose(points, now);
    const start = range.ms > 0 ? now - range.ms : Math.min(oldest, now - MINUTE);
    this.select.value = range.name;
    this.#fill(points, start, now, range.bins);
    this.name.textContent = time ? 'Events' : 'Arrivals';
    if (time) this.#paint(start, now, complete || points.length === 0 ? start : oldest);
    else this.#paint(start, now, opened);
  }

  #choose(points, now) {
    const chosen = RANGES.find(({ name }) => name === this.range);
    if (chosen) return chosen;
    const within = (ms) => points.reduce((n, { at }) => n + (at >= now - ms), 0);
    const enough = Math.max(1, Math.min(points.length * 0.8, 200));
    return RANGES.find(({ ms }) => ms > 0 && within(ms) >= enough) ?? RANGES[points.length > 0 ? 5 : 1];
  }

  #fill(points, start, end, bins) {
    const width = (end - start) / bins;
    this.#bins = Array.from({ length: bins }, (_, i) => ({
      from: start + i * width, to: start + (i + 1) * width, all: 0, good: 0, bad: 0, busy: 0, plain: 0,
    }));
    for (const { at, tone } of points) {
      // A writer's clock may run ahead of this one: its rows belong to the newest bar, not to nowhere.
      const bin = this.#bins[Math.min(bins - 1, Math.floor((at - start) / width))];
      if (!bin) continue;
      bin.all += 1;
      bin[tone] += 1;
    }
  }

  #paint(start, end, known) {
    const peak = Math.max(1, ...this.#bins.map(({ all }) => all));
    const step = WIDTH / this.#bins.length;
    const parts = [];
    if (known > start) {
      const width = (WIDTH * (known - start)) / (end - start);
      parts.push(shape('rect', { class: 'unknown', x: 0, y: 0, width, height: HEIGHT }));
    }
    this.#bins.forEach((bin, i) => {
      let y = HEIGHT;
      for (const tone of TONES) {
        if (bin[tone] === 0) continue;
        const height = Math.max(1.5, ((HEIGHT - 4) * bin[tone]) / peak);
        y -= height;
        parts.push(shape('rect', { class: tone, x: i * step + step * 0.12, y, width: step * 0.76, height }));
      }
    });
    parts.push(shape('line', { class: 'base', x1: 0, x2: WIDTH, y1: HEIGHT - 0.5, y2: HEIGHT - 0.5 }));
    this.svg.replaceChildren(...parts);
    const label = (ms) => {
      const { day, time } = clock(ms);
      return `${day} ${time.slice(0, 5)}`.trim();
    };
    this.axis.replaceChildren(...[label(start), label((start + end) / 2), 'now'].map((text) => {
      const tick = document.createElement('span');
      tick.textContent = text;
      return tick;
    }));
    this.unknownUntil = known > start ? known : null;
    this.#summarise();
  }

  #summarise() {
    const all = this.#bins.reduce((sum, bin) => sum + bin.all, 0);
    const bad = this.#bins.reduce((sum, bin) => sum + bin.bad, 0);
    const width = this.#bins.length > 0 ? this.#bins[0].to - this.#bins[0].from : 0;
    const dated = Boolean(this.#shown?.profile.time);
    const parts = [dated ? `${count(all)} ${all === 1 ? 'event' : 'events'}` : `${count(all)} since opened`];
    if (bad > 0) parts.push(`${count(bad)} failed`);
    if (!dated) parts.push('no time column');
    else if (this.unknownUntil) parts.push('older rows not loaded');
    this.readout.textContent = parts.join(' · ');
    this.svg.setAttribute('aria-label', `${this.name.textContent} over time: ${parts.join(', ')}, one bar for ${span(width)}`);
  }

  #hover(event) {
    const box = this.svg.getBoundingClientRect();
    const bin = this.#bins[Math.floor(((event.clientX - box.left) / box.width) * this.#bins.length)];
    if (!bin) return;
    const name = ({ day, time }) => `${day} ${time}`.trim();
    const failed = bin.bad > 0 ? ` · ${count(bin.bad)} failed` : '';
    this.readout.textContent = `${name(clock(bin.from))} – ${clock(bin.to).time} · ${count(bin.all)}${failed}`;
  }
}
