import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import test from 'node:test';
import { body, fill, serve, visit } from './lib.js';

const console = await serve();
const keys = await fill(console, 60);
const owner = `${console.axum}/owner`;

test('everything is read, searched, replayed and purged without a script', () =>
  visit({ javaScriptEnabled: false }, async page => {
    await page.goto(owner);
    assert.match(await page.textContent('h1'), /65 events are dead letters/);
    assert.equal(await page.locator('button:visible', { hasText: /Live|Copy/ }).count(), 0);
    await page.click('nav a:has-text("Dead letters")');
    assert.equal(await page.locator('.item').count(), 50);
    await page.click('a[rel=next]');
    assert.equal(await page.locator('.item').count(), 15);
    await page.fill('input[type=search]', 'timed out');
    await page.click('button:has-text("Find")');
    assert.equal(await page.locator('.item').count(), 1);
    await page.click('.item');
    assert.equal((await page.textContent('section.error pre')).trim(), 'timed out after 30 s');
    await page.locator('.json summary').first().click();
    assert.equal(await page.locator('.json details').first().getAttribute('open'), null, 'folds');
    await page.click('button[value=replay]');
    assert.match(await page.textContent('.flash'), /1 event waits for another attempt/);
    await page.goto(`${owner}?event=${keys.completed}`);
    await page.click('a:has-text("Handle again")');
    await page.click('button:has-text("Replay")');
    assert.match(await page.textContent('.flash'), /1 event waits/);
    await page.goto(owner);
    await page.click('button:has-text("Pause workers")');
    assert.match(await page.textContent('h1'), /paused by ops/);
    await page.click('button:has-text("Resume")');
    await page.locator('.reasons li', { hasText: 'no part' }).locator('a.more').click();
    assert.match(await page.textContent('h1'), /Replay 61 dead letters\?/);
    await page.click('a:has-text("Leave them")');
    await page.click('a:has-text("Purge all")');
    assert.match(await page.textContent('h1'), /Purge 61 dead letters\?/);
    await page.click('button:has-text("Purge")');
    assert.match(await page.textContent('.flash'), /61 bodies were deleted/);
    await page.click('a:has-text("All reasons")');
    assert.equal(await page.locator('.item').count(), 3);
  }));

/** What the keyboard has to reach, in words. */
const controls = () => [...document.querySelectorAll('a[href], button, input:not([type=hidden]), select, summary, [tabindex="0"]')]
  .filter(element => element.checkVisibility({ visibilityProperty: true }) && !element.disabled).length;

test('every control is reached by the keyboard, and is seen to have the focus', () =>
  visit({ viewport: { width: 1440, height: 900 } }, async page => {
    for (const path of ['?', `?event=${keys.configuration}&state=dead-letter`, `?event=${keys.attributes}`, `?view=confirm&do=replay&event=${keys.completed}`]) {
      await page.goto(owner + path);
      const expected = await page.evaluate(controls);
      const reached = new Set();
      for (let steps = 0; steps < expected + 5; steps++) {
        await page.keyboard.press('Tab');
        const focus = await page.evaluate(() => {
          const element = document.activeElement, style = getComputedStyle(element);
          globalThis.all ??= new Map();
          if (!all.has(element)) all.set(element, all.size);
          return { id: element === document.body ? null : all.get(element), text: element.outerHTML.slice(0, 80), isSeen: style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) >= 2 };
        });
        if (focus.id === null) continue;
        assert(focus.isSeen, `${path}: ${focus.text}`);
        reached.add(focus.id);
      }
      assert.equal(reached.size, expected, path);
    }
  }));

test('keyboard alone finds an event and replays it', () =>
  visit({ viewport: { width: 1440, height: 900 } }, async page => {
    await console.store(body({ file: 'of-the-keyboard', fail: 'one' }), body({ file: 'of-the-keyboard', fail: 'two' }), body({ file: 'of-the-keyboard', fail: 'three' }));
    await page.goto(`${owner}?view=events`);
    await page.keyboard.press('Tab');
    assert.equal(await page.evaluate(() => document.activeElement.textContent), 'Skip to content');
    await page.keyboard.press('Enter');
    assert.equal(await page.evaluate(() => document.activeElement.id), 'main');
    await page.keyboard.press('/');
    await page.keyboard.type('of-the-keyboard');
    await page.keyboard.press('Enter');
    await page.waitForURL(/q=of-the-keyboard/);
    const focused = () => page.evaluate(() => [...document.querySelectorAll('.item')].indexOf(document.activeElement));
    await page.keyboard.press('j');
    assert.equal(await focused(), 0);
    await page.keyboard.press('j');
    await page.keyboard.press('j');
    await page.keyboard.press('k');
    assert.equal(await focused(), 1);
    await page.keyboard.press('Enter');
    await page.waitForURL(/event=/);
    const isPurge = () => page.evaluate(() => document.activeElement.matches('.detail a.danger'));
    for (let steps = 0; steps < 60 && !await isPurge(); steps++) await page.keyboard.press('Tab');
    await page.keyboard.press('Enter');
    await page.waitForURL(/confirm/);
    const isButton = () => page.evaluate(() => document.activeElement.matches('main button'));
    for (let steps = 0; steps < 30 && !await isButton(); steps++) await page.keyboard.press('Tab');
    await page.keyboard.press('Enter');
    assert.match(await page.textContent('.flash'), /1 body was deleted/);
  }));

test('body is downloaded and copied byte for byte', () =>
  visit({ permissions: ['clipboard-read', 'clipboard-write'] }, async page => {
    const exact = '{"n":12345678901234567890.10 , "twice":1,"twice":2,\t"e":"\\u00e9é\\/\\ud83d\\ude00\u{1f600}","it\'s":"#\\"##",\n "deep":[[{}]]}';
    const bodies = [
      body({ fail: 'exact' }).replace('"data":{}', `"data":${exact}`),
      body({ fail: 'long', data: { long: 'é'.repeat(1_000_000) } }),
      body({ fail: 'hidden', data: { hidden: '\u202e\u200b' } }),
      body({ fail: 'carriage return' }).replaceAll(',', ',\r\n'),
    ];
    const stored = await console.store(...bodies);
    for (const [index, key] of stored.entries()) {
      await page.goto(`${owner}?event=${key}`);
      const [download] = await Promise.all([page.waitForEvent('download'), page.click('.actions a:has-text("Body")')]);
      assert.equal(download.suggestedFilename(), `${key}.json`);
      assert.deepEqual(await readFile(await download.path()), Buffer.from(bodies[index]));
    }
    await page.goto(`${owner}?event=${stored[0]}`);
    const copy = async name => {
      await page.click(`button:has-text("${name}")`);
      await page.waitForSelector('button:has-text("Copied")');
      return page.evaluate(() => navigator.clipboard.readText());
    };
    assert.equal(await copy('Copy as fixture'), `let delivery = Delivery::for_test(r###"${bodies[0]}"###)?;`);
    await page.goto(`${owner}?event=${stored[0]}`);
    const curl = await copy('Copy as curl');
    assert(curl.startsWith('curl -sS -X POST URL -H'), curl);
    assert(curl.endsWith(`--data-binary '${bodies[0].replaceAll("'", "'\\''")}'`), curl);
    for (const key of stored.slice(1)) {
      await page.goto(`${owner}?event=${key}`);
      assert.equal(await page.locator('button:has-text("Copy")').count(), 0, 'what is not seen, or would be changed, is not copied');
    }
  }));
