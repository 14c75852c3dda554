// Logins against a certified provider (oidc-provider) and a real keyring, through the real executable.
//
//   node stories.mjs EXECUTABLE [keyring]
//
// The person's part, two forms and a click, is played over HTTP with a cookie jar. With `keyring` it has to run inside
// a D-Bus session of its own in which gnome-keyring is unlocked; the stories lock it and silence it.

import assert from 'node:assert/strict';
import { execFileSync, spawn, spawnSync } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from 'node:fs';
import http from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Provider } from 'oidc-provider';

// The provider's advice on what not to do in production.
console.info = () => {};

const [executable, mode] = process.argv.slice(2);
const CLIENT = 'tagalong';

// What the provider was asked to do; `reused` is its reuse detection (RFC 9700 section 4.14.2).
const seen = { granted: 0, reused: 0, revoked: 0 };

async function startProvider() {
  const server = http.createServer();
  await new Promise((done) => server.listen(0, '127.0.0.1', done));
  const url = `http://127.0.0.1:${server.address().port}`;
  const provider = new Provider(url, {
    clients: [{
      client_id: CLIENT,
      application_type: 'native',
      token_endpoint_auth_method: 'none',
      grant_types: ['authorization_code', 'refresh_token', 'urn:ietf:params:oauth:grant-type:device_code'],
      response_types: ['code'],
      redirect_uris: ['http://127.0.0.1/callback'],
    }],
    cookies: { keys: ['not a secret'] },
    findAccount: (_, id) => ({ accountId: id, claims: () => ({ sub: id, email: `${id}@example.com`, email_verified: true }) }),
    claims: { openid: ['sub'], email: ['email', 'email_verified'] },
    scopes: ['openid', 'offline_access', 'email'],
    rotateRefreshToken: true,
    features: {
      devInteractions: { enabled: true },
      deviceFlow: { enabled: true },
      revocation: { enabled: true },
      resourceIndicators: {
        enabled: true,
        defaultResource: () => url,
        useGrantedResource: () => true,
        // Twenty seconds: rotation is seen while somebody waits.
        getResourceServerInfo: () => ({ scope: 'telemetry', audience: url, accessTokenTTL: 20, accessTokenFormat: 'jwt' }),
      },
    },
  });
  provider.on('grant.success', (ctx) => { if (ctx.oidc.params.grant_type === 'refresh_token') seen.granted += 1; });
  provider.on('grant.revoked', () => { seen.revoked += 1; });
  provider.on('grant.error', (_, error) => {
    if (/already used|already consumed/.test(error.error_detail ?? '')) seen.reused += 1;
    seen.error = `${error.error}: ${error.error_detail ?? error.error_description}`;
  });
  const handle = provider.callback();
  server.on('request', (request, response) => {
    if (request.url === '/.well-known/oauth-protected-resource') {
      response.setHeader('content-type', 'application/json');
      return response.end(JSON.stringify({
        resource: url, authorization_servers: [url], scopes_supported: ['email', 'telemetry'], client_id: CLIENT,
      }));
    }
    return handle(request, response);
  });
  return { url, close: () => { server.closeAllConnections(); server.close(); } };
}

// A person with a browser: follows redirects, fills in whatever form is there, stops where `stop` says so.
class Person {
  jar = new Map();

  async go(url, options = {}) {
    for (;;) {
      const cookie = [...this.jar].map(([name, value]) => `${name}=${value}`).join('; ');
      const response = await fetch(url, { ...options, redirect: 'manual', headers: { ...options.headers, cookie } });
      for (const line of response.headers.getSetCookie()) {
        const [pair] = line.split(';');
        const at = pair.indexOf('=');
        this.jar.set(pair.slice(0, at), pair.slice(at + 1));
      }
      const place = response.headers.get('location');
      if (!place) return { url, response, text: await response.text() };
      url = new URL(place, url).href;
      if (url.includes('/callback?')) return { url };
      options = {};
    }
  }

  async confirm(url) {
    let page = await this.go(url);
    for (let forms = 0; forms < 6 && page.text?.includes('<form'); forms += 1) {
      const form = page.text.match(/<form[^>]*action="([^"]+)"[\s\S]*?<\/form>/);
      const fields = new URLSearchParams();
      for (const [tag] of form[0].matchAll(/<input[^>]*>/g)) {
        const of = (name) => tag.match(new RegExp(`${name}="([^"]*)"`))?.[1];
        if (of('name')) fields.set(of('name'), of('value') ?? '');
      }
      if (fields.has('login')) { fields.set('login', 'ada'); fields.set('password', 'x'); }
      if (form[0].includes('name="confirm"') || /confirm/.test(page.text)) fields.set('confirm', 'yes');
      page = await this.go(new URL(form[1].replaceAll('&amp;', '&'), page.url).href, {
        method: 'POST', body: fields.toString(), headers: { 'content-type': 'application/x-www-form-urlencoded' },
      });
    }
    return page;
  }
}

// One user's home, with directories of its own and the keyring's bus, if there is one.
class Home {
  constructor(settings = {}) {
    this.path = mkdtempSync(join(tmpdir(), 'tagalong-e2e-'));
    this.environment = {
      PATH: '/usr/bin:/bin',
      HOME: join(this.path, 'home'),
      XDG_CONFIG_HOME: join(this.path, 'config'),
      XDG_STATE_HOME: join(this.path, 'state'),
      XDG_RUNTIME_DIR: join(this.path, 'run'),
      TAGALONG_LISTEN_GRPC: '127.0.0.1:0',
      TAGALONG_LISTEN_HTTP: '127.0.0.1:0',
      ...(mode === 'keyring' ? { DBUS_SESSION_BUS_ADDRESS: process.env.DBUS_SESSION_BUS_ADDRESS } : {}),
      ...settings,
    };
  }

  // Never synchronously: the provider is in this process.
  run(...args) {
    return new Promise((done) => {
      const child = spawn(executable, args, { env: this.environment, stdio: ['ignore', 'pipe', 'pipe'] });
      let text = '';
      child.stdout.on('data', (chunk) => { text += chunk; });
      child.stderr.on('data', (chunk) => { text += chunk; });
      child.on('close', (code) => done({ text, code }));
    });
  }

  // Runs a login, and plays the person as soon as there is an address.
  logIn(url, ...args) {
    return new Promise((done, fail) => {
      const child = spawn(executable, ['login', url, '--yes', ...args], { env: this.environment, stdio: ['ignore', 'pipe', 'pipe'] });
      let text = '';
      let played = false;
      const read = async (chunk) => {
        text += chunk;
        const device = text.match(/Open (\S+)\nand enter the code (\S+)/);
        const browser = text.match(/(http\S+response_type=code\S+)\n/);
        if (played || !(device || browser)) return;
        played = true;
        try {
          if (device) {
            const page = await new Person().confirm(`${device[1]}?user_code=${device[2]}`);
            assert.match(page.text, /Sign-in Success|success/i);
          } else {
            const { url: back } = await new Person().confirm(browser[1]);
            assert.match(await (await fetch(back)).text(), /You can close this page/);
          }
        } catch (error) { child.kill(); fail(error); }
      };
      child.stdout.on('data', read);
      child.stderr.on('data', (chunk) => { text += chunk; });
      child.on('close', (code) => {
        if (code === 0) done(text); else fail(new Error(`login ended with ${code}: ${text}; ${seen.error}`));
      });
    });
  }

  async status() {
    return JSON.parse((await this.run('status', '--json')).text);
  }

  async until(what, holds) {
    const began = Date.now();
    for (;;) {
      const status = await this.status();
      if (holds(status)) return status;
      assert.ok(Date.now() - began < 90_000, `${what}: ${JSON.stringify(status.credential)}; ${seen.error}`);
    }
  }

  async leave() {
    await this.run('down', '--timeout', '0s');
    rmSync(this.path, { recursive: true, force: true });
  }

  // Whether a file below holds the text.
  holds(text) {
    const look = (directory) => readdirSync(directory).some((name) => {
      const path = join(directory, name);
      const facts = statSync(path, { throwIfNoEntry: false });
      if (facts?.isDirectory()) return look(path);
      return facts?.isFile() && readFileSync(path, 'latin1').includes(text);
    });
    return look(this.path);
  }
}

const stories = {
  async 'a login by code lasts over rotations, and ends at the issuer'(provider) {
    const home = new Home({ TAGALONG_IDENTITY_KEEP: 'file' });
    await home.logIn(provider.url);
    await home.run('up', '--strict');
    // 20-second tokens: each has half of its life when it is replaced.
    const status = await home.until('three rotations', ({ credential }) => credential.rotations >= 3);
    assert.equal(status.principal.subject, 'ada');
    assert.equal(seen.reused, 0);
    const { text } = await home.run('logout');
    assert.match(text, /the issuer has revoked/);
    assert.ok(seen.revoked > 0);
    await home.leave();
  },

  async 'a browser on this machine logs in with PKCE'(provider) {
    const home = new Home({ TAGALONG_IDENTITY_KEEP: 'file' });
    await home.logIn(provider.url, '--browser');
    const { text } = await home.run('token');
    assert.equal(JSON.parse(Buffer.from(text.split('.')[1], 'base64url')).sub, 'ada');
    await home.leave();
  },

  async 'processes that want tokens at once, without an agent, kill no login'(provider) {
    const home = new Home({ TAGALONG_IDENTITY_KEEP: 'file' });
    await home.logIn(provider.url);
    const before = seen.granted;
    const results = await Promise.all(Array.from({ length: 30 }, () => home.run('token')));
    assert.deepEqual(results.filter(({ code }) => code !== 0), []);
    assert.equal(seen.reused, 0);
    console.log(`  30 processes, ${seen.granted - before} refreshes`);
    assert.equal((await home.run('token')).code, 0);
    await home.leave();
  },
};

const keyringStories = {
  async 'an unlocked keyring keeps the login over a restart, and nothing else does'(provider) {
    const home = new Home();
    const text = await home.logIn(provider.url);
    assert.match(text, /rest in the keyring/);
    await home.run('up', '--strict');
    await home.until('the first credential', ({ credential }) => credential.state === 'fresh');
    await home.run('down', '--timeout', '0s');
    await home.run('up', '--strict');
    await home.until('a credential after the restart', ({ credential }) => credential.state === 'fresh');
    const kept = JSON.parse(execFileSync('secret-tool', ['search', '--all', 'service', 'tagalong'], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] }).match(/secret = (\{.*\})/)[1]);
    assert.ok(kept.refresh_token.length > 10 && !('access_token' in kept));
    assert.ok(!home.holds(kept.refresh_token), 'it rests in the keyring alone');
    await home.run('logout');
    assert.equal(spawnSync('secret-tool', ['lookup', 'service', 'tagalong']).stdout.length, 0, 'forgotten');
    await home.leave();
  },

  async 'a locked keyring is not asked to unlock itself, and a mute one holds nobody up'(provider) {
    for (const [name, change, undo, words] of [
      ['locked', lock, () => {}, /keyring is locked/],
      ['mute', () => signal('STOP'), () => signal('CONT'), /keyring does not answer/],
    ]) {
      change();
      const home = new Home();
      try {
        const text = await home.logIn(provider.url);
        assert.match(text, words, name);
        assert.match(text, /agent's memory/);
        await home.until('a credential all the same', ({ credential }) => credential.state === 'fresh');
        await home.leave();
      } finally { undo(); }
    }
  },
};

function lock() {
  execFileSync('dbus-send', ['--session', '--print-reply', '--dest=org.freedesktop.secrets', '/org/freedesktop/secrets',
    'org.freedesktop.Secret.Service.Lock', 'array:objpath:/org/freedesktop/secrets/aliases/default']);
}

function signal(name) {
  execFileSync('kill', [`-${name}`, process.env.E2E_KEYRING_PID]);
}

const provider = await startProvider();
let failed = 0;
for (const [name, story] of Object.entries(mode === 'keyring' ? keyringStories : stories)) {
  const began = Date.now();
  try {
    await story(provider);
    console.log(`ok    ${name} (${((Date.now() - began) / 1000).toFixed(1)} s)`);
  } catch (error) {
    failed += 1;
    console.log(`FAIL  ${name}\n${error.stack}`);
  }
}
provider.close();
process.exit(failed ? 1 : 0);
