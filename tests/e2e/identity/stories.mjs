// Logins against a certified provider (oidc-provider) and a real keyring, through the real executable.
//
//   node stories.mjs EXECUTABLE [keyring]
//
// With `keyring` it has to run inside a D-Bus session of its own in which gnome-keyring is unlocked; the stories lock it
// and silence it.

import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { readFileSync, readdirSync, writeFileSync } from 'node:fs';
import http from 'node:http';
import { join } from 'node:path';
import { Provider } from 'oidc-provider';
import { Home, claims, play } from './home.mjs';

// The provider's advice on what not to do in production.
console.info = () => {};

const mode = process.argv[3];
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

const stories = {
  async 'a login by code lasts over rotations, and ends at the issuer'(provider) {
    const home = new Home({ TAGALONG_IDENTITY_KEEP: 'file' });
    await home.logIn(provider.url);
    await home.run('up', '--strict');
    // 20-second tokens: each has half of its life when it is replaced.
    const status = await home.until('three rotations', ({ credential }) => credential.rotations >= 3);
    assert.equal(status.principal.subject, 'ada');
    assert.equal(seen.reused, 0);
    assert.match((await home.run('doctor')).text, /ok +claims +ada \(verified\)/);
    const { text } = await home.run('logout');
    assert.match(text, /the issuer has revoked/);
    assert.ok(seen.revoked > 0);
    await home.leave();
  },

  async 'a browser on this machine logs in with PKCE'(provider) {
    const home = new Home({ TAGALONG_IDENTITY_KEEP: 'file' });
    await home.logIn(provider.url, '--browser');
    const { text } = await home.run('token');
    assert.equal(claims(text).sub, 'ada');
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

  async 'a refresh token that comes back after it was replaced ends the login, which is said and not tried again'(provider) {
    const home = new Home({ TAGALONG_IDENTITY_KEEP: 'file' });
    await home.logIn(provider.url);
    const place = join(home.path, 'run', 'tagalong');
    const file = join(place, readdirSync(place).find((name) => /^login-.*\.json$/.test(name)));
    const old = readFileSync(file);
    assert.equal((await home.run('token')).code, 0);
    writeFileSync(file, old);
    const before = seen.reused;
    for (let times = 0; times < 3; times += 1) {
      const { text, code } = await home.run('token');
      assert.equal(code, 4, text);
      assert.match(text, /run `tagalong login`/);
    }
    assert.equal(seen.reused, before + 1, 'the provider saw it once');
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
await play(mode === 'keyring' ? keyringStories : stories, provider, provider.close);
