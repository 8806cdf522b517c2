// Renders both boards, dark and light, into PNG files. Started by ./render.
//
//   node render.mjs PROMETHEUS_URL END_UNIX_SECONDS OUTPUT_FOLDER
//
// The pictures show the boards as they open, with their lower rows collapsed. Each is also drawn with all rows expanded, into
// a file …-expanded.png, so that every panel is checked.
//
// From the environment: RANGE, the seconds shown (default 3 hours and 1 hour); INSTANCE, the host of the host
// board; STEP, seconds between points; EMPTY, titles of panels that may be empty, separated by semicolons.
//
// Fails on any error on the page, any failed query, and any panel without data.
import { build } from 'esbuild';
import { createServer } from 'node:http';
import { readFile, mkdir } from 'node:fs/promises';
import path from 'node:path';
import { chromium } from 'playwright-core';

const here = import.meta.dirname;
const dashboards = path.resolve(here, '../../../dashboards');
const [prometheus, end, output] = process.argv.slice(2);
const modules = process.env.RENDER_MODULES ?? path.join(here, 'node_modules');

const bundle = await build({
  entryPoints: [path.join(here, 'boards.jsx')],
  bundle: true, write: false, outdir: '/', format: 'iife', jsx: 'automatic', target: 'chrome120', logLevel: 'error',
  nodePaths: [modules],
  // @grafana/ui still names the compatibility package of react-router's fifth version.
  alias: { 'react-router-dom-v5-compat': path.join(modules, 'react-router-dom') },
  define: { 'process.env.NODE_ENV': '"production"', global: 'window' },
  loader: { '.svg': 'dataurl', '.woff': 'dataurl', '.woff2': 'dataurl', '.ttf': 'dataurl', '.png': 'dataurl' },
});
const script = bundle.outputFiles.find((file) => file.path.endsWith('.js')).contents;
const style = bundle.outputFiles.find((file) => file.path.endsWith('.css'))?.contents ?? '';
const page = `<!doctype html><meta charset="utf-8"><title>board</title><link rel="stylesheet" href="/style.css">
<style>html,body{margin:0;font-family:Inter,"DejaVu Sans",sans-serif}</style><div id="root"></div>
<script>window.grafanaBootData={settings:{featureToggles:{},buildInfo:{version:"13.2.2",env:"production"},appSubUrl:""},user:{locale:"en-GB",language:"en-GB"},navTree:[]};window.__grafana_public_path__="/";</script>
<script src="/script.js"></script>`;

const server = createServer(async (request, response) => {
  const { pathname } = new URL(request.url, 'http://localhost');
  const give = (type, body) => { response.writeHead(200, { 'Content-Type': type }); response.end(body); };
  if (pathname === '/') return give('text/html', page);
  if (pathname === '/script.js') return give('text/javascript', script);
  if (pathname === '/style.css') return give('text/css', style);
  const board = pathname.match(/^\/dashboards\/([\w-]+\.json)$/);
  if (board) return give('application/json', await readFile(path.join(dashboards, board[1])));
  // Icons that a Grafana server would serve: an empty picture will do.
  if (pathname.endsWith('.svg')) return give('image/svg+xml', '<svg xmlns="http://www.w3.org/2000/svg"/>');
  if (pathname === '/favicon.ico') return give('image/x-icon', '');
  // Fonts that a Grafana server would serve: the page falls back to an installed Inter or DejaVu.
  if (pathname.startsWith('/fonts/')) return give('font/woff2', '');
  console.log(`note not served: ${pathname}`);
  response.writeHead(404); response.end();
});
await new Promise((ready) => server.listen(0, '127.0.0.1', ready));
const origin = `http://127.0.0.1:${server.address().port}`;

await mkdir(output, { recursive: true });
const browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium', args: ['--no-sandbox', '--disable-gpu'] });
let failures = 0;
const fail = (text) => { failures += 1; console.log(`FAIL ${text}`); };
try {
  for (const theme of ['dark', 'light']) {
    const { RANGE, INSTANCE = 'web-1:10072', STEP = '15' } = process.env;
    for (const [board, seconds, instance, expanded] of [
      ['timewait-fleet', RANGE ?? 3 * 3600], ['timewait-host', RANGE ?? 3600, INSTANCE],
      ['timewait-fleet', RANGE ?? 3 * 3600, undefined, 'yes'], ['timewait-host', RANGE ?? 3600, INSTANCE, 'yes'],
    ]) {
      if (expanded && theme === 'light') continue;
      const tab = await browser.newPage({ viewport: { width: 1632, height: 1000 } });
      const errors = [];
      tab.on('pageerror', (error) => errors.push(error.message));
      tab.on('console', (message) => { if (message.type() === 'error') errors.push(message.text()); });
      const asked = new URLSearchParams({ board, theme, prometheus, seconds, step: STEP, to: Number(end) * 1000, ...(instance && { instance }), ...(expanded && { expanded }) });
      await tab.goto(`${origin}/?${asked}`);
      await tab.waitForFunction('window.drawn', null, { timeout: 120000 });
      const { problems, empty, height } = await tab.evaluate('({ problems, empty, height: document.body.scrollHeight })');
      const allowed = (process.env.EMPTY ?? '').split(';');
      for (const text of [...problems, ...errors]) fail(`${board} ${theme}: ${text}`);
      for (const title of empty) if (!allowed.includes(title)) fail(`${board} ${theme}: no data in "${title}"`);
      await tab.setViewportSize({ width: 1632, height: Math.min(height, 8000) });
      await tab.waitForTimeout(1500);
      const file = path.join(output, `${board}-${expanded ? 'expanded' : theme}.png`);
      await tab.screenshot({ path: file });
      console.log(`ok   ${board} ${theme}: ${file}`);
      await tab.close();
    }
  }
} finally {
  await browser.close();
  server.close();
}
process.exit(failures ? 1 : 0);
