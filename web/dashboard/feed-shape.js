// What a view of a feed is built upon: its columns, its key and where it is had. Another shape takes another view.

/** What the daemon can tell of a feed only while its table can be read. */
const OF_THE_TABLE = ['key', 'columns', 'types', 'kind', 'key_columns', 'filters'];

/** A text that is the same for two listings of a feed that one view can show. */
export function shapeOf(feed) {
  return JSON.stringify([feed.name, feed.key, feed.columns, feed.ws, feed.events, feed.message, feed.kind, feed.key_columns, feed.filters]);
}

/**
 * The list of feeds, where each that can't be read now has the shape it had in the list before: its rows stay on the
 * screen until its stream tells what became of them. A migration takes a table away for a moment and puts it back.
 */
export function keepShapes(list, before) {
  return list.map((feed) => {
    const known = feed.key === null && before?.find(({ name, table }) => name === feed.name && table === feed.table);
    return known ? { ...feed, ...Object.fromEntries(OF_THE_TABLE.map((name) => [name, known[name]])) } : feed;
  });
}
