// Events over time: stacked by outcome where the feed has one, with a legend, a tooltip and a zoom, and honest about the
// stretch of time whose rows the page does not hold. Drawn by uPlot.

import { RANGES, TONES, binsOf, chooseRange, pointsOf } from './bins.js';
import { make } from './cells.js';
import { clock, count, span } from './values.js';

const { uPlot } = globalThis;
/** Finer than this a bar says nothing. */
const ZOOM_MIN_MS = 1_000;
const WORDS = { bad: 'failed', busy: 'under way', plain: 'other', good: 'succeeded' };
/** The axis has room for "999", "1.2K" and "10K". */
const compact = new Intl.NumberFormat('en-US', { notation: 'compact' });
const FONT = '11px system-ui, sans-serif';

const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`);

function label(ms, fine) {
  const { day, time } = clock(ms);
  return `${day} ${fine ? time : time.slice(0, 5)}`.trim();
}

export class Chart {
  /** A range's name, or null for one that fits what there is. */
  range = null;
  #zoom = null;
  #bins = [];
  #shown = null;
  #plot = null;
  #off = new Set();
  #known = 0;

  constructor({ figure, place, readout, legend, select, unzoom, tip }) {
    Object.assign(this, { figure, place, readout, legend, select, unzoom, tip });
    for (const { name } of RANGES) select.add(new Option(name, name));
    select.addEventListener('change', () => {
      this.range = select.value;
      this.zoom(null);
    });
    unzoom.addEventListener('click', () => this.zoom(null));
    new ResizeObserver(() => this.#plot?.setSize(this.#size())).observe(place);
    // Colours on a canvas don't follow the theme by themselves.
    new MutationObserver(() => this.#plot?.redraw()).observe(document.documentElement, { attributeFilter: ['data-theme'] });
  }

  /** Shows `{from, to}` in ms alone, or with null what the range says. */
  zoom(stretch) {
    const wide = stretch && stretch.to - stretch.from >= ZOOM_MIN_MS;
    this.#zoom = wide ? stretch : null;
    this.unzoom.hidden = !wide;
    if (this.#shown) this.draw(this.#shown);
  }

  /** `entries` oldest first; `complete` when they are all the rows there are. Without a time column there is no chart. */
  draw(view) {
    // Another feed or filter: what was zoomed into is not its.
    if (this.#shown && this.#shown.opened !== view.opened) this.#zoom = null;
    this.#shown = view;
    const { entries, profile, complete } = view;
    this.figure.hidden = !profile.time;
    this.unzoom.hidden = this.#zoom === null;
    if (this.figure.hidden) return;
    const points = pointsOf(entries, profile);
    const now = Date.now();
    const oldest = points.reduce((min, { at }) => Math.min(min, at), now);
    const range = chooseRange(this.range, points, now);
    this.select.value = range.name;
    const { from: start, to: end } = this.#zoom ?? { from: range.ms > 0 ? now - range.ms : Math.min(oldest, now - 60_000), to: now };
    this.#bins = binsOf(points, { start, end, n: range.bins, open: this.#zoom === null });
    this.#known = complete || points.length === 0 ? start : oldest;
    this.#drawLegend();
    this.#paint(start, end);
    this.#summarise();
  }

  #size() {
    return { width: Math.max(100, this.place.clientWidth), height: this.place.clientHeight };
  }

  #data() {
    const stacked = TONES.map(() => []);
    for (const bin of this.#bins) {
      let height = 0;
      TONES.forEach((tone, i) => {
        height += this.#off.has(tone) ? 0 : bin[tone];
        stacked[i].push(height);
      });
    }
    // The highest is drawn first, and those in front of it leave its top in sight.
    return [this.#bins.map(({ from, to }) => (from + to) / 2), ...stacked.reverse()];
  }

  #paint(start, end) {
    const data = this.#data();
    const peak = Math.max(1, ...data[1]);
    if (!this.#plot) this.#plot = new uPlot(this.#options(), data, this.place);
    this.#plot.batch(() => {
      this.#plot.setData(data, false);
      this.#plot.setScale('x', { min: start, max: end });
      this.#plot.setScale('y', { min: 0, max: peak * 1.06 });
    });
  }

  #options() {
    const bars = uPlot.paths.bars({ size: [0.76, 60], gap: 0 });
    const series = (tone) => ({ label: WORDS[tone], paths: bars, fill: () => colour(`${tone}-bar`), width: 0, points: { show: false } });
    return {
      ...this.#size(),
      ms: 1,
      padding: [4, 16, 0, 0],
      legend: { show: false },
      cursor: { y: false, points: { show: false }, drag: { x: true, y: false, setScale: false }, bind: { dblclick: () => () => this.zoom(null) } },
      scales: { x: { time: true, auto: false }, y: { auto: false } },
      series: [{}, ...[...TONES].reverse().map(series)],
      axes: [
        { stroke: () => colour('faint'), font: FONT, size: 18, gap: 2, space: 90, grid: { show: false }, ticks: { show: false }, values: (_, splits) => splits.map((ms) => label(ms, this.#fine)) },
        {
          stroke: () => colour('faint'), font: FONT, size: 34, gap: 4, grid: { stroke: () => colour('line'), width: 1 }, ticks: { show: false },
          splits: (plot) => [0, Math.round(plot.scales.y.max / 1.06)], values: (_, splits) => splits.map((n) => (n === 0 ? '' : compact.format(n))),
        },
      ],
      hooks: {
        drawClear: [(plot) => this.#shade(plot)],
        setCursor: [(plot) => this.#point(plot)],
        setSelect: [(plot) => this.#select(plot)],
      },
    };
  }

  get #fine() {
    return this.#bins.length > 0 && this.#bins.at(-1).to - this.#bins[0].from < 5 * 60_000;
  }

  /** A ground of its own where the rows are not loaded: no bars there does not mean that nothing happened. */
  #shade(plot) {
    const { left, top, width, height } = plot.bbox;
    const known = Math.min(left + width, plot.valToPos(this.#known, 'x', true));
    if (!(known > left)) return;
    plot.ctx.fillStyle = colour('hover');
    plot.ctx.fillRect(left, top, known - left, height);
  }

  #select(plot) {
    const { left, width } = plot.select;
    if (width < 4) return;
    const stretch = { from: plot.posToVal(left, 'x'), to: plot.posToVal(left + width, 'x') };
    plot.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false);
    this.zoom(stretch);
  }

  #point(plot) {
    const { left, idx } = plot.cursor;
    const bin = left >= 0 && idx !== null ? this.#bins[idx] : null;
    this.tip.hidden = !bin;
    if (!bin) return;
    const lines = [...TONES].reverse().filter((tone) => bin[tone] > 0 && !this.#off.has(tone));
    this.tip.replaceChildren(
      make('div', 'tip-time', `${label(bin.from, true)} – ${clock(bin.to).time}`),
      ...lines.map((tone) => this.#swatch('div', tone, `${count(bin[tone])}${this.#toned ? ` ${WORDS[tone]}` : bin[tone] === 1 ? ' event' : ' events'}`)),
      ...(lines.length === 0 ? [make('div', '', bin.to <= this.#known ? 'not loaded' : 'none')] : []),
    );
    const { offsetLeft } = plot.over;
    const room = this.place.clientWidth - this.tip.offsetWidth;
    this.tip.style.left = `${Math.max(0, Math.min(room, offsetLeft + left + 14 > room ? offsetLeft + left - this.tip.offsetWidth - 14 : offsetLeft + left + 14))}px`;
  }

  /** Whether outcomes are told apart. */
  get #toned() {
    return this.#bins.some((bin) => bin.all > bin.plain);
  }

  #swatch(tag, tone, text) {
    const node = make(tag, `tone ${tone}`);
    node.append(make('span', 'swatch'), make('span', '', text));
    return node;
  }

  #drawLegend() {
    const tones = this.#toned ? [...TONES].reverse().filter((tone) => this.#off.has(tone) || this.#bins.some((bin) => bin[tone] > 0)) : [];
    if (!this.#toned) this.#off.clear();
    const look = JSON.stringify([tones, [...this.#off]]);
    if (look === this.legend.dataset.look) return;
    this.legend.dataset.look = look;
    const focused = document.activeElement?.dataset?.tone;
    this.legend.replaceChildren(...tones.map((tone) => {
      const button = this.#swatch('button', tone, WORDS[tone]);
      button.type = 'button';
      button.dataset.tone = tone;
      button.setAttribute('aria-pressed', !this.#off.has(tone));
      button.addEventListener('click', () => {
        if (!this.#off.delete(tone)) this.#off.add(tone);
        this.draw(this.#shown);
      });
      return button;
    }));
    if (focused) this.legend.querySelector(`[data-tone="${focused}"]`)?.focus();
  }

  #summarise() {
    const sum = (name) => this.#bins.reduce((total, bin) => total + bin[name], 0);
    const [all, bad] = [sum('all'), sum('bad')];
    const parts = [`${count(all)} ${all === 1 ? 'event' : 'events'}`];
    if (bad > 0) parts.push(`${count(bad)} failed`);
    if (this.#known > this.#bins[0].from) parts.push('older rows not loaded');
    this.readout.textContent = parts.join(' · ');
    const each = this.#bins[0].to - this.#bins[0].from;
    this.place.setAttribute('aria-label', `Events over time: ${parts.join(', ')}, one bar for ${span(each)}`);
  }
}
