// A row as an element: cells under the columns' names on a wide screen, a card on a phone.

import { make, statusNode, timeNode, valueNode } from './cells.js';

export function cellClass(name, profile) {
  if (name === profile.feed.key) return 'cell key';
  if (name === profile.time) return 'cell time';
  if (profile.numeric(name)) return 'cell number';
  return name === profile.title ? 'cell title' : 'cell';
}

function nodeOf(name, value, profile) {
  if (name === profile.status) return statusNode(value);
  return name === profile.time ? timeNode(value) : valueNode(value);
}

/** The cells of these columns, in their order. */
export function cellsOf({ row }, columns, profile) {
  return columns.map((name, i) => {
    const cell = make('div', cellClass(name, profile));
    cell.setAttribute('role', 'gridcell');
    cell.setAttribute('aria-colindex', i + 1);
    cell.dataset.column = name;
    cell.append(nodeOf(name, row[name], profile));
    return cell;
  });
}

/** Headline, status and time, and of the rest of these columns one muted line. */
export function cardOf({ row }, columns, profile) {
  const { status, time, title, feed } = profile;
  const cell = make('div', 'card');
  cell.setAttribute('role', 'gridcell');
  const top = make('div', 'card-top');
  const headline = make('div', 'card-title');
  headline.append(valueNode(row[title]));
  top.append(headline);
  if (status) top.append(statusNode(row[status]));
  const rest = make('div', 'card-rest');
  const when = make('div', 'card-time');
  when.append(time ? timeNode(row[time]) : valueNode(row[feed.key]));
  const line = make('div', 'card-line');
  for (const name of columns) {
    if ([feed.key, status, time, title].includes(name) || row[name] === null || row[name] === '') continue;
    if (line.childNodes.length > 0) line.append(make('span', 'sep', '·'));
    line.append(valueNode(row[name]));
  }
  rest.append(line, when);
  cell.append(top, rest);
  return cell;
}
