import { mutant } from './exhibit.mjs';

/** @type {readonly import('./exhibit.mjs').Exhibit[]} */
export const KEYS = [
  {
    name: 'all users share their keys',
    peers: 'node-idempotency (at 622b33f), nestarc (at 9610774), Truxify #2382, deepslate-rpg #104',
    seen: 'another user with the same key got the stored answer',
    edits: [mutant('keys of all users in one scope')],
    spec: 'test/scope.e2e-spec.ts',
  },
  {
    name: 'one key is one request, whatever its method and path',
    peers: 'Fiber (at 073ed97)',
    seen: 'a key used on one route answered for another one',
    edits: [
      {
        file: 'http/fingerprint.ts',
        find: '    method.toUpperCase(),\n    normalisePath(pathname),\n',
        replace: "    method && '',\n    pathname && '',\n",
      },
    ],
    spec: 'test/identity.e2e-spec.ts',
  },
  {
    name: 'another payload makes another key',
    peers: 'idempo (at 55715b4)',
    seen: 'a key that came back with another body ran once more',
    edits: [
      {
        file: 'http/request-identity.ts',
        find: 'keyHash: keyHash(parts)',
        replace: "keyHash: keyHash({ ...parts, key: `${parts.key} ${fingerprint.toString('hex')}` })",
      },
    ],
    spec: 'test/identity.e2e-spec.ts',
  },
  {
    name: 'a payload with its members in another order is another payload',
    peers: 'node-idempotency (at 622b33f)',
    seen: 'an honest retry was refused',
    edits: [
      {
        file: 'http/canonical-body.ts',
        find: "canonicalize(body) ?? ''",
        replace: "JSON.stringify(body) ?? canonicalize(body) ?? ''",
      },
    ],
    spec: 'test/identity.e2e-spec.ts',
  },
  {
    name: 'another payload hears that the first one is in progress',
    peers: 'node-idempotency (at 622b33f)',
    seen: '409 came before 422, so that the client kept trying',
    edits: [mutant('payload not looked at while in flight in the same process')],
    spec: 'test/identity.e2e-spec.ts',
  },
  {
    name: 'an empty key is taken for none',
    peers: '@nestjs/idempotency (at a182e155), DBOS (transact-py #759)',
    seen: 'the request ran without protection',
    edits: [
      {
        file: 'http/idempotency-key.ts',
        find: "if (field === '') return invalid(`The ${headerName} header is empty.`);",
        replace: "if (field === '') return { kind: 'missing' };",
      },
    ],
    spec: 'test/identity-keys.e2e-spec.ts',
  },
  {
    name: 'two keys are joined and pass for one',
    peers: '@nestjs/idempotency (at a182e155)',
    seen: 'a header that was sent twice arrived as "a, b"',
    edits: [
      {
        file: 'http/idempotency-key.ts',
        find: 'timesSent(name, (request.raw ?? request).rawHeaders) > 1 ||',
        replace: '',
      },
      {
        file: 'http/idempotency-key.ts',
        find: "if (field.includes(',')) {",
        replace: "if (field === ',') {",
      },
    ],
    spec: 'test/identity-keys.e2e-spec.ts',
  },
  {
    name: 'a malformed key is an error of the server',
    peers: 'among the security reports of Truxify, gofastr, bankole-backend',
    seen: 'a client that sent nonsense was answered 500',
    edits: [
      {
        file: 'http/idempotency-key.ts',
        find: '    item = parseItem(field);\n  } catch {\n',
        replace: '    item = parseItem(field);\n  } catch (error) {\n    if (error) throw error;\n',
      },
    ],
    spec: 'test/identity-keys.e2e-spec.ts',
  },
];
