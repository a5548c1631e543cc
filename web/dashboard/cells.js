// How a value looks: text, never markup, with NULL, states and moments told apart at a glance.

import { toneOf } from './profile.js';
import { clock, parseTime, textOf } from './values.js';

/** A cell shows one line: more text than this only costs layout. */
const CELL_CHARS = 300;

/** An element with its class and its text. */
export const make = (tag, className, text) => {
  const element = document.createElement(tag);
  if (className) element.className = className;
  if (text !== undefined) element.textContent = text;
  return element;
};

/** Text for a value; NULL and the empty string look unlike any text a row could hold. */
export function valueNode(value) {
  const text = textOf(value);
  if (text === null) return make('span', 'null', 'NULL');
  if (text === '') return make('span', 'null', 'empty');
  return make('span', '', text.length > CELL_CHARS ? `${text.slice(0, CELL_CHARS)}…` : text);
}

export function statusNode(value) {
  if (value === null || value === undefined || value === '') return valueNode(value);
  const pill = make('span', `pill ${toneOf(value)}`);
  pill.append(valueNode(value));
  return pill;
}

const MARKS = { inserted: '+', updated: '~', deleted: '−', left: '→' };

/** What a change did: a word and a mark, for colour alone tells nobody. */
export function opNode(word) {
  const pill = make('span', `pill op ${word}`);
  const mark = make('span', 'op-mark', MARKS[word]);
  mark.setAttribute('aria-hidden', 'true');
  pill.append(mark, word);
  return pill;
}

/** A value that was another one: that, struck through, and what it is now. */
export function changedNode(before, after) {
  const pair = make('span', 'changed');
  const [was, is] = [make('del', 'was'), make('ins', 'is')];
  was.append(valueNode(before));
  is.append(valueNode(after));
  pair.append(was, ' ', is);
  return pair;
}

export function timeNode(value) {
  const at = parseTime(value);
  if (!at) return valueNode(value);
  const { day, time } = clock(at.ms);
  const node = make('time', 'moment');
  if (day) node.append(make('span', 'day', day), ' ');
  node.append(time);
  node.title = String(value);
  return node;
}
