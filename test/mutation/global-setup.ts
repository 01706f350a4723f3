import type { TestProject } from 'vitest/node';
import { provide } from '../support/global-setup.js';

/**
 * The server that `npm run mutation` has started: one for the whole run, because a process that runs mutants is killed
 * when one of them hangs, and could stop no server of its own.
 */
export default async function setup(project: TestProject): Promise<void> {
  const url = process.env['TEST_POSTGRES_URL'];
  if (url === undefined) throw new Error('TEST_POSTGRES_URL is not set: npm run mutation sets it');
  project.provide('poolerUrl', undefined);
  await provide(project, url);
}
