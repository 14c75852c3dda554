// A person who logs in. With Chromium it is a browser that shows the pages and runs what is in them; without, an HTTP
// client with a cookie jar that fills in forms, which knows nothing of scripts.

import { existsSync } from 'node:fs';
import { chromium } from 'playwright-core';

const EXECUTABLE = process.env.E2E_CHROMIUM ?? '/usr/bin/chromium';
const PATIENCE = 60_000;
const NAME = 'ada';
const PASSWORD = 'x';

export const hasBrowser = existsSync(EXECUTABLE);

// The first of these that can be seen is what a person clicks to go on.
const GO_ON = ['[name=accept]', '#kc-login', 'button[autofocus]', 'button[type=submit]:not([name=abort])', 'input[type=submit]'];

// Follows `url` through whatever forms come, until a page's text matches `end`. Gives that text.
export async function confirm(url, end) {
  return hasBrowser ? inBrowser(url, end) : overHttp(url, end);
}

async function inBrowser(url, end) {
  // A new profile each time, in a directory of its own that the library takes away again.
  const browser = await chromium.launch({
    executablePath: EXECUTABLE,
    headless: true,
    args: [
      '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
      '--disable-component-update', '--disable-sync',
    ],
  });
  try {
    const page = await browser.newPage();
    page.setDefaultTimeout(PATIENCE);
    await page.goto(url);
    const began = Date.now();
    let clicked;
    for (;;) {
      const text = await read(page);
      if (end.test(text)) return text;
      if (Date.now() - began > PATIENCE) throw new Error(`the browser is stuck at ${page.url()}: ${text.slice(0, 500)}`);
      // One click a page: what is on its way comes by itself.
      const here = `${page.url()} ${text}`;
      if (here !== clicked && await fillIn(page)) clicked = here;
      else await page.waitForTimeout(50);
    }
  } finally { await browser.close(); }
}

// What can be read; nothing while one page follows another.
async function read(page) {
  try { return await page.innerText('body', { timeout: 5_000 }); } catch { return ''; }
}

// Whether there was something to fill in or to click.
async function fillIn(page) {
  try {
    for (const [selector, value] of [['[name=login], [name=username]', NAME], ['[name=password]', PASSWORD]]) {
      const field = page.locator(selector).first();
      if (await field.isVisible() && await field.isEditable()) await field.fill(value, { timeout: 2_000 });
    }
    for (const selector of GO_ON) {
      const button = page.locator(selector).first();
      if (await button.isVisible()) {
        await button.click({ timeout: 5_000 });
        return true;
      }
    }
  } catch {
    // The page was gone by then: the next one is looked at.
  }
  return false;
}

async function overHttp(url, end) {
  const jar = new Map();
  const go = async (place, options = {}) => {
    for (;;) {
      const cookie = [...jar].map(([name, value]) => `${name}=${value}`).join('; ');
      const response = await fetch(place, { ...options, redirect: 'manual', headers: { ...options.headers, cookie } });
      for (const line of response.headers.getSetCookie()) {
        const [pair] = line.split(';');
        const at = pair.indexOf('=');
        jar.set(pair.slice(0, at), pair.slice(at + 1));
      }
      const next = response.headers.get('location');
      if (!next) return { url: place, text: await response.text() };
      place = new URL(next, place).href;
      options = {};
    }
  };
  let page = await go(url);
  for (let forms = 0; forms < 8 && !end.test(page.text); forms += 1) {
    const form = page.text.match(/<form[^>]*action="([^"]+)"[\s\S]*?<\/form>/);
    if (!form) break;
    const fields = new URLSearchParams();
    for (const [tag] of form[0].matchAll(/<input[^>]*>/g)) {
      const of = (name) => tag.match(new RegExp(`${name}="([^"]*)"`))?.[1];
      if (of('name') && of('name') !== 'cancel') fields.set(of('name'), of('value') ?? '');
    }
    for (const name of ['login', 'username']) if (fields.has(name)) fields.set(name, NAME);
    if (fields.has('password')) fields.set('password', PASSWORD);
    if (/confirm/.test(page.text)) fields.set('confirm', 'yes');
    page = await go(new URL(form[1].replaceAll('&amp;', '&'), page.url).href, {
      method: 'POST', body: fields.toString(), headers: { 'content-type': 'application/x-www-form-urlencoded' },
    });
  }
  if (!end.test(page.text)) throw new Error(`the person is stuck at ${page.url}: ${page.text.slice(0, 500)}`);
  return page.text;
}
