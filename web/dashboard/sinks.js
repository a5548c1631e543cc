// Where rows of a feed go besides, in the quiet line at the foot of the page: webhooks, and the streams of NATS. How far each is, and
// what is wrong with it.

import { count, span } from './values.js';

const WORDS = { waiting: 'waits', catching_up: 'catching up', live: 'live', failing: 'failing', ended: 'ended' };
/** A lag of less is that of a row on its way. */
const LATE_S = 5;

function words({ name, state, lag_rows: rows, lag_seconds: seconds }) {
  const late = rows !== 0 && seconds >= LATE_S;
  return `${name} ${WORDS[state] ?? state}${late ? `, ${count(rows)} ids and ${span(seconds * 1000)} behind` : ''}`;
}

const isWell = ({ state }) => state === 'live' || state === 'catching_up';

/** Shows where rows of a feed go in `box`, which is hidden where they go nowhere, or nobody may know of it. */
export function renderSinks(box, webhooks = [], published = undefined) {
  const sinks = published ? [...webhooks, { ...published, name: 'NATS' }] : webhooks;
  box.parentElement.hidden = sinks.length === 0;
  const text = sinks.map(words).join(' · ');
  if (box.textContent !== text) box.textContent = text;
  box.title = sinks.map(({ name, receiver, trouble }) => `${name} → ${receiver}${trouble ? `: ${trouble}` : ''}`).join('\n');
  box.classList.toggle('warn', !sinks.every(isWell));
}
