// A strict SMART authorisation server on this machine, and a FHIR server that believes nothing but its tokens.
//
//   node server.mjs FOLDER      FOLDER has node_modules; prints {"port": ...} when it listens, ends with its input
//
//   /token          oidc-provider: client credentials, private_key_jwt with RS384 or ES384, nothing else
//   /fhir/TYPE...   200 with an empty searchset, or 401 and 403 as the token deserves
//   /control/...    for the test: PUT clients (metadata of one), PUT life (seconds of a token), POST revoke (all
//                   tokens), GET counts, GET refusals (why the server refused, which it tells no client)

import { createServer } from 'node:http';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';

const folder = createRequire(join(process.argv[2], 'package.json'));
const { default: Provider, errors } = await import(pathToFileURL(folder.resolve('oidc-provider')));

const TYPES = [
  'Patient', 'Observation', 'MedicationRequest', 'MedicationAdministration', 'MedicationStatement', 'Medication',
  'Condition', 'AllergyIntolerance', 'Immunization', 'Procedure', 'Specimen',
];
// What this server knows. Others are left out of a grant without a word, as RFC 6749 lets a server do.
const SCOPES = ['*', ...TYPES].flatMap((type) => [`system/${type}.rs`, `system/${type}.read`]);
const ASSERTION_SECONDS = 300;

const stored = new Map();
const refusals = [];
const counts = { token: 0, granted: 0, fhir: 0, fhir_ok: 0 };
let life = 300;

class Memory {
  constructor(model) { this.model = model; }

  key(id) { return `${this.model} ${id}`; }

  async upsert(id, payload) { stored.set(this.key(id), payload); }

  async find(id) { return stored.get(this.key(id)); }

  async destroy(id) { stored.delete(this.key(id)); }
}

const server = createServer();
await new Promise((listening) => { server.listen(0, '127.0.0.1', listening); });
const { port } = server.address();
const issuer = `http://127.0.0.1:${port}`;
const base = `${issuer}/fhir`;

const now = () => Math.floor(Date.now() / 1000);

const provider = new Provider(issuer, {
  adapter: Memory,
  clockTolerance: 0,
  clientAuthMethods: ['private_key_jwt'],
  enabledJWA: { clientAuthSigningAlgValues: ['RS384', 'ES384'] },
  responseTypes: [],
  scopes: SCOPES,
  routes: { token: '/token' },
  features: {
    devInteractions: { enabled: false },
    userinfo: { enabled: false },
    clientCredentials: { enabled: true },
    resourceIndicators: {
      enabled: true,
      defaultResource: () => base,
      getResourceServerInfo: () => ({
        scope: SCOPES.join(' '), audience: base, accessTokenFormat: 'opaque', accessTokenTTL: life,
      }),
    },
  },
  // What SMART asks for beyond RFC 7523 and the provider leaves to its site.
  assertJwtClientAuthClaimsAndHeader(ctx, claims, header) {
    const refuse = (why) => { throw new errors.InvalidClientAuth(why); };
    if (claims.aud !== `${issuer}/token`) refuse('aud is not the token URL');
    if (claims.exp > now() + ASSERTION_SECONDS) refuse('exp is more than five minutes ahead');
    if (header.typ !== 'JWT' || !header.kid) refuse('typ or kid is missing');
  },
});
provider.on('grant.success', () => { counts.granted += 1; });
provider.on('grant.error', (ctx, error) => {
  const cause = error.error_detail ?? error.cause?.message ?? '';
  refusals.push(`${error.error}: ${error.error_description ?? ''} ${cause}`.trim());
});
const authorise = provider.callback();

function answer(response, status, body) {
  response.writeHead(status, { 'content-type': 'application/json' });
  response.end(JSON.stringify(body));
}

async function fhir(request, response) {
  counts.fhir += 1;
  const [scheme, value] = (request.headers.authorization ?? '').split(' ');
  const token = scheme === 'Bearer' ? await provider.ClientCredentials.find(value) : undefined;
  if (!token?.isValid || token.aud !== base) {
    answer(response, 401, { resourceType: 'OperationOutcome', issue: [{ severity: 'error', code: 'login' }] });
    return;
  }
  const type = new URL(request.url, issuer).pathname.split('/')[2];
  const enough = [type, '*'].flatMap((name) => [`system/${name}.rs`, `system/${name}.read`]);
  if (!(token.scope ?? '').split(' ').some((scope) => enough.includes(scope))) {
    answer(response, 403, { resourceType: 'OperationOutcome', issue: [{ severity: 'error', code: 'forbidden' }] });
    return;
  }
  counts.fhir_ok += 1;
  answer(response, 200, { resourceType: 'Bundle', type: 'searchset', total: 0 });
}

async function text(request) {
  let body = '';
  for await (const chunk of request) body += chunk;
  return body;
}

async function control(request, response, path) {
  const body = await text(request);
  switch (`${request.method} ${path}`) {
    case 'PUT clients': {
      const client = JSON.parse(body);
      stored.set(`Client ${client.client_id}`, {
        token_endpoint_auth_method: 'private_key_jwt',
        grant_types: ['client_credentials'],
        response_types: [],
        redirect_uris: [],
        ...client,
      });
      return answer(response, 200, {});
    }
    case 'PUT life':
      life = JSON.parse(body);
      return answer(response, 200, {});
    case 'POST revoke':
      for (const key of stored.keys()) if (key.startsWith('ClientCredentials ')) stored.delete(key);
      return answer(response, 200, {});
    case 'GET counts':
      return answer(response, 200, counts);
    case 'GET refusals':
      return answer(response, 200, refusals);
    default:
      return answer(response, 404, {});
  }
}

server.on('request', (request, response) => {
  const [, root, ...rest] = new URL(request.url, issuer).pathname.split('/');
  if (root === 'control') return control(request, response, rest.join('/'));
  if (root === 'fhir') return fhir(request, response);
  if (root === 'token') counts.token += 1;
  return authorise(request, response);
});

// Ends with the test run, also one that was killed.
process.stdin.resume().on('end', () => process.exit(0));
process.stdout.write(`${JSON.stringify({ port })}\n`);
