// Proxies before a daemon, configured as the manual says, and what they ask who somebody is.

import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { chmod, mkdir, readFile, writeFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import { connect, createServer as listener } from 'node:net';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { PATIENCE_MS, SITE, defer, workspace } from './daemon.mjs';

const PATH = `${process.env.PATH}:/usr/sbin`;

/** The only snippet of a page that is in this language and contains a text, with each of `changes` made, which has to be there. */
async function snippet(page, language, containing, changes) {
  const text = await readFile(fileURLToPath(new URL(`../../docs/${page}`, import.meta.url)), 'utf8');
  const found = [...text.matchAll(/^```(\w+)\n(.*?)^```/gms)].filter(([, of, body]) => of === language && body.includes(containing));
  if (found.length !== 1) throw new Error(`${found.length} ${language} snippets of ${page} contain ${containing}`);
  return Object.entries(changes).reduce((body, [old, now]) => {
    if (!body.includes(old)) throw new Error(`${old} is not in\n${body}`);
    return body.replaceAll(old, now);
  }, found[0][2]);
}

async function freePort() {
  const server = listener().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address();
  server.close();
  await once(server, 'close');
  return port;
}

function accepts(port) {
  return new Promise((resolve) => {
    const socket = connect(port, '127.0.0.1', () => resolve(true) || socket.destroy());
    socket.on('error', () => resolve(false));
  });
}

/** The program, from when it listens, until the test is over. */
async function running(t, port, dir, command, args) {
  let log = '';
  const process_ = spawn(command, args, { stdio: ['ignore', 'pipe', 'pipe'], env: { ...process.env, PATH, HOME: dir } });
  const gone = once(process_, 'exit');
  for (const stream of [process_.stdout, process_.stderr]) stream.on('data', (text) => { log += text; });
  defer(t, async () => {
    process_.kill();
    await gone;
  });
  const end = Date.now() + PATIENCE_MS;
  while (!(await accepts(port))) {
    if (process_.exitCode !== null || Date.now() > end) throw new Error(`${command} does not listen: ${log}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  return `http://${SITE}:${port}/`;
}

async function nginx(t, walcast, page, containing, more) {
  const [dir, port] = [await workspace(t), await freePort()];
  // Its workers are of another user.
  await chmod(dir, 0o755);
  const site = await snippet(page, 'nginx', containing, { '127.0.0.1:8010': walcast, 'listen 443 ssl': `listen 127.0.0.1:${port}`, ...more });
  const folders = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'].map((kind) => `${kind}_temp_path ${dir}/${kind};`).join('\n');
  const [config, errors] = [join(dir, 'nginx.conf'), join(dir, 'error.log')];
  await writeFile(config, `daemon off; pid ${dir}/nginx.pid; error_log ${errors};\nevents { worker_connections 64; }\nhttp { access_log off;\n${folders}\n${site}\n}\n`);
  return running(t, port, dir, 'nginx', ['-p', dir, '-e', errors, '-c', config]);
}

async function caddy(t, walcast, page, containing, more) {
  const [dir, port] = [await workspace(t), await freePort()];
  const site = await snippet(page, 'caddy', containing, { [`${SITE} {`]: `http://${SITE}:${port} {\n    bind 127.0.0.1`, '127.0.0.1:8010': walcast, ...more });
  await mkdir(join(dir, 'data'));
  const config = join(dir, 'Caddyfile');
  await writeFile(config, `{\n    admin off\n    auto_https off\n    grace_period 1s\n}\n${site}`);
  return running(t, port, dir, 'caddy', ['run', '--adapter', 'caddyfile', '--config', config]);
}

const STARTS = { nginx, caddy };

/** Why a test with this proxy is left out; `false` where it is installed. */
export function missing(name) {
  const found = spawnSync(name, ['-v'], { env: { ...process.env, PATH } }).error === undefined;
  return found ? false : `there is no ${name}`;
}

/** The address of a proxy of this kind before the daemon, as docs/proxies.md has it. */
export function proxy(t, name, daemon) {
  return STARTS[name](t, `127.0.0.1:${daemon.port}`, 'proxies.md', { nginx: 'upstream walcast', caddy: 'reverse_proxy' }[name], {});
}

/** One that authenticates, as docs/access.md has it, and asks whoever is at `door`. */
export function proxyThatAuthenticates(t, name, daemon, door) {
  const containing = { nginx: 'auth_request', caddy: 'forward_auth' }[name];
  return STARTS[name](t, `127.0.0.1:${daemon.port}`, 'access.md', containing, { '127.0.0.1:4180': door });
}

/** What oauth2-proxy does: answers whose session it is; `sessions` are cookie → user and tenant. Resolves with its address. */
export async function doorman(t, sessions) {
  const server = createServer(({ headers }, answer) => {
    const known = sessions[headers.cookie];
    answer.writeHead(known ? 200 : 401, known ? { 'X-Auth-User': known.user, 'X-Tenant': known.tenant } : {}).end();
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  defer(t, () => {
    server.close();
    server.closeAllConnections();
  });
  return `127.0.0.1:${server.address().port}`;
}
