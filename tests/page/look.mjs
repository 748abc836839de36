// Looks at the page of a running service in a real Chromium, in the state that is named.
//
//   node look.mjs STATE URL [PICTURES]
//
// The test that runs this reads a word of a line where it has to do something, and does it. What was not
// as it should be ends this with a failed assertion.
import assert from 'node:assert/strict';
import { createServer } from 'node:http';
import { createRequire } from 'node:module';
import { readFileSync, mkdirSync } from 'node:fs';

const [state, url, pictures] = process.argv.slice(2);
const modules = createRequire(`${process.env.BROWSER_MODULES}/`);
const { chromium } = modules('playwright-core');
const axe = readFileSync(modules.resolve('axe-core/axe.min.js'), 'utf8');
const KEY = process.env.PAGE_KEY;

const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM,
  args: [
    '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
    '--disable-component-update', '--disable-sync',
  ],
});
const narrow = { width: 360, height: 740 };
const wide = { width: 1280, height: 900 };

// Opens the page and watches all that it does. `refused`: statuses that this state brings with it.
async function open(viewport, colorScheme, refused = []) {
  const context = await browser.newContext({
    viewport, colorScheme, locale: 'en-GB', timezoneId: 'Europe/Oslo', permissions: ['clipboard-read', 'clipboard-write'],
  });
  const page = await context.newPage();
  const found = [];
  page.on('request', request => {
    if (new URL(request.url()).origin !== new URL(url).origin) found.push(`a request to ${request.url()}`);
    if (KEY && request.url().includes(KEY)) found.push(`the key in ${request.url()}`);
  });
  page.on('pageerror', error => found.push(`an error: ${error}`));
  page.on('console', message => {
    const expected = refused.some(status => message.text().includes(status));
    if (['error', 'warning'].includes(message.type()) && !expected) found.push(`the console: ${message.text()}`);
  });
  await page.addInitScript(() => {
    globalThis.violations = [];
    document.addEventListener('securitypolicyviolation', event => globalThis.violations.push(`${event.effectiveDirective} ${event.blockedURI}`));
  });
  await page.goto(url);
  return { page, context, found };
}

async function titled(page, title) {
  await page.locator('#state-title', { hasText: title }).waitFor();
  assert.equal(await page.locator('#state-title').textContent(), title);
}

// What must hold in every state, at every width, by day and by night.
async function sound({ page, found }, where) {
  const wider = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
  assert.equal(wider, 0, `${where}: wider than the window`);
  assert.deepEqual(await page.evaluate(() => globalThis.violations), [], where);
  // Not as a script of the page, which its policy forbids.
  const client = await page.context().newCDPSession(page);
  await client.send('Runtime.evaluate', { expression: axe });
  const judged = await client.send('Runtime.evaluate', {
    expression: 'axe.run(document, { resultTypes: ["violations"] })', awaitPromise: true, returnByValue: true,
  });
  const faults = judged.result.value.violations.map(fault => `${fault.id}: ${fault.nodes.map(node => node.html).join(' | ')}`);
  assert.deepEqual(faults, [], where);
  assert.deepEqual(found, [], where);
}

async function everywhere(title, refused, extra = async () => {}) {
  for (const [viewport, scheme] of [[narrow, 'dark'], [narrow, 'light'], [wide, 'dark'], [wide, 'light']]) {
    const look = await open(viewport, scheme, refused);
    await titled(look.page, title);
    await extra(look.page);
    await sound(look, `${state} ${viewport.width} ${scheme}`);
    await picture(look.page, viewport, scheme);
    await look.context.close();
  }
}

async function picture(page, viewport, scheme) {
  const wanted = (viewport === wide && scheme === 'light') || (viewport === narrow && scheme === 'dark');
  if (!pictures || !wanted) return;
  mkdirSync(pictures, { recursive: true });
  await page.screenshot({ path: `${pictures}/page-${state}-${viewport === wide ? 'wide' : 'narrow'}.png` });
}

// Tells the test that it is its turn, and hears that it has done it.
let lines = null;
async function turnOf(word) {
  console.log(word);
  lines ??= process.stdin[Symbol.asyncIterator]();
  await lines.next();
}

const key = page => page.evaluate(() => ({ id: document.activeElement.id, tag: document.activeElement.tagName }));

// By keyboard alone, to the element of that id.
async function tabTo(page, id) {
  for (let steps = 0; steps < 200; steps += 1) {
    if ((await key(page)).id === id) return;
    await page.keyboard.press('Tab');
  }
  assert.fail(`#${id} is not reached by Tab`);
}

const states = {
  async ready() {
    const look = await open(wide, 'light');
    const { page } = look;
    await titled(page, 'Working');
    const order = await page.$$eval('main > section', sections => sections.map(section => section.id));
    assert.deepEqual(order, ['state', 'plan', 'today', 'turns', 'clients', 'models', 'recent', 'try', 'about']);
    assert.equal(await page.locator('#state-command code').textContent(), `${url}v1`);
    assert.equal(await page.locator('#turns-note').textContent(), 'None is running, none is waiting.');
    assert.equal(await page.locator('#windows').getByText('58').count() > 0, true);
    assert.equal(await page.locator('#windows').getByText('23').count() > 0, true);

    // The first stop of the keyboard leads past the head.
    await page.keyboard.press('Tab');
    assert.equal(await page.locator(':focus').textContent(), 'Skip to the content');
    // The clients are those of the service, and what is shown is what is copied.
    const { clients } = await (await fetch(`${url}clients`)).json();
    await page.locator('#client-names label').nth(clients.length - 1).waitFor();
    assert.equal(await page.locator('#client-names label').count(), clients.length);
    const codex = clients.find(client => client.name === 'codex');
    await page.locator('input[value=curl]').focus();
    while (await page.locator('#client-names input:checked').inputValue() !== 'codex') await page.keyboard.press('ArrowRight');
    assert.equal(await page.locator('#client pre').textContent(), codex.text);
    assert.equal(await page.locator('#client-needs').textContent(), codex.needs || '');
    await page.locator('#client .copy').focus();
    await page.keyboard.press('Enter');
    await page.locator('#said', { hasText: 'Copied' }).waitFor();
    assert.equal(await page.evaluate(() => navigator.clipboard.readText()), codex.text);
    assert.match(await page.locator('#model-list li', { hasText: 'gpt-4o' }).textContent(), /stands for gpt-5.5/);
    const { data } = await (await fetch(`${url}v1/models`)).json();
    assert.deepEqual(await page.locator('#model-list code').allTextContents(), data.map(model => model.id));

    // A prompt, by keyboard alone.
    await tabTo(page, 'prompt');
    await page.keyboard.type('Reply with exactly: pong <b>');
    await page.keyboard.press('Control+Enter');
    await page.locator('#try-said', { hasText: 'Done' }).waitFor();
    assert.equal(await page.locator('#answer pre').textContent(), 'pong <b>');
    assert.match(await page.locator('#try-said').textContent(), /first content .* · total .* · .* in \(.* cached\), .* out/);
    // It is in the list of what was asked, with the command that shows it.
    const row = page.locator('#recent tbody tr').first();
    await row.waitFor();
    assert.equal(await row.locator('[data-part=status]').textContent(), 'ok');
    const { recent } = await (await fetch(`${url}usage`)).json();
    assert.equal(await row.locator('[data-part=id]').textContent(), recent[0].request_id);
    if (recent[0].journal) {
      await row.locator('.copy').click();
      assert.equal(await page.evaluate(() => navigator.clipboard.readText()), recent[0].journal);
    }
    assert.equal(await page.locator('#totals dd').first().textContent(), '1');
    // What fails is said in its own words.
    await page.locator('#prompt').fill('x [[failed=scripted it broke]]');
    await page.locator('#try-form .main').click();
    await page.locator('#try-said.warn').waitFor();
    assert.notEqual(await page.locator('#try-said').textContent(), '');
    assert.deepEqual(look.found.filter(line => !line.includes('Failed to load resource')), []);
    // Nothing is kept.
    const kept = await page.evaluate(() => localStorage.length + sessionStorage.length + document.cookie.length);
    assert.equal(kept, 0);
    await look.context.close();
    await everywhere('Working', []);

    // A link on another site's page is refused as its script would be; the address typed is not.
    const other = createServer((_, answer) => answer.setHeader('content-type', 'text/html').end(`<a href="${url}">here</a>`));
    await new Promise(done => other.listen(0, '127.0.0.2', done));
    const stray = await (await browser.newContext()).newPage();
    await stray.goto(`http://127.0.0.2:${other.address().port}/`);
    const [answer] = await Promise.all([stray.waitForResponse(url), stray.click('a')]);
    assert.equal(answer.status(), 403);
    assert.equal((await stray.goto(url)).status(), 200);
    other.close();
  },

  async login() {
    await everywhere('Not ready', [], async page => {
      await page.locator('#state-command').waitFor();
      const { ready } = await (await fetch(`${url}usage`)).json();
      assert.match(ready.fix, /codex login$/);
      assert.equal(await page.locator('#state-command code').textContent(), ready.fix);
    });
    // Without a script too it tells what is wrong.
    const context = await browser.newContext({ javaScriptEnabled: false });
    const page = await context.newPage();
    await page.goto(url);
    await titled(page, 'Not ready');
    assert.match(await page.locator('#state-text').textContent(), /codex login/);
  },

  async busy() {
    const look = await open(wide, 'light');
    const { page } = look;
    await titled(page, 'Working');
    await turnOf('busy');
    const running = page.locator('#turn-list .running');
    await running.waitFor();
    await page.locator('#turn-list .queued').waitFor();
    assert.match(await page.locator('#link').textContent(), /1 running · 1 waiting/);
    await everywhere('Working', [], shown => shown.locator('#turn-list .running').waitFor());
    // Interrupted by keyboard: it ends, and the one that waited runs.
    const waiting = await page.locator('#turn-list .queued').getAttribute('data-name');
    await running.locator('button').focus();
    await page.keyboard.press('Enter');
    await page.locator(`#turn-list .running[data-name="${waiting}"]`).waitFor();
    await page.locator('#said', { hasText: 'interrupted' }).waitFor();
    await page.locator('#turn-list .running button').click();
    await page.locator('#turns-note', { hasText: 'None is running' }).waitFor();
    // One's own prompt is stopped by its button.
    await page.locator('#prompt').fill('[[hang]]');
    await page.locator('#try-form .main').click();
    await page.locator('#turn-list .running').waitFor();
    await page.locator('#stop').click();
    await page.locator('#try-said', { hasText: 'Stopped.' }).waitFor();
    await page.locator('#turns-note', { hasText: 'None is running' }).waitFor();
    await sound(look, 'after all turns');
  },

  async limited() {
    await everywhere('The plan’s limit is reached', [], async page => {
      assert.match(await page.locator('#state-text').textContent(), /It resets 2 Oct,/);
      assert.equal(await page.locator('.window .used').first().textContent(), '100%');
      assert.equal(await page.locator('.meter').first().getAttribute('aria-valuenow'), '100');
    });
  },

  async key() {
    await everywhere('The API key is needed', ['401']);
    const look = await open(narrow, 'dark', ['401']);
    const { page } = look;
    await titled(page, 'The API key is needed');
    assert.equal((await key(page)).id, 'key');
    assert.equal(await page.locator('main > section:visible').count(), 1);
    for (const wrong of ['not-the-key', 'schlüssel']) {
      await page.keyboard.type(wrong);
      await page.keyboard.press('Enter');
      await titled(page, 'That key is not accepted');
      await sound(look, 'with a wrong key');
    }
    await page.keyboard.type(KEY);
    await page.keyboard.press('Enter');
    await titled(page, 'Working');
    assert.equal(await page.locator('main > section:visible').count(), 9);
    await page.locator('#prompt').fill('Reply with exactly: pong');
    await page.locator('#try-form .main').click();
    await page.locator('#try-said', { hasText: 'Done' }).waitFor();
    assert.equal(await page.locator('#answer pre').textContent(), 'pong');
    assert.ok(!(await page.content()).includes(KEY), 'the key is not in the document');
    const kept = await page.evaluate(() => localStorage.length + sessionStorage.length + document.cookie.length);
    assert.equal(kept, 0);
    await sound(look, 'with the key');
    // Gone with the page.
    await page.reload();
    await titled(page, 'The API key is needed');
  },

  async draining() {
    const look = await open(wide, 'light', ['ERR_CONNECTION_REFUSED', 'ERR_INCOMPLETE_CHUNKED', 'ERR_CONNECTION_RESET']);
    const { page } = look;
    await titled(page, 'Working');
    await turnOf('stop');
    await titled(page, 'Stopped');
    assert.equal(await page.locator('#state-command code').textContent(), 'codex-api-proxy start');
    await page.locator('#again').waitFor();
    await sound(look, 'stopped');
  },
};

await states[state]();
await browser.close();
console.log('done');
