import assert from 'node:assert/strict';
import test from 'node:test';
import { body, front, nginx, port, serve, visit } from './lib.js';

const console = await serve();
const socket = await nginx(socket => `
  listen unix:${socket};
  location /strips/here/ { proxy_pass ${console.axum}/inbox/; }
  location = /strips { proxy_pass ${console.axum}/owner; }
  location /a/b/inbox { proxy_pass ${console.axum}; proxy_set_header Host $http_host; }`);
const proxy = `http://127.0.0.1:${await front(() => socket)}`;

for (const [name, url] of [
  ['axum, route', `${console.axum}/owner`],
  ['axum, route of the root', `${console.axum}/`],
  ['axum, route with a slash', `${console.axum}/inbox/`],
  ['axum, nested', `${console.axum}/nested`],
  ['axum, nested, with a slash', `${console.axum}/nested/`],
  ['actix-web, scope', `${console.actix}/a/b/inbox`],
  ['actix-web, scope, with a slash', `${console.actix}/a/b/inbox/`],
  ['warp, path', `${console.warp}/a/b/inbox`],
  ['nginx, which strips the path', `${proxy}/strips`],
  ['nginx, which strips the path, with a slash', `${proxy}/strips/here/`],
  ['nginx, which keeps the path', `${proxy}/a/b/inbox`],
  ['nginx, which keeps the path and the host, without Sec-Fetch-Site', `http://console.example:${port(proxy)}/a/b/inbox`],
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
