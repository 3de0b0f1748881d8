import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'node:test';
import { body, folder, front, nginx, serve, site, visit } from './lib.js';

const console = await serve();
const settings = folder();
for (const [name, pem] of Object.entries(await console.certificate('console.example'))) writeFileSync(join(settings, `${name}.pem`), pem);
const tls = await nginx(socket => `
  listen unix:${socket} ssl; ssl_certificate cert.pem; ssl_certificate_key key.pem;
  location / { proxy_pass ${console.axum}; proxy_set_header Host $http_host; }`, settings);
const forger = await site(request =>
  `<form method=post action="${decodeURIComponent(request.url.slice(1))}"><input name=do value=purge><input name=up_to value=9999><button>win</button></form>`);
// The forger has the console's own name and port, but no TLS, whose handshake begins with this byte.
const port = await front(first => first === 0x16 ? tls : forger);
const at = path => `https://console.example:${port}${path}`;
const deadLetters = async () => (await (await fetch(`${console.axum}/owner?view=events&state=dead-letter`)).text()).split('class="item"').length - 1;

for (const [access, options] of [['owner', {}], ['key', {}], ['password', { httpCredentials: { username: 'ops', password: 'correct horse battery' } }]]) {
  test(`own posts work behind TLS, and those of a page without TLS are rejected: ${access}`, () =>
    visit({ ...options, ignoreHTTPSErrors: true, expected: /40[13]/ }, async page => {
      const [replayed, kept] = await console.store(body({ fail: 'one' }), body({ fail: 'two' }));
      await console.work(2);
      const before = await deadLetters();
      await page.goto(at(`/${access}?key=0123456789abcdef`));
      await page.waitForSelector('button.live.on');
      await page.goto(at(`/${access}?event=${replayed}`));
      await page.click('button[value=replay]');
      assert.match(await page.textContent('.flash'), /1 event waits/);
      await page.click('a:has-text("Purge")');
      await page.click('button:has-text("Purge")');
      assert.match(await page.textContent('.flash'), /1 body was deleted/);
      assert.equal(await deadLetters(), before - 1);
      for (const from of [`http://console.example:${port}`, `http://evil.example:${forger}`]) {
        await page.goto(`${from}/${encodeURIComponent(at(`/${access}`))}`);
        const [response] = await Promise.all([page.waitForResponse(response => response.request().method() === 'POST'), page.click('button')]);
        // The cookie of a key is not sent.
        assert.equal(response.status(), access === 'key' ? 401 : 403, from);
      }
      assert.equal(await deadLetters(), before - 1);
      await page.goto(at(`/${access}?event=${kept}`));
      assert.equal(await page.locator('.error').count(), 1);
    }));
}
