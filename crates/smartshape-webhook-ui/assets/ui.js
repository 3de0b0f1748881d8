// The page works without this. It adds: live updates, copying, the theme, keys.
const $ = (s, r = document) => r.querySelector(s), $$ = (s, r = document) => [...r.querySelectorAll(s)];
const root = document.documentElement;
try { if (localStorage.theme) root.dataset.theme = localStorage.theme; } catch {}
for (const b of $$('button[hidden]')) b.hidden = false;

// A fragment is parsed by the browser as a document of its own: scripts in it never run, and no text becomes markup here.
const load = () => new Promise((ok, no) => {
  const x = new XMLHttpRequest();
  x.open('GET', location.href); x.responseType = 'document';
  x.onload = () => x.status === 200 && x.response ? ok(x.response) : no(x.status);
  x.onerror = no; x.send();
});
let busy = false, again = false;
const refresh = async () => {
  if (busy) { again = true; return; }
  busy = true;
  try {
    const fresh = await load();
    const chosen = getSelection();
    for (const now of $$('[data-live][id]')) {
      const then = fresh.getElementById(now.id);
      if (!then || then.isEqualNode(now) || now.contains(document.activeElement) && now.id !== 'items') continue;
      if (!chosen.isCollapsed && chosen.containsNode(now, true)) continue;
      const at = document.activeElement?.closest?.('.item')?.getAttribute('href');
      const open = $$('details', now).map(d => d.open), top = now.scrollTop;
      // The row at the top of what is seen stays where it is.
      const row = top && $$('.item', now).find(a => a.offsetTop - now.offsetTop >= top), from = row?.offsetTop;
      const put = document.importNode(then, true), same = href => $$('.item', put).find(a => a.getAttribute('href') === href);
      $$('details', put).forEach((d, i) => { if (open[i] !== undefined) d.open = open[i]; });
      now.replaceWith(put);
      if (top) put.scrollTop = top + (row && same(row.getAttribute('href'))?.offsetTop - from || 0);
      if (at) same(at)?.focus({ preventScroll: true });
    }
  } catch {} finally { busy = false; if (again) { again = false; setTimeout(refresh, 500); } }
};
// All open pages together cost the server one look a second: it returns the same text until something changes.
const live = $('button.live');
let timer = null, seen = null;
const tick = async () => {
  try {
    const response = await fetch('?tick', { cache: 'no-store' });
    live?.classList.toggle('on', response.ok);
    if (!response.ok) return;
    const now = await response.text();
    if (seen !== null && now !== seen) refresh();
    seen = now;
  } catch { live?.classList.remove('on'); }
};
const stop = () => { clearInterval(timer); timer = null; };
const start = () => {
  stop();
  if (document.hidden || live?.getAttribute('aria-pressed') !== 'true') return;
  tick(); timer = setInterval(tick, 900);
};
live?.addEventListener('click', () => {
  const on = live.getAttribute('aria-pressed') !== 'true';
  live.setAttribute('aria-pressed', String(on)); $('.t', live).textContent = on ? 'Live' : 'Paused';
  if (on) { refresh(); start(); } else stop();
});
document.addEventListener('visibilitychange', () => document.hidden ? stop() : (refresh(), start()));
start();

$('button.theme')?.addEventListener('click', () => {
  const dark = root.dataset.theme ? root.dataset.theme === 'dark' : matchMedia('(prefers-color-scheme: dark)').matches;
  root.dataset.theme = dark ? 'light' : 'dark';
  try { localStorage.theme = root.dataset.theme; } catch {}
});
document.addEventListener('click', async e => {
  const b = e.target.closest?.('[data-copy]'); if (!b) return;
  const from = $(b.dataset.copy), say = $('span', b), was = say.textContent;
  try { await navigator.clipboard.writeText(from.textContent); say.textContent = 'Copied'; }
  catch { from.hidden = false; getSelection().selectAllChildren(from); from.scrollIntoView({ block: 'nearest' }); say.textContent = 'Press Ctrl+C'; }
  setTimeout(() => { say.textContent = was; }, 2000);
});
document.addEventListener('keydown', e => {
  if (e.ctrlKey || e.metaKey || e.altKey || e.target.closest?.('input, select, textarea')) return;
  if (e.key === '/') { $('input[type=search]')?.focus(); e.preventDefault(); }
  if (e.key === 'j' || e.key === 'k') {
    const all = $$('.item'), at = all.indexOf(document.activeElement.closest('.item') ?? $('.item[aria-current]'));
    all[Math.max(0, Math.min(all.length - 1, at + (e.key === 'j' ? 1 : -1)))]?.focus();
  }
});
$('.item[aria-current]')?.scrollIntoView({ block: 'nearest' });
