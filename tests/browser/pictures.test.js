// The pictures of the documents. With TAKE_PICTURES set they are taken anew, and otherwise compared with the pages: not their
// pixels, which depend on fonts, but what they tell, without numbers.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'node:test';
import { body, sample, serve, visit } from './lib.js';

const { PICTURES, SQLITE3, TAKE_PICTURES } = process.env;
const MINUTE = 60_000_000;

const picture = (name, draw) => test(`picture shows what the page shows: ${name}`, () =>
  visit({ viewport: { width: 1440, height: 900 }, colorScheme: 'light', reducedMotion: 'reduce' }, async page => {
    await draw(page);
    await page.waitForSelector('button.live.on');
    const snapshot = (await page.locator('body').ariaSnapshot()).replaceAll(/^ *- \/url: .*\n/gm, '');
    const told = `${snapshot.replaceAll(/\d+(\.\d+)?( (ms|s|min)\b)?/g, '0')}\n`;
    if (TAKE_PICTURES) {
      await page.screenshot({ path: join(PICTURES, `${name}.png`) });
      writeFileSync(join(PICTURES, `${name}.txt`), told);
    }
    assert.equal(told, readFileSync(join(PICTURES, `${name}.txt`), 'utf8'), 'take them anew: TAKE_PICTURES=1 cargo xtask browser pictures');
  }));

/** A day of quarters of an hour, as a rule makes them up: stored, completed, retried, mean time, most waiting, longest wait. */
function* quarters() {
  for (let index = 0; index < 96; index++) {
    const isDay = index > 28 && index < 78, noise = (Math.imul(index + 1, 2654435761) >>> 20) % 11;
    const stored = (isDay ? 9 : 1) + noise;
    yield [stored, stored, isDay && noise > 8 ? noise - 7 : 0, 210 + noise * 20, noise % 4, noise > 9 ? noise * 2_500 : 0];
  }
}

picture('overview', async page => {
  const console = await serve();
  const unavailable = 'POST https://erp.example.com/api/parts: 503 Service Unavailable: upstream connect error';
  const events = [
    sample('file_uploaded', { fail: 'no part for file 5c6fb52c194afb281976f5e4: its name has no article number' }),
    ...Array(2).fill().map(() => sample('attribute_updated', { fail: unavailable })),
    ...['configuration_updated', 'file_optimized', 'attribute_updated', 'annotation_removed', 'file_optimized', 'annotation_updated', 'annotation_created', 'annotation_updated']
      .map(kind => sample(kind)),
  ];
  await console.store(...events);
  await console.work(events.length);
  await console.store(sample('annotation_updated', { hang: true }));
  await console.work(1);
  const last = Math.floor(Date.now() / 900_000) * 15;
  const activity = [...quarters()].map(([stored, completed, retried, mean, waiting, wait], index) =>
    `(${last - (96 - index) * 15}, ${stored}, ${completed}, ${retried}, 0, ${mean * (completed + retried)}, ${mean * 3}, ${waiting}, ${wait})`);
  execFileSync(SQLITE3, ['-bail', '-cmd', '.timeout 10000', join(console.path, 'inbox.db'), `
    INSERT OR REPLACE INTO activity VALUES ${activity.join(', ')};
    UPDATE events SET received = received - (13 - seq) * (13 - seq) * ${MINUTE} / 3 - ${2 * MINUTE};`]);
  await page.goto(`${console.axum}/smartshape`);
});

picture('inspector', async page => {
  const console = await serve();
  const headers = {
    host: '127.0.0.1:8042', 'user-agent': 'axios/0.21.1', accept: 'application/json, text/plain, */*', 'content-type': 'application/json', 'x-forwarded-for': '203.0.113.9',
  };
  const kinds = ['file_uploaded', 'file_optimized', 'annotation_created', 'annotation_updated', 'annotation_removed', 'attribute_updated', 'configuration_created', 'configuration_updated'];
  await console.deliver(
    ...kinds.map(kind => ({ headers, body: sample(kind), forward: '200 after 3 ms, accepted' })),
    { headers, body: sample('configuration_removed'), forward: '500 after 5 ms, SmartShape would not accept it: the part is locked' },
    { headers, body: '{"file": 3}' },
    { headers, body: body(), is_forged: true, cost: 10 },
  );
  await page.goto(`${console.axum}/inspector?delivery=${kinds.length + 3}`);
});
