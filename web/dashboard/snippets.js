// How a program subscribes to what this page shows, as text to be pasted: the feed, the filters in force, and where a token
// belongs if one is needed.

import { address } from './api.js';

/** How many of the newest rows come first: something to see at once. */
const LAST = 10;

const shellQuoted = (text) => (/^[\w@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", `'\\''`)}'`);
// JSON's texts are Python's and JavaScript's too; U+2028 and U+2029 have been since ES2019.
const quoted = (text) => JSON.stringify(text);

/** Column → its values, in the order of the filters. */
function grouped(filters) {
  const columns = new Map();
  for (const [name, value] of filters) columns.set(name, [...(columns.get(name) ?? []), value]);
  return [...columns];
}

const objectOf = (filters) =>
  `{ ${grouped(filters).map(([name, values]) => `${/^[a-z_$][\w$]*$/i.test(name) ? name : quoted(name)}: [${values.map(quoted).join(', ')}]`).join(', ')} }`;
const dictOf = (filters) => `{${grouped(filters).map(([name, values]) => `${quoted(name)}: [${values.map(quoted).join(', ')}]`).join(', ')}}`;

function socketAddress(path, pairs = []) {
  const url = address(path, pairs);
  url.protocol = url.protocol === 'https:' ? 'wss:' : 'ws:';
  return url.href;
}

/** "order_lines" → "OrderLines": the name of a component. */
function componentName(name) {
  const words = name.split(/[^a-z0-9]+/i).filter(Boolean).map((word) => word[0].toUpperCase() + word.slice(1));
  const joined = words.join('');
  return /^[A-Z]/.test(joined) ? joined : `Feed${joined}`;
}

function curl({ feed, filters, secured }) {
  const url = address(feed.sse, [['last', LAST], ...filters]).href;
  const header = secured ? ' -H "Authorization: Bearer $WALCAST_TOKEN"' : '';
  return `curl -N${header} ${shellQuoted(url)}`;
}

function tail({ feed, filters }) {
  const wanted = filters.map(([name, value]) => ` --filter ${shellQuoted(`${name}=${value}`)}`).join('');
  return `walcast tail ${shellQuoted(socketAddress(feed.ws[0]))} --last ${LAST}${wanted}`;
}

function javascript({ feed, filters, secured }) {
  const options = [
    `  last: ${LAST},`,
    ...(filters.length > 0 ? [`  filters: ${objectOf(filters)},`] : []),
    ...(secured ? ['  token: process.env.WALCAST_TOKEN,'] : []),
  ];
  return `import { subscribe } from "walcast-client";

const rows = subscribe(${quoted(socketAddress(feed.ws[0]))}, {
${options.join('\n')}
});
for await (const row of rows) console.log(row);
`;
}

function browser({ feed, filters, secured }) {
  const query = new URLSearchParams(filters).toString();
  const url = `${socketAddress(feed.ws[0])}?\${from}${query ? `&${query.replaceAll('`', '%60').replaceAll('${', '%24{')}` : ''}`;
  const token = secured ? 'const token = "wct_…"; // yours\n' : '';
  const protocols = secured ? ', ["walcast.v1", "walcast.bearer." + token]' : '';
  return `${token}let from = "last=${LAST}"; // then: the last row seen, and the history it belongs to
let epoch = "";
function connect() {
  const socket = new WebSocket(\`${url}\`${protocols});
  socket.onmessage = ({ data }) => {
    const message = JSON.parse(data);
    if (message.type === ${quoted(feed.message.type)}) {
      const row = message[${quoted(feed.message.body)}];
      from = \`since=\${row[${quoted(feed.key ?? 'id')}]}&epoch=\${epoch}\`;
      console.log(row);
    } else if (message.type === "hello" || message.type === "reset") {
      epoch = message.epoch; // with "reset", or "recovered" false, rows seen so far are of another history
      from = \`since=\${message.type === "hello" ? message.since : 0}&epoch=\${epoch}\`;
    }
  };
  socket.onclose = ({ code }) => code < 4500 && setTimeout(connect, 1000 + 1000 * Math.random());
}
connect();
`;
}

function react({ feed, filters, secured }) {
  const options = [
    '    limit: 50,',
    ...(filters.length > 0 ? [`    filters: ${objectOf(filters)},`] : []),
    ...(secured ? ['    token, // from wherever your page has it'] : []),
  ];
  const key = quoted(feed.key ?? 'id');
  return `import { useFeed } from "walcast-client/react";

export function ${componentName(feed.name)}(${secured ? '{ token }' : ''}) {
  const { events, status } = useFeed(${quoted(socketAddress(feed.ws[0]))}, {
${options.join('\n')}
  });
  return (
    <ol aria-label={status.state}>
      {events.map((row) => (
        <li key={row[${key}]}>{JSON.stringify(row)}</li>
      ))}
    </ol>
  );
}
`;
}

function python({ feed, filters, secured }) {
  const options = [
    `    last=${LAST},`,
    ...(filters.length > 0 ? [`    filters=${dictOf(filters)},`] : []),
    ...(secured ? ['    token=os.environ["WALCAST_TOKEN"],'] : []),
  ];
  return `${secured ? 'import os\n\n' : ''}import walcast

rows = walcast.subscribe(
    ${quoted(socketAddress(feed.ws[0]))},
${options.join('\n')}
)
for row in rows:
    print(row)
`;
}

// --- the same for a feed of changes: a copy of the table, kept current

const tableOptions = (filters, secured, token) => [
  ...(filters.length > 0 ? [`filters: ${objectOf(filters)},`] : []),
  ...(secured ? [token] : []),
];

function javascriptTable({ feed, filters, secured }) {
  const options = [
    ...tableOptions(filters, secured, 'token: process.env.WALCAST_TOKEN,'),
    'onChange: ({ op, key, row }) => console.log(op, key, row, table.rows.size),',
  ];
  return `import { subscribeTable } from "walcast-client";

const table = subscribeTable(${quoted(socketAddress(feed.ws[0]))}, {
${options.map((option) => `  ${option}\n`).join('')}});
`;
}

function browserTable({ feed, filters, secured }) {
  const options = [
    ...tableOptions(filters, secured, 'token: "wct_…", // yours'),
    'onChange: ({ op, key, row }) => console.log(op, key, row, table.rows.size),',
  ];
  return `import(${quoted(address('walcast.js').href)}).then(({ subscribeTable }) => {
  const table = subscribeTable(${quoted(socketAddress(feed.ws[0]))}, {
${options.map((option) => `    ${option}\n`).join('')}  });
});
`;
}

function reactTable({ feed, filters, secured }) {
  const options = tableOptions(filters, secured, 'token, // from wherever your page has it');
  const second = options.length === 0 ? '' : `, {\n${options.map((option) => `    ${option}\n`).join('')}  }`;
  return `import { useTable } from "walcast-client/react";

export function ${componentName(feed.name)}(${secured ? '{ token }' : ''}) {
  const { byKey, status } = useTable(${quoted(socketAddress(feed.ws[0]))}${second});
  return (
    <ul aria-label={status.state}>
      {[...(byKey ?? [])].map(([key, row]) => (
        <li key={key}>{JSON.stringify(row)}</li>
      ))}
    </ul>
  );
}
`;
}

function pythonTable({ feed, filters, secured }) {
  const options = [
    ...(filters.length > 0 ? [`    filters=${dictOf(filters)},\n`] : []),
    ...(secured ? ['    token=os.environ["WALCAST_TOKEN"],\n'] : []),
  ];
  return `${secured ? 'import os\n\n' : ''}import walcast

table = walcast.subscribe_table(
    ${quoted(socketAddress(feed.ws[0]))},
${options.join('')})
for change in table:
    print(change.op, change.key, change.row, len(table.rows))
`;
}

const TABLE = { javascript: javascriptTable, browser: browserTable, react: reactTable, python: pythonTable };

/** The text of a way for what is shown: `{feed, filters, secured}`. */
export function written(way, shown) {
  return ((shown.feed.kind === 'changes' && TABLE[way.id]) || way.write)(shown);
}

/** Ways to subscribe, as `{id, name, note, write}`; `write({feed, filters, secured})` gives the text for a feed of rows. */
export const WAYS = [
  { id: 'curl', name: 'curl', note: 'Server-sent events, one row each.', write: curl },
  { id: 'javascript', name: 'JavaScript', note: 'Needs walcast-client, which is in web/client of walcast’s source · Node.js 22 or newer, Deno, Bun, bundlers. Resumes where it was.', write: javascript },
  { id: 'browser', name: 'Browser', note: 'Nothing to install. Resumes where it was.', write: browser },
  { id: 'react', name: 'React', note: 'Needs react and walcast-client, which is in web/client of walcast’s source.', write: react },
  { id: 'python', name: 'Python', note: 'Needs walcast, which is in python of its source · also for asyncio: from walcast import aio.', write: python },
  { id: 'tail', name: 'tail', note: 'Columns on a terminal, JSON lines in a pipe.', write: tail },
];
