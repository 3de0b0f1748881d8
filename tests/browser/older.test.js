import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { copyFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'node:test';
import { folder, serve, visit } from './lib.js';

const { OLDER_INBOX, SQLITE3 } = process.env;

/** An inbox with the first form of the tables, and the statements of the version that made it, from a process of their own. */
function older() {
  const path = folder();
  copyFileSync(OLDER_INBOX, join(path, 'inbox.db'));
  const run = sql => execFileSync(SQLITE3, ['-bail', '-cmd', '.timeout 10000', join(path, 'inbox.db'), sql], { encoding: 'utf8' }).trim();
  const [opened, base] = [Date.now(), Number(run("SELECT max(value, (SELECT max(stored) FROM events)) FROM meta WHERE name = 'clock'"))];
  /** Its clock: the time in the file when it opened it, and the time since. */
  const now = () => base + Date.now() - opened;
  return {
    path,
    /** Returns the event's key. */
    store(file) {
      const body = JSON.stringify({ file, event: 'file_optimized', data: {}, owner: 'o', runTimestamp: 1, uuid: file });
      return run(`BEGIN IMMEDIATE;
        INSERT INTO events (version, key, state, due, file_hash, event, file, uuid, owner, received, bytes, stored)
          VALUES (1, randomblob(16), 0, ${now()}, ${file.length}, 'file_optimized', '${file}', '${file}', 'o', ${Date.now()}000, ${body.length}, ${now()});
        INSERT INTO bodies (seq, body) VALUES (last_insert_rowid(), CAST('${body}' AS BLOB));
        SELECT lower(hex(key)) FROM events WHERE seq = last_insert_rowid();
        COMMIT`);
    },
    claim: file => run(`UPDATE events SET state = 1, due = ${now()} + 60000, fence = fence + 1, attempts = attempts + 1, lost = lost + (state = 1)
      WHERE seq IN (SELECT seq FROM events WHERE state <= 1 AND due <= ${now()} AND version <= 1 AND file = '${file}')`),
    bury: (file, error) => run(`UPDATE events SET state = 3, due = ${now()}, error = '${error}', settled = ${now()} WHERE file = '${file}' AND state = 1`),
    forgetDeadLetters: () => run('UPDATE events SET state = 2 WHERE state = 3'),
    complete: file => run(`BEGIN IMMEDIATE;
      UPDATE events SET state = 2, settled = ${now()}, error = NULL, owner = NULL, secret = NULL, traceparent = NULL WHERE file = '${file}' AND state = 1;
      DELETE FROM bodies WHERE seq = (SELECT seq FROM events WHERE file = '${file}');
      COMMIT`),
  };
}

for (const [name, isReadOnly] of [['', false], [', which is read-only', true]]) {
  test(`work of an older process is on the page of a new console${name}`, () =>
    visit({ viewport: { width: 1440, height: 900 } }, async page => {
      const process = older();
      const console = await serve(process.path, ...isReadOnly ? ['--read-only'] : []);
      const owner = `${console.axum}/owner`;
      await page.goto(owner);
      await page.waitForSelector('button.live.on');
      assert.equal(await page.locator('#latest tbody tr').count(), 3);
      await page.evaluate(() => { globalThis.isSamePage = true; });
      const key = process.store('of-the-older-process');
      await page.waitForFunction(() => document.querySelectorAll('#latest tbody tr').length === 4);
      process.claim('of-the-older-process');
      await page.waitForFunction(() => /1 running/.test(document.querySelector('#t-wait').textContent));
      process.bury('of-the-older-process', 'no part in the catalogue');
      await page.waitForFunction(() => /^2/.test(document.querySelector('#t-dead').textContent));
      assert(await page.evaluate(() => isSamePage));
      await page.goto(`${owner}?event=${key}&state=dead-letter`);
      assert.match(await page.textContent('section.error'), /no part in the catalogue/);
      assert.match(await page.textContent('.bodyblock'), /of-the-older-process/);
      assert.equal(await page.locator('form[method=post], a.danger').count() === 0, isReadOnly);
      if (isReadOnly) {
        process.forgetDeadLetters();
        await page.goto(owner);
        assert.match(await page.textContent('h1'), /not known whether a worker is alive; 1 event waits/);
        assert.match(await page.textContent('#workers'), /workers unknown/);
      } else {
        assert.match(await page.textContent('#workers'), /no worker reports/);
        await page.click('button[value=replay]');
        assert.match(await page.textContent('.flash'), /1 event waits/);
        process.claim('of-the-older-process');
        process.complete('of-the-older-process');
        await page.goto(`${owner}?event=${key}`);
        assert.match(await page.textContent('.dhead .chip'), /Completed/);
        // Its own worker goes on with what the older process has stored.
        process.store('for-the-newer-process');
        await console.work(2);
        await page.goto(`${owner}?view=events&state=completed`);
        assert.equal(await page.locator('.item').count(), 4);
      }
    }));
}
