// What the page's address says: `#/feed`, a row of it, and the filters: `#/feed/123?tenant=acme`.

import { RESERVED } from './profile.js';

/** The address of a feed, a list of `[column, value]` and a row's id, or null for no row. */
export function addressOf(feedName, filters = [], row = null) {
  const query = new URLSearchParams(filters).toString();
  const path = [feedName, ...(row === null ? [] : [String(row)])].map(encodeURIComponent).join('/');
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

/** The feed, filters and row that the address names; `unknown` is the name of a feed that is not there, and the first stands in for it. */
export function readPlace(feeds, hash = location.hash) {
  const [path, query = ''] = hash.replace(/^#\/?/, '').split('?');
  const [wanted, row = ''] = path.split('/').map(decoded);
  const named = feeds.find((one) => one.name === wanted);
  const feed = named ?? feeds[0];
  const known = ([column]) => (feed.columns.includes(column) || column === feed.key) && !RESERVED.includes(column);
  return {
    feed,
    unknown: wanted !== '' && !named ? wanted : null,
    filters: [...new URLSearchParams(query)].filter(known),
    row: named && row !== '' ? row : null,
  };
}
