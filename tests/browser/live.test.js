import assert from 'node:assert/strict';
import test from 'node:test';
import { body, serve, visit } from './lib.js';

const dead = (count, error) => Array.from({ length: count }, () => body({ fail: error }));

/** Two processes on one inbox: the first is looked at, and the second receives and handles. */
async function pair(count) {
  const console = await serve();
  const other = await serve(console.path);
  await other.store(...dead(count, 'early'));
  await other.work(count);
  const more = async (count, error = 'late') => {
    await other.store(...dead(count, error));
    await other.work(count);
  };
  return { owner: `${console.axum}/owner`, more };
}

const isLive = page => page.waitForSelector('button.live.on');

test('changes by another process are on the page without a reload', async t => {
  const { owner, more } = await pair(3);
  await visit({ viewport: { width: 1440, height: 900 } }, async page => {
    await page.goto(owner);
    await isLive(page);
    await page.locator('.astable summary').click();
    await page.evaluate(() => { globalThis.isSamePage = true; });
    await more(4);
    const begun = performance.now();
    await page.waitForFunction(() => /^7/.test(document.querySelector('#t-dead').textContent));
    t.diagnostic(`on the page after ${Math.round(performance.now() - begun)} ms`);
    await page.waitForFunction(() => document.querySelectorAll('#latest tbody tr').length === 7);
    assert.match(await page.textContent('#n-dead'), /7/);
    await page.waitForFunction(() => /In the last hour 7 came/.test(document.querySelector('#summary').textContent));
    assert(await page.evaluate(() => isSamePage && document.querySelector('.astable').open), 'what was unfolded stays so');
  });
});

test('list keeps focus, scroll position and selected text while it changes', async () => {
  const { owner, more } = await pair(40);
  await visit({ viewport: { width: 1440, height: 600 } }, async page => {
    await page.goto(`${owner}?view=events&state=dead-letter`);
    await isLive(page);
    const place = () => page.evaluate(() => ({ href: document.activeElement.getAttribute('href'), top: document.activeElement.getBoundingClientRect().top }));
    for (let row = 0; row < 20; row++) await page.keyboard.press('j');
    const before = await place();
    assert(await page.evaluate(() => document.querySelector('#items').scrollTop > 0));
    await more(1);
    await page.waitForFunction(() => document.querySelectorAll('.item').length === 41);
    const now = await place();
    assert.equal(now.href, before.href);
    assert(Math.abs(now.top - before.top) <= 1, `${now.top} instead of ${before.top}`);
    // A text that is being selected is not taken away; the rest of the page goes on.
    await page.evaluate(() => getSelection().selectAllChildren(document.querySelector('.item .l3')));
    await more(1);
    await page.waitForFunction(() => /42/.test(document.querySelector('#n-dead').textContent));
    assert.equal(await page.evaluate(() => getSelection().toString()), 'late');
  });
});

test('page asks only while it is seen and live, and says when the server is away', async () => {
  const { owner } = await pair(1);
  await visit({ expected: /ERR_|Failed/ }, async (page, context) => {
    let asked = 0;
    context.on('request', request => { asked += request.url().endsWith('?tick'); });
    await page.clock.install();
    await page.goto(owner);
    await isLive(page);
    const within = async seconds => {
      const before = asked;
      await page.clock.runFor(seconds * 1000);
      return asked - before;
    };
    const hide = hidden => page.evaluate(hidden => {
      Object.defineProperty(document, 'hidden', { value: hidden, configurable: true });
      document.dispatchEvent(new Event('visibilitychange'));
    }, hidden);
    assert(await within(30) >= 20);
    await hide(true);
    assert.equal(await within(60), 0, 'hidden');
    await hide(false);
    assert(await within(30) >= 20, 'seen again');
    await page.click('button.live');
    assert.equal(await page.textContent('button.live'), ' Paused'.trim());
    assert.equal(await within(60), 0, 'paused');
    await page.click('button.live');
    assert(await within(30) >= 20, 'live again');
    await context.setOffline(true);
    await within(5);
    await page.waitForSelector('button.live:not(.on)');
  });
});

test('replay of all replays what the page had, though another process adds to it', async () => {
  const { owner, more } = await pair(3);
  await visit({}, async page => {
    await page.goto(`${owner}?view=events&state=dead-letter`);
    await page.click('button.live');
    await more(2);
    await page.click('a:has-text("Replay all")');
    assert.match(await page.textContent('h1'), /Replay 3 dead letters\?/);
    await more(2);
    await page.click('button:has-text("Replay")');
    assert.match(await page.textContent('.flash'), /3 events wait/);
    assert.deepEqual(await page.locator('.item .l3').allTextContents(), Array(4).fill('late'));
  });
});

test('purge of a reason purges what the page had, though another process adds to it', async () => {
  const { owner, more } = await pair(3);
  await more(2);
  await visit({}, async page => {
    await page.goto(owner);
    await page.locator('.reasons li', { hasText: 'early' }).locator('a.msg').click();
    await page.click('a:has-text("Purge all")');
    await more(1, 'early');
    await page.click('button:has-text("Purge")');
    assert.match(await page.textContent('.flash'), /3 bodies were deleted/);
    assert.equal(await page.locator('.item').count(), 1);
  });
});

test('theme is chosen and kept', () =>
  visit({ colorScheme: 'light' }, async page => {
    const { owner } = await pair(1);
    await page.goto(owner);
    const background = () => page.evaluate(() => getComputedStyle(document.body).backgroundColor);
    const light = await background();
    await page.click('button.theme');
    const dark = await background();
    assert.notEqual(dark, light);
    await page.reload();
    assert.equal(await background(), dark);
  }));
