// A row as an element: cells under the columns' names on a wide screen, a card on a phone.

import { changedNode, make, opNode, statusNode, timeNode, valueNode } from './cells.js';
import { isChanged } from './rows.js';

export function cellClass(name, profile) {
  if (name === profile.key) return 'cell key';
  if (name === profile.time) return 'cell time';
  if (profile.numeric(name)) return 'cell number';
  return name === profile.title ? 'cell title' : 'cell';
}

function nodesOf(entry, name, profile) {
  const value = entry.row[name];
  if (name === profile.status) return [profile.own ? opNode(value) : statusNode(value)];
  if (name === profile.time) return [timeNode(value)];
  if (isChanged(entry, name)) return [changedNode(entry.before[name], value)];
  // Of a row that was deleted often only the key is known.
  return entry.op && !(name in entry.row) ? [] : [valueNode(value)];
}

/** The cells of these columns, in their order. */
export function cellsOf(entry, columns, profile) {
  return columns.map((name, i) => {
    const cell = make('div', cellClass(name, profile));
    cell.setAttribute('role', 'gridcell');
    cell.setAttribute('aria-colindex', i + 1);
    cell.dataset.column = name;
    cell.append(...nodesOf(entry, name, profile));
    return cell;
  });
}

/** Headline, status and time, and of the rest of these columns one muted line. */
export function cardOf(entry, columns, profile) {
  const { row } = entry;
  const { status, time, title, key } = profile;
  const cell = make('div', 'card');
  cell.setAttribute('role', 'gridcell');
  const top = make('div', 'card-top');
  const headline = make('div', 'card-title');
  headline.append(...nodesOf(entry, title, profile));
  top.append(headline);
  if (status) top.append(...nodesOf(entry, status, profile));
  const rest = make('div', 'card-rest');
  const when = make('div', 'card-time');
  when.append(time ? timeNode(row[time]) : valueNode(row[key]));
  const line = make('div', 'card-line');
  for (const name of columns) {
    if ([key, status, time, title].includes(name)) continue;
    if (!isChanged(entry, name) && (row[name] === null || row[name] === undefined || row[name] === '')) continue;
    if (line.childNodes.length > 0) line.append(make('span', 'sep', '·'));
    line.append(...nodesOf(entry, name, profile));
  }
  rest.append(line, when);
  cell.append(top, rest);
  return cell;
}
