// How rows come: one word for it, what stands in the way, and the quiet line at the foot of the page.

import { renderSinks } from './sinks.js';
import { count, idDistance, isId, maxId, sentence, span } from './values.js';

/** What the daemon says of the table itself: there (null), awaited, or not readable; `had`: rows of it were there. */
export function feedProblem({ status, reason, table }, { had }) {
  if (status === 'waiting') {
    const what = /\btable\b/i.test(reason ?? '') ? `The table ${table}` : 'The database';
    return { title: `${what} is not there ${had ? 'any more' : 'yet'}`, text: `${sentence(reason)} Rows appear here by themselves once they are committed.` };
  }
  if (status === 'error') return { title: 'The database can’t be read', text: `${sentence(reason)} The page goes on by itself when it can.` };
  return null;
}

/** One word for how rows come now; a database that can't be read is never called live. */
export function modeWord(view) {
  if (view.problem?.unreachable) return 'Disconnected';
  if (view.feed.status === 'error') return 'Unreadable';
  if (view.feed.status === 'waiting' || view.stream?.waiting) return 'Waiting';
  if (view.live) return 'Live';
  if (view.loading) return view.problem ? 'Refused' : 'Connecting';
  return 'Polling';
}

/** How far this page is behind the head. With filters the rows that do not match can't be told from rows to come. */
function lag({ stream, feed, filters, problem }) {
  if (problem?.unreachable) return { text: '–', title: 'Not known: the daemon does not answer', head: stream?.head };
  const head = maxId(stream?.head, isId(feed.head) ? feed.head : null);
  if (!stream || filters.length > 0) return { text: '–', title: 'Not measured while a filter is on: rows that do not match are not sent', head };
  if (head === null) return { text: '0', title: 'No rows yet', head };
  const all = isId(feed.earliest) ? idDistance(head, feed.earliest) + 1n : 0n;
  const behind = stream.reached === null ? all : idDistance(head, stream.reached);
  return { text: behind > 0n ? `${count(String(behind))} ids` : '0', title: `Head ${head}, received up to ${stream.reached ?? 'nothing'}`, head, behind };
}

const $ = (id) => document.getElementById(id);

export function renderHealth(view) {
  const { text, title, head, behind } = lag(view);
  const { feed, stream } = view;
  // Whose token is limited to rows is not told of others.
  $('subscribers').parentElement.hidden = feed.subscribers === undefined;
  $('subscribers').textContent = view.problem?.unreachable ? '–' : count(feed.subscribers ?? 0);
  $('lag').textContent = text;
  $('lag').title = title;
  $('lag').classList.toggle('warn', (behind ?? 0n) > 0n);
  const heard = stream?.lastHeard ?? 0;
  const ago = heard === 0 ? '–' : span(Date.now() - heard);
  $('heard').textContent = ago === 'now' || ago === '–' ? ago : `${ago} ago`;
  $('head').textContent = isId(head) ? count(head) : '–';
  $('source').textContent = feed.table;
  $('source').title = feed.epoch ? `Epoch ${feed.epoch}` : '';
  $('loaded').textContent = view.loadedText;
  renderSinks($('sinks'), feed.sinks, feed.published);
}
