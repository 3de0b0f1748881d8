import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import test from 'node:test';
import { body, sample, serve, visit } from './lib.js';

const listener = async () => {
  const console = await serve();
  return { url: `${console.axum}/inspector`, deliver: console.deliver };
};
const texts = async (page, selector) => (await page.locator(selector).allTextContents()).map(text => text.trim());

test('rejected delivery shows the check that it failed and what to do, and nothing of a stranger', async () => {
  const { url, deliver } = await listener();
  await deliver(
    { body: body({ data: { secret: 'OF-A-STRANGER' } }), is_forged: true },
    { body: '{"file": 3, "event": "file_uploaded"}' },
    { body: body(), fails: true },
  );
  await visit({}, async page => {
    await page.goto(url);
    await page.click('.tabs a:has-text("Rejected")');
    assert.deepEqual(await texts(page, '.item .chip'), ['500', '400', '401']);
    for (const [row, failed, passed, reason, remedy, kept] of [
      [2, 'The token matches the secret', 4, /matches none of the secrets/, /registered with another secret/, false],
      [1, 'The body is a SmartShape event', 6, /not a SmartShape event/, /Compare the body with a sample/, true],
      [0, 'The handler accepted it', 9, /the handler failed/, /SmartShape sends the event again/, true],
    ]) {
      await page.locator('.item').nth(row).click();
      assert.deepEqual(await texts(page, '.checks .failed'), [`${failed}: no`]);
      assert.equal(await page.locator('.checks .passed').count(), passed);
      assert.equal(await page.locator('.checks .skipped').count(), 9 - passed);
      assert.match(await page.textContent('section.error'), reason);
      assert.match(await page.textContent('section.error .why'), remedy);
      assert.equal(await page.locator('.detail a:has-text("Body")').count(), Number(kept));
      assert.equal(await page.locator('button:has-text("Send it again")').count(), Number(kept));
      assert.doesNotMatch(await page.content(), /OF-A-STRANGER/);
    }
  });
});

test('updated configuration is shown before and after, and its body is downloaded byte for byte', async () => {
  const { url, deliver } = await listener();
  const sent = sample('configuration_updated', { exact: 12345678901234567890 }).replace('12345678901234567000', '12345678901234567890.10');
  assert.match(sent, /7890\.10/);
  await deliver({ body: sent });
  await visit({}, async page => {
    await page.goto(`${url}?delivery=1`);
    const { data } = JSON.parse(sent);
    assert.notDeepEqual(data.old, data.new);
    const rows = page.locator('.diff', { hasText: 'Before' }).locator('tbody tr');
    assert(await rows.count() > 0);
    for (const row of await rows.all()) {
      const path = await row.locator('th').textContent();
      const value = root => path.split(/[.[\]/]+/).filter(Boolean).reduce((at, name) => at?.[name], root);
      for (const [mark, root] of [['del', data.old], ['ins', data.new]]) {
        const shown = row.locator(mark);
        assert.equal(await shown.count(), Number(value(root) !== undefined), `${mark} ${path}`);
        if (await shown.count()) assert.deepEqual(JSON.parse(await shown.textContent()), value(root), path);
      }
    }
    const [download] = await Promise.all([page.waitForEvent('download'), page.click('.actions a:has-text("Body")')]);
    assert.deepEqual(await readFile(await download.path()), Buffer.from(sent));
  });
});

test('delivery is sent again, a sample is edited and sent, and both are on the page at once', async () => {
  const { url, deliver } = await listener();
  await visit({}, async page => {
    await page.goto(url);
    await page.waitForSelector('button.live.on');
    const sent = body({ file: 'sent-again' });
    await deliver({ body: sent, forward: '500 after 3 ms' }, { body: sent });
    // Without a reload.
    await page.waitForFunction(() => document.querySelectorAll('.item').length === 2);
    assert.match(await page.locator('.item').first().textContent(), /2nd time.*Accepted before/s);
    await page.locator('.item').last().click();
    assert.match(await page.textContent('#passed'), /Forwarded.*500 after 3 ms/s);
    await page.click('button:has-text("Send it again")');
    assert.match(await page.textContent('.flash'), /Sent again, and accepted/);
    assert.match(await page.textContent('#passed'), new RegExp(`Sent again.*200, accepted ${sent.length} bytes`, 's'));
    await page.click('nav a:has-text("Send a sample")');
    await page.selectOption('select[name=name]', 'attribute_updated');
    await page.click('button:has-text("Show its sample")');
    const text = await page.inputValue('textarea');
    await page.fill('textarea', text.replace(/"owner": *"[^"]*"/, '"owner": "edited@example.com"'));
    await page.click('button:has-text("Send"):not(:has-text("sample"))');
    assert.match(await page.textContent('.flash'), /The sample was sent, and accepted/);
    await page.locator('.item').first().click();
    assert.match(await page.textContent('.bodyblock'), /edited@example\.com/);
  });
});

test('everything is read and sent without a script', async () => {
  const { url, deliver } = await listener();
  await deliver({ body: body({ file: 'one' }) }, { body: body({ file: 'two' }) });
  await visit({ javaScriptEnabled: false }, async page => {
    await page.goto(url);
    await page.fill('input[type=search]', 'one');
    await page.click('button:has-text("Find")');
    assert.equal(await page.locator('.item').count(), 1);
    await page.click('.item');
    await page.click('button:has-text("Send it again")');
    assert.match(await page.textContent('.flash'), /Sent again, and accepted/);
  });
});
