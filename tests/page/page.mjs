// page.mjs PROGRAM HOST.PY FOLDER: see ./run. Inside the namespaces it is `page.mjs inspect KIND FOLDER`.
import { spawn, spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { createServer, get } from 'node:http';
import { hostname } from 'node:os';
import { fileURLToPath } from 'node:url';

const self = fileURLToPath(import.meta.url);
const axeSource = readFileSync(new URL('./node_modules/axe-core/axe.min.js', import.meta.url), 'utf8');
const pageUrl = 'http://127.0.0.1:10072/';
// What each kind of host is: see host.py.
const STATES = { quiet: 'OK', slow: 'WARNING', busy: 'CRITICAL', pods: 'CRITICAL', unknown: 'UNKNOWN' };
const FLAGS = { pods: ['--collector.netns=named'], unknown: ['--collector.netns=gone'] };
let passed = 0;
let failed = 0;

function check(what, holds, details = '') {
  if (holds) {
    passed += 1;
    console.log(`ok    ${what}`);
  } else {
    failed += 1;
    console.log(`FAIL  ${what} ${details}`);
  }
}

if (process.argv[2] === 'inspect') {
  await inspect(process.argv[3], process.argv[4], process.argv[5]);
} else {
  const [program, host, folder] = process.argv.slice(2);
  for (const kind of Object.keys(STATES)) {
    const inside = ['--user', '--map-root-user', '--net', '--mount', 'python3', host, kind,
      process.execPath, self, 'inspect', kind, program, folder];
    const { stdout, status } = spawnSync('unshare', inside, { stdio: ['ignore', 'pipe', 'inherit'], encoding: 'utf8' });
    process.stdout.write(stdout.replace(/^COUNTS .*\n/m, ''));
    const counts = stdout.match(/^COUNTS (\d+) (\d+)$/m);
    passed += Number(counts?.[1] ?? 0);
    failed += Number(counts?.[2] ?? 0) + (counts && status === 0 ? 0 : 1);
  }
  console.log(`${passed} passed, ${failed} failed`);
  process.exit(failed === 0 && passed > 0 ? 0 : 1);
}

async function inspect(kind, program, folder) {
  const flags = FLAGS[kind] ?? [];
  const exporter = spawn(program, ['--web.listen-address=127.0.0.1:10072', ...flags], { stdio: ['ignore', 'ignore', 'pipe'] });
  process.on('exit', () => exporter.kill());
  await new Promise((resolve, reject) => {
    let log = '';
    exporter.stderr.on('data', (data) => {
      log += data;
      if (log.includes('Listening on')) resolve();
    });
    exporter.on('exit', () => reject(new Error(`the exporter ended: ${log}`)));
  });
  const proxy = await prefixed('/some/prefix');
  const { chromium } = await import('playwright-core');
  const browser = await chromium.launch({ executablePath: '/usr/bin/chromium', args: ['--no-sandbox'] });
  try {
    for (const colorScheme of ['light', 'dark']) {
      await checkView(browser, kind, folder, colorScheme, 'desktop', { width: 1280, height: 900 });
      await checkView(browser, kind, folder, colorScheme, 'phone', { width: 360, height: 740 });
    }
    await withoutScripts(browser, kind);
    await underPrefix(browser, kind, proxy.address().port);
    if (kind === 'busy') await byKeyboard(browser);
    if (kind === 'pods') await namespaces(browser);
  } finally {
    await browser.close();
    proxy.close();
    exporter.removeAllListeners('exit');
    exporter.kill();
  }
  console.log(`COUNTS ${passed} ${failed}`);
}

async function checkView(browser, kind, folder, colorScheme, device, viewport) {
  const name = `${kind}, ${colorScheme}, ${device}`;
  const context = await browser.newContext({ colorScheme, viewport });
  const page = await context.newPage();
  const complaints = [];
  const loaded = [];
  page.on('console', (message) => complaints.push(message.text()));
  page.on('pageerror', (error) => complaints.push(String(error)));
  page.on('request', (request) => loaded.push(request.url()));
  const response = await page.goto(pageUrl);
  check(`${name}: answered`, response.status() === 200);
  await page.screenshot({ path: `${folder}/${kind}-${colorScheme}-${device}.png`, fullPage: true });
  const others = loaded.filter((url) => url !== pageUrl && !url.startsWith('data:'));
  check(`${name}: nothing else is loaded`, others.length === 0, others.join(' '));
  check(`${name}: the console is silent`, complaints.length === 0, complaints.join(' | '));
  const { background, overflow, scripts } = await page.evaluate(() => ({
    background: getComputedStyle(document.body).backgroundColor,
    overflow: document.documentElement.scrollWidth - document.documentElement.clientWidth,
    scripts: document.scripts.length,
  }));
  const brightness = background.match(/\d+/g).slice(0, 3).reduce((sum, part) => sum + Number(part), 0) / 3;
  check(`${name}: the background is ${colorScheme}`, colorScheme === 'light' ? brightness > 200 : brightness < 60, background);
  check(`${name}: the page is not wider than the screen`, overflow <= 0, `${overflow} px`);
  check(`${name}: no script`, scripts === 0);
  // All findings, including the collapsed ones.
  await page.evaluate(() => document.querySelectorAll('details').forEach((details) => { details.open = true; }));
  await page.evaluate(axeSource);
  const { violations, passes } = await page.evaluate(() => axe.run(document, {
    runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice'],
  }));
  const found = violations.map(({ id, nodes }) => `${id}: ${nodes.map((node) => node.html.slice(0, 120)).join(' ; ')}`);
  check(`${name}: no violation of ${passes.length + violations.length} axe rules`, violations.length === 0 && passes.length > 15, found.join('\n'));
  if (device === 'phone') {
    await page.screenshot({ path: `${folder}/${kind}-${colorScheme}-${device}-open.png`, fullPage: true });
  }
  await context.close();
}

async function withoutScripts(browser, kind) {
  const context = await browser.newContext({ javaScriptEnabled: false });
  const page = await context.newPage();
  await page.goto(pageUrl);
  const state = await page.locator('.state').innerText();
  check(`${kind}: without scripts the state is shown`, state.startsWith(STATES[kind]), state);
  const title = await page.title();
  check(`${kind}: the title has the state and the host`, title.startsWith(`${STATES[kind]} - ${hostname()} - `), title);
  const top = await page.locator('header').innerText();
  check(`${kind}: host and time are at the top`, top.includes(hostname()) && /\d\d:\d\d:\d\d UTC/.test(top), top);
  const charts = { busy: 1, slow: 1, pods: 2 }[kind] ?? 0;
  const meters = await page.locator('meter').count();
  check(`${kind}: destinations have meters`, charts === 0 || meters >= 3, `${meters}`);
  const bars = await page.locator('svg rect').count();
  check(`${kind}: ages have a chart where there are any`, bars === 6 * charts || (charts === 0 && bars === 6), `${bars}`);
  const empty = await page.locator('table:not(:has(tbody tr))').count();
  check(`${kind}: no table is empty`, empty === 0, `${empty}`);
  await context.close();
}

async function underPrefix(browser, kind, port) {
  const page = await browser.newPage();
  await page.goto(`http://127.0.0.1:${port}/some/prefix/`);
  const links = await page.locator('nav a').evaluateAll((links) => links.map((link) => link.href));
  check(`${kind}: there are links`, links.length === 4, links.join(' '));
  for (const link of links) {
    const response = await page.goto(link);
    check(`${kind}: ${new URL(link).pathname} works under a prefix`, response.status() === 200, `${response.status()}`);
  }
  await page.close();
}

async function namespaces(browser) {
  const page = await browser.newPage();
  await page.goto(pageUrl);
  const rows = await page.locator('section[aria-labelledby=namespaces] tbody tr').allInnerTexts();
  check('pods: each namespace has a line', rows.length === 3, rows.join(' | '));
  check('pods: the worst is the first', rows[0]?.startsWith('cni-') && rows[0].includes('CRITICAL'), rows[0]);
  check('pods: the owner of a namespace is shown', /python\S* \(pid \d+\)/.test(rows[0] ?? ''), rows[0]);
  const links = await page.locator('section[aria-labelledby=namespaces] a').evaluateAll((links) => links.map((link) => link.hash));
  const targets = await page.evaluate((links) => links.filter((link) => document.querySelector(link)).length, links);
  check('pods: each link leads to its namespace', links.length === 3 && targets === 3, links.join(' '));
  await page.close();
}

async function byKeyboard(browser) {
  const page = await browser.newPage();
  await page.goto(pageUrl);
  const closed = page.locator('details:not([open]) > summary').first();
  await closed.focus();
  const handle = await closed.elementHandle();
  await page.keyboard.press('Enter');
  const isOpen = await handle.evaluate((summary) => summary.parentElement.open);
  check('busy: what helps opens by the keyboard', isOpen);
  await page.close();
}

// A reverse proxy that removes a prefix, like an ingress.
function prefixed(prefix) {
  const server = createServer((request, response) => {
    if (!request.url.startsWith(`${prefix}/`)) {
      response.writeHead(404).end();
      return;
    }
    get({ host: '127.0.0.1', port: 10072, path: request.url.slice(prefix.length) }, (answer) => {
      response.writeHead(answer.statusCode, answer.headers);
      answer.pipe(response);
    });
  });
  return new Promise((resolve) => {
    // Below the ephemeral range, since inside it would be a finding.
    server.listen(8080, '127.0.0.1', () => resolve(server));
  });
}
