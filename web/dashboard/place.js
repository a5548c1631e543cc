// What the page's address says: `#/feed`, the filters, and a row with the history that its id belongs to:
// `#/feed/123?epoch=…&tenant=acme`.

import { canFilter } from './profile.js';

/** The address of a feed, a list of `[column, value]`, and of a row as `{id, epoch}`, null for no row; its epoch may be null. */
export function addressOf(feedName, filters = [], row = null) {
  const history = row?.epoch ? [['epoch', row.epoch]] : [];
  const query = new URLSearchParams([...history, ...filters]).toString();
  const path = [feedName, ...(row === null ? [] : [String(row.id)])].map(encodeURIComponent).join('/');
  return `#/${path}${query ? `?${query}` : ''}`;
}

function decoded(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    // Not an address this page wrote: no feed and no row has such a name.
    return text;
  }
}

/** The feed, filters and row (`{id, epoch}`) that the address names; `unknown` is the name of a feed that is not there, and the first stands in for it. */
export function readPlace(feeds, hash = location.hash) {
  const [path, query = ''] = hash.replace(/^#\/?/, '').split('?');
  const [wanted, row = ''] = path.split('/').map(decoded);
  const named = feeds.find((one) => one.name === wanted);
  const feed = named ?? feeds[0];
  return {
    feed,
    unknown: wanted !== '' && !named ? wanted : null,
    filters: [...new URLSearchParams(query)].filter(([column]) => canFilter(feed, column)),
    row: named && row !== '' ? { id: row, epoch: new URLSearchParams(query).get('epoch') } : null,
  };
}
