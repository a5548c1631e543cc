// The numbers at the top of the page: how many rows there are, and how many of them went well.

import { make } from './cells.js';
import { toneOf } from './profile.js';
import { clock, count, isId, parseTime } from './values.js';

function tile(label, value, note, tone = '', share = null) {
  const box = make('div', `tile ${tone}`);
  box.append(make('dt', '', label), make('dd', value.length > 6 ? 'value long' : 'value', value));
  if (share !== null) {
    const meter = make('dd', 'meter');
    const fill = make('span');
    fill.style.width = `${share * 100}%`;
    meter.append(fill);
    box.append(meter);
  }
  box.append(make('dd', 'note', note));
  box.title = note.trim();
  return box;
}

const tallyText = (tally) => (tally ? `${count(tally.n)}${tally.capped ? '+' : ''}` : '–');

/** When the last row with this outcome happened, of those the page holds. */
function lastOf(view, tone) {
  const { time, status } = view.profile;
  const entry = time && view.log.entries.findLast(({ row }) => toneOf(row[status]) === tone);
  const at = entry && parseTime(entry.row[time]);
  if (!at) return '\u00a0';
  const moment = clock(at.ms);
  return `last ${moment.day || moment.time}`;
}

/** How many of the changes the page holds did what: the daemon counts only all of them. */
function opTiles(view) {
  const ops = { inserted: 0, updated: 0, deleted: 0, left: 0 };
  for (const { op } of view.log.entries) ops[op] += 1;
  const note = `of ${count(view.log.entries.length)} loaded`;
  return Object.entries(ops)
    .filter(([op, n]) => op !== 'left' || n > 0)
    .map(([op, n]) => tile(op[0].toUpperCase() + op.slice(1), count(n), note));
}

export function renderTiles(container, view) {
  const all = view.counts.of('all');
  const total = tile(view.filters.length > 0 ? 'Matching' : 'Total', tallyText(all), `+${count(view.arrived)} since opened`);
  if (view.profile.own) {
    container.replaceChildren(total, ...opTiles(view));
    return;
  }
  if (!view.profile.rated) {
    const head = view.stream?.head ?? view.feed.head;
    container.replaceChildren(total, tile('Newest id', isId(head) ? count(head) : '–', 'the head of the feed'));
    return;
  }
  const good = view.counts.of('good');
  const bad = view.counts.of('bad');
  const rated = good && bad ? good.n + bad.n : 0;
  const share = rated > 0 && !good.capped && !bad.capped ? good.n / rated : null;
  const rate = share === null ? '–' : `${(share === 1 ? 100 : Math.min(99.9, share * 100)).toFixed(share === 1 ? 0 : 1)}%`;
  const why = good?.capped || bad?.capped ? 'too many to count exactly' : `of ${count(rated)} finished`;
  container.replaceChildren(
    total,
    tile('Success rate', rate, rated > 0 ? why : 'none finished yet', 'rate', share ?? 0),
    tile('Successful', tallyText(good), lastOf(view, 'good'), 'good'),
    tile('Failed', tallyText(bad), lastOf(view, 'bad'), bad?.n ? 'bad' : ''),
  );
}
