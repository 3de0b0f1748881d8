import assert from 'node:assert/strict';
import test from 'node:test';
import { body, port, serve, site, visit } from './lib.js';

const console = await serve();
const [key] = await console.store(...Array.from({ length: 40 }, () => body({ data: { secret: 'BODY-TEXT' }, owner: 'OWNER-TEXT', fail: 'ERROR-TEXT' })));
await console.work(40);
const at = path => console.axum + path;
const owner = at('/owner');
const deadLetters = async () => (await (await fetch(`${owner}?view=events&state=dead-letter`)).text()).split('class="item"').length - 1;
const isPaused = async () => (await (await fetch(owner)).text()).includes('value="resume"');

/** Posts a form from a page of the console's own origin. With credentials the browser would ask for a password. */
const post = (page, url, form) => page.evaluate(async ({ url, form }) => {
  const response = await fetch(url, { method: 'POST', body: new URLSearchParams(form), redirect: 'manual', credentials: 'omit' });
  return response.type === 'opaqueredirect' ? 303 : response.status;
}, { url, form });

test('each action by hand is for those visitors who may', () =>
  visit({ expected: /40[13]/ }, async page => {
    await page.goto(owner);
    let left = 40;
    for (const [path, denied, allowed] of [['/nobody', 401, 0], ['/password', 401, 0], ['/key', 401, 0], ['/observer', 403, 0], ['/reader', 403, 0],
      ['/read-only', 403, 0], ['/operator', 403, 3], ['/owner', 403, 4]]) {
      for (const [index, form] of [{ do: 'pause' }, { do: 'resume' }, { do: 'replay', event: key, state: 'dead-letter' },
        { do: 'purge', event: key, state: 'dead-letter' }].entries()) {
        const may = index < allowed;
        assert.equal(await post(page, at(path), form), may ? 303 : denied, `${path} ${form.do}`);
        assert.equal(await isPaused(), may && form.do === 'pause', `${path} ${form.do}`);
        if (may && form.do === 'replay') {
          // It fails again, with all others as they were.
          await console.work(1);
        }
        left -= may && form.do === 'purge';
        assert.equal(await deadLetters(), left, `${path} ${form.do}`);
      }
    }
  }));

test('pages show actions to those visitors who may', () =>
  visit({}, async page => {
    const [another] = await console.store(body({ fail: 'again' }));
    await console.work(1);
    for (const [path, replays, purges] of [['/observer', 0, 0], ['/reader', 0, 0], ['/read-only', 0, 0], ['/operator', 1, 0], ['/owner', 1, 1]]) {
      await page.goto(`${at(path)}?event=${another}&state=dead-letter`);
      assert.equal(await page.locator('.detail form[method=post]').count(), replays, path);
      assert.equal(await page.locator('.bulk a', { hasText: 'Replay all' }).count(), replays, path);
      assert.equal(await page.locator('a.danger', { hasText: 'Purge' }).count(), 2 * purges, path);
      assert.equal(await page.locator('.ro').count(), replays ? 0 : 1, path);
    }
  }));

test('an observer reaches no byte of a body, an owner or an error', () =>
  visit({ expected: /403/ }, async page => {
    const seen = new Set(), open = [at('/observer')];
    await page.goto(open[0]);
    while (open.length > 0 && seen.size < 150) {
      const url = open.pop();
      if (seen.has(url)) continue;
      seen.add(url);
      const response = await page.request.get(url);
      const text = await response.text();
      assert.doesNotMatch(text, /BODY-TEXT|OWNER-TEXT|ERROR-TEXT/, url);
      for (const [, link] of text.matchAll(/href="(\?[^"]*)"/g)) open.push(at('/observer') + link.replaceAll('&amp;', '&'));
    }
    assert(seen.size > 40, `${seen.size} pages`);
    assert.equal((await page.request.get(`${at('/observer')}?raw=${key}`)).status(), 403);
  }));

test('posts of other sites, ports and frames are rejected', () =>
  visit({ expected: /40[13]|frame-ancestors|refused to connect/i, httpCredentials: { username: 'ops', password: 'correct horse battery', origin: console.axum } }, async (page, context) => {
    const [target] = await console.store(body({ fail: 'forged' }));
    await console.work(1);
    const before = await deadLetters();
    const form = url => `<form method=post action="${url}"><input name=do value=purge><input name=event value=${target}><button>win</button></form>`;
    const evil = await site(request => {
      const url = decodeURIComponent(request.url.slice(2));
      return request.url[1] === 's' ? `<iframe sandbox="allow-forms" srcdoc='${form(url)}'></iframe>` : form(url);
    });
    const plain = `http://console.example:${port(console.axum)}/owner`;
    // Basic authentication is remembered by the browser, and the key's cookie knows no ports.
    assert.equal((await page.goto(at('/password'))).status(), 200);
    await page.goto(`${at('/key')}?key=0123456789abcdef`);
    // It leads on by itself.
    await page.waitForURL(`${at('/key')}?`);
    for (const [from, url, status] of [
      [`http://evil.example:${evil}`, owner, 403],
      [`http://127.0.0.1:${evil}`, owner, 403],
      [`http://localhost:${evil}`, owner, 403],
      [`http://evil.example:${evil}`, plain, 403],
      [`http://console.example:${evil}`, plain, 403],
      [`http://evil.example:${evil}`, at('/password'), 403],
      [`http://127.0.0.1:${evil}`, at('/key'), 403],
      // The cookie is not sent.
      [`http://evil.example:${evil}`, at('/key'), 401],
    ]) {
      for (const kind of ['t', 's']) {
        await page.goto(`${from}/${kind}${encodeURIComponent(url)}`);
        const frame = kind === 's' ? page.frameLocator('iframe') : page;
        const [response] = await Promise.all([
          context.waitForEvent('response', response => response.request().method() === 'POST'),
          frame.locator('button').click(),
        ]);
        // In a sandbox the browser remembers no credentials.
        assert([status, kind === 's' ? 401 : status].includes(response.status()), `${kind} ${from} ${url} ${response.status()}`);
      }
    }
    assert.equal(await deadLetters(), before);
    await page.goto(`${at('/key')}?event=${target}&state=dead-letter`);
    await page.click('button[value=replay]');
    assert.match(await page.textContent('.flash'), /1 event waits/, 'its own page may');
    assert.equal(await deadLetters(), before - 1);
    await console.work(1);
  }));

test('own posts work over plain HTTP to other hosts, too', () =>
  visit({}, async page => {
    const [target] = await console.store(body({ fail: 'plain' }));
    await console.work(1);
    await page.goto(`http://console.example:${port(console.axum)}/owner?event=${target}`);
    await page.click('button[value=replay]');
    assert.match(await page.textContent('.flash'), /1 event waits/);
  }));

test('pages are in no frame of another site, and no script of it reads them', () =>
  visit({ expected: /frame-ancestors|Framing|CORS|Failed to load/i }, async page => {
    const evil = await site(`<iframe src="${owner}"></iframe>`);
    await page.goto(`http://evil.example:${evil}/`);
    assert.equal(await page.frameLocator('iframe').locator('.brand').count(), 0);
    assert.equal(await page.evaluate(url => fetch(url, { credentials: 'include' }).then(() => 'read', () => 'failed'), owner), 'failed');
    const loaded = await page.evaluate(url => new Promise(done => {
      const image = new Image();
      image.onload = () => done('loaded');
      image.onerror = () => done('failed');
      image.src = url;
    }), `${owner}?asset=icon.svg`);
    assert.equal(loaded, 'failed');
  }));

test('names that lead to the loopback address are not served', () =>
  visit({ expected: /421/ }, async page => {
    for (const [host, status] of [['127.0.0.1', 200], ['rebound.example', 421], ['127.0.0.1.evil.example', 421]]) {
      const url = `http://${host}:${port(console.axum)}/loopback`;
      assert.equal((await page.goto(url)).status(), status, host);
      const [posted] = await Promise.all([page.waitForResponse(response => response.request().method() === 'POST'), page.waitForEvent('load'), page.evaluate(() => {
        const form = document.createElement('form');
        form.method = 'post';
        form.append(Object.assign(document.createElement('input'), { name: 'do', value: 'resume' }));
        document.body.append(form);
        form.submit();
      })]);
      assert.equal(posted.status(), status === 200 ? 303 : 421, host);
    }
  }));

test('key of a link leads in from another site, and is replaced by a cookie, which another console does not overwrite', async () => {
  const [first, second] = [await serve(), await serve()];
  await visit({ expected: /401/ }, async page => {
    const link = `${first.axum}/key?key=0123456789abcdef`;
    await page.goto(`http://evil.example:${await site(`<a href="${link}">console</a>`)}/`);
    await page.click('a');
    await page.waitForURL(`${first.axum}/key?`);
    await page.click('nav a:has-text("Events")');
    await page.waitForSelector('.panes');
    for (const url of [`${second.axum}/key?key=0123456789abcdef`, link]) {
      await page.goto(url);
      await page.waitForSelector('.brand');
    }
    await visit({ expected: /401/ }, async other => assert.equal((await other.goto(link)).status(), 401, 'in another browser'));
  });
});
