// Keycloak through the real executable: a login by code and one in a browser on Keycloak's own pages, both with PKCE
// where it insists, 20-second tokens under which an agent exports over several rotations, a token exchange (RFC 8693) as
// a confidential client, logout.
//
//   node keycloak.mjs EXECUTABLE KC.SH

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { createServer } from 'node:net';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Home, claims, play } from './home.mjs';
import { Upstream, send } from './upstream.mjs';

const [, script] = process.argv.slice(2);
const REALM = 'tagalong';
const SECRET = 'canary-client-secret';
const ADMIN = { name: 'admin', password: 'not-a-secret' };

class Keycloak {
  static async start() {
    const keycloak = new Keycloak();
    const port = await new Promise((done) => {
      const probe = createServer().listen(0, '127.0.0.1', () => {
        const { port: free } = probe.address();
        probe.close(() => done(free));
      });
    });
    keycloak.url = `http://127.0.0.1:${port}`;
    keycloak.issuer = `${keycloak.url}/realms/${REALM}`;
    // Nothing rests: each run has a realm of its own.
    keycloak.child = spawn(script, ['start-dev', '--http-host=127.0.0.1', `--http-port=${port}`, '--db=dev-mem'], {
      env: {
        ...process.env, KC_BOOTSTRAP_ADMIN_USERNAME: ADMIN.name, KC_BOOTSTRAP_ADMIN_PASSWORD: ADMIN.password,
        JAVA_OPTS_KC_HEAP: '-Xms64m -Xmx512m',
      },
      stdio: ['ignore', 2, 2],
      detached: true,
    });
    // Also where the stories are cut short.
    for (const name of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.once(name, () => process.exit(1));
    process.once('exit', () => keycloak.stop());
    let ended = false;
    keycloak.child.on('exit', () => { ended = true; });
    const began = Date.now();
    while (!(await fetch(`${keycloak.url}/realms/master`).then(({ ok }) => ok, () => false))) {
      if (ended || Date.now() - began > 180_000) throw new Error('Keycloak does not start');
      await new Promise((done) => setTimeout(done, 250));
    }
    console.log(`  Keycloak is ready after ${((Date.now() - began) / 1000).toFixed(0)} s`);
    return keycloak;
  }

  async admin(method, path, body) {
    const form = new URLSearchParams({ grant_type: 'password', client_id: 'admin-cli', username: ADMIN.name, password: ADMIN.password });
    const { access_token: token } = await (await fetch(`${this.url}/realms/master/protocol/openid-connect/token`, { method: 'POST', body: form })).json();
    const answer = await fetch(`${this.url}/admin/realms${path}`, {
      method, headers: { authorization: `Bearer ${token}`, 'content-type': 'application/json' }, body: body && JSON.stringify(body),
    });
    const text = await answer.text();
    assert.ok(answer.ok, `${method} ${path}: ${answer.status} ${text}`);
    return text && JSON.parse(text);
  }

  async makeRealm() {
    // A token for a client of one's own realm carries no `aud` without a mapper.
    const forGateway = {
      name: 'for the gateway', protocol: 'openid-connect', protocolMapper: 'oidc-audience-mapper',
      config: { 'included.client.audience': 'otel-gateway', 'access.token.claim': 'true', 'id.token.claim': 'false' },
    };
    const client = (clientId, more) => ({
      clientId, standardFlowEnabled: true, directAccessGrantsEnabled: false, redirectUris: ['http://127.0.0.1/callback'],
      attributes: { 'oauth2.device.authorization.grant.enabled': 'true', 'oauth2.device.polling.interval': '1', ...more.attributes },
      protocolMappers: [forGateway],
      ...more.client,
    });
    await this.admin('POST', '', {
      realm: REALM, enabled: true, accessTokenLifespan: 20, revokeRefreshToken: true, refreshTokenMaxReuse: 0,
      clients: [
        { clientId: 'otel-gateway', enabled: true, publicClient: true, standardFlowEnabled: false },
        client('tagalong', { client: { publicClient: true } }),
        // Keycloak then wants PKCE in the device grant too, which RFC 8628 does not have.
        client('pkce-only', { client: { publicClient: true }, attributes: { 'pkce.code.challenge.method': 'S256' } }),
        client('exchanger', {
          client: { publicClient: false, secret: SECRET }, attributes: { 'standard.token.exchange.enabled': 'true' },
        }),
      ],
      users: [{
        username: 'ada', enabled: true, email: 'ada@example.com', emailVerified: true, firstName: 'Ada', lastName: 'Example',
        credentials: [{ type: 'password', value: 'x', temporary: false }], realmRoles: ['offline_access'],
      }],
    });
    const [{ id }] = await this.admin('GET', `/${REALM}/users?username=ada`);
    this.person = id;
  }

  // How many logins of the person's at a client last beyond its sessions.
  async lasting(clientId) {
    const [{ id }] = await this.admin('GET', `/${REALM}/clients?clientId=${clientId}`);
    return (await this.admin('GET', `/${REALM}/users/${this.person}/offline-sessions/${id}`)).length;
  }

  stop() {
    try { process.kill(-this.child.pid, 'SIGKILL'); } catch { /* It ended by itself. */ }
  }
}

// A login that the settings describe, rather than the endpoint.
const asClient = (keycloak, upstream, clientId) => ({
  TAGALONG_IDENTITY_KEEP: 'file',
  TAGALONG_EXPORT_ENDPOINT: upstream.url,
  TAGALONG_EXPORT_COMPRESSION: 'none',
  TAGALONG_IDENTITY_CREDENTIAL: 'device',
  TAGALONG_IDENTITY_ISSUER: keycloak.issuer,
  TAGALONG_IDENTITY_CLIENT_ID: clientId,
});

// Exports over several rotations: every span that was accepted arrives, under ever newer tokens of this person's.
async function exportOver(home, upstream, story, keycloak, rotations) {
  await home.run('up', '--strict');
  let over = false;
  const sending = send(home, story, () => over);
  const status = await home.until(`${rotations} rotations`, ({ credential }) => credential.rotations >= rotations);
  over = true;
  const accepted = await sending;
  await home.until('an empty spool', ({ spool }) => spool.bytes === 0);
  assert.ok(accepted.length > 50);
  assert.deepEqual(accepted.filter((name) => !upstream.spans.has(name)), [], 'lost');
  assert.ok(upstream.tokens.size >= rotations, `${upstream.tokens.size} tokens`);
  assert.deepEqual([...upstream.people], [keycloak.person]);
  assert.equal(upstream.refused, 0, upstream.said);
  assert.equal(status.credential.failures, 0);
  console.log(`  ${accepted.length} spans under ${upstream.tokens.size} tokens, 0 lost, 0 refused`);
  return status;
}

const stories = {
  async 'an endpoint that names Keycloak is all that a login by code needs; 20-second tokens rotate under load'(keycloak) {
    const upstream = await Upstream.start(keycloak.issuer, {
      client_id: 'tagalong', scopes_supported: ['email'], audience: 'otel-gateway',
    });
    const home = new Home({ TAGALONG_IDENTITY_KEEP: 'file', TAGALONG_EXPORT_COMPRESSION: 'none' });
    await home.logIn(upstream.url);
    const status = await exportOver(home, upstream, 1, keycloak, 3);
    assert.equal(status.principal.subject, keycloak.person);
    assert.equal(status.principal.attributes['user.email'], 'ada@example.com');
    assert.match((await home.run('doctor')).text, /ok +claims +ada@example.com \(verified\)/);
    assert.equal(await keycloak.lasting('tagalong'), 1);
    assert.match((await home.run('logout')).text, /the issuer has revoked/);
    assert.equal(await keycloak.lasting('tagalong'), 0, 'revoked at the issuer');
    assert.equal((await home.status()).credential.state, 'needs-user');
    await home.leave();
    upstream.close();
  },

  async 'a client that Keycloak wants PKCE of logs in by code and in a browser on this machine'(keycloak) {
    const upstream = await Upstream.start(keycloak.issuer, {});
    const { status } = await fetch(`${keycloak.issuer}/protocol/openid-connect/auth/device`, {
      method: 'POST', body: new URLSearchParams({ client_id: 'pkce-only', scope: 'openid' }),
    });
    assert.equal(status, 400, 'it insists');
    for (const flow of ['device', 'browser']) {
      const home = new Home({ ...asClient(keycloak, upstream, 'pkce-only'), TAGALONG_IDENTITY_CREDENTIAL: flow });
      await home.logIn();
      assert.equal(claims((await home.run('token')).text).sub, keycloak.person);
      await home.run('logout');
      await home.leave();
    }
    upstream.close();
  },

  async 'a confidential client exchanges its login for a token for the gateway'(keycloak) {
    const upstream = await Upstream.start(keycloak.issuer, {});
    const home = new Home(asClient(keycloak, upstream, 'exchanger'));
    const file = join(home.path, 'client-secret');
    writeFileSync(file, `${SECRET}\n`, { mode: 0o600 });
    Object.assign(home.environment, {
      TAGALONG_IDENTITY_CLIENT_SECRET_FILE: file,
      TAGALONG_IDENTITY_EXCHANGE: 'rfc8693',
      TAGALONG_IDENTITY_AUDIENCE: 'otel-gateway',
      TAGALONG_IDENTITY_EXCHANGE_PARAMETERS: 'subject_token_type=urn:ietf:params:oauth:token-type:access_token',
    });
    await home.logIn();
    const status = await exportOver(home, upstream, 2, keycloak, 1);
    assert.deepEqual(status.credential.steps.map(({ name, trouble }) => [name, trouble]), [['device', null], ['rfc8693', null]]);
    const said = await Promise.all([['status'], ['doctor'], ['config'], ['logs'], ['token'], ['logout']].map((words) => home.run(...words)));
    assert.ok(said.every(({ text }) => !text.includes('canary')));
    await home.leave();
    upstream.close();
  },
};

let keycloak;
try {
  keycloak = await Keycloak.start();
  await keycloak.makeRealm();
} catch (error) {
  console.log(`FAIL  ${error.message}`);
  process.exit(1);
}
await play(stories, keycloak, () => {});
