import assert from 'node:assert/strict';
import test from 'node:test';
import { body, serve, visit } from './lib.js';

const TEXTS = [
  '<script>alert(1)</script>', '<img src=x onerror=alert(1)>', '<svg onload=alert(1)>', '<svg><script>alert(1)</script></svg>',
  '<iframe srcdoc="<script>alert(1)</script>">', '<object data="javascript:alert(1)">', '<embed src="javascript:alert(1)">',
  '<a href="javascript:alert(1)">x</a>', '<form action="https://evil.example"><input name=do value=purge>',
  '<base href="https://evil.example/">', '<meta http-equiv="refresh" content="0;url=https://evil.example/">',
  '<link rel=stylesheet href="https://evil.example/x.css">', '<style>*{display:none}</style>',
  '<template shadowrootmode=open><script>alert(1)</script></template>',
  '<math><mtext><table><mglyph><style><img src=x onerror=alert(1)>', '<details open ontoggle=alert(1)>',
  '<input autofocus onfocus=alert(1)>', '<video><source onerror=alert(1)>', '<body onpageshow=alert(1)>',
  '<button formaction="javascript:alert(1)">x', '<noscript><p title="</noscript><img src=x onerror=alert(1)>">',
  '<xmp><img src=x onerror=alert(1)></xmp>', '<plaintext>', '<!--<img src=x onerror=alert(1)>-->',
  '<![CDATA[<img src=x onerror=alert(1)>]]>', '<?xml version="1.0"?><x>', '&lt;script&gt;alert(1)&lt;/script&gt;',
  '&#60;script&#62;alert(1)&#60;/script&#62;', '&amp;lt;b&amp;gt;', 'javascript:alert(1)',
  'data:text/html,<script>alert(1)</script>', '{{constructor.constructor("alert(1)")()}}', '${alert(1)}', '<%= 7*7 %>',
  "';alert(1);//", '`-alert(1)-`', '\u202egnp.exe', 'a\u200bb\ufeff\u00ad', '\u0001\u001b[31mred\r\u0085', '\uffff\u{1f600}\u{e0041}',
];
const PLACES = [
  text => text,
  text => `">${text}`,
  text => `'>${text}`,
  text => `</title></textarea></script></style></svg>${text}`,
  text => `x' onmouseover='alert(1)' y=" onfocus="alert(1)" ${text}`,
];
const HOSTILE = PLACES.flatMap(place => TEXTS.map(place));

/** As the console shows a text from outside. */
const shown = text =>
  text.replace(/[\p{Cc}\u00ad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\u{e0000}-\u{e0fff}]/gu, character =>
    character === '\n' ? character : `\\u${character.codePointAt().toString(16).padStart(4, '0')}`);

// Of a document: its title, the names of its elements and attributes, and the texts of an event's page.
const structure = document => {
  const names = new Set();
  const texts = ['.title h2', '.sub .mono', 'section.error pre', '.facts dd bdi'].map(place => document.querySelector(place)?.textContent);
  for (const element of document.querySelectorAll('*')) {
    names.add(element.localName);
    for (const attribute of element.attributes) names.add(`${element.localName} ${attribute.name}`);
  }
  return { title: document.title, names: [...names], texts };
};

const console = await serve();
const owner = `${console.axum}/owner`;
const hostile = await console.store(...HOSTILE.map(text =>
  body({ event: text, file: text, owner: text, data: { [text]: text, list: [text], old: { [text]: 1 }, new: { [text]: text } }, fail: text })));
await console.work(HOSTILE.length);
const [harmless] = await console.store(body({ event: 'harmless', file: 'harmless', owner: 'harmless', data: { a: 'b', list: ['c'] }, fail: 'harmless' }));
await console.work(1);
const lists = ['?view=overview', '?view=events', '?view=events&state=dead-letter', '?view=confirm&do=purge', '?view=none'];

/** What pages without a hostile text have; with the marks of invisible characters, a chosen name, and what is hidden until the
 * script has run. */
async function known(page) {
  const names = new Set(['mark', 'option selected', 'button hidden']);
  for (const path of [...lists, `?event=${harmless}`, `?event=${harmless}&q=a&state=dead-letter`, '?view=events&q=a&name=b&done=replay&before=1',
    `?view=confirm&do=purge&event=${harmless}`, '?view=events&reason=1', '?event=00', '?view=confirm&do=replay&q=a&reason=1&up_to=9']) {
    await page.goto(owner + path);
    const found = await page.evaluate(structure, await page.evaluateHandle('document'));
    for (const name of found.names) names.add(name);
  }
  return names;
}

/** Parses pages as the browser parses any, without a run of the scripts that came of them: those are found as elements. */
async function parsed(page, paths, url = owner) {
  await page.goto(url);
  await page.evaluate(`globalThis.structure = ${structure}`);
  return page.evaluate(async paths => {
    const load = path => new Promise((loaded, failed) => {
      const request = new XMLHttpRequest();
      request.open('GET', path);
      request.responseType = 'document';
      request.onload = () => loaded(structure(request.response));
      request.onerror = failed;
      request.send();
    });
    const found = [];
    for (const path of paths) found.push(await load(path));
    return found;
  }, paths);
}

test('hostile texts of an event become no element, attribute or title', () =>
  visit({ expected: /404/ }, async page => {
    const names = await known(page);
    const found = await parsed(page, hostile.map(key => `?event=${key}`));
    for (const [index, text] of HOSTILE.entries()) {
      assert.equal(found[index].title, 'Events · SmartShape inbox · test', text);
      assert.deepEqual(found[index].names.filter(name => !names.has(name)), [], text);
      assert.deepEqual(found[index].texts, Array(4).fill(shown(text)));
    }
  }));

test('hostile texts of an event run no script and lead nowhere', () =>
  visit({}, async page => {
    for (let index = 0; index < TEXTS.length; index++) {
      // Each text, in each place by turns.
      const url = `${owner}?event=${hostile[index + TEXTS.length * (index % PLACES.length)]}`;
      await page.goto(url);
      assert.equal(page.url(), url);
    }
  }));

test('hostile texts in lists and in the query become no element, attribute or title', () =>
  visit({ expected: /404/ }, async page => {
    const names = await known(page);
    const paths = [...lists];
    for (let list = '?view=events&state=dead-letter'; list;) {
      await page.goto(owner + list);
      paths.push(list);
      list = await page.evaluate(() => document.querySelector('a[rel=next]')?.getAttribute('href'));
    }
    for (const text of HOSTILE) {
      const parameter = encodeURIComponent(text);
      const all = names => names.map(name => `&${name}=${parameter}`).join('');
      paths.push(`?view=events${all(['q', 'name', 'state', 'reason', 'before', 'after', 'done', 'count', 'event'])}`);
      paths.push(`?view=confirm&do=purge${all(['q', 'name', 'reason', 'up_to'])}`);
      paths.push(`?view=${parameter}${all(['span', 'do'])}`);
    }
    for (const [index, { title, names: of }] of (await parsed(page, paths)).entries()) {
      assert.match(title, /^[A-Z][a-z ]+ · SmartShape inbox · test$/, paths[index]);
      assert.deepEqual(of.filter(name => !names.has(name)), [], paths[index]);
    }
  }));

test('hostile texts of deliveries become no element, attribute or title, and run no script', () =>
  visit({ expected: /404/ }, async page => {
    const { axum, deliver } = await serve();
    const url = `${axum}/inspector`;
    // With this the list is empty.
    const none = '?q=nothing-is-like-this';
    // A header has no such characters.
    const header = text => text.replace(/\p{Cc}/gu, '');
    const arrival = text => ({
      body: body({ event: text, file: text, owner: text, data: { [text]: text, old: { [text]: 1 }, new: { [text]: text } } }),
      headers: { 'user-agent': header(text), 'x-forwarded-for': header(text) }, forward: text, fails: text.length % 2 === 0,
    });
    await deliver({ body: '{}' }, { body: body(), is_forged: true }, { body: body() }, ...['aa', 'a'].map(arrival));
    const names = new Set(['mark', ...(await parsed(page, ['', ...[1, 2, 3, 4, 5].map(number => `?delivery=${number}`), '?delivery=5&q=a&state=accepted&done=resend&count=1',
      '?view=send', '?delivery=0', '?view=none', none], url)).flatMap(({ names }) => names)]);
    await deliver(...HOSTILE.map(arrival));
    const at = index => `${none}&delivery=${6 + index}`;
    const pages = ['', ...HOSTILE.map((_, index) => at(index))];
    for (const text of HOSTILE) {
      const all = ['q', 'state', 'delivery', 'done', 'count', 'name'].map(name => `${name}=${encodeURIComponent(text)}`).join('&');
      pages.push(`?${all}`, `?view=send&${all}`, `?view=${encodeURIComponent(text)}`);
    }
    for (const [index, { title, names: of }] of (await parsed(page, pages, url)).entries()) {
      assert.match(title, /^[A-Z][a-z ]+ · SmartShape listener · 127\.0\.0\.1:8042$/, pages[index]);
      assert.deepEqual(of.filter(name => !names.has(name)), [], pages[index]);
    }
    for (let index = 0; index < TEXTS.length; index++) {
      const hostile = url + at(index + TEXTS.length * (index % PLACES.length));
      await page.goto(hostile);
      assert.equal(page.url(), hostile);
    }
  }));
