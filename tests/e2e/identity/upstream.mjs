// An upstream that takes OTLP/HTTP from whoever shows a token that the issuer signed, that is for it and that has not
// ended; and that says of itself which issuer it believes (RFC 9728).

import { createPublicKey, verify } from 'node:crypto';
import http from 'node:http';
import { claims } from './home.mjs';

export class Upstream {
  spans = new Set();
  tokens = new Set();
  people = new Set();
  refused = 0;

  static async start(issuer, description) {
    const upstream = new Upstream();
    upstream.server = http.createServer((request, response) => upstream.answer(request, response));
    await new Promise((done) => upstream.server.listen(0, '127.0.0.1', done));
    upstream.url = `http://127.0.0.1:${upstream.server.address().port}`;
    upstream.issuer = issuer;
    upstream.description = { resource: upstream.url, authorization_servers: [issuer], ...description };
    return upstream;
  }

  // The tokens that it takes are for this.
  audience = 'otel-gateway';

  async answer(request, response) {
    const chunks = [];
    for await (const chunk of request) chunks.push(chunk);
    if (request.url === '/.well-known/oauth-protected-resource') {
      response.setHeader('content-type', 'application/json');
      return response.end(JSON.stringify(this.description));
    }
    const token = request.headers.authorization?.replace('Bearer ', '') ?? '';
    const trouble = await this.trouble(token);
    if (trouble) {
      this.refused += 1;
      this.said = trouble;
      response.statusCode = 401;
      return response.end();
    }
    this.tokens.add(claims(token).jti);
    this.people.add(claims(token).sub);
    // Spans are told apart by their names; the protobuf around them is as it came.
    for (const [name] of Buffer.concat(chunks).toString('latin1').matchAll(/story-\d+-\d{6}/g)) this.spans.add(name);
    response.setHeader('content-type', 'application/x-protobuf');
    return response.end();
  }

  async trouble(token) {
    const [header, payload, signature] = token.split('.');
    if (!signature) return 'no token';
    const { kid } = JSON.parse(Buffer.from(header, 'base64url'));
    if (!this.keys?.some((key) => key.kid === kid)) {
      const { jwks_uri: place } = await (await fetch(`${this.issuer}/.well-known/openid-configuration`)).json();
      this.keys = (await (await fetch(place)).json()).keys;
    }
    const key = this.keys.find((one) => one.kid === kid);
    if (!key) return 'an unknown key';
    const isSigned = verify('sha256', Buffer.from(`${header}.${payload}`), createPublicKey({ key, format: 'jwk' }), Buffer.from(signature, 'base64url'));
    if (!isSigned) return 'a bad signature';
    const { exp, aud, iss } = claims(token);
    if (iss !== this.issuer) return `another issuer: ${iss}`;
    if (![aud].flat().includes(this.audience)) return `for another audience: ${aud}`;
    return exp * 1000 < Date.now() ? 'an end that is over' : undefined;
  }

  close() {
    this.server.closeAllConnections();
    this.server.close();
  }
}

// Sends spans through the agent until told to stop; each is accepted before the next is sent. Gives their names.
export async function send(home, story, isOver) {
  const { agent } = await home.status();
  const accepted = [];
  for (let number = 0; !isOver(); number += 1) {
    const name = `story-${story}-${String(number).padStart(6, '0')}`;
    const id = number.toString(16).padStart(16, '0');
    const body = { resourceSpans: [{ scopeSpans: [{ spans: [{ traceId: id.padStart(32, 'a'), spanId: id.replace(/^0/, 'b'), name }] }] }] };
    const answer = await fetch(`http://${agent.endpoints.http}/v1/traces`, {
      method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify(body),
    });
    if (answer.ok) accepted.push(name);
    await new Promise((done) => setTimeout(done, 50));
  }
  return accepted;
}
