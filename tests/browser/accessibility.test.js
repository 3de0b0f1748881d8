import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import test from 'node:test';
import { fill, serve, visit } from './lib.js';

const AXE = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');
const WCAG = ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa'];
// Those of its rules that look at what is drawn: all that another colour scheme or width can change.
const DRAWN = ['color-contrast', 'link-in-text-block', 'target-size', 'scrollable-region-focusable'];

const busy = await serve();
const keys = await fill(busy, 4);
const empty = await serve();
const paused = await serve();
const owner = `${busy.axum}/owner`;
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
  `${busy.axum}/counts`,
  `${busy.axum}/reader?event=${keys.changed}`,
  `${empty.axum}/owner`,
  `${empty.axum}/owner?view=events`,
  `${paused.axum}/owner`,
];

test.before(() => fetch(`${paused.axum}/owner`, { method: 'POST', headers: { 'sec-fetch-site': 'same-origin' }, body: 'do=pause' }));

for (const colorScheme of ['light', 'dark']) {
  for (const width of [1440, 768, 390]) {
    test(`pages conform to WCAG 2.2 AA and fit ${width} pixels, ${colorScheme}`, () =>
      visit({ colorScheme, viewport: { width, height: 900 }, reducedMotion: 'reduce', expected: /404/ }, async page => {
        for (const url of pages) {
          await page.goto(url);
          await page.evaluate(AXE);
          const violations = await page.evaluate(async rules => {
            const { violations } = await axe.run(document, { runOnly: rules, resultTypes: ['violations'], preload: false, iframes: false });
            return violations.map(({ id, nodes }) => `${id}: ${nodes.map(node => `${node.target} ${node.any[0]?.message ?? ''}`).join('; ')}`);
          }, colorScheme === 'light' && width !== 768 ? WCAG : DRAWN);
          assert.deepEqual(violations, [], url);
          assert(await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth), `${url} is wider than the screen`);
          assert.equal(await page.evaluate(() => document.getAnimations().length), 0, `${url} moves`);
        }
      }));
  }
}

test('pages fit 320 pixels, which is 400 % of 1280', () =>
  visit({ viewport: { width: 320, height: 900 }, expected: /404/ }, async page => {
    for (const url of pages) {
      await page.goto(url);
      assert(await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth), `${url} is wider than the screen`);
    }
  }));
