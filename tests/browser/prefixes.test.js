import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { writeFileSync } from 'node:fs';
import { connect, createServer } from 'node:net';
import { join } from 'node:path';
import test from 'node:test';
import { atEnd, body, folder, port, serve, visit } from './lib.js';

const console = await serve();
const nginx = await startNginx(console.axum);

/** A real nginx on a socket in its folder, and a port that leads to it: nginx does not tell which free port it took. */
async function startNginx(upstream) {
  const path = folder(), socket = join(path, 'socket');
  writeFileSync(join(path, 'settings'), `
    daemon off; master_process off; pid pid; error_log stderr crit; events {}
    http {
      access_log off;
      client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi; uwsgi_temp_path uwsgi; scgi_temp_path scgi;
      server {
        listen unix:${socket};
        location /strips/here/ { proxy_pass ${upstream}/inbox/; }
        location = /strips { proxy_pass ${upstream}/owner; }
        location /a/b/inbox { proxy_pass ${upstream}; proxy_set_header Host $http_host; }
      }
    }`);
  const child = spawn(process.env.NGINX_BIN, ['-p', path, '-c', join(path, 'settings'), '-e', 'stderr'], { stdio: ['ignore', 'inherit', 'inherit'] });
  const ended = once(child, 'exit');
  atEnd(() => { child.kill(); return ended; });
  for (let isUp = false; !isUp;) {
    isUp = await new Promise(known => {
      const attempt = connect(socket, () => { attempt.destroy(); known(true); }).on('error', () => setTimeout(known, 10, false));
    });
    assert.equal(child.exitCode, null, 'nginx has ended');
  }
  const front = createServer(client => {
    const server = connect(socket);
    client.on('error', () => server.destroy()).pipe(server).on('error', () => client.destroy()).pipe(client);
  });
  await new Promise(listening => front.listen(0, '127.0.0.1', listening));
  atEnd(() => front.close());
  return `http://127.0.0.1:${front.address().port}`;
}

for (const [name, url] of [
  ['axum, route', `${console.axum}/owner`],
  ['axum, route of the root', `${console.axum}/`],
  ['axum, route with a slash', `${console.axum}/inbox/`],
  ['axum, nested', `${console.axum}/nested`],
  ['axum, nested, with a slash', `${console.axum}/nested/`],
  ['actix-web, scope', `${console.actix}/a/b/inbox`],
  ['actix-web, scope, with a slash', `${console.actix}/a/b/inbox/`],
  ['warp, path', `${console.warp}/a/b/inbox`],
  ['nginx, which strips the path', `${nginx}/strips`],
  ['nginx, which strips the path, with a slash', `${nginx}/strips/here/`],
  ['nginx, which keeps the path', `${nginx}/a/b/inbox`],
  ['nginx, which keeps the path and the host, without Sec-Fetch-Site', `http://console.example:${port(nginx)}/a/b/inbox`],
]) {
  test(`console works behind: ${name}`, () =>
    visit({}, async page => {
      const file = name.replaceAll(/\W/g, '-');
      await console.store(body({ file, fail: 'broken' }));
      await console.work(1);
      const { pathname } = new URL(url);
      page.on('framenavigated', frame => assert.equal(new URL(frame.url()).pathname, pathname));
      const failed = [];
      page.on('response', response => response.status() >= 400 && failed.push(response.url()));
      await page.goto(url);
      await page.waitForSelector('button.live.on');
      assert.equal(await page.evaluate(() => getComputedStyle(document.querySelector('.top')).display), 'flex', 'the style sheet');
      assert(await page.evaluate(() => document.querySelector('.brand img').naturalWidth > 0), 'the icon');
      await page.click('nav a:has-text("Dead letters")');
      await page.fill('input[type=search]', file);
      await page.click('button:has-text("Find")');
      await page.click('.item');
      await page.click('button[value=replay]');
      assert.match(await page.textContent('.flash'), /1 event waits/);
      await page.click('a:has-text("Purge")');
      await page.click('button:has-text("Purge")');
      assert.match(await page.textContent('.flash'), /1 body was deleted/);
      assert.deepEqual(failed, []);
    }));
}
