// One user's home: the real executable with directories of its own, and the keyring's bus, if there is one.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { confirm } from './person.mjs';

const [executable] = process.argv.slice(2);

// Those that a story did not come to leave.
const homes = new Set();

export class Home {
  constructor(settings = {}) {
    homes.add(this);
    this.path = mkdtempSync(join(tmpdir(), 'tagalong-e2e-'));
    const bus = process.env.DBUS_SESSION_BUS_ADDRESS;
    this.environment = {
      PATH: '/usr/bin:/bin',
      HOME: join(this.path, 'home'),
      XDG_CONFIG_HOME: join(this.path, 'config'),
      XDG_STATE_HOME: join(this.path, 'state'),
      XDG_RUNTIME_DIR: join(this.path, 'run'),
      TAGALONG_LISTEN_GRPC: '127.0.0.1:0',
      TAGALONG_LISTEN_HTTP: '127.0.0.1:0',
      ...(process.env.E2E_KEYRING_PID ? { DBUS_SESSION_BUS_ADDRESS: bus } : {}),
      ...settings,
    };
  }

  // Never synchronously: the provider may be in this process.
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
  logIn(...args) {
    return new Promise((done, fail) => {
      const child = spawn(executable, ['login', '--yes', ...args], { env: this.environment, stdio: ['ignore', 'pipe', 'pipe'] });
      let text = '';
      let played = false;
      const read = async (chunk) => {
        text += chunk;
        const device = text.match(/Open (\S+)\nand enter the code (\S+)/);
        const browser = text.match(/(http\S+response_type=code\S+)\n/);
        if (played || !(device || browser)) return;
        played = true;
        try {
          if (device) await confirm(`${device[1]}?user_code=${device[2]}`, /Sign-in Success|Login Successful/i);
          else await confirm(browser[1], /You can close this page/);
        } catch (error) { child.kill(); fail(error); }
      };
      child.stdout.on('data', read);
      child.stderr.on('data', (chunk) => { text += chunk; });
      child.on('close', (code) => {
        if (code === 0) done(text); else fail(new Error(`login ended with ${code}: ${text}`));
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
      assert.ok(Date.now() - began < 90_000, `${what}: ${JSON.stringify(status.credential)} ${JSON.stringify(status.export)}`);
    }
  }

  async leave() {
    homes.delete(this);
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

// The claims of a token, as they stand in it.
export const claims = (token) => JSON.parse(Buffer.from(token.split('.')[1], 'base64url'));

// Plays each story, says how each went, and ends the process.
export async function play(stories, argument, close) {
  let failed = 0;
  for (const [name, story] of Object.entries(stories)) {
    const began = Date.now();
    try {
      await story(argument);
      console.log(`ok    ${name} (${((Date.now() - began) / 1000).toFixed(1)} s)`);
    } catch (error) {
      failed += 1;
      console.log(`FAIL  ${name}\n${error.stack}`);
    }
  }
  for (const home of homes) await home.leave();
  await close();
  process.exit(failed ? 1 : 0);
}
