import { checkHistory } from './checker.js';
import { parseSettings } from './settings.js';
import { readHistory } from './read-history.js';
import { report } from './report.js';
import { BrokenHistoryError } from './verdict.js';

/**
 * `node main.js FILE [option=value …]`: holds a history against the promises. Options are those of `CheckOptions`, as `answerWithinMs=12000`
 * or `exemptFaults=restart,kill`. Exit code 1: promises are broken; 2: the history is, or the command line.
 */
const [file, ...settings] = process.argv.slice(2);
try {
  if (file === undefined) throw new TypeError('usage: main.js FILE [option=value …]');
  const verdict = await checkHistory(readHistory(file), parseSettings(settings));
  console.log(report(verdict));
  process.exitCode = verdict.total > 0 ? 1 : 0;
} catch (error) {
  if (!(error instanceof Error)) throw error;
  console.error(
    error instanceof BrokenHistoryError ? `the history is broken: ${error.message}` : error.message,
  );
  process.exitCode = 2;
}
