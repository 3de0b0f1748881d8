// The console as a process, Chromium, and pages that remember what went wrong on them. `cargo xtask browser` sets the environment.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { connect, createServer as listen } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { after } from 'node:test';
import { chromium } from 'playwright-core';

const { CHROMIUM, CONSOLE, FIXTURES, NGINX_BIN } = process.env;
const cleanups = [];
after(async () => {
  for (const cleanup of cleanups.reverse()) await cleanup();
});
export const atEnd = cleanup => cleanups.push(cleanup);

export function folder() {
  const path = mkdtempSync(join(tmpdir(), 'smartshape-browser-'));
  atEnd(() => rmSync(path, { recursive: true, force: true }));
  return path;
}

/** Serves the console of the inbox in a folder; see src/main.rs. It ends with its standard input. */
export async function serve(path = folder(), ...flags) {
  const child = spawn(CONSOLE, [join(path, 'inbox.db'), ...flags], { stdio: ['pipe', 'pipe', 'inherit'] });
  const ended = once(child, 'exit');
  atEnd(() => { child.stdin.end(); return ended; });
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  const read = async () => {
    const { value, done } = await lines.next();
    assert(!done, 'the console has ended');
    return JSON.parse(value);
  };
  const call = command => {
    child.stdin.write(JSON.stringify(command) + '\n');
    return read();
  };
  return { path, ...await read(), store: (...bodies) => call({ store: bodies }), work: count => call({ work: count }), deliver: (...arrivals) => call({ deliver: arrivals }), certificate: name => call({ certificate: name }) };
}

let number = 0;

/** A delivery's body. The members `fail`, `retry` and `hang` say what becomes of it. */
export const body = ({ file = '5c6aeed079bf3f432d3c929e', event = 'file_uploaded', data = {}, owner = 'owner@example.com', ...more } = {}) =>
  JSON.stringify({ file, event, data, owner, runTimestamp: 1550826412941, uuid: `uuid-${++number}`, ...more });

/** A sample of SmartShape's manual, with more members. */
export function sample(kind, more = {}) {
  const text = readFileSync(join(FIXTURES, `${kind}.json`), 'utf8').trimEnd();
  const members = Object.entries(more).map(([name, value]) => `, "${name}": ${JSON.stringify(value)}`).join('');
  return text.replace(/"uuid": *"[^"]*"/, `"uuid": "sample-${++number}"`).replace(/\}$/, `${members}}`);
}

/** Fills an inbox with events in every state, among them so many dead letters of one kind. Returns the keys of some. */
export async function fill(console, count) {
  const hex = () => (0x5c6aeed0 + ++number).toString(16);
  const hostile = '"><img src=x onerror=alert(1)>\u202e';
  const dead = [
    sample('annotation_updated', { fail: 'no part 5c6aeed079bf3f432d3c929e: 404' }),
    sample('attribute_updated', { fail: 'timed out after 30 s' }),
    sample('configuration_updated', { fail: 'a long error, '.repeat(100) }),
    body({ event: hostile, file: hostile, owner: hostile, data: { [hostile]: hostile }, fail: hostile }),
    body({ data: { long: 'x'.repeat(100_000), many: Array(50).fill(1) }, fail: 'too long' }),
  ];
  for (let index = 0; index < count; index++) dead.push(body({ file: `${hex()}${hex()}${hex()}`, fail: `no part ${hex()}: 404` }));
  const completed = [sample('annotation_created'), sample('file_optimized')];
  const retried = [sample('configuration_created', { retry: '503 Service Unavailable' })];
  const attempted = [...completed, ...dead, ...retried];
  const keys = await console.store(...attempted);
  await console.work(attempted.length);
  const [running] = await console.store(body({ hang: true }));
  await console.work(1);
  const [waiting] = await console.store(body(), body(), body());
  return { completed: keys[0], changed: keys[2], attributes: keys[3], configuration: keys[4], hostile: keys[5], long: keys[6], retried: keys.at(-1), running, waiting };
}

let browser;

/** A page of its own browser profile. Afterwards nothing unexpected may have happened on it. */
export async function visit(options, look) {
  browser ??= chromium.launch({
    executablePath: CHROMIUM,
    args: ['--no-sandbox', '--disable-gpu', '--host-resolver-rules=MAP *.example 127.0.0.1'],
  }).then(launched => {
    atEnd(() => launched.close());
    return launched;
  });
  const { expected, ...settings } = options;
  const context = await (await browser).newContext(settings);
  const faults = [];
  // Violations of the policy, which are errors on the console too, but not in every kind.
  await context.addInitScript(() => addEventListener('securitypolicyviolation', violation =>
    console.error(`policy: ${violation.violatedDirective} ${violation.blockedURI} ${violation.sample}`)));
  const watch = page => {
    page.setDefaultTimeout(20_000);
    page.on('pageerror', error => faults.push(`error: ${error}`));
    // A browser looks for the icon of a page that is no HTML in a place of its own.
    page.on('console', message => message.type() === 'error' && !message.location().url.endsWith('/favicon.ico') && faults.push(`console: ${message.text()}`));
    page.on('dialog', dialog => { faults.push(`dialog: ${dialog.message()}`); return dialog.dismiss(); });
  };
  context.on('page', watch);
  try {
    await look(await context.newPage(), context);
  } finally {
    await context.close();
  }
  assert.deepEqual(faults.filter(fault => !expected?.test(fault)), []);
}

/** A site of somebody else, which has this page. Returns its port. */
export async function site(html) {
  const server = createServer((request, response) => {
    response.setHeader('content-type', 'text/html; charset=utf-8');
    response.end(typeof html === 'function' ? html(request) : html);
  });
  await new Promise(listening => server.listen(0, '127.0.0.1', listening));
  atEnd(() => { server.closeAllConnections(); server.close(); });
  return server.address().port;
}

/** A real nginx with this server, on a socket in its folder: it does not tell which free port it took. Returns the socket. */
export async function nginx(server, path = folder()) {
  const socket = join(path, 'socket');
  writeFileSync(join(path, 'settings'), `
    daemon off; master_process off; pid pid; error_log stderr crit; events {}
    http {
      access_log off;
      client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi; uwsgi_temp_path uwsgi; scgi_temp_path scgi;
      server { ${server(socket)} }
    }`);
  const child = spawn(NGINX_BIN, ['-p', path, '-c', join(path, 'settings'), '-e', 'stderr'], { stdio: ['ignore', 'inherit', 'inherit'] });
  const ended = once(child, 'exit');
  atEnd(() => { child.kill(); return ended; });
  for (let isUp = false; !isUp;) {
    isUp = await new Promise(known => {
      const attempt = connect(socket, () => { attempt.destroy(); known(true); }).on('error', () => setTimeout(known, 10, false));
    });
    assert.equal(child.exitCode, null, 'nginx has ended');
  }
  return socket;
}

/** A port whose connections lead to the socket or port of this name, by their first byte. */
export async function front(choose) {
  const server = listen(client => client.on('error', () => {}).once('data', head => {
    const upstream = connect(choose(head[0]));
    upstream.write(head);
    client.on('error', () => upstream.destroy()).pipe(upstream).on('error', () => client.destroy()).pipe(client);
  }));
  await new Promise(listening => server.listen(0, '127.0.0.1', listening));
  atEnd(() => server.close());
  return server.address().port;
}

export const port = url => new URL(url).port;
