import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import test from 'node:test';
import { body, fill, sample, serve, visit } from './lib.js';

const AXE = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');
const WCAG = ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa'];

const busy = await serve();
const keys = await fill(busy, 4);
const empty = await serve();
const paused = await serve();
const owner = `${busy.axum}/owner`, inspector = `${busy.axum}/inspector`;
const hostile = '"><img src=x onerror=alert(1)>\u202e';
await busy.deliver(
  { body: sample('configuration_updated'), headers: { 'user-agent': 'x'.repeat(300) }, forward: 'a long response, '.repeat(50) },
  { body: sample('attribute_updated'), fails: true },
  { body: body(), is_forged: true },
  ...Array(2).fill({ body: body({ event: hostile, file: hostile, data: { [hostile]: hostile } }) }),
);
const pages = [
  owner,
  `${owner}?view=overview&span=14d&done=replay&count=3`,
  `${owner}?view=events`,
  `${owner}?view=events&before=8`,
  `${owner}?view=events&state=dead-letter`,
  `${owner}?view=events&q=nothing-is-like-this`,
  ...Object.values(keys).map(key => `${owner}?event=${key}`),
  `${owner}?event=00`,
  `${owner}?view=confirm&do=replay`,
  `${owner}?view=confirm&do=purge&event=${keys.hostile}`,
  `${owner}?view=none`,
  `${busy.axum}/observer`,
  `${busy.axum}/reader?event=${keys.changed}`,
  `${empty.axum}/owner`,
  `${empty.axum}/owner?view=events`,
  `${paused.axum}/owner`,
  `${busy.axum}/key`,
  inspector,
  `${inspector}?q=nothing-is-like-this`,
  ...[1, 2, 3, 4, 5].map(number => `${inspector}?delivery=${number}`),
  `${inspector}?delivery=1&done=resend&count=0`,
  `${inspector}?delivery=0`,
  `${inspector}?view=send`,
  `${empty.axum}/inspector`,
];

test.before(() => fetch(`${paused.axum}/owner`, { method: 'POST', headers: { 'sec-fetch-site': 'same-origin' }, body: 'do=pause' }));

for (const colorScheme of ['light', 'dark']) {
  for (const width of [1440, 768, 390]) {
    test(`pages conform to WCAG 2.2 AA and fit ${width} pixels, ${colorScheme}`, () =>
      visit({ colorScheme, viewport: { width, height: 900 }, reducedMotion: 'reduce', expected: /40[14]/ }, async page => {
        for (const url of pages) {
          await page.goto(url);
          await page.evaluate(AXE);
          const violations = await page.evaluate(async rules => {
            const { violations } = await axe.run(document, { runOnly: rules, resultTypes: ['violations'], preload: false, iframes: false });
            return violations.map(({ id, nodes }) => `${id}: ${nodes.map(node => `${node.target} ${node.any[0]?.message ?? ''}`).join('; ')}`);
          }, WCAG);
          assert.deepEqual(violations, [], url);
          assert(await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth), `${url} is wider than the screen`);
          assert.equal(await page.evaluate(() => document.getAnimations().length), 0, `${url} moves`);
        }
      }));
  }
}

test('pages fit 320 pixels, which is 400 % of 1280', () =>
  visit({ viewport: { width: 320, height: 900 }, expected: /40[14]/ }, async page => {
    for (const url of pages) {
      await page.goto(url);
      assert(await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth), `${url} is wider than the screen`);
    }
  }));

test('printed event is not cut off, and has no controls', () =>
  visit({ viewport: { width: 800, height: 600 } }, async page => {
    await page.emulateMedia({ media: 'print' });
    for (const url of [`${owner}?event=${keys.configuration}`, `${inspector}?delivery=1`]) {
      await page.goto(url);
      assert.equal(await page.locator('.top:visible, .list:visible, .actions:visible').count(), 0, url);
      assert(await page.evaluate(() => document.querySelector('.detail').getBoundingClientRect().height > 2 * innerHeight), url);
      assert.deepEqual(await page.evaluate(() => [...document.querySelectorAll('.panes, .detail')].filter(pane => pane.scrollHeight > pane.clientHeight).length), 0, url);
    }
  }));

test('forced colours show what is chosen, and what the colours of the chart mean', () =>
  visit({ forcedColors: 'active', viewport: { width: 1440, height: 900 } }, async page => {
    for (const url of [owner, `${owner}?event=${keys.changed}`, `${inspector}?delivery=1`]) {
      await page.goto(url);
      const backgrounds = selector => page.evaluate(selector => [...document.querySelectorAll(selector)].map(element => getComputedStyle(element).backgroundColor), selector);
      const others = new Set(await backgrounds('.top nav a:not([aria-current]), .tabs a:not([aria-current]), .item:not([aria-current])'));
      for (const chosen of await backgrounds('[aria-current]')) assert(!others.has(chosen), url);
    }
    await page.goto(owner);
    const marks = await page.evaluate(() => [...document.querySelectorAll('.legend li')].map(element => getComputedStyle(element, '::before').backgroundColor));
    assert.equal(new Set(marks).size, marks.length);
  }));
