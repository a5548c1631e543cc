// The page: which feeds there are, which one is shown, and everything around the list that is not a row.

import { adoptToken, explain, get, setToken } from './api.js';
import { make } from './cells.js';
import { Chart } from './chart.js';
import { Detail } from './detail.js';
import { download, toCsv, toJson } from './export.js';
import { Profile, RESERVED, toneOf } from './profile.js';
import { Table } from './table.js';
import { clock, count, idDistance, isId, maxId, parseTime, sentence, span } from './values.js';
import { FeedView } from './view.js';

const FEEDS_MS = 5_000;
const TICK_MS = 1_000;
const RENDER_MS = 120;
const CHART_MS = 10_000;
/** Rows may be deleted or changed behind the page's back: its totals are asked for anew this often. */
const RECOUNT_MS = 60_000;
const NOTE_MS = 12_000;

const $ = (id) => document.getElementById(id);

let feeds = null;
let view = null;
/** Feed name → Profile: what was learnt of the columns outlives a change of filters. */
const profiles = new Map();

const table = new Table({
  grid: $('grid'),
  head: $('grid-head'),
  body: $('grid-body'),
  onOpen: (entry) => detail.open(entry, view.profile),
  onEnd: () => view?.loadOlder().catch(() => {}),
  onTop: (atTop) => {
    if (!view || view.paused || !atTop || view.unseen === 0) return;
    view.unseen = 0;
    renderFresh();
  },
});
const detail = new Detail($('detail'), table);
const chart = new Chart({ name: $('chart-name'), svg: $('chart-svg'), readout: $('chart-readout'), axis: $('chart-axis'), select: $('chart-range') });

// --- Notices: one line for each thing that is wrong, gone when it is over ---

const notices = new Map();

function notice(name, content, kind = 'warn') {
  const old = notices.get(name);
  if (!content) {
    old?.element.remove();
    notices.delete(name);
    return;
  }
  if (old?.title === content.title && old?.text === content.text) return;
  const element = make('p', `notice ${kind}`);
  element.append(make('strong', '', content.title), ' ', make('span', '', content.text));
  if (old) old.element.replaceWith(element);
  else $('notices').append(element);
  notices.set(name, { ...content, element });
}

function passingNotice(name, content) {
  notice(name, content, 'info');
  const { element } = notices.get(name);
  setTimeout(() => notices.get(name)?.element === element && notice(name, null), NOTE_MS);
}

// --- Feeds and the address ---

/** The feed and the filters that the address names: `#/feed?tenant=acme`. */
function place() {
  const [name, query = ''] = location.hash.replace(/^#\/?/, '').split('?');
  let wanted = name;
  try {
    wanted = decodeURIComponent(name);
  } catch {
    // Not a name this page wrote: no feed has it, the first one is shown.
  }
  const feed = feeds.find((one) => one.name === wanted) ?? feeds[0];
  const known = ([column]) => (feed.columns.includes(column) || column === feed.key) && !RESERVED.includes(column);
  return { feed, unknown: wanted !== '' && feed.name !== wanted ? wanted : null, filters: [...new URLSearchParams(query)].filter(known) };
}

function go(feedName, filters) {
  const query = new URLSearchParams(filters).toString();
  const hash = `#/${encodeURIComponent(feedName)}${query ? `?${query}` : ''}`;
  // What was shown before stays one step back; the same place again is no step.
  if (hash !== location.hash) history.pushState(null, '', hash);
  openView();
}

async function refreshFeeds() {
  try {
    const answer = await get('api/feeds');
    if (!Array.isArray(answer.feeds)) throw new Error('The list of feeds could not be read.');
    notice('feeds', null);
    takeFeeds(answer.feeds);
  } catch (error) {
    if (error.status === 401) return askToken(error);
    if (!view) showEmpty(explain(error));
    // With a view open its own stream tells of a lost daemon, in the same words.
    else if (error.status !== 0) notice('feeds', explain(error));
    else notice('feeds', null);
  }
}

let relisting = false;

/** Rows have columns the list of feeds did not: ask again, once however many rows say so. */
async function relist() {
  if (relisting) return;
  relisting = true;
  await refreshFeeds();
  relisting = false;
}

const shapeOf = (feed) => JSON.stringify([feed.name, feed.key, feed.columns, feed.ws, feed.events, feed.message]);

function takeFeeds(list) {
  const names = feeds?.map((feed) => feed.name).join('\n');
  feeds = list;
  if (names !== list.map((feed) => feed.name).join('\n')) renderTabs();
  if (list.length === 0) {
    view?.close();
    view = null;
    return showEmpty({ title: 'No feeds', text: 'The daemon’s configuration names no feed to show.' });
  }
  const current = view && list.find((feed) => feed.name === view.feed.name);
  if (!current || shapeOf(current) !== shapeOf(view.feed)) return openView();
  view.feed = current;
  renderMode();
  renderFeedState();
  renderHealth();
}

function profileFor(feed) {
  const old = profiles.get(feed.name);
  if (old && shapeOf(old.feed) === shapeOf(feed)) return old;
  const profile = new Profile(feed);
  profiles.set(feed.name, profile);
  return profile;
}

function openView() {
  view?.close();
  if ($('detail').open) $('detail').close();
  const { feed, filters, unknown } = place();
  for (const name of ['stream', 'state', 'malformed']) notice(name, null);
  if (unknown) passingNotice('unknown', { title: 'Unknown feed', text: `There is no feed “${unknown}” here.` });
  view = new FeedView({
    feed, filters, profile: profileFor(feed), table, chart,
    on: { status: renderStatus, change: render, columns: relist, restart, denied: askToken },
  });
  $('token').hidden = true;
  $('panel').classList.remove('bare');
  renderTabs();
  renderFilters();
  render(view);
  renderStatus(view);
  view.open();
}

const RESTARTS = {
  replaced: { title: 'The database was replaced.', text: 'This is the new history; the rows shown before are gone.' },
  changed: { title: 'The history changed.', text: 'The rows were loaded anew.' },
  behind: { title: 'Many rows came while this page was away.', text: 'The newest are shown; scroll down for those before.' },
};

function restart(reason) {
  if (reason !== 'behind') profiles.delete(view.feed.name);
  openView();
  passingNotice('restart', RESTARTS[reason]);
}

// --- Drawing ---

function renderTabs() {
  const current = view?.feed.name;
  $('tabs').replaceChildren(...feeds.map(({ name }) => {
    const tab = make('button', 'tab', name);
    tab.type = 'button';
    tab.setAttribute('role', 'tab');
    tab.setAttribute('aria-controls', 'panel');
    tab.setAttribute('aria-selected', name === current);
    tab.tabIndex = name === current ? 0 : -1;
    tab.addEventListener('click', () => name !== view?.feed.name && go(name, []));
    return tab;
  }));
}

$('tabs').addEventListener('keydown', (event) => {
  const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
  const at = feeds.findIndex(({ name }) => name === view?.feed.name);
  if (step === undefined || at < 0) return;
  event.preventDefault();
  go(feeds[(at + step + feeds.length) % feeds.length].name, []);
  $('tabs').querySelector('[aria-selected=true]').focus();
});

let renderTimer = 0;
let renderDue = false;

/** Draws what surrounds the rows: at once, and then a few times a second however many rows come. */
function render(changed) {
  if (changed !== view) return;
  renderDue = true;
  if (renderTimer !== 0) return;
  renderDue = false;
  renderNow();
  renderTimer = setTimeout(() => {
    renderTimer = 0;
    if (renderDue && view) render(view);
  }, RENDER_MS);
}

function renderNow() {
  renderTiles();
  renderFilters();
  renderFresh();
  renderFeedState();
  renderHealth();
  detail.refresh();
  renderMode();
}

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
function lastOf(tone) {
  const { time, status } = view.profile;
  const entry = time && view.log.entries.findLast(({ row }) => toneOf(row[status]) === tone);
  const at = entry && parseTime(entry.row[time]);
  if (!at) return '\u00a0';
  const moment = clock(at.ms);
  return `last ${moment.day || moment.time}`;
}

function renderTiles() {
  const all = view.counts.of('all');
  const since = `+${count(view.arrived)} since opened`;
  const total = tile(view.filters.length > 0 ? 'Matching' : 'Total', tallyText(all), since);
  if (!view.profile.rated) {
    const head = view.stream?.head ?? view.feed.head;
    $('tiles').replaceChildren(total, tile('Newest id', isId(head) ? count(head) : '–', 'the head of the feed'));
    return;
  }
  const good = view.counts.of('good');
  const bad = view.counts.of('bad');
  const rated = good && bad ? good.n + bad.n : 0;
  const share = rated > 0 && !good.capped && !bad.capped ? good.n / rated : null;
  const rate = share === null ? '–' : `${(share === 1 ? 100 : Math.min(99.9, share * 100)).toFixed(share === 1 ? 0 : 1)}%`;
  const why = good?.capped || bad?.capped ? 'too many to count exactly' : `of ${count(rated)} finished`;
  $('tiles').replaceChildren(
    total,
    tile('Success rate', rate, rated > 0 ? why : 'none finished yet', 'rate', share ?? 0),
    tile('Successful', tallyText(good), lastOf('good'), 'good'),
    tile('Failed', tallyText(bad), lastOf('bad'), bad?.n ? 'bad' : ''),
  );
}

let filtersShown = '';

function renderFilters() {
  const { profile, filters } = view;
  const columns = [...new Set([...profile.facets, ...filters.map(([name]) => name)])];
  const shape = JSON.stringify([view.feed.name, filters, columns.map((name) => [name, profile.valuesOf(name)])]);
  $('clear').hidden = filters.length === 0;
  // Rebuilding closes an open list under the pointer: only when something changed, and not while one is in use.
  if (shape === filtersShown || ($('filters').contains(document.activeElement) && filtersShown !== '' && view.arrived > 0)) return;
  filtersShown = shape;
  const focused = document.activeElement?.dataset?.column;
  $('filters').replaceChildren(...columns.map(filterControl));
  if (focused !== undefined) [...$('filters').querySelectorAll('select')].find((one) => one.dataset.column === focused)?.focus();
}

function filterControl(name) {
  const chosen = view.filters.filter(([column]) => column === name).map(([, value]) => value);
  const label = make('label', chosen.length > 0 ? 'filter on' : 'filter');
  const select = make('select');
  select.dataset.column = name;
  select.append(new Option('All', 'all'));
  // Values travel behind a prefix: a value may itself be "all".
  for (const value of new Set([...view.profile.valuesOf(name), ...chosen])) {
    select.append(new Option(value === '' ? '(empty)' : value, `=${value}`));
  }
  // The address may ask for several values: they are shown as what they are, and stay until another choice is made.
  if (chosen.length > 1) select.prepend(new Option(chosen.map((value) => value || '(empty)').join(' or '), 'several'));
  select.value = chosen.length > 1 ? 'several' : chosen.length === 1 ? `=${chosen[0]}` : 'all';
  select.addEventListener('change', () => {
    const others = view.filters.filter(([column]) => column !== name);
    go(view.feed.name, select.value === 'all' ? others : [...others, [name, select.value.slice(1)]]);
  });
  label.append(make('span', '', name), select);
  return label;
}

function renderFresh() {
  const n = view.unseen;
  $('fresh').hidden = n === 0;
  $('fresh').textContent = `${count(n)} new ${n === 1 ? 'row' : 'rows'}${view.paused ? ' · resume' : ' ↑'}`;
  $('pause').textContent = view.paused ? 'Resume' : 'Pause';
  $('pause').setAttribute('aria-pressed', view.paused);
}

function showEmpty({ title, text }, { clear = false } = {}) {
  // Without a feed, or with one that can't be read, there is nothing to count, to filter or to export.
  $('panel').classList.toggle('bare', view === null || view.feed.status === 'error');
  $('grid').hidden = true;
  $('empty').hidden = false;
  $('empty-title').textContent = title;
  $('empty-text').textContent = text;
  $('empty-clear').hidden = !clear;
}

/** What the daemon says of the table itself: there, awaited, or not readable. */
function feedProblem({ status, reason, table: name }) {
  if (status === 'waiting') {
    const what = /\btable\b/i.test(reason ?? '') ? `The table ${name}` : 'The database';
    return { title: `${what} is not there yet`, text: `${sentence(reason)} Rows appear here by themselves once they are committed.` };
  }
  if (status === 'error') return { title: 'The database can’t be read', text: `${sentence(reason)} The page goes on by itself when it can.` };
  return null;
}

function renderFeedState() {
  const state = feedProblem(view.feed);
  const empty = view.shown.length === 0;
  notice('state', empty ? null : state);
  if (!$('token').hidden) return;
  if (!empty) {
    $('panel').classList.remove('bare');
    $('grid').hidden = false;
    $('empty').hidden = true;
    // The grid had no height while it was hidden.
    table.schedule();
    return;
  }
  if (view.problem?.unreachable) return showEmpty(view.problem);
  if (state) return showEmpty(state);
  if (view.problem && view.loading) return showEmpty(view.problem);
  if (view.loading) return showEmpty({ title: 'Loading', text: '' });
  if (view.filters.length > 0) return showEmpty({ title: 'No row matches these filters', text: 'Matching rows appear here when they are committed.' }, { clear: true });
  showEmpty({ title: 'No rows yet', text: `The first row committed to ${view.feed.table} appears here by itself.` });
}

/** One word for how rows come now; a database that can't be read is never called live. */
function modeWord() {
  if (view.problem?.unreachable) return 'Disconnected';
  if (view.feed.status === 'error') return 'Unreadable';
  if (view.feed.status === 'waiting' || view.stream?.waiting) return 'Waiting';
  if (view.live) return 'Live';
  return view.loading ? 'Connecting' : 'Polling';
}

function renderMode() {
  const mode = modeWord();
  $('dot').classList.toggle('live', mode === 'Live');
  $('dot').title = mode;
  $('mode').textContent = mode;
  document.title = mode === 'Live' ? `${view.feed.name} · walcast` : `○ ${view.feed.name} · walcast`;
}

let wasLive = false;

function renderStatus(changed) {
  if (changed !== view) return;
  const live = view.live;
  // Connecting and leaving change who is subscribed, this page included.
  if (live !== wasLive) setTimeout(refreshFeeds, 300);
  wasLive = live;
  if (view.stream?.waiting) setTimeout(refreshFeeds, 300);
  renderMode();
  notice('stream', view.loading ? null : view.problem);
  const bad = view.stream?.malformed ?? 0;
  notice('malformed', bad === 0 ? null : {
    title: `${count(bad)} ${bad === 1 ? 'frame' : 'frames'} could not be read.`,
    text: 'The rows were fetched from the history instead.',
  });
  render(view);
}

/** How far this page is behind the head. With filters the rows that do not match can't be told from rows to come. */
function lag() {
  const { stream, feed, filters } = view;
  if (view.problem?.unreachable) return { text: '–', title: 'Not known: the daemon does not answer', head: stream?.head };
  const head = maxId(stream?.head, isId(feed.head) ? feed.head : null);
  if (!stream || filters.length > 0) return { text: '–', title: 'Not measured while a filter is on: rows that do not match are not sent', head };
  if (head === null) return { text: '0', title: 'No rows yet', head };
  const all = isId(feed.earliest) ? idDistance(head, feed.earliest) + 1n : 0n;
  const behind = stream.reached === null ? all : idDistance(head, stream.reached);
  return { text: behind > 0n ? `${count(String(behind))} ids` : '0', title: `Head ${head}, received up to ${stream.reached ?? 'nothing'}`, head, behind };
}

function renderHealth() {
  if (!view) return;
  const { text, title, head, behind } = lag();
  $('subscribers').textContent = view.problem?.unreachable ? '–' : count(view.feed.subscribers ?? 0);
  $('lag').textContent = text;
  $('lag').title = title;
  $('lag').classList.toggle('warn', (behind ?? 0n) > 0n);
  const heard = view.stream?.lastHeard ?? 0;
  const ago = heard === 0 ? '–' : span(Date.now() - heard);
  $('heard').textContent = ago === 'now' || ago === '–' ? ago : `${ago} ago`;
  $('head').textContent = isId(head) ? count(head) : '–';
  $('source').textContent = view.feed.table;
  $('source').title = view.feed.epoch ? `Epoch ${view.feed.epoch}` : '';
  $('loaded').textContent = view.loadedText;
}

// --- Token ---

function askToken(error) {
  if (!$('token').hidden) return;
  showEmpty({ title: 'A token is needed', text: `${sentence(error.message)} It is kept until this tab is closed.` });
  $('token').hidden = false;
  $('token-input').focus();
}

function useToken() {
  const value = $('token-input').value.trim();
  if (value === '') return;
  setToken(value);
  $('token-input').value = '';
  $('token').hidden = true;
  if (view) openView();
  refreshFeeds();
}

// --- Controls ---

$('token').addEventListener('submit', (event) => {
  event.preventDefault();
  useToken();
});
$('clear').addEventListener('click', () => {
  go(view.feed.name, []);
  $('filters').querySelector('select')?.focus();
});
$('empty-clear').addEventListener('click', () => go(view.feed.name, []));
$('pause').addEventListener('click', () => view?.setPaused(!view.paused));
$('fresh').addEventListener('click', () => {
  if (view.paused) view.setPaused(false);
  else table.toTop();
});

async function exportRows(button, kind) {
  if (!view || button.disabled) return;
  const label = button.textContent;
  const exported = view;
  button.disabled = true;
  button.textContent = 'Exporting…';
  try {
    const rows = await exported.rowsForExport();
    const name = `${exported.feed.name}-${new Date().toISOString().replace(/[:.]/g, '-')}.${kind}`;
    if (kind === 'csv') download(name, 'text/csv;charset=utf-8', toCsv(exported.profile.columns, rows));
    else download(name, 'application/json', toJson(rows));
    notice('export', null);
  } catch (error) {
    notice('export', { title: 'The export failed.', text: explain(error).text });
  } finally {
    button.disabled = false;
    button.textContent = label;
  }
}

$('export-json').addEventListener('click', (event) => exportRows(event.currentTarget, 'json'));
$('export-csv').addEventListener('click', (event) => exportRows(event.currentTarget, 'csv'));

addEventListener('hashchange', () => feeds?.length && openView());
addEventListener('online', () => view?.stream?.hurry());
document.addEventListener('visibilitychange', () => {
  if (document.hidden) return;
  view?.stream?.hurry();
  view?.redrawChart();
  refreshFeeds();
});

setInterval(() => document.hidden || refreshFeeds(), FEEDS_MS);
setInterval(() => document.hidden || renderHealth(), TICK_MS);
setInterval(() => document.hidden || view?.redrawChart(), CHART_MS);
setInterval(() => document.hidden || view?.recount(), RECOUNT_MS);
adoptToken();
refreshFeeds();
