// The page: which feeds there are, which one is shown, and what follows when either changes.

import { AddFilter } from './add-filter.js';
import { explain, get } from './api.js';
import { Arranging } from './arranging.js';
import { Chart } from './chart.js';
import { Connect } from './connect.js';
import { Detail } from './detail.js';
import { EmptyState } from './empty.js';
import { exportRows } from './export.js';
import { FeedList } from './feed-list.js';
import { keepShapes, shapeOf } from './feed-shape.js';
import { FilterBar } from './filters.js';
import { feedProblem, modeWord, renderHealth } from './health.js';
import { Keys } from './keys.js';
import { Notices } from './notices.js';
import { addressOf, readPlace } from './place.js';
import { Profile } from './profile.js';
import { Table } from './table.js';
import { renderTiles } from './tiles.js';
import { TokenForm, adoptToken, refusalOf, token } from './token.js';
import { HoverButton, ValueMenu } from './value-menu.js';
import { count, isId } from './values.js';
import { FeedView } from './view.js';

const FEEDS_MS = 3_000;
const TICK_MS = 1_000;
const RENDER_MS = 120;
const CHART_MS = 10_000;
/** Rows may be deleted or changed behind the page's back: its totals are asked for anew this often. */
const RECOUNT_MS = 60_000;

const $ = (id) => document.getElementById(id);

let feeds = null;
let view = null;
/** The id of a row that the address names and that is still to be opened. */
let wantedRow = null;
/** Feed name → Profile: what was learnt of the columns outlives a change of filters. */
const profiles = new Map();

const notices = new Notices($('notices'));
const table = new Table({
  grid: $('grid'),
  head: $('grid-head'),
  body: $('grid-body'),
  onOpen: (entry) => detail.open(entry, view.profile),
  // The end of what was found is soon in sight: a search over all rows would load them all.
  onEnd: () => view?.arrangement.active || view?.loadOlder().catch(() => {}),
  onTop: (atTop) => {
    if (!view || view.paused || !atTop || view.unseen === 0) return;
    view.unseen = 0;
    renderFresh();
  },
  onSort: (column) => arranging.sortBy(column),
  onResize: (column, ch, done) => arranging.resize(column, ch, done),
});
const onFilter = (filters) => go(view.feed.name, filters);
const valueMenu = new ValueMenu($('value-menu'), { current: () => view, onFilter });
new HoverButton({ button: $('value-open'), list: $('list'), body: $('grid-body'), entryOf: (id) => table.entry(id), menu: valueMenu });
new AddFilter({
  button: $('add-filter'), popover: $('filter-form'), form: $('filter-form'), column: $('filter-column'), value: $('filter-value'), known: $('filter-known'),
}, { current: () => view, onFilter });
const detail = new Detail($('detail'), { table, menu: valueMenu, onShow: showRowInAddress });
const chart = new Chart({
  figure: $('chart'), place: $('chart-place'), readout: $('chart-readout'), legend: $('chart-legend'),
  select: $('chart-range'), unzoom: $('chart-unzoom'), tip: $('chart-tip'),
});
const arranging = new Arranging({
  search: $('search'), note: $('arranged'), text: $('arranged-text'), more: $('arranged-more'), undo: $('arranged-undo'),
  viewMenu: {
    button: $('view-open'), popover: $('view-menu'), order: $('view-order'), columns: $('view-columns'), reset: $('view-reset'),
    exports: [$('export-json'), $('export-csv')], actions: $('actions'), within: $('view-exports'),
  },
}, { table, current: () => view, changed: render });
const feedList = new FeedList({
  aside: $('feeds'), nav: $('feeds-nav'), list: $('feed-list'), find: $('feed-find'), none: $('feed-none'),
  button: $('feeds-open'), name: $('feed-name'), sheet: $('feeds-sheet'),
});
const filterBar = new FilterBar({ container: $('filters'), clear: $('clear'), onChange: onFilter });
const connect = new Connect($('connect'), () => ({ feed: view.feed, filters: view.filters, newest: view.log.entries.at(-1)?.row }));
const empty = new EmptyState({
  panel: $('panel'), grid: $('grid'), box: $('empty'), title: $('empty-title'), text: $('empty-text'),
  clear: $('empty-clear'), connect: $('empty-connect'), test: $('empty-test'),
});
const tokenForm = new TokenForm({
  form: $('token'), input: $('token-input'), fault: $('token-fault'), forget: $('token-forget'),
  onToken: () => {
    notices.set('token', null);
    empty.show({ title: 'Loading', text: '' }, { bare: true });
    refreshFeeds();
  },
});

// --- Feeds and the address ---

function go(feedName, filters) {
  const hash = addressOf(feedName, filters);
  // What was shown before stays one step back; the same place again is no step.
  if (hash !== location.hash) history.pushState(null, '', hash);
  openView();
}

async function refreshFeeds() {
  // A token that was refused is not presented again: the daemon counts those.
  if (tokenForm.open) return;
  const presented = token();
  try {
    const answer = await get('api/feeds');
    if (!Array.isArray(answer.feeds)) throw new Error('The list of feeds could not be read.');
    if (presented !== token() || tokenForm.open) return;
    notices.set('feeds', null);
    takeFeeds(answer.feeds);
  } catch (error) {
    if (presented !== token()) return;
    if (error.status === 401) return askToken(refusalOf(error));
    if (!view) empty.show(explain(error), { bare: true });
    // With a view open its own stream tells of a lost daemon, in the same words.
    else notices.set('feeds', error.status === 0 ? null : explain(error));
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

function takeFeeds(told) {
  const list = keepShapes(told, feeds);
  feeds = list;
  feedList.update(list, !document.hidden);
  $('token-open').hidden = token() === '';
  if (list.length === 0) {
    closeView();
    const text = token() === '' ? 'The daemon’s configuration names no feed to show.' : 'The token in use may read no feed of this daemon.';
    return empty.show({ title: 'No feeds', text }, { bare: true });
  }
  const current = view && list.find((feed) => feed.name === view.feed.name);
  if (!current) return openView();
  // The list may know of another history before the stream was told.
  if (shapeOf(current) !== shapeOf(view.feed)) return isOtherHistory(current) ? restart('changed') : openView();
  view.feed = current;
  renderMode();
  renderFeedState();
  renderHealth(view);
}

/** Whether the rows on the screen are known to be of another history than those of the feed as it is listed. */
function isOtherHistory({ epoch }) {
  const shown = view.stream?.epoch ?? null;
  return shown !== null && epoch !== null && epoch !== shown;
}

function profileFor(feed) {
  const old = profiles.get(feed.name);
  if (old && shapeOf(old.feed) === shapeOf(feed)) return old;
  const profile = new Profile(feed);
  profiles.set(feed.name, profile);
  return profile;
}

function closeView() {
  view?.close();
  view = null;
  wantedRow = null;
  for (const dialog of document.querySelectorAll('dialog[open]')) dialog.close();
  for (const name of ['stream', 'state', 'malformed']) notices.set(name, null);
}

function openView() {
  const old = view;
  closeView();
  const { feed, filters, unknown, row } = readPlace(feeds);
  wantedRow = row;
  if (unknown) notices.pass('unknown', { title: 'Unknown feed', text: `There is no feed “${unknown}” here.` });
  view = new FeedView({
    feed, filters, profile: profileFor(feed), layout: arranging.layoutOf(feed.name), table, chart,
    on: { status: renderStatus, change: render, columns: relist, restart, denied: (error) => askToken(refusalOf(error)) },
  });
  arranging.hand(old, view);
  $('connect-open').disabled = false;
  feedList.select(feed.name);
  filterBar.render(view);
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
  notices.pass('restart', RESTARTS[reason]);
}

/** The address names the row that is open, so that it can be passed on; going back closes the row with its view. */
function showRowInAddress(entry) {
  if (view) history.replaceState(null, '', addressOf(view.feed.name, view.filters, entry && { id: entry.id, epoch: view.stream?.epoch ?? null }));
}

/** Opens the row that the address names. */
async function openWanted() {
  const [{ id, epoch }, at] = [wantedRow, view];
  wantedRow = null;
  // An id is given again in another history: what has it there is another row.
  if (epoch !== null && at.stream?.epoch && epoch !== at.stream.epoch) {
    notices.pass('row', { title: `Row ${id} is not here any more.`, text: 'The link is of another history: the database was replaced since.' });
    return showRowInAddress(null);
  }
  try {
    const entry = isId(id) ? await at.row(id) : null;
    if (at !== view) return;
    if (entry) {
      table.select(entry);
      return detail.open(entry, view.profile);
    }
    const why = view.profile.own ? 'It is kept no longer, never was, or does not match the filters.' : view.filters.length > 0 ? 'It was deleted, or does not match the filters.' : 'It was deleted, or never written.';
    notices.pass('row', { title: `There is no ${view.profile.own ? 'change' : 'row'} ${id} here.`, text: why });
  } catch (error) {
    if (at === view) notices.pass('row', explain(error));
  }
  showRowInAddress(null);
}

/** Nothing is asked for until there is another token; what was read with the old one leaves the screen. */
function askToken(problem) {
  if (tokenForm.open) return;
  closeView();
  $('token-open').hidden = true;
  $('connect-open').disabled = true;
  showMode('No access');
  empty.show({ title: problem.title, text: `${problem.text} It is kept until this tab is closed.` }, { bare: true });
  tokenForm.ask();
}

function adopt() {
  const adopted = adoptToken();
  if (adopted === 'malformed') notices.pass('token', { title: 'The link’s token is not one.', text: 'It has characters that no token has, or none at all: was it cut?' });
  return adopted === 'taken';
}

// --- Drawing ---

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
  renderTiles($('tiles'), view);
  filterBar.render(view);
  renderFresh();
  renderFeedState();
  renderHealth(view);
  detail.refresh();
  renderMode();
  arranging.render(view);
  if (wantedRow !== null && !view.loading) openWanted();
}

function renderFresh() {
  const n = view.unseen;
  $('fresh').hidden = n === 0;
  $('fresh').textContent = `${count(n)} new ${n === 1 ? 'row' : 'rows'}${view.paused ? ' · resume' : ' ↑'}`;
  $('pause').textContent = view.paused ? 'Resume' : 'Pause';
  $('pause').setAttribute('aria-pressed', view.paused);
}

function renderFeedState() {
  const state = feedProblem(view.feed, { had: view.shown.length > 0 });
  notices.set('state', view.shown.length === 0 ? null : state);
  empty.render(view, state);
  // The grid had no height while it was hidden.
  if (view.listed > 0) table.schedule();
}

function showMode(mode) {
  $('dot').classList.toggle('live', mode === 'Live');
  $('dot').title = mode;
  $('mode').textContent = mode;
}

function renderMode() {
  const mode = modeWord(view);
  showMode(mode);
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
  notices.set('stream', view.loading ? null : view.problem);
  const bad = view.stream?.malformed ?? 0;
  notices.set('malformed', bad === 0 ? null : {
    title: `${count(bad)} ${bad === 1 ? 'frame' : 'frames'} could not be read.`,
    text: 'The rows were fetched from the history instead.',
  });
  render(view);
}

// --- Controls ---

$('connect-open').addEventListener('click', () => view && connect.open());
$('empty-connect').addEventListener('click', () => view && connect.open());
$('empty-test').addEventListener('click', () => view && connect.open({ test: true }));
$('empty-clear').addEventListener('click', () => go(view.feed.name, []));
$('token-open').addEventListener('click', () => askToken({ title: 'Another token', text: 'Paste it, or go on without one.' }));
$('pause').addEventListener('click', () => view?.setPaused(!view.paused));
$('fresh').addEventListener('click', () => {
  if (view.paused) view.setPaused(false);
  else table.toTop();
});
for (const kind of ['json', 'csv']) {
  $(`export-${kind}`).addEventListener('click', ({ currentTarget }) => view && exportRows(view, currentTarget, kind, (problem) => notices.set('export', problem)));
}

new Keys({
  help: $('help'), toggle: $('keys-toggle'), open: $('help-open'),
  actions: {
    '/': () => arranging.focusSearch(),
    j: () => table.step(1),
    k: () => table.step(-1),
    '[': () => feeds?.length > 1 && go(feedList.neighbour(-1), []),
    ']': () => feeds?.length > 1 && go(feedList.neighbour(1), []),
    p: () => view?.setPaused(!view.paused),
    c: () => view && connect.open(),
  },
});

addEventListener('hashchange', () => {
  if (adopt()) {
    closeView();
    $('token').hidden = true;
    refreshFeeds();
  } else if (feeds?.length && !tokenForm.open) openView();
});
addEventListener('online', () => view?.stream?.hurry());
document.addEventListener('visibilitychange', () => {
  if (document.hidden) return;
  view?.stream?.hurry();
  view?.redrawChart();
  refreshFeeds();
});

setInterval(() => document.hidden || refreshFeeds(), FEEDS_MS);
setInterval(() => document.hidden || !view || renderHealth(view), TICK_MS);
setInterval(() => document.hidden || view?.redrawChart(), CHART_MS);
setInterval(() => document.hidden || view?.recount(), RECOUNT_MS);
adopt();
refreshFeeds();
